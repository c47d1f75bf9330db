//! What a hub is told at start, as types. Text, files and the environment may not enter.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use azimuth_broker::{Limits, Regions};

use crate::event::LogConfig;
use crate::quota::Plan;

/// Everything a hub needs to know.
#[derive(Debug, Clone)]
pub struct HubConfig {
    /// The hub's short name: for threads, records and published keys.
    pub name: String,
    /// The first is the canonical name. All of them, addresses too, are accepted in user names and in
    /// the `sr` of tokens.
    pub host_names: Vec<String>,
    pub region: String,
    /// Holds `registry.redb` and `events/`; created when missing.
    pub folder: PathBuf,
    /// Addresses for MQTT over TLS.
    pub mqtt: Vec<SocketAddr>,
    /// Addresses for HTTPS.
    pub https: Vec<SocketAddr>,
    pub tls: Arc<rustls::ServerConfig>,
    pub keys: PolicyKeySource,
    /// How long after `se` a connection that is in use lives.
    pub sas_grace: Duration,
    /// How far a client's clock may be behind: a token is taken while now is before `se` plus this.
    pub clock_skew: Duration,
    /// The longest silence of a connection, whatever keep-alive it announced.
    pub longest_silence: Duration,
    pub event_log: LogConfig,
    /// Makes clients wait as far from `region` as their addresses are; `None` is as fast as it goes.
    pub simulated_latency: Option<Regions>,
    pub limits: Limits,
    /// Holds clients to what a tier allows; `None` is as much as they want.
    pub plan: Option<Plan>,
}

/// Where the keys of the shared access policies come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyKeySource {
    /// Derived from the hub's and the policy's name alone: known to everybody, for loopback only.
    Published,
    /// Made at random at first start, then kept in the store.
    Kept,
}

impl HubConfig {
    /// A hub that listens nowhere yet, with Azure's times and published keys.
    pub fn new(
        name: &str,
        host_names: Vec<String>,
        region: &str,
        folder: PathBuf,
        tls: Arc<rustls::ServerConfig>,
    ) -> Self {
        Self {
            name: name.into(),
            host_names,
            region: region.into(),
            folder,
            mqtt: Vec::new(),
            https: Vec::new(),
            tls,
            keys: PolicyKeySource::Published,
            sas_grace: Duration::from_secs(300),
            clock_skew: Duration::from_secs(azimuth_wire::sas::CLOCK_SKEW_SECONDS),
            // Azure: the largest useful keep-alive is 1177 s, one and a half times of it.
            longest_silence: Duration::from_secs(1767),
            event_log: LogConfig::default(),
            simulated_latency: None,
            limits: Limits::default(),
            plan: None,
        }
    }

    /// An address beyond loopback that this hub would listen on.
    pub(crate) fn exposed(&self) -> Option<IpAddr> {
        let addresses = self.mqtt.iter().chain(&self.https);
        addresses
            .map(SocketAddr::ip)
            .find(|address| !address.is_loopback())
    }
}
