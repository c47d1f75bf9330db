//! `azimuth hub …` of a hub that runs: its devices, modules and twins, queries, CA certificates, and jobs.
//!
//! Everything goes over the hub's REST API, as any back end would do it. What may not enter: rules about identities;
//! the hub has them.

use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;

use crate::ask;
use crate::ca_certificate::{CaCommand, Of};
use crate::config::Config;
use crate::endpoint::Open;
use crate::follow::{Target, print_line};
use crate::listing::Table;

mod device;
mod identity;
mod job;
mod module;
mod proof;
mod query;
mod twin;
mod verb;

/// What is done with a hub that runs instead of starting one.
#[derive(Debug, Subcommand)]
pub enum HubCommand {
    /// Create, show, list, change and delete devices, and renew their keys
    #[command(visible_alias = "device-identity")]
    Device(device::Device),
    /// The same for the modules of a device
    Module(module::Module),
    /// Show and change what is kept of a device or module beside its identity: tags and properties
    Twin(twin::Twin),
    /// Ask for devices and modules in Azure's query language
    Query(query::Query),
    /// Upload, verify, list, show and delete the CA certificates that chains of devices lead to
    Certificate(Certificate),
    /// Import and export all identities of a hub at once
    Job(job::Job),
    /// How many devices there are, and how many are on the line
    Statistics(Statistics),
}

/// Uploads, verifies, lists, shows and deletes the CA certificates of a hub that runs.
#[derive(Debug, Args)]
pub struct Certificate {
    #[command(flatten)]
    at: Target,
    #[command(subcommand)]
    command: CaCommand,
}

/// Counts the devices of a hub that runs.
#[derive(Debug, Args)]
pub struct Statistics {
    #[command(flatten)]
    at: Target,
}

impl HubCommand {
    pub fn run(self, config: Config) -> anyhow::Result<ExitCode> {
        ask::run(async {
            match self {
                Self::Device(command) => command.run(&config).await?,
                Self::Module(command) => command.run(&config).await?,
                Self::Twin(command) => command.run(&config).await?,
                Self::Query(command) => command.run(&config).await?,
                Self::Certificate(Certificate { at, command }) => {
                    return command.run(Of::Hub, async || at.open(&config).await).await;
                }
                Self::Job(command) => return command.run(&config).await,
                Self::Statistics(command) => command.run(&config).await?,
            }
            Ok(ExitCode::SUCCESS)
        })
    }
}

impl Statistics {
    async fn run(self, config: &Config) -> anyhow::Result<()> {
        let hub = self.at.open(config).await?;
        for (path, members) in [
            (
                "/statistics/devices",
                &[
                    "totalDeviceCount",
                    "enabledDeviceCount",
                    "disabledDeviceCount",
                ][..],
            ),
            ("/statistics/service", &["connectedDeviceCount"]),
        ] {
            let counted = ask::Ask::get(path).of(&hub).await?.body;
            ask::print_record(&counted, false, members, |_, _| None)?;
        }
        Ok(())
    }
}

impl Target {
    async fn open(&self, config: &Config) -> anyhow::Result<Open> {
        self.hub(config)?.open().await
    }
}

/// Whether a device may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Status {
    Enabled,
    Disabled,
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
        }
    }
}

/// A JSON text of a flag; `@FILE` is the text of a file.
fn json_of(text: &str) -> anyhow::Result<Value> {
    let (text, from) = match text.strip_prefix('@') {
        Some(file) => {
            let read = std::fs::read_to_string(file);
            (
                read.with_context(|| format!("{file} cannot be read"))?,
                file,
            )
        }
        None => (text.to_owned(), "what was given"),
    };
    serde_json::from_str(&text).with_context(|| format!("{from} is not JSON"))
}

/// A list of identities, as rows, or as JSON without the keys. How many there are.
fn print_identities<const N: usize>(
    identities: &mut Value,
    as_json: bool,
    columns: [&str; N],
    row: fn(&Value) -> [String; N],
) -> anyhow::Result<usize> {
    let found = identities.as_array_mut().map_or(&mut [][..], |all| all);
    let count = found.len();
    if as_json {
        for identity in found {
            identity["authentication"]["symmetricKey"] = Value::Null;
        }
        print_line(serde_json::to_string_pretty(identities)?)?;
    } else {
        let rows: Vec<_> = found.iter().map(row).collect();
        let lines = Table::of(columns).lines(&rows);
        lines.iter().try_for_each(print_line)?;
    }
    Ok(count)
}

/// What was done, in a line; or the record as JSON.
fn told(record: &Value, as_json: bool, sentence: String) -> anyhow::Result<()> {
    match as_json {
        true => print_line(serde_json::to_string_pretty(record)?),
        false => print_line(sentence),
    }
}
