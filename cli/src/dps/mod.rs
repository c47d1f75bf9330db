//! `azimuth dps …` of a DPS that runs: its enrollments, groups, CA certificates and registrations, and deprovisioning.
//!
//! Everything goes over the service's REST API, as any back end would do it. What may not enter: rules
//! about enrollments; the DPS has them.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use azimuth_wire::connection_string::ConnectionString;
use azimuth_wire::percent;
use clap::Args;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::ask::{self, Ask};
use crate::ca_certificate::{CaCommand, Of};
use crate::config::Config;
use crate::endpoint::{Endpoint, Open};
use crate::paste::Paste;

mod attestation;
mod deprovision;
mod enrollment;
mod entry;
mod explained;
mod group;
mod identity;
mod registration;
mod terms;
mod way_back;

pub use deprovision::Deprovision;
pub use enrollment::Enrollment;
pub use explained::explained;
pub use group::Group;
pub use registration::Registration;

/// Which DPS is asked.
#[derive(Debug, Args)]
pub struct Target {
    /// Connection string of the DPS instead of what the data folder knows
    #[arg(
        long,
        global = true,
        env = "AZIMUTH_DPS_CONNECTION_STRING",
        hide_env_values = true,
        value_name = "STRING"
    )]
    dps_connection_string: Option<String>,
    /// CA file, with --dps-connection-string
    #[arg(long, global = true, env = "SSL_CERT_FILE", value_name = "FILE")]
    ca: Option<PathBuf>,
}

impl Target {
    /// For a command that has these two among others.
    pub fn new(dps_connection_string: Option<String>, ca: Option<PathBuf>) -> Self {
        Self {
            dps_connection_string,
            ca,
        }
    }

    pub async fn open(&self, config: &Config) -> anyhow::Result<Open> {
        self.endpoint(config)?.open().await
    }

    fn endpoint(&self, config: &Config) -> anyhow::Result<Endpoint> {
        let Some(string) = &self.dps_connection_string else {
            let folder = config.connect_folder();
            let paste = Paste::load(folder)?;
            let dps = paste.dps.as_ref().with_context(|| {
                format!(
                    "no DPS was started with {}; start it, or give --dps-connection-string and --ca",
                    folder.display()
                )
            })?;
            return Endpoint::dps(&paste, dps);
        };
        let string: ConnectionString = string
            .parse()
            .context("the connection string of the DPS is not usable")?;
        let ca_file = self.ca.clone();
        Ok(Endpoint {
            label: string.host_name.clone(),
            string,
            address: None,
            otherwise: None,
            port: config.ports.https,
            ca_file: ca_file.context("--dps-connection-string needs --ca, the CA to trust")?,
        })
    }
}

/// Uploads, verifies, lists, shows and deletes the CA certificates that chains of devices lead to.
#[derive(Debug, Args)]
pub struct CaCertificate {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: CaCommand,
}

impl CaCertificate {
    pub fn run(self, config: Config) -> anyhow::Result<ExitCode> {
        let open = async || self.target.open(&config).await;
        ask::run(self.command.run(Of::Dps, open))
    }
}

/// A record, with its keys where they are wanted.
async fn shown(dps: &Open, path: &str, with_keys: bool, missing: &str) -> anyhow::Result<Value> {
    let hints = [(StatusCode::NOT_FOUND, missing)];
    let mut record = Ask::get(path).hints(&hints).of(dps).await?.body;
    if with_keys {
        let path = format!("{path}/attestationmechanism");
        record["attestation"] = Ask::new(Method::POST, &path).of(dps).await?.body;
    }
    Ok(record)
}

/// Writes a record back as it was read, changed; refused when somebody else wrote it since.
async fn write_back(dps: &Open, path: &str, record: Value) -> anyhow::Result<Value> {
    let etag = record["etag"].as_str().unwrap_or("*").to_owned();
    let condition = [("if-match", etag.as_str())];
    let put = Ask::new(Method::PUT, path).headers(&condition).body(record);
    Ok(put.of(dps).await?.body)
}

async fn delete(dps: &Open, path: &str, missing: &str) -> anyhow::Result<()> {
    let hints = [(StatusCode::NOT_FOUND, missing)];
    Ask::new(Method::DELETE, path).hints(&hints).of(dps).await?;
    Ok(())
}

/// One record: whole as JSON, or the members that people ask for, one a line.
fn print_record(record: &Value, as_json: bool, members: &[&str]) -> anyhow::Result<()> {
    let attestation = |member: &str, value: &Value| {
        let x509 = member == "attestation" && value["type"] == "x509";
        x509.then(|| attestation::lines(value))
    };
    ask::print_record(record, as_json, members, attestation)
}

/// The path of a record under a collection.
fn path(collection: &str, id: &str) -> String {
    format!("{collection}/{}", percent::encode(id))
}

const ENROLLMENTS: &str = "/enrollments";
const GROUPS: &str = "/enrollmentGroups";
const REGISTRATIONS: &str = "/registrations";
