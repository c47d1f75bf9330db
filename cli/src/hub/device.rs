//! `azimuth hub device`: the devices of a hub that runs, as its identity registry has them.
//!
//! What may not enter: rules about identities; the hub has them.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::identity::Name;
use super::verb::{self, Verb};
use super::{Status, print_identities};
use crate::ask::Ask;
use crate::config::Config;
use crate::endpoint::Open;
use crate::follow::Target;
use crate::listing::cell;

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
    #[command(flatten)]
    One(Verb<Named, Terms>),
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
            DeviceCommand::One(verb) => verb.run(config).await,
        }
    }
}

impl verb::Named for Named {
    const MEMBERS: &[&str] = MEMBERS;

    fn name(&self) -> Name<'_> {
        Name {
            device: &self.id,
            module: None,
        }
    }

    fn at(&self) -> &Target {
        &self.at
    }
}

impl verb::Terms for Terms {
    async fn lay_over(&self, device: &mut Value, hub: &Open) -> anyhow::Result<()> {
        if let Some(status) = self.status {
            device["status"] = status.word().into();
        }
        if let Some(reason) = &self.status_reason {
            device["statusReason"] = reason.as_str().into();
        }
        if let Some(edge) = self.edge {
            device["capabilities"] = json!({ "iotEdge": edge });
        }
        let Some(parent) = &self.parent else {
            return Ok(());
        };
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
        Ok(())
    }

    fn done(&self) -> &'static str {
        match self.status {
            Some(Status::Enabled) => "enabled",
            Some(Status::Disabled) => "disabled and cut off",
            None => "changed",
        }
    }
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
    let count = print_identities(devices, as_json, COLUMNS, row)?;
    if !as_json && count >= top {
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
