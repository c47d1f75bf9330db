//! The tables of a configuration file, and what each says of itself.
//!
//! What may not enter: how tables fit together, and what is done with them.

use std::net::IpAddr;
use std::path::PathBuf;

use azimuth_hub::Tier;
use azimuth_wire::IdScope;
use azimuth_wire::connection_string::ConnectionString;
use clap::ValueEnum;
use ipnet::IpNet;
use serde::{Deserialize, Deserializer};

use super::defaults::{GLOBAL_DPS, default_region, one, one_unit, yes};
use super::{ConnectionState, Error, EventSource, EventSubscriptionSection};

/// The Device Provisioning Service.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct DpsSection {
    pub name: String,
    pub id_scope: IdScope,
    /// Where devices find it.
    pub address: IpAddr,
    /// What it binds, when that is not the address: `0.0.0.0` in a container.
    pub listen: Option<IpAddr>,
    /// Names besides `<name>.azure-devices-provisioning.net` and the global one.
    pub host_names: Vec<String>,
    pub allocation: Allocation,
    /// Hubs that run elsewhere, beside those of `[[hub]]`.
    #[serde(rename = "linked-hub")]
    pub linked_hubs: Vec<LinkedHubSection>,
    /// Shared access policies beside provisioningserviceowner.
    #[serde(rename = "policy")]
    pub policies: Vec<PolicySection>,
    /// Polls answered with `assigning` after the assignment is done, as Azure's timing shows.
    pub assigning_polls: u32,
    /// Seconds a device is asked to wait between polls.
    pub retry_after: u32,
    /// Whether devices that register or poll too often are answered 429.
    pub quotas: Quotas,
}

/// How many registrations and polls are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quotas {
    /// As many as come.
    #[default]
    None,
    /// 1000 registrations a minute, and 5 calls of each kind in 10 s from one device.
    Azure,
}

/// A shared access policy of the DPS's REST API.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PolicySection {
    pub name: String,
    /// In Azure's spelling: `EnrollmentRead`, `RegistrationStatusWrite` and so on.
    pub rights: Vec<String>,
    /// Made where it is not given.
    pub primary_key: Option<String>,
    pub secondary_key: Option<String>,
}

/// A hub that runs elsewhere and devices may be sent to.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LinkedHubSection {
    /// Of a policy with registry read and write.
    #[serde(deserialize_with = "connection_string")]
    pub connection_string: ConnectionString,
    pub region: String,
    /// Its share under evenly weighted allocation, 1 to 1000.
    #[serde(default = "one")]
    pub weight: u16,
    /// `false` keeps it out of allocation unless an enrollment names it.
    #[serde(default = "yes")]
    pub apply_allocation_policy: bool,
    /// Where it is found instead of by its name, by the DPS and by devices that speak in addresses.
    pub address: Option<IpAddr>,
}

/// How a hub is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "camelCase")]
#[value(rename_all = "camelCase")]
pub enum Allocation {
    /// Evenly by weight
    Hashed,
    /// Lowest latency
    GeoLatency,
    /// The one hub that the enrollment names
    Static,
}

/// One hub.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct HubSection {
    pub name: String,
    #[serde(default = "default_region")]
    pub region: String,
    /// Where devices find it.
    pub address: IpAddr,
    /// What it binds, when that is not the address: `0.0.0.0` in a container.
    pub listen: Option<IpAddr>,
    /// Names besides `<name>.azure-devices.net`.
    #[serde(default)]
    pub host_names: Vec<String>,
    /// Its share under evenly weighted allocation, 1 to 1000.
    #[serde(default = "one")]
    pub weight: u16,
    /// Of Azure's tiers, whose rates and quotas the hub then keeps; without, it takes all that comes.
    pub tier: Option<Tier>,
    /// How many of the tier.
    #[serde(default = "one_unit")]
    pub units: u32,
    /// What the hub itself writes to the event log, in Azure's names of sources; nothing by default, as in Azure.
    #[serde(default)]
    pub events: Vec<EventSource>,
    #[serde(default)]
    pub connection_state: ConnectionState,
    /// Webhooks that want events of the hub.
    #[serde(default, rename = "event-subscription")]
    pub event_subscriptions: Vec<EventSubscriptionSection>,
    /// Import and export jobs find `file:` containers below it [default: jobs in the hub's data folder]
    pub job_folder: Option<PathBuf>,
}

/// An enrollment group with a symmetric key.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct GroupSection {
    pub id: String,
    pub primary_key: Option<String>,
    pub secondary_key: Option<String>,
    pub allocation: Option<Allocation>,
    /// Host names of hubs; none means all.
    #[serde(default)]
    pub hubs: Vec<String>,
    #[serde(default = "yes")]
    pub enabled: bool,
}

