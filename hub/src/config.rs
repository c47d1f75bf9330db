//! What a hub is told at start, as types. Text, files and the environment may not enter.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use azimuth_broker::{Limits, Regions};

use crate::event::LogConfig;
use crate::event_grid::Subscription;
use crate::notification::Sources;
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
    /// Import and export jobs find `file:` containers below it.
    pub job_folder: PathBuf,
    /// The authority that is trusted beside those of the system where this hub is a client, PEM.
    pub roots_pem: String,
    /// Makes clients wait as far from `region` as their addresses are; `None` is as fast as it goes.
    pub simulated_latency: Option<Regions>,
    pub limits: Limits,
    /// Holds clients to what a tier allows; `None` is as much as they want.
    pub plan: Option<Plan>,
    /// What of the hub's own is written to the event log; nothing by default, as in Azure.
    pub notifications: Sources,
    pub event_subscriptions: Vec<Subscription>,
    pub connection_state: ConnectionStateReports,
}

/// When a device that is gone is shown, and told, to be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ConnectionStateReports {
    /// At once, so that tests need not wait.
    #[default]
    Immediate,
    /// As Azure does: minutes after a connection was lost, and told once a minute.
    Faithful,
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
            job_folder: folder.join("jobs"),
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
            notifications: Sources::new(),
            event_subscriptions: Vec::new(),
            roots_pem: String::new(),
            connection_state: ConnectionStateReports::default(),
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
