//! What a person pastes: id scope, addresses, CA file, connection strings, environment blocks.
//!
//! Kept in a file that only its owner can read, so that other commands find a simulator that runs, and
//! services that run apart find each other. What may not enter: the network.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use azimuth_wire::connection_string::ConnectionString;
use azimuth_wire::{DeviceId, Identity, SymmetricKey};
use serde::{Deserialize, Serialize};

/// Where a simulator can be reached, and with which keys.
#[derive(Clone, Serialize, Deserialize)]
pub struct Paste {
    pub ca_file: PathBuf,
    /// The system's roots and the CA: what `SSL_CERT_FILE` may name without losing the rest of the world.
    pub ca_bundle: PathBuf,
    pub mqtt_port: u16,
    pub https_port: u16,
    pub dps: Option<DpsPaste>,
    pub hubs: Vec<HubPaste>,
}

#[derive(Clone, Serialize, Deserialize)]
pub struct DpsPaste {
    pub name: String,
    /// The name that every DPS answers to.
    pub host_name: String,
    /// Another word at each start.
    #[serde(default)]
    pub started: String,
    /// Where devices find it.
    pub address: IpAddr,
    /// Where this machine finds it; by its name when absent.
    pub dial: Option<IpAddr>,
    pub id_scope: String,
    /// Of the policy provisioningserviceowner, with the address as host name: it works without DNS.
    pub connection_string: String,
    /// A group whose key is known, and a registration id to begin with.
    pub group: Option<GroupPaste>,
}

#[derive(Clone, Serialize, Deserialize)]
pub struct GroupPaste {
    pub id: String,
    pub primary_key: SymmetricKey,
}

#[derive(Clone, Serialize, Deserialize)]
pub struct HubPaste {
    pub name: String,
    pub host_name: String,
    pub region: String,
    /// Another word at each start.
    #[serde(default)]
    pub started: String,
    /// Where devices find it.
    pub address: IpAddr,
    /// Where this machine finds it; by its name when absent.
    pub dial: Option<IpAddr>,
    /// Of the policy iothubowner, with the address as host name: it works without DNS.
    pub connection_string: String,
}

const FILE: &str = "connect.json";

/// How host names in connection strings and `PROVISIONING_HOST` are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Address,
    Name,
}

/// Taken while files of a shared folder are written.
pub fn lock(folder: &Path) -> io::Result<File> {
    let file = File::create(folder.join(".lock"))?;
    file.lock()?;
    Ok(file)
}

impl DpsPaste {
    /// The connection string with a host name that leads there from this machine.
    pub fn local_string(&self) -> anyhow::Result<ConnectionString> {
        local_string(&self.connection_string, &self.host_name, self.dial)
    }

    /// What this machine calls it.
    pub fn host(&self) -> String {
        self.dial
            .map_or_else(|| self.host_name.clone(), |address| address.to_string())
    }
}

impl HubPaste {
    /// The connection string with a host name that leads there from this machine.
    pub fn local_string(&self) -> anyhow::Result<ConnectionString> {
        local_string(&self.connection_string, &self.host_name, self.dial)
    }

    fn host(&self, form: Form) -> String {
        match form {
            Form::Address => self.address.to_string(),
            Form::Name => self.host_name.clone(),
        }
    }
}

fn local_string(
    string: &str,
    host_name: &str,
    dial: Option<IpAddr>,
) -> anyhow::Result<ConnectionString> {
    let mut string: ConnectionString = string.parse()?;
    if dial.is_none() {
        string.host_name = host_name.into();
    }
    Ok(string)
}

impl Paste {
    /// Writes the file anew, readable by its owner only.
    pub fn save(&self, folder: &Path) -> io::Result<()> {
        let _writing = lock(folder)?;
        self.write(folder)
    }

    /// Writes what this process runs beside what others wrote.
    pub fn publish(&self, folder: &Path) -> io::Result<()> {
        let _writing = lock(folder)?;
        let others = fs::read(folder.join(FILE)).ok();
        let others: Option<Self> = others.and_then(|text| serde_json::from_slice(&text).ok());
        let mut all = self.clone();
        if let Some(others) = others {
            all.dps = all.dps.or(others.dps);
            let news = |hub: &HubPaste| !self.hubs.iter().any(|own| own.name == hub.name);
            all.hubs.extend(others.hubs.into_iter().filter(news));
            all.hubs.sort_by(|a, b| a.name.cmp(&b.name));
        }
        all.write(folder)
    }