/// An individual enrollment with a symmetric key.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct EnrollmentSection {
    pub registration_id: String,
    pub device_id: Option<String>,
    pub primary_key: Option<String>,
    pub secondary_key: Option<String>,
    pub allocation: Option<Allocation>,
    #[serde(default)]
    pub hubs: Vec<String>,
    #[serde(default = "yes")]
    pub enabled: bool,
}

/// Where devices are, by their source address, and how far apart regions are.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RegionsSection {
    /// The region of an address in none of the networks.
    pub default: String,
    /// Hubs answer a device of another region later, by the latency between the two.
    pub simulate_latency: bool,
    #[serde(rename = "network")]
    pub networks: Vec<NetworkSection>,
    #[serde(rename = "latency")]
    pub latencies: Vec<LatencySection>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct NetworkSection {
    pub cidr: IpNet,
    pub region: String,
}

/// Milliseconds between two regions, both ways.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LatencySection {
    pub from: String,
    pub to: String,
    pub milliseconds: u32,
}

/// Ports; Azure's clients hard-code the defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Ports {
    pub mqtt: u16,
    pub https: u16,
}

/// The event log of each hub.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct TelemetrySection {
    pub partitions: u16,
    pub retention_days: u32,
    /// MiB per hub.
    pub retention_size: u64,
    /// Forces every batch to the disk, against power loss.
    pub sync: bool,
}

/// Tokens, keys and TLS.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct SecuritySection {
    /// Seconds a connection outlives its token.
    pub sas_grace: u64,
    /// Seconds a device's clock may be off at CONNECT.
    pub clock_skew: u64,
    /// Which kind of server key is shown.
    pub server_key: ServerKey,
    /// TLS session resumption.
    pub resumption: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServerKey {
    Auto,
    Rsa,
    Ecdsa,
}

impl DpsSection {
    /// The address it binds.
    pub fn listen(&self) -> IpAddr {
        self.listen.unwrap_or(self.address)
    }

    /// Every name the service goes by; the first is its own.
    pub fn names(&self) -> Vec<String> {
        let own = format!("{}.azure-devices-provisioning.net", self.name);
        let mut names = vec![own, GLOBAL_DPS.into()];
        names.extend(self.host_names.iter().cloned());
        names
    }
}

impl LinkedHubSection {
    pub(super) fn host(&self) -> &str {
        &self.connection_string.host_name
    }
}

impl HubSection {
    /// A hub that only flags name.
    pub fn new(name: &str, region: &str, address: IpAddr) -> Result<Self, Error> {
        let section = Self {
            name: name.into(),
            region: region.into(),
            address,
            listen: None,
            host_names: Vec::new(),
            weight: 1,
            tier: None,
            units: 1,
            events: Vec::new(),
            connection_state: ConnectionState::default(),
            event_subscriptions: Vec::new(),
            job_folder: None,
        };
        section.check()?;
        Ok(section)
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        let label = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if self.name.is_empty() || !self.name.chars().all(label) {
            return Err(Error::Unusable(format!(
                "hub name `{}`: letters, digits and dashes only",
                self.name
            )));
        }
        if !(1..=1000).contains(&self.weight) {
            return Err(Error::Unusable(format!(
                "hub {}: weight {} is not 1 to 1000",
                self.name, self.weight
            )));
        }
        for (position, subscription) in self.event_subscriptions.iter().enumerate() {
            subscription.subscription()?;
            let mut before = self.event_subscriptions.iter().take(position);
            if before.any(|other| other.name.eq_ignore_ascii_case(&subscription.name)) {
                return Err(Error::Unusable(format!(
                    "hub {}: two event subscriptions are called `{}`",
                    self.name, subscription.name
                )));
            }
        }
        Ok(())
    }

    /// The address it binds.
    pub fn listen(&self) -> IpAddr {
        self.listen.unwrap_or(self.address)
    }

    /// The hub's own name.
    pub fn host_name(&self) -> String {
        format!("{}.azure-devices.net", self.name)
    }

    /// Every name the hub goes by; the first is its own.
    pub fn names(&self) -> Vec<String> {
        let mut names = vec![self.host_name()];
        names.extend(self.host_names.iter().cloned());
        names
    }
}

/// Refusals of connection strings show no key.
fn connection_string<'de, D: Deserializer<'de>>(from: D) -> Result<ConnectionString, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map_err(serde::de::Error::custom)
}
