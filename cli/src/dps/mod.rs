//! `azimuth dps …` of a DPS that runs: its enrollments, groups, CA certificates and registrations, and deprovisioning.
//!
//! Everything goes over the service's REST API, as any back end would do it. What may not enter: rules
//! about enrollments; the DPS has them.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use azimuth_wire::connection_string::ConnectionString;
use azimuth_wire::percent;
use clap::Args;
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::config::Config;
use crate::endpoint::{Endpoint, Open};
use crate::paste::Paste;

mod attestation;
mod ca_certificate;
mod deprovision;
mod enrollment;
mod entry;
mod explained;
mod group;
mod identity;
pub mod listing;
mod registration;
mod terms;
mod way_back;

pub use ca_certificate::CaCertificate;
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

/// Runs one command to its end.
pub fn run(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(command)
}

/// What is asked of a service.
#[derive(Debug)]
pub struct Ask<'a> {
    method: Method,
    path: &'a str,
    headers: &'a [(&'a str, &'a str)],
    body: Option<Value>,
    /// What to do next when it is refused with a status.
    hints: &'a [(StatusCode, &'a str)],
}

/// What a service answered.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
    text: String,
}

impl<'a> Ask<'a> {
    pub fn new(method: Method, path: &'a str) -> Self {
        Self {
            method,
            path,
            headers: &[],
            body: None,
            hints: &[],
        }
    }

    pub fn get(path: &'a str) -> Self {
        Self::new(Method::GET, path)
    }

    pub fn headers(self, headers: &'a [(&'a str, &'a str)]) -> Self {
        Self { headers, ..self }
    }

    pub fn body(self, body: Value) -> Self {
        let body = Some(body);
        Self { body, ..self }
    }

    pub fn hints(self, hints: &'a [(StatusCode, &'a str)]) -> Self {
        Self { hints, ..self }
    }

    /// The answer; what the service refuses is an error in its own words, with the next step.
    pub async fn of(self, service: &Open) -> anyhow::Result<Answer> {
        let hints = self.hints;
        let answer = self.answer(service).await?;
        if answer.status.is_success() {
            return Ok(answer);
        }
        bail!(answer.refusal(service, hints))
    }

    /// The answer, or nothing where the service knows no such record.
    pub async fn find(self, service: &Open) -> anyhow::Result<Option<Value>> {
        let hints = self.hints;
        let answer = self.answer(service).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(Some(answer.body)),
            _ => bail!(answer.refusal(service, hints)),
        }
    }

    async fn answer(self, service: &Open) -> anyhow::Result<Answer> {
        let sent = service.send(self.method, self.path, &[], self.headers, self.body);
        let response = sent.await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.context("the answer broke off")?;
        Ok(Answer {
            status,
            headers,
            body: serde_json::from_str(&text).unwrap_or_default(),
            text,
        })
    }
}

impl Answer {
    fn refusal(&self, service: &Open, hints: &[(StatusCode, &str)]) -> String {
        // A DPS writes `message`, a hub `Message`.
        let said = ["message", "Message"].iter();
        let said = said.filter_map(|member| self.body[member].as_str()).next();
        let hint = hints.iter().find(|(status, _)| *status == self.status);
        let next = match (hint, self.status) {
            (Some((_, hint)), _) => hint,
            (None, StatusCode::UNAUTHORIZED) => "`azimuth why` says what was wrong.",
            (None, StatusCode::PRECONDITION_FAILED) => {
                "Somebody else changed it meanwhile; try again."
            }
            _ => "",
        };
        let message = said.unwrap_or(&self.text).trim();
        let text = format!(
            "{} answered {}: {message} {next}",
            service.label(),
            self.status
        );
        text.trim_end().into()
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
pub fn print_record(record: &Value, as_json: bool, members: &[&str]) -> anyhow::Result<()> {
    if as_json {
        println!("{}", serde_json::to_string_pretty(record)?);
        return Ok(());
    }
    for member in members {
        match &record[member] {
            Value::Null => {}
            attestation if *member == "attestation" && attestation["type"] == "x509" => {
                for (name, said) in attestation::lines(attestation) {
                    println!("{name:<24}{said}");
                }
            }
            Value::String(text) => println!("{member:<24}{text}"),
            other => println!("{member:<24}{other}"),
        }
    }
    Ok(())
}

/// The path of a record under a collection.
fn path(collection: &str, id: &str) -> String {
    format!("{collection}/{}", percent::encode(id))
}

const ENROLLMENTS: &str = "/enrollments";
const GROUPS: &str = "/enrollmentGroups";
const REGISTRATIONS: &str = "/registrations";
