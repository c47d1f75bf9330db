//! `azimuth dps enrollment`: the entries of single devices.
//!
//! What may not enter: rules about enrollments; the DPS has them.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::attestation::DeviceProof;
use super::entry::{Change, Kind, List, Named, Show};
use super::{ENROLLMENTS, Target, path};
use crate::ask::{self, Ask};
use crate::config::Config;
use crate::listing::{self, Pages, cell};

/// Creates, shows, lists, changes and deletes the entries of single devices.
#[derive(Debug, Args)]
pub struct Enrollment {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: EnrollmentCommand,
}

#[derive(Debug, Subcommand)]
enum EnrollmentCommand {
    /// Create an entry, with symmetric keys where no flag says another proof: the device may register from now on
    Create(Individual),
    /// Show one entry, with the state of its registration
    Show(Show),
    /// List all entries
    List(List),
    /// Change an entry; what no flag names stays, keys and certificates too
    Update(Individual),
    /// Delete an entry and the record of its registration; the device stays in its hub
    Delete(Named),
}

#[derive(Debug, Args)]
struct Individual {
    #[command(flatten)]
    change: Change,
    /// What the device is called in its hub [default: the registration id]
    #[arg(long, value_name = "ID")]
    device_id: Option<String>,
    #[command(flatten)]
    proof: DeviceProof,
}

impl Enrollment {
    pub fn run(self, config: Config) -> anyhow::Result<ExitCode> {
        ask::run(self.done(&config))
    }

    async fn done(self, config: &Config) -> anyhow::Result<ExitCode> {
        let dps = self.target.open(config).await?;
        match self.command {
            EnrollmentCommand::Create(entry) => {
                let own = |record: &mut Value| entry.lay_over(record);
                entry.change.create(&KIND, &entry.proof, &own, &dps).await?;
            }
            EnrollmentCommand::Update(entry) => {
                let own = |record: &mut Value| entry.lay_over(record);
                entry.change.update(&KIND, &entry.proof, &own, &dps).await?;
            }
            EnrollmentCommand::Show(show) => show.run(&KIND, &dps).await?,
            EnrollmentCommand::List(List { json }) => {
                let pages = Pages::of(format!("{ENROLLMENTS}/query"));
                listing::print(&dps, pages, json, COLUMNS, row).await?;
            }
            EnrollmentCommand::Delete(Named { id }) => {
                let path = path(ENROLLMENTS, &id);
                let hints = [(StatusCode::NOT_FOUND, MISSING)];
                let record = Ask::get(&path).hints(&hints).of(&dps).await?.body;
                super::delete(&dps, &path, MISSING).await?;
                println!("deleted the enrollment {id}");
                if let Some(hub) = record["registrationState"]["assignedHub"].as_str() {
                    println!("  its device stays in {hub}");
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Individual {
    fn lay_over(&self, record: &mut Value) -> anyhow::Result<()> {
        if let Some(device) = &self.device_id {
            record["deviceId"] = json!(device);
        }
        Ok(())
    }
}

fn row(record: &Value) -> [String; 6] {
    let state = &record["registrationState"];
    [
        cell(record, "registrationId"),
        cell(record, "provisioningStatus"),
        cell(&record["attestation"], "type"),
        cell(record, "allocationPolicy"),
        cell(state, "status"),
        cell(state, "assignedHub"),
    ]
}

const KIND: Kind = Kind {
    noun: "enrollment",
    collection: ENROLLMENTS,
    id: "registrationId",
    members: &[
        "registrationId",
        "deviceId",
        "provisioningStatus",
        "attestation",
        "allocationPolicy",
        "iotHubs",
        "reprovisionPolicy",
        "capabilities",
        "initialTwin",
        "registrationState",
        "createdDateTimeUtc",
        "lastUpdatedDateTimeUtc",
    ],
    missing: MISSING,
    keys: |id| format!("its keys: azimuth dps enrollment show {id} --show-keys"),
};
const COLUMNS: [&str; 6] = [
    "REGISTRATION ID",
    "STATUS",
    "ATTESTATION",
    "ALLOCATION",
    "REGISTRATION",
    "HUB",
];
const MISSING: &str =
    "`azimuth dps enrollment list` shows those there are; a device of a group has none of its own.";
