//! The configuration: flags over environment over file over default, read once.
//!
//! Text becomes a checked [`Config`] here; after that nobody asks the environment. The defaults are
//! those of Azure's multitenancy tutorial. What may not enter: what is done with the values.

mod defaults;
mod monitor;
mod notifications;
mod sections;

use std::path::{Path, PathBuf};

use serde::Deserialize;

pub use defaults::{GLOBAL_DPS, TUTORIAL_GROUP, TUTORIAL_KEY};
pub use monitor::MonitorSection;
pub use notifications::*;
pub use sections::*;

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
    /// Where it stands, `azimuth up` watches its devices, too.
    pub monitor: Option<MonitorSection>,
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
mod tests;
