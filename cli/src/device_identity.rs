//! `azimuth hub device-identity`: the devices of a hub that runs, as its identity registry has them.
//!
//! Everything goes over the hub's REST API, as any back end would do it. What may not enter: rules about identities;
//! the hub has them.

use std::process::ExitCode;

use azimuth_wire::percent;
use clap::{Args, Subcommand, ValueEnum};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::config::Config;
use crate::dps::listing::{Table, cell};
use crate::dps::{self, Ask};
use crate::endpoint::Open;
use crate::follow::{Target, print_line};

/// Lists, shows, disables and deletes the devices of a hub that runs.
#[derive(Debug, Args)]
pub struct DeviceIdentity {
    #[command(subcommand)]
    command: DeviceIdentityCommand,
}

#[derive(Debug, Subcommand)]
enum DeviceIdentityCommand {
    /// List the devices of a hub, at most 1000, as in Azure
    List {
        #[command(flatten)]
        at: Target,
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
    /// Disable a device, which cuts it off at once, or enable it again
    Update {
        #[command(flatten)]
        named: Named,
        /// Whether it may connect
        #[arg(long, value_name = "STATUS")]
        status: Status,
    },
    /// Delete a device; a DPS does not notice, and puts it back when it registers again
    Delete {
        #[command(flatten)]
        named: Named,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Status {
    Enabled,
    Disabled,
}

impl DeviceIdentity {
    pub fn run(self, config: Config) -> anyhow::Result<ExitCode> {
        dps::run(self.done(&config))
    }

    async fn done(self, config: &Config) -> anyhow::Result<ExitCode> {
        match self.command {
            DeviceIdentityCommand::List { at, json } => {
                let hub = at.hub(config)?.open().await?;
                let mut devices = Ask::get(DEVICES).of(&hub).await?.body;
                print_all(&mut devices, json)?;
            }
            DeviceIdentityCommand::Show { named, json } => {
                let hub = named.at.hub(config)?.open().await?;
                let device = read(&hub, &named.path()).await?;
                dps::print_record(&device, json, MEMBERS)?;
            }
            DeviceIdentityCommand::Update { named, status } => {
                let hub = named.at.hub(config)?.open().await?;
                let path = named.path();
                let mut device = read(&hub, &path).await?;
                let (word, done) = match status {
                    Status::Enabled => ("enabled", "enabled"),
                    Status::Disabled => ("disabled", "disabled and cut off"),
                };
                device["status"] = json!(word);
                let etag = format!("\"{}\"", device["etag"].as_str().unwrap_or("*"));
                let condition = [("if-match", etag.as_str())];
                let put = Ask::new(Method::PUT, &path).headers(&condition);
                put.body(device).of(&hub).await?;
                println!("{} is {done} in {}", named.id, hub.label());
            }
            DeviceIdentityCommand::Delete { named } => {
                let hub = named.at.hub(config)?.open().await?;
                let hints = [(StatusCode::NOT_FOUND, MISSING)];
                let path = named.path();
                let delete = Ask::new(Method::DELETE, &path).headers(&[("if-match", "*")]);
                delete.hints(&hints).of(&hub).await?;
                println!("deleted {} in {}", named.id, hub.label());
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Named {
    fn path(&self) -> String {
        format!("{DEVICES}/{}", percent::encode(&self.id))
    }
}

async fn read(hub: &Open, path: &str) -> anyhow::Result<Value> {
    let hints = [(StatusCode::NOT_FOUND, MISSING)];
    Ok(Ask::get(path).hints(&hints).of(hub).await?.body)
}

fn print_all(devices: &mut Value, as_json: bool) -> anyhow::Result<()> {
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
    if rows.len() >= MOST {
        eprintln!("  ! only {MOST} devices are listed, there may be more");
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

const DEVICES: &str = "/devices";
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
    "connectionState",
    "connectionStateUpdatedTime",
    "lastActivityTime",
    "capabilities",
];
const MISSING: &str =
    "`azimuth hub device-identity list` shows those there are; --hub names another hub.";

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
        print_all(&mut devices, true).unwrap();
        assert!(!devices.to_string().contains("secret"), "{devices}");
    }
}
