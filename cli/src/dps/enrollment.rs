//! `azimuth dps enrollment`: the entries of single devices.
//!
//! What may not enter: rules about enrollments; the DPS has them.

use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, Subcommand};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::listing::{self, Pages, cell};
use super::terms::{Terms, writable};
use super::tpm::Tpm;
use super::{Ask, ENROLLMENTS, Target, path};
use crate::config::Config;
use crate::endpoint::Open;

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
    /// Create an entry with symmetric keys, or for a TPM: the device may register from now on
    Create(Change),
    /// Show one entry, with the state of its registration
    Show {
        /// Registration id
        #[arg(value_name = "ID")]
        id: String,
        /// With its symmetric keys
        #[arg(long)]
        show_keys: bool,
        /// As JSON, whole
        #[arg(long)]
        json: bool,
    },
    /// List all entries
    List {
        /// As JSON, whole but for the keys
        #[arg(long)]
        json: bool,
    },
    /// Change an entry; what no flag names stays, keys too
    Update(Change),
    /// Delete an entry and the record of its registration; the device stays in its hub
    Delete {
        /// Registration id
        #[arg(value_name = "ID")]
        id: String,
    },
}

#[derive(Debug, Args)]
struct Change {
    /// Registration id
    #[arg(value_name = "ID")]
    id: String,
    /// What the device is called in its hub [default: the registration id]
    #[arg(long, value_name = "ID")]
    device_id: Option<String>,
    #[command(flatten)]
    terms: Terms,
    #[command(flatten)]
    tpm: Tpm,
    /// Print the entry as JSON, with its keys
    #[arg(long)]
    json: bool,
}

impl Enrollment {
    pub fn run(self, config: Config) -> anyhow::Result<ExitCode> {
        super::run(self.done(&config))
    }

    async fn done(self, config: &Config) -> anyhow::Result<ExitCode> {
        let dps = self.target.open(config).await?;
        match self.command {
            EnrollmentCommand::Create(change) => change.create(&dps).await?,
            EnrollmentCommand::Update(change) => change.update(&dps).await?,
            EnrollmentCommand::Show {
                id,
                show_keys,
                json,
            } => {
                let path = path(ENROLLMENTS, &id);
                let record = super::shown(&dps, &path, show_keys, MISSING).await?;
                super::print_record(&record, json, MEMBERS)?;
            }
            EnrollmentCommand::List { json } => {
                let pages = Pages::of(format!("{ENROLLMENTS}/query"));
                listing::print(&dps, pages, json, COLUMNS, row).await?;
            }
            EnrollmentCommand::Delete { id } => {
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

impl Change {
    async fn create(self, dps: &Open) -> anyhow::Result<()> {
        let mut record = json!({ "registrationId": self.id,
            "attestation": { "type": "symmetricKey", "symmetricKey": {} } });
        self.lay_over(&mut record, dps).await?;
        let hint = format!(
            "Change it with `azimuth dps enrollment update {}`, or delete it first.",
            self.id
        );
        let path = path(ENROLLMENTS, &self.id);
        let answer = Ask::new(Method::PUT, &path)
            .body(record)
            .hints(&[(StatusCode::CONFLICT, &hint)])
            .of(dps)
            .await?;
        self.told("created", &answer.body)
    }

    async fn update(self, dps: &Open) -> anyhow::Result<()> {
        if self.terms.is_silent() && self.tpm.is_silent() && self.device_id.is_none() {
            bail!("say what to change; `azimuth dps enrollment update --help` lists what can be");
        }
        let path = path(ENROLLMENTS, &self.id);
        let found = Ask::get(&path).hints(&[(StatusCode::NOT_FOUND, MISSING)]);
        let mut record = writable(found.of(dps).await?.body);
        self.lay_over(&mut record, dps).await?;
        let answer = super::write_back(dps, &path, record).await?;
        self.told("updated", &answer)
    }

    async fn lay_over(&self, record: &mut Value, dps: &Open) -> anyhow::Result<()> {
        if let Some(device) = &self.device_id {
            record["deviceId"] = json!(device);
        }
        let hubs = self.terms.hubs(dps).await?;
        self.terms.lay_over(record, &hubs)?;
        self.tpm.lay_over(&mut record["attestation"])
    }

    fn told(&self, what: &str, record: &Value) -> anyhow::Result<()> {
        if self.json {
            println!("{}", serde_json::to_string_pretty(record)?);
            return Ok(());
        }
        let status = cell(record, "provisioningStatus");
        println!("{what} the enrollment {} ({status})", self.id);
        if record["attestation"]["type"] == "tpm" {
            println!("  it registers over HTTPS and proves that it holds the TPM");
            return Ok(());
        }
        println!(
            "  its keys: azimuth dps enrollment show {} --show-keys",
            self.id
        );
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

const COLUMNS: [&str; 6] = [
    "REGISTRATION ID",
    "STATUS",
    "ATTESTATION",
    "ALLOCATION",
    "REGISTRATION",
    "HUB",
];
const MEMBERS: &[&str] = &[
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
];
const MISSING: &str =
    "`azimuth dps enrollment list` shows those there are; a device of a group has none of its own.";
