//! `azimuth dps registration`: what became of devices that registered.
//!
//! What may not enter: what registering does; the DPS knows.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use reqwest::StatusCode;
use serde_json::Value;

use super::{GROUPS, REGISTRATIONS, Target, path};
use crate::ask::{self, Ask};
use crate::config::Config;
use crate::listing::{self, Pages, cell};

/// Lists, shows and deletes the records of devices that registered.
#[derive(Debug, Args)]
pub struct Registration {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: RegistrationCommand,
}

#[derive(Debug, Subcommand)]
enum RegistrationCommand {
    /// List the devices that came through a group, each with its hub
    List {
        /// Group id
        #[arg(long, value_name = "GROUP")]
        group: String,
        /// As JSON, whole
        #[arg(long)]
        json: bool,
    },
    /// Show what became of one device
    Show {
        /// Registration id
        #[arg(value_name = "ID")]
        id: String,
        /// As JSON, whole
        #[arg(long)]
        json: bool,
    },
    /// Forget a registration: the device stays in its hub, and is new when it registers again
    Delete {
        /// Registration id
        #[arg(value_name = "ID")]
        id: String,
    },
}

impl Registration {
    pub fn run(self, config: Config) -> anyhow::Result<ExitCode> {
        ask::run(self.done(&config))
    }

    async fn done(self, config: &Config) -> anyhow::Result<ExitCode> {
        let dps = self.target.open(config).await?;
        match self.command {
            RegistrationCommand::List { group, json } => {
                // A group that is not there would be an empty list.
                let named = path(GROUPS, &group);
                let hint = "`azimuth dps group list` shows those there are; registrations of a deleted group are shown one by one.";
                let hints = [(StatusCode::NOT_FOUND, hint)];
                Ask::get(&named).hints(&hints).of(&dps).await?;
                let pages = Pages::of(format!("{}/query", path(REGISTRATIONS, &group)));
                listing::print(&dps, pages, json, COLUMNS, row).await?;
            }
            RegistrationCommand::Show { id, json } => {
                let path = path(REGISTRATIONS, &id);
                let hints = [(StatusCode::NOT_FOUND, MISSING)];
                let record = Ask::get(&path).hints(&hints).of(&dps).await?.body;
                super::print_record(&record, json, MEMBERS)?;
            }
            RegistrationCommand::Delete { id } => {
                super::delete(&dps, &path(REGISTRATIONS, &id), MISSING).await?;
                println!(
                    "deleted the registration {id}; the device stays in its hub and may register again"
                );
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn row(record: &Value) -> [String; 5] {
    [
        cell(record, "registrationId"),
        cell(record, "status"),
        cell(record, "assignedHub"),
        cell(record, "deviceId"),
        cell(record, "lastUpdatedDateTimeUtc"),
    ]
}

const COLUMNS: [&str; 5] = ["REGISTRATION ID", "STATUS", "HUB", "DEVICE", "LAST UPDATED"];
const MEMBERS: &[&str] = &[
    "registrationId",
    "status",
    "substatus",
    "assignedHub",
    "deviceId",
    "errorCode",
    "errorMessage",
    "payload",
    "createdDateTimeUtc",
    "lastUpdatedDateTimeUtc",
];
const MISSING: &str =
    "A device has a registration once it was answered; `azimuth why ID` shows what was refused.";
