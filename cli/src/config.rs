//! The configuration: flags over environment over file over default, read once.
//!
//! Text becomes a checked [`Config`] here; after that nobody asks the environment. The defaults are
//! those of Azure's multitenancy tutorial. What may not enter: what is done with the values.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use azimuth_wire::IdScope;
use azimuth_wire::connection_string::ConnectionString;
use clap::ValueEnum;
use ipnet::IpNet;
use serde::{Deserialize, Deserializer};

/// Everything a command needs to know.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Config {
    /// The folder that holds the CA, identities, enrollments and events.
    pub data: PathBuf,
    /// The folder of the CA, where several data folders share one [default: `certs` in the data folder].
    pub certs: Option<PathBuf>,
    /// Where services say how they are reached, for other commands and each other [default: the data folder].
    pub connect: Option<PathBuf>,
    pub dps: DpsSection,
    #[serde(rename = "hub")]
    pub hubs: Vec<HubSection>,
    #[serde(rename = "enrollment-group")]
    pub enrollment_groups: Vec<GroupSection>,
    #[serde(rename = "enrollment")]
    pub enrollments: Vec<EnrollmentSection>,
    pub regions: RegionsSection,
    pub ports: Ports,
    pub telemetry: TelemetrySection,
    pub security: SecuritySection,
}

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
    /// Polls answered with `assigning` after the assignment is done, as Azure's timing shows.
    pub assigning_polls: u32,
    /// Seconds a device is asked to wait between polls.
    pub retry_after: u32,
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

/// The name that every DPS answers to.
pub const GLOBAL_DPS: &str = "global.azure-devices-provisioning.net";

/// The enrollment group of Azure's multitenancy tutorial, with the key printed there. Published, so it
/// serves on loopback only.
pub const TUTORIAL_GROUP: &str = "contoso-us-devices";
pub const TUTORIAL_KEY: &str =
    "rLuyBPpIJ+hOre2SFIP9Ajvdty3j0EwSP/WvTVH9eZAw5HpDuEmf13nziHy5RRXmuTy84FCLpOnhhBPASSbHYg==";

impl Default for Config {
    fn default() -> Self {
        Self {
            data: "azimuth-data".into(),
            certs: None,
            connect: None,
            dps: DpsSection::default(),
            hubs: vec![
                HubSection::tutorial("contoso-east-hub", "eastus", 11),
                HubSection::tutorial("contoso-west-hub", "westus", 12),
            ],
            enrollment_groups: vec![GroupSection {
                id: TUTORIAL_GROUP.into(),
                primary_key: Some(TUTORIAL_KEY.into()),
                secondary_key: None,
                allocation: None,
                hubs: Vec::new(),
                enabled: true,
            }],
            enrollments: Vec::new(),
            regions: RegionsSection::default(),
            ports: Ports::default(),
            telemetry: TelemetrySection::default(),
            security: SecuritySection::default(),
        }
    }
}

impl Default for DpsSection {
    fn default() -> Self {
        Self {
            name: "contoso-dps".into(),
            id_scope: "0ne00002193"
                .parse()
                .expect("the tutorial's id scope is valid"),
            address: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 10)),
            listen: None,
            host_names: Vec::new(),
            allocation: Allocation::GeoLatency,
            linked_hubs: Vec::new(),
            assigning_polls: 1,
            retry_after: 3,
        }
    }
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
    fn host(&self) -> &str {
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
        };
        section.check()?;
        Ok(section)
    }

    fn tutorial(name: &str, region: &str, last: u8) -> Self {
        let address = IpAddr::V4(Ipv4Addr::new(127, 0, 0, last));
        Self::new(name, region, address).expect("the tutorial's hubs are valid")
    }

    fn check(&self) -> Result<(), Error> {
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

impl Default for RegionsSection {
    fn default() -> Self {
        let network = |third: u8, region: &str| NetworkSection {
            cidr: IpNet::new(IpAddr::V4(Ipv4Addr::new(127, 0, third, 0)), 24)
                .expect("24 is a prefix length"),
            region: region.into(),
        };
        Self {
            default: default_region(),
            simulate_latency: false,
            networks: vec![network(1, "eastus"), network(2, "westus")],
            latencies: Vec::new(),
        }
    }
}

impl Default for Ports {
    fn default() -> Self {
        Self {
            mqtt: 8883,
            https: 443,
        }
    }
}

impl Default for TelemetrySection {
    fn default() -> Self {
        Self {
            partitions: 4,
            retention_days: 1,
            retention_size: 1024,
            sync: false,
        }
    }
}

impl Default for SecuritySection {
    fn default() -> Self {
        Self {
            sas_grace: 300,
            clock_skew: 300,
            server_key: ServerKey::Auto,
            resumption: false,
        }
    }
}

fn default_region() -> String {
    "eastus".into()
}

/// Refusals of connection strings show no key.
fn connection_string<'de, D: Deserializer<'de>>(from: D) -> Result<ConnectionString, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map_err(serde::de::Error::custom)
}

