//! What a person pastes: id scope, addresses, CA file, connection strings, environment blocks.
//!
//! Kept in a file that only its owner can read, so that other commands find a simulator that runs, and
//! services that run apart find each other. What may not enter: the network.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
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
    /// Of the policies beside it.
    #[serde(default)]
    pub other_policies: Vec<String>,
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

/// Takes a service's name in a folder that services share. It is free again when the file is dropped, however the
/// process ends.
pub fn take_name(folder: &Path, name: &str) -> anyhow::Result<File> {
    fs::create_dir_all(folder)
        .with_context(|| format!("the folder {} cannot be made", folder.display()))?;
    let path = folder.join(format!("{name}.running"));
    let file =
        File::create(&path).with_context(|| format!("{} cannot be written", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => bail!(
            "a service called {name} already runs with the folder {}; stop it, or give this one another name",
            folder.display()
        ),
        Err(fs::TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("{} cannot be locked", path.display()))
        }
    }
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
            export("AZIMUTH_GROUP_KEY", group.primary_key.reveal());
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn hub(name: &str, started: &str) -> HubPaste {
        HubPaste {
            name: name.into(),
            host_name: format!("{name}.azure-devices.net"),
            region: "eastus".into(),
            started: started.into(),
            address: [127, 0, 0, 11].into(),
            dial: None,
            connection_string: "HostName=127.0.0.11;SharedAccessKeyName=iothubowner;SharedAccessKey=MDEyMzQ1Njc4OWFiY2RlZg==".into(),
        }
    }

    fn paste(hubs: &[HubPaste]) -> Paste {
        Paste {
            ca_file: "ca.pem".into(),
            ca_bundle: "bundle.pem".into(),
            mqtt_port: 8883,
            https_port: 443,
            dps: None,
            hubs: hubs.to_vec(),
        }
    }

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("azimuth-{name}-{}", uuid::Uuid::new_v4()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn services_that_run_apart_add_themselves() {
        let folder = folder("publish");
        for hubs in [[hub("west", "1")], [hub("east", "1")], [hub("west", "2")]] {
            paste(&hubs).publish(&folder).unwrap();
        }
        let all = Paste::load(&folder).unwrap();
        let found: Vec<_> = all
            .hubs
            .iter()
            .map(|hub| (hub.name.as_str(), hub.started.as_str()))
            .collect();
        assert_eq!(found, [("east", "1"), ("west", "2")]);
        paste(&[]).save(&folder).unwrap();
        assert!(Paste::load(&folder).unwrap().hubs.is_empty());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_name_is_taken_once_at_a_time() {
        let folder = folder("names");
        let first = take_name(&folder, "east").unwrap();
        let refused = take_name(&folder, "east").unwrap_err().to_string();
        assert!(
            refused.starts_with("a service called east already runs with"),
            "{refused}"
        );
        let other = take_name(&folder, "west").unwrap();
        drop(first);
        take_name(&folder, "east").unwrap();
        drop(other);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_block_is_for_hosts_by_address_and_for_containers_by_name() {
        let paste = paste(&[hub("east", "1")]);
        for (form, host) in [
            (Form::Address, "'HostName=127.0.0.11;"),
            (Form::Name, "'HostName=east.azure-devices.net;"),
        ] {
            let text = paste.environment("d", &paste.hubs[0], form, "\"$PWD\"'/ca.pem'");
            assert!(text.contains(host), "{text}");
            assert!(
                text.starts_with("export SSL_CERT_FILE=\"$PWD\"'/ca.pem'\n"),
                "{text}"
            );
        }
    }
}
