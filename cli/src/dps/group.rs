//! `azimuth dps group`: the entries of many devices, and the keys of their devices.
//!
//! What may not enter: rules about enrollments; the DPS has them.

use std::process::ExitCode;

use anyhow::Context;
use azimuth_wire::{RegistrationId, SymmetricKey};
use clap::{Args, Subcommand};
use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::attestation::GroupProof;
use super::entry::{Change, Kind, List, Named, Show};
use super::{GROUPS, Target, path};
use crate::ask::{self, Ask};
use crate::config::Config;
use crate::listing::{self, Pages, cell};

/// Creates, shows, lists, changes and deletes the entries of many devices.
#[derive(Debug, Args)]
pub struct Group {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: GroupCommand,
}

#[derive(Debug, Subcommand)]
enum GroupCommand {
    /// Create a group, with symmetric keys where no flag says another proof: its devices may register from now on
    Create(Many),
    /// Show one group
    Show(Show),
    /// List all groups
    List(List),
    /// Change a group; what no flag names stays, keys and certificates too
    Update(Many),
    /// Delete a group; its devices stay in their hubs, and their registrations in the DPS
    Delete(Named),
    /// Print the key of a device, derived from a key of the group
    ComputeDeviceKey {
        /// Group id; without it --key names the group's key
        #[arg(
            value_name = "ID",
            required_unless_present = "key",
            conflicts_with = "key"
        )]
        id: Option<String>,
        /// Registration id of the device, in the very spelling that the device uses
        #[arg(long, value_name = "ID")]
        registration: String,
        /// From the secondary key of the group
        #[arg(long, requires = "id")]
        secondary: bool,
        /// The group's key itself: no DPS is asked
        #[arg(
            long,
            env = "AZIMUTH_GROUP_KEY",
            hide_env_values = true,
            value_name = "KEY"
        )]
        key: Option<String>,
    },
}

#[derive(Debug, Args)]
struct Many {
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    proof: GroupProof,
}

impl Group {
    pub fn run(self, config: Config) -> anyhow::Result<ExitCode> {
        if let GroupCommand::ComputeDeviceKey {
            registration,
            key: Some(key),
            ..
        } = &self.command
        {
            println!("{}", derived(key, registration)?);
            return Ok(ExitCode::SUCCESS);
        }
        ask::run(self.done(&config))
    }

    async fn done(self, config: &Config) -> anyhow::Result<ExitCode> {
        let dps = self.target.open(config).await?;
        match self.command {
            GroupCommand::Create(Many { change, proof }) => {
                change.create(&KIND, &proof, &|_| Ok(()), &dps).await?;
            }
            GroupCommand::Update(Many { change, proof }) => {
                change.update(&KIND, &proof, &|_| Ok(()), &dps).await?;
            }
            GroupCommand::Show(show) => show.run(&KIND, &dps).await?,
            GroupCommand::List(List { json }) => {
                let pages = Pages::of(format!("{GROUPS}/query"));
                listing::print(&dps, pages, json, COLUMNS, row).await?;
            }
            GroupCommand::Delete(Named { id }) => {
                super::delete(&dps, &path(GROUPS, &id), MISSING).await?;
                println!("deleted the group {id}; its devices stay in their hubs");
            }
            GroupCommand::ComputeDeviceKey {
                id,
                registration,
                secondary,
                ..
            } => {
                let id = id.unwrap_or_default();
                let path = format!("{}/attestationmechanism", path(GROUPS, &id));
                let keys = Ask::new(Method::POST, &path)
                    .hints(&[(StatusCode::NOT_FOUND, MISSING)])
                    .of(&dps)
                    .await?;
                let member = if secondary {
                    "secondaryKey"
                } else {
                    "primaryKey"
                };
                let key = keys.body["symmetricKey"][member].as_str();
                let key = key.with_context(|| {
                    format!("the group {id} has no symmetric keys; its devices show certificates")
                })?;
                println!("{}", derived(key, &registration)?);
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The id counts in its spelling: the key of `Dev` is another than that of `dev`.
fn derived(key: &str, registration: &str) -> anyhow::Result<String> {
    let key: SymmetricKey = key.parse().context("the key of the group is not usable")?;
    let id: RegistrationId = registration.parse()?;
    Ok(key.derive(id.as_str()).reveal().to_owned())
}

fn row(record: &Value) -> [String; 5] {
    [
        cell(record, "enrollmentGroupId"),
        cell(record, "provisioningStatus"),
        cell(&record["attestation"], "type"),
        cell(record, "allocationPolicy"),
        cell(record, "iotHubs"),
    ]
}

const KIND: Kind = Kind {
    noun: "group",
    collection: GROUPS,
    id: "enrollmentGroupId",
    members: &[
        "enrollmentGroupId",
        "provisioningStatus",
        "attestation",
        "allocationPolicy",
        "iotHubs",
        "reprovisionPolicy",
        "capabilities",
        "initialTwin",
        "createdDateTimeUtc",
        "lastUpdatedDateTimeUtc",
    ],
    missing: MISSING,
    keys: |id| {
        format!("a device's key: azimuth dps group compute-device-key {id} --registration ID")
    },
};
const COLUMNS: [&str; 5] = ["GROUP", "STATUS", "ATTESTATION", "ALLOCATION", "HUBS"];
const MISSING: &str = "`azimuth dps group list` shows those there are.";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keys_of_devices_are_those_of_azures_tutorial() {
        let group = "8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egw==";
        let key = derived(group, "sn-007-888-abc-mac-a1-b2-c3-d4-e5-f6").unwrap();
        assert_eq!(key, "Jsm0lyGpjaVYVP2g3FnmnmG9dI/9qU24wNoykUmermc=");
        assert!(derived("short", "dev").is_err());
        assert!(derived(group, "a b").is_err());
    }
}