fn one() -> u16 {
    1
}

fn yes() -> bool {
    true
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read the configuration file {path}")]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path}, line {line}: {what}")]
    Line {
        path: PathBuf,
        line: usize,
        what: String,
    },
    #[error("the configuration is not usable: {0}")]
    Unusable(String),
}

impl Config {
    /// Reads the file, or the defaults where there is none.
    pub fn load(path: Option<&Path>) -> Result<Self, Error> {
        let Some(path) = path else {
            return Self::default().check();
        };
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read {
            path: path.into(),
            source,
        })?;
        Self::parse(&text, path)?.check()
    }

    fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let line = text.get(..at).unwrap_or(text).lines().count().max(1);
            let starts_line = text.get(..at).is_some_and(|before| before.ends_with('\n'));
            Error::Line {
                path: path.into(),
                line: line + usize::from(starts_line && at > 0),
                what: with_nearest(error.message()),
            }
        })
    }

    /// What no single value shows to be wrong.
    fn check(self) -> Result<Self, Error> {
        let unusable = |what: String| Err(Error::Unusable(what));
        if self.hubs.is_empty() {
            return unusable("no [[hub]] is configured; at least one is needed".into());
        }
        for (position, hub) in self.hubs.iter().enumerate() {
            hub.check()?;
            for other in &self.hubs[..position] {
                if other.name.eq_ignore_ascii_case(&hub.name) {
                    return unusable(format!("two hubs are called `{}`", hub.name));
                }
                if other.address == hub.address {
                    let (a, b) = (&other.name, &hub.name);
                    return unusable(format!(
                        "hubs `{a}` and `{b}` share the address {}",
                        hub.address
                    ));
                }
            }
            if hub.address == self.dps.address {
                return unusable(format!(
                    "hub `{}` and the DPS share the address {}",
                    hub.name, hub.address
                ));
            }
        }
        self.check_linked_hubs()?;
        if self.telemetry.partitions == 0 || self.telemetry.partitions > 32 {
            return unusable(format!(
                "telemetry.partitions {} is not 1 to 32",
                self.telemetry.partitions
            ));
        }
        Ok(self)
    }

    fn check_linked_hubs(&self) -> Result<(), Error> {
        let unusable = |what: String| Err(Error::Unusable(what));
        for (position, linked) in self.dps.linked_hubs.iter().enumerate() {
            let host = linked.host();
            if !(1..=1000).contains(&linked.weight) {
                return unusable(format!(
                    "linked hub {host}: weight {} is not 1 to 1000",
                    linked.weight
                ));
            }
            let before = self.dps.linked_hubs.iter().take(position);
            if before
                .map(LinkedHubSection::host)
                .any(|other| other.eq_ignore_ascii_case(host))
            {
                return unusable(format!("the hub {host} is linked twice"));
            }
            if let Some(hub) = self.hub(host) {
                return unusable(format!(
                    "the hub {host} of [[dps.linked-hub]] is [[hub]] {}, which is linked already",
                    hub.name
                ));
            }
        }
        Ok(())
    }

    /// The folder of the CA.
    pub fn certs_folder(&self) -> PathBuf {
        self.certs
            .clone()
            .unwrap_or_else(|| self.data.join("certs"))
    }

    /// The folder of `connect.json`.
    pub fn connect_folder(&self) -> &Path {
        self.connect.as_deref().unwrap_or(&self.data)
    }

    /// The hub of this name, host name or address.
    pub fn hub(&self, wanted: &str) -> Option<&HubSection> {
        self.hubs.iter().find(|hub| {
            hub.name.eq_ignore_ascii_case(wanted)
                || hub.address.to_string() == wanted
                || hub
                    .names()
                    .iter()
                    .any(|name| name.eq_ignore_ascii_case(wanted))
        })
    }
}

