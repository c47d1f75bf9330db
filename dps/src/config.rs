//! What a DPS is told at start: checked types, read once.
//!
//! What may not enter: text forms and environment variables; the command line has them.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use azimuth_broker::Regions;
use azimuth_wire::connection_string::ConnectionString;
use azimuth_wire::enrollment::{AllocationPolicy, EnrollmentGroup, IndividualEnrollment};
use azimuth_wire::policy::DpsRights;
use azimuth_wire::{IdScope, SymmetricKey};

use crate::quota::Quotas;

/// Everything a DPS needs to know.
#[derive(Debug, Clone)]
pub struct DpsConfig {
    /// Its name, for threads, records and published keys.
    pub name: String,
    /// The names it answers to; the first stands in its connection string.
    pub host_names: Vec<String>,
    pub id_scope: IdScope,
    /// Where the store lives; `None` keeps everything in memory.
    pub folder: Option<PathBuf>,
    /// Addresses for MQTT over TLS.
    pub mqtt: Vec<SocketAddr>,
    /// Addresses for HTTPS.
    pub https: Vec<SocketAddr>,
    pub tls: Arc<rustls::ServerConfig>,
    pub keys: PolicyKeySource,
    /// Beside `provisioningserviceowner`.
    pub policies: Vec<PolicyConfig>,
    /// The policy of enrollments that name none.
    pub allocation: AllocationPolicy,
    /// Declared: made at start when absent, replaced when the declaration changed, unlinked when it is
    /// gone. One that was removed since stays removed until its declaration changes.
    pub linked_hubs: Vec<LinkedHubConfig>,
    pub regions: Regions,
    /// Declared: made at start when absent, replaced when the declaration changed, never deleted.
    pub individual_enrollments: Vec<IndividualEnrollment>,
    pub enrollment_groups: Vec<EnrollmentGroup>,
    pub assigned_hub_form: AssignedHubForm,
    /// The authority to trust when calling hubs, PEM.
    pub roots_pem: String,
    pub pace: Pace,
    pub limits: azimuth_broker::Limits,
}

/// A shared access policy of the service API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyConfig {
    pub name: String,
    pub rights: DpsRights,
    /// Made where it is not given.
    pub primary_key: Option<SymmetricKey>,
    pub secondary_key: Option<SymmetricKey>,
}

impl PolicyConfig {
    /// A policy whose keys are made.
    pub fn new(name: &str, rights: DpsRights) -> Self {
        Self {
            name: name.into(),
            rights,
            primary_key: None,
            secondary_key: None,
        }
    }
}

/// Where the keys of policies come from, unless they are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyKeySource {
    /// From the name alone: known to everybody, for loopback only.
    Published,
    /// Random at first start, then kept in the store.
    Kept,
}

/// A hub that devices may be sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkedHubConfig {
    /// Of a policy with registry read and write.
    pub connection_string: ConnectionString,
    pub region: String,
    /// Where this service reaches it instead of resolving the host name.
    pub dial: Option<IpAddr>,
    /// What a device that came by address is given.
    pub advertised: Option<IpAddr>,
    pub https_port: u16,
    /// Its share under evenly weighted allocation, 1 to 1000.
    pub weight: u16,
    /// `false` keeps it out of `hashed` and `geoLatency` unless an enrollment names it.
    pub apply_allocation_policy: bool,
}

impl LinkedHubConfig {
    /// The hub's name, folded: what tells links apart.
    pub fn host(&self) -> String {
        self.connection_string.host_name.to_ascii_lowercase()
    }

    /// A hub with the defaults of a new link.
    pub fn new(connection_string: ConnectionString, region: &str) -> Self {
        Self {
            connection_string,
            region: region.into(),
            dial: None,
            advertised: None,
            https_port: 443,
            weight: 1,
            apply_allocation_policy: true,
        }
    }
}

/// How a device is told its hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AssignedHubForm {
    /// By name to a device that reached DPS by a name, else by address where one is known.
    Auto,
    Name,
    Address,
}

/// How long things take.
#[derive(Debug, Clone)]
pub struct Pace {
    /// Seconds a device is asked to wait between polls.
    pub retry_after: u32,
    /// Polls answered `assigning` after the assignment is done. Azure's own sample prints two such
    /// answers, the first of them the reply to register.
    pub assigning_polls: u32,
    /// One request to a hub.
    pub hub_timeout: Duration,
    /// From register until an assignment to a hub that does not answer fails.
    pub assignment_timeout: Duration,
    /// The first wait before a hub is asked again; doubles up to thirty times itself.
    pub hub_retry: Duration,
    /// One request to a webhook of custom allocation.
    pub webhook_timeout: Duration,
    /// The first wait before a webhook is asked again; the others are 10, 19, 28 … times as long.
    pub webhook_retry: Duration,
    /// `None`: registrations and polls are as many as devices send.
    pub quotas: Option<Quotas>,
    /// How long a registration's last operation can be polled after its end.
    pub operation_life: Duration,
    /// The same for those before the last, which memory alone holds.
    pub operation_memory: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            retry_after: 3,
            assigning_polls: 1,
            hub_timeout: Duration::from_secs(15),
            assignment_timeout: Duration::from_secs(600),
            hub_retry: Duration::from_secs(1),
            webhook_timeout: Duration::from_secs(30),
            webhook_retry: Duration::from_secs(1),
            quotas: None,
            operation_life: Duration::from_secs(24 * 3600),
            operation_memory: Duration::from_secs(1800),
        }
    }
}