    fn write(&self, data: &Path) -> io::Result<()> {
        use std::os::unix::fs::OpenOptionsExt;
        let path = data.join(FILE);
        let temporary = data.join("connect.json.new");
        let _ = fs::remove_file(&temporary);
        let mut options = fs::OpenOptions::new();
        let file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        serde_json::to_writer_pretty(file, self)?;
        fs::rename(temporary, path)
    }

    /// Reads the file that a simulator left in its data folder.
    pub fn load(data: &Path) -> anyhow::Result<Self> {
        let path = data.join(FILE);
        let text = fs::read(&path).map_err(|error| {
            anyhow::anyhow!(
                "{} cannot be read ({error}); start the simulator with `azimuth`, or name its data folder with --data",
                path.display()
            )
        })?;
        Ok(serde_json::from_slice(&text)?)
    }

    /// The hub of this name or address; the first without one.
    pub fn hub(&self, wanted: Option<&str>) -> anyhow::Result<&HubPaste> {
        let Some(wanted) = wanted else {
            return self
                .hubs
                .first()
                .ok_or_else(|| anyhow::anyhow!("no hub runs from this data folder"));
        };
        let found = self.hubs.iter().find(|hub| {
            hub.name.eq_ignore_ascii_case(wanted)
                || hub.host_name.eq_ignore_ascii_case(wanted)
                || hub.address.to_string() == wanted
        });
        found.ok_or_else(|| {
            let known: Vec<_> = self.hubs.iter().map(|hub| hub.name.as_str()).collect();
            anyhow::anyhow!("no hub is called `{wanted}`; known: {}", known.join(", "))
        })
    }

    /// The lines that start-up prints.
    pub fn banner(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            let _ = writeln!(text, "  {name:<22} {value}");
        };
        if let Some(dps) = &self.dps {
            line("Id scope", &dps.id_scope);
            line(
                "DPS",
                &format!(
                    "{}  ({}, MQTT {}, HTTPS {})",
                    dps.address, dps.name, self.mqtt_port, self.https_port
                ),
            );
            line("DPS connection string", &dps.connection_string);
        }
        for hub in &self.hubs {
            line(
                "Hub",
                &format!("{}  ({}, {})", hub.address, hub.host_name, hub.region),
            );
            line("  connection string", &hub.connection_string);
        }
        line("CA file", &self.ca_file.display().to_string());
        text
    }

    /// `export` lines with the names that official samples read. `device` names the registration to
    /// begin with; the device connection string is that of a device which DPS put into the hub. `bundle` is
    /// the file that `SSL_CERT_FILE` names, as a word of the shell.
    pub fn environment(&self, device: &str, hub: &HubPaste, form: Form, bundle: &str) -> String {
        let mut text =
            format!("export SSL_CERT_FILE={bundle}\nexport REQUESTS_CA_BUNDLE={bundle}\n");
        let mut export = |name: &str, value: &str| {
            let _ = writeln!(text, "export {name}='{value}'");
        };
        let host = hub.host(form);
        if let Ok(mut string) = hub.connection_string.parse::<ConnectionString>() {
            string.host_name.clone_from(&host);
            export("IOTHUB_CONNECTION_STRING", &string.reveal());
        }
        let Some(dps) = &self.dps else { return text };
        let dps_host = match form {
            Form::Address => dps.address.to_string(),
            Form::Name => dps.host_name.clone(),
        };
        export("PROVISIONING_HOST", &dps_host);
        export("PROVISIONING_IDSCOPE", &dps.id_scope);
        export("PROVISIONING_REGISTRATION_ID", device);
        if let Some(group) = &dps.group {
            let key = group.primary_key.derive(device);
            export("PROVISIONING_SYMMETRIC_KEY", key.reveal());
            if let Ok(id) = device.parse::<DeviceId>() {
                let string = ConnectionString::device(&host, Identity::device(id), key);
                export("IOTHUB_DEVICE_CONNECTION_STRING", &string.reveal());
            }
        }
        text
    }
}
