//! `azimuth hub device`: the devices of a hub that runs, as its identity registry has them.
//!
//! What may not enter: rules about identities; the hub has them.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::identity::{Name, Renewed, Which};
use super::proof::Proof;
use super::{Status, told};
use crate::ask::{self, Ask};
use crate::config::Config;
use crate::endpoint::Open;
use crate::follow::{Target, print_line};
use crate::listing::{Table, cell};

/// Creates, shows, lists, changes and deletes the devices of a hub that runs.
#[derive(Debug, Args)]
pub struct Device {
    #[command(subcommand)]
    command: DeviceCommand,
}

#[derive(Debug, Subcommand)]
enum DeviceCommand {
    /// List the devices of a hub, at most 1000, as in Azure; `azimuth hub query` lists all
    List {
        #[command(flatten)]
        at: Target,
        /// At most this many, the first by id
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
        top: Option<u16>,
        /// As JSON, whole but for the keys
        #[arg(long)]
        json: bool,
    },
    /// Show one device
    Show {
        #[command(flatten)]
        named: Named,
        /// As JSON, whole, with its keys
        #[arg(long)]
        json: bool,
    },
    /// Create a device, and print what it connects with
    Create {
        #[command(flatten)]
        named: Named,
        #[command(flatten)]
        proof: Proof,
        #[command(flatten)]
        terms: Terms,
        /// Print it as JSON, whole, with its keys
        #[arg(long)]
        json: bool,
    },
    /// Change a device; what is not said stays. Disabling cuts it off at once
    Update {
        #[command(flatten)]
        named: Named,
        #[command(flatten)]
        proof: Proof,
        #[command(flatten)]
        terms: Terms,
        /// Print it as JSON, whole, with its keys
        #[arg(long)]
        json: bool,
    },
    /// Delete a device with its modules and twin; a DPS does not notice, and puts it back when it registers again
    Delete {
        #[command(flatten)]
        named: Named,
    },
    /// Print what an SDK is given to be the device
    ConnectionString {
        #[command(flatten)]
        named: Named,
        #[command(flatten)]
        which: Which,
    },
    /// Make new keys, or swap the two
    RenewKey {
        #[command(flatten)]
        named: Named,
        /// Which of its keys
        #[arg(long, value_enum, value_name = "KEY")]
        key: Renewed,
    },
}

#[derive(Debug, Args)]
struct Named {
    /// Device id
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    at: Target,
}

/// What a device is beside its proof.
#[derive(Debug, Args)]
struct Terms {
    /// Whether it may connect
    #[arg(long, value_enum, value_name = "STATUS")]
    status: Option<Status>,
    /// Why, in at most 128 characters
    #[arg(long, value_name = "TEXT")]
    status_reason: Option<String>,
    /// Whether it is an edge device, which other devices may be children of
    #[arg(long, value_name = "BOOL")]
    edge: Option<bool>,
    /// Id of the edge device that it is a child of; `none` takes it from its parent
    #[arg(long, value_name = "ID")]
    parent: Option<String>,
}

impl Device {
    pub async fn run(self, config: &Config) -> anyhow::Result<()> {
        match self.command {
            DeviceCommand::List { at, top, json } => {
                let hub = at.open(config).await?;
                let top = top.map_or(MOST, usize::from);
                let query = [("top", top.to_string())];
                let mut devices = Ask::get("/devices").query(&query).of(&hub).await?.body;
                print_all(&mut devices, json, top)
            }
            DeviceCommand::Show { named, json } => {
                let device = named.name().read(&named.at.open(config).await?).await?;
                ask::print_record(&device, json, MEMBERS, |_, _| None)
            }
            DeviceCommand::Create {
                named,
                proof,
                terms,
                json,
            } => {
                let (hub, name) = (named.at.open(config).await?, named.name());
                let mut device = json!({ "deviceId": named.id });
                lay_over(&mut device, &proof, &terms, &hub).await?;
                let made = name.create(&hub, device).await?;
                let string = name.connection_string(&hub, &made, Default::default())?;
                told(
                    &made,
                    json,
                    format!("{} is in {}\n{string}", named.id, hub.label()),
                )
            }
            DeviceCommand::Update {
                named,
                proof,
                terms,
                json,
            } => {
                let (hub, name) = (named.at.open(config).await?, named.name());
                let mut device = name.read(&hub).await?;
                lay_over(&mut device, &proof, &terms, &hub).await?;
                let written = name.write_back(&hub, device).await?;
                let done = match terms.status {
                    Some(Status::Enabled) => "enabled",
                    Some(Status::Disabled) => "disabled and cut off",
                    None => "changed",
                };
                told(
                    &written,
                    json,
                    format!("{} is {done} in {}", named.id, hub.label()),
                )
            }
            DeviceCommand::Delete { named } => {
                let hub = named.at.open(config).await?;
                named.name().delete(&hub).await?;
                print_line(format!("deleted {} in {}", named.id, hub.label()))
            }
            DeviceCommand::ConnectionString { named, which } => {
                let (hub, name) = (named.at.open(config).await?, named.name());
                let device = name.read(&hub).await?;
                print_line(name.connection_string(&hub, &device, which.key)?)
            }
            DeviceCommand::RenewKey { named, key } => {
                let hub = named.at.open(config).await?;
                named.name().renew_key(&hub, key).await?;
                print_line(format!("{}: {} in {}", named.id, key.done(), hub.label()))
            }
        }
    }
}