/// serde names the keys it expected; the one that is nearest is worth a question.
fn with_nearest(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    if !message.starts_with("unknown field") && !message.starts_with("unknown variant") {
        return message.into();
    }
    let Some(unknown) = quoted.next() else {
        return message.into();
    };
    let nearest =
        quoted.max_by_key(|known| (strsim::normalized_levenshtein(unknown, known) * 1000.0) as u32);
    match nearest {
        Some(known) => format!("unknown key `{unknown}`; did you mean `{known}`? ({message})"),
        None => message.into(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_unknown_key_names_its_line_and_the_nearest_key() {
        let rows = [
            (
                "data = \"x\"\ndato = 1\n",
                2,
                "`dato`; did you mean `data`?",
            ),
            (
                "[dps]\n\nid-scop = \"0ne\"\n",
                3,
                "`id-scop`; did you mean `id-scope`?",
            ),
            (
                "[[hub]]\nname = \"a\"\naddress = \"127.0.0.1\"\nreggion = \"eastus\"\n",
                4,
                "did you mean `region`?",
            ),
            (
                "[dps]\nallocation = \"geolatency\"\n",
                2,
                "did you mean `geoLatency`?",
            ),
            ("[ports]\nmqtt = \"x\"\n", 2, "invalid type"),
            (
                "[[dps.linked-hub]]\nregion = \"eastus\"\nconnection-string = \"HostName=h\"\n",
                3,
                "`SharedAccessKey` is missing",
            ),
            (
                "[[dps.linked-hub]]\nregion = \"eastus\"\nwieght = 2\n",
                3,
                "did you mean `weight`?",
            ),
            ("[ports\n", 1, ""),
        ];
        for (text, line, sentence) in rows {
            let error = Config::parse(text, Path::new("a.toml"))
                .unwrap_err()
                .to_string();
            assert!(
                error.starts_with(&format!("a.toml, line {line}: ")),
                "{text:?}: {error}"
            );
            assert!(error.contains(sentence), "{text:?}: {error}");
        }
    }

    #[test]
    fn the_defaults_are_the_tutorials() {
        let config = Config::load(None).unwrap();
        assert_eq!(config.dps.id_scope.as_str(), "0ne00002193");
        assert!(!config.regions.simulate_latency);
        let hubs: Vec<_> = config
            .hubs
            .iter()
            .map(|hub| (hub.host_name(), hub.region.clone()))
            .collect();
        assert_eq!(
            hubs,
            [
                ("contoso-east-hub.azure-devices.net".into(), "eastus".into()),
                (
                    "contoso-west-hub.azure-devices.net".into(),
                    "westus".to_string()
                )
            ]
        );
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let hub = |name: &str, address: &str| {
            format!("[[hub]]\nname = \"{name}\"\naddress = \"{address}\"\n")
        };
        let linked = |host: &str| {
            format!(
                "[[dps.linked-hub]]\nregion = \"eastus\"\nconnection-string = \"HostName={host};SharedAccessKeyName=iothubowner;SharedAccessKey=MDEyMzQ1Njc4OWFiY2RlZg==\"\n"
            )
        };
        let rows = [
            (
                hub("a", "127.0.0.1") + &hub("A", "127.0.0.2"),
                "two hubs are called",
            ),
            (
                hub("a", "127.0.0.1") + &hub("b", "127.0.0.1"),
                "share the address",
            ),
            (hub("a", "127.0.0.10"), "and the DPS share the address"),
            (hub("a_b", "127.0.0.1"), "letters, digits and dashes"),
            (hub("a", "127.0.0.1") + "weight = 0\n", "is not 1 to 1000"),
            (
                linked("h.net") + &linked("H.net"),
                "the hub H.net is linked twice",
            ),
            (linked("h.net") + "weight = 1001\n", "h.net: weight 1001"),
            (
                linked("a.azure-devices.net") + &hub("a", "127.0.0.1"),
                "is [[hub]] a, which is linked already",
            ),
        ];
        for (text, sentence) in rows {
            let error = Config::parse(&text, Path::new("a.toml"))
                .unwrap()
                .check()
                .unwrap_err()
                .to_string();
            assert!(error.contains(sentence), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_hub_that_runs_elsewhere_is_linked_as_it_says() {
        let text = "[[dps.linked-hub]]\nregion = \"westus\"\nweight = 3\naddress = \"10.0.0.1\"\n\
            connection-string = \"HostName=h.net;SharedAccessKeyName=p;SharedAccessKey=MDEyMzQ1Njc4OWFiY2RlZg==\"\n";
        let config = Config::parse(text, Path::new("a.toml")).unwrap();
        let config = config.check().unwrap();
        let hub = &config.dps.linked_hubs[0];
        assert_eq!(
            (hub.host(), hub.region.as_str(), hub.weight),
            ("h.net", "westus", 3)
        );
        let address = Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!((hub.address, hub.apply_allocation_policy), (address, true));
    }
}
