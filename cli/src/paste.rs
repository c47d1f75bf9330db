//! What a person pastes: id scope, addresses, CA file, connection strings, environment blocks.
//!
//! Kept in a file of the data folder that only its owner can read, so that other commands find a
//! simulator that runs. What may not enter: the network.

use std::fmt::Write as _;
use std::fs;
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
    pub address: IpAddr,
    pub id_scope: String,
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
    pub address: IpAddr,
    /// Of the policy iothubowner, with the address as host name: it works without DNS.
    pub connection_string: String,
}

const FILE: &str = "connect.json";

impl Paste {
    /// Writes the file, readable by its owner only.
    pub fn save(&self, data: &Path) -> io::Result<()> {
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
    /// begin with; the device connection string is that of a device which DPS put into the hub.
    pub fn environment(&self, device: &str, hub: &HubPaste) -> String {
        let mut text = String::new();
        let mut export = |name: &str, value: &str| {
            let _ = writeln!(text, "export {name}='{value}'");
        };
        export("SSL_CERT_FILE", &self.ca_bundle.display().to_string());
        export("REQUESTS_CA_BUNDLE", &self.ca_bundle.display().to_string());
        export("IOTHUB_CONNECTION_STRING", &hub.connection_string);
        let Some(dps) = &self.dps else { return text };
        export("PROVISIONING_HOST", &dps.address.to_string());
        export("PROVISIONING_IDSCOPE", &dps.id_scope);
        export("PROVISIONING_REGISTRATION_ID", device);
        if let Some(group) = &dps.group {
            let key = group.primary_key.derive(device);
            export("PROVISIONING_SYMMETRIC_KEY", key.reveal());
            if let Ok(id) = device.parse::<DeviceId>() {
                let string =
                    ConnectionString::device(&hub.address.to_string(), Identity::device(id), key);
                export("IOTHUB_DEVICE_CONNECTION_STRING", &string.reveal());
            }
        }
        text
    }
}