impl Named {
    fn name(&self) -> Name<'_> {
        Name {
            device: &self.id,
            module: None,
        }
    }
}

/// Writes what was said into a device; the rest of it stays.
async fn lay_over(
    device: &mut Value,
    proof: &Proof,
    terms: &Terms,
    hub: &Open,
) -> anyhow::Result<()> {
    if let Some(authentication) = proof.asked()? {
        device["authentication"] = authentication;
    }
    if let Some(status) = terms.status {
        device["status"] = status.word().into();
    }
    if let Some(reason) = &terms.status_reason {
        device["statusReason"] = reason.as_str().into();
    }
    if let Some(edge) = terms.edge {
        device["capabilities"] = json!({ "iotEdge": edge });
    }
    if let Some(parent) = &terms.parent {
        let scope = match parent.as_str() {
            "none" => None,
            parent => Some(scope_of(parent, hub).await?),
        };
        // A leaf takes its parent's scope as its own; an edge device has one, and names its parent's beside it.
        if device["capabilities"]["iotEdge"] == true {
            device["parentScopes"] = scope.into_iter().collect();
        } else {
            device["deviceScope"] = scope.unwrap_or_default().into();
            device["parentScopes"] = json!([]);
        }
    }
    Ok(())
}

async fn scope_of(parent: &str, hub: &Open) -> anyhow::Result<String> {
    let name = Name {
        device: parent,
        module: None,
    };
    let parent = name.read(hub).await?;
    let scope = parent["deviceScope"]
        .as_str()
        .filter(|_| parent["capabilities"]["iotEdge"] == true);
    scope.map(str::to_owned).ok_or_else(|| {
        anyhow::anyhow!(
            "{} is no edge device; `azimuth hub device update {0} --edge true` makes it one",
            name.device
        )
    })
}

fn print_all(devices: &mut Value, as_json: bool, top: usize) -> anyhow::Result<()> {
    let found = devices.as_array_mut().map_or(&mut [][..], |all| all);
    if as_json {
        for device in found {
            device["authentication"]["symmetricKey"] = Value::Null;
        }
        return print_line(serde_json::to_string_pretty(devices)?);
    }
    let rows: Vec<_> = found.iter().map(row).collect();
    let lines = Table::of(COLUMNS).lines(&rows);
    lines.iter().try_for_each(print_line)?;
    if rows.len() >= top {
        eprintln!(
            "  ! only {top} devices are listed, there may be more: `azimuth hub query` lists all"
        );
    }
    Ok(())
}

fn row(device: &Value) -> [String; 5] {
    [
        cell(device, "deviceId"),
        cell(device, "status"),
        cell(device, "connectionState"),
        cell(&device["authentication"], "type"),
        cell(device, "lastActivityTime"),
    ]
}

/// Azure's, for one list.
const MOST: usize = 1000;
const COLUMNS: [&str; 5] = [
    "DEVICE",
    "STATUS",
    "CONNECTION",
    "AUTHENTICATION",
    "LAST ACTIVITY",
];
const MEMBERS: &[&str] = &[
    "deviceId",
    "status",
    "statusReason",
    "statusUpdatedTime",
    "connectionState",
    "connectionStateUpdatedTime",
    "lastActivityTime",
    "capabilities",
    "deviceScope",
    "parentScopes",
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_device_is_a_row_and_no_key_is_in_it() {
        let device = json!({ "deviceId": "d", "status": "enabled", "connectionState": "Connected",
            "authentication": { "type": "sas", "symmetricKey": { "primaryKey": "secret" } },
            "lastActivityTime": "2030-01-01T00:00:00" });
        assert_eq!(
            row(&device),
            ["d", "enabled", "Connected", "sas", "2030-01-01T00:00:00"]
        );
        let mut devices = json!([device]);
        print_all(&mut devices, true, MOST).unwrap();
        assert!(!devices.to_string().contains("secret"), "{devices}");
    }
}
