//! `azimuth hub job`: all identities of a hub out of a container of blobs, or into one.
//!
//! What may not enter: the format of the files, what a job does; the hub knows.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::told;
use crate::ask::{self, Ask};
use crate::config::Config;
use crate::endpoint::Open;
use crate::follow::{Target, print_line};
use crate::listing::{Table, cell};

/// Imports and exports the identities of a hub.
#[derive(Debug, Args)]
pub struct Job {
    #[command(subcommand)]
    command: JobCommand,
}

#[derive(Debug, Subcommand)]
enum JobCommand {
    /// Write identities as a file says, one JSON object a line
    Import {
        /// Container that holds the file: its URL with a shared access signature, or a `file:` URL
        #[arg(long, value_name = "URL")]
        from: String,
        /// Container for the list of what could not be written [default: the same]
        #[arg(long, value_name = "URL")]
        errors_to: Option<String>,
        /// Name of the file [default: devices.txt]
        #[arg(long, value_name = "NAME")]
        blob: Option<String>,
        #[command(flatten)]
        start: Start,
    },
    /// Write all identities with their twins to a file
    Export {
        /// Container for the file: its URL with a shared access signature, or a `file:` URL
        #[arg(long, value_name = "URL")]
        to: String,
        /// Name of the file [default: devices.txt]
        #[arg(long, value_name = "NAME")]
        blob: Option<String>,
        /// Leave the keys out
        #[arg(long)]
        without_keys: bool,
        #[command(flatten)]
        start: Start,
    },
    /// List the jobs of the last 30 days, newest first
    List {
        #[command(flatten)]
        at: Target,
        /// As JSON, whole
        #[arg(long)]
        json: bool,
    },
    /// Show how far a job is
    Show {
        #[command(flatten)]
        named: Named,
        /// As JSON, whole
        #[arg(long)]
        json: bool,
    },
    /// Stop a job; what it has written stays
    Cancel {
        #[command(flatten)]
        named: Named,
    },
}

#[derive(Debug, Args)]
struct Start {
    #[command(flatten)]
    at: Target,
    /// Return at once instead of waiting for the end
    #[arg(long)]
    no_wait: bool,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Named {
    /// Job id
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    at: Target,
}

impl Job {
    pub async fn run(self, config: &Config) -> anyhow::Result<ExitCode> {
        match self.command {
            JobCommand::Import {
                from,
                errors_to,
                blob,
                start,
            } => {
                let output = errors_to.unwrap_or_else(|| from.clone());
                let mut wanted = json!({ "type": "import", "inputBlobContainerUri": from,
                    "outputBlobContainerUri": output });
                if let Some(blob) = blob {
                    wanted["inputBlobName"] = blob.into();
                }
                return start.carry_out(config, wanted).await;
            }
            JobCommand::Export {
                to,
                blob,
                without_keys,
                start,
            } => {
                let mut wanted = json!({ "type": "export", "outputBlobContainerUri": to,
                    "excludeKeysInExport": without_keys });
                if let Some(blob) = blob {
                    wanted["outputBlobName"] = blob.into();
                }
                return start.carry_out(config, wanted).await;
            }
            JobCommand::List { at, json } => {
                let jobs = Ask::get(JOBS).of(&at.open(config).await?).await?.body;
                if json {
                    print_line(serde_json::to_string_pretty(&jobs)?)?;
                } else {
                    let jobs = jobs.as_array().map_or(&[][..], |all| all);
                    let rows: Vec<_> = jobs.iter().map(row).collect();
                    let lines = Table::of(COLUMNS).lines(&rows);
                    lines.iter().try_for_each(print_line)?;
                }
            }
            JobCommand::Show { named, json } => {
                let job = named.read(&named.at.open(config).await?).await?;
                ask::print_record(&job, json, MEMBERS, |_, _| None)?;
            }
            JobCommand::Cancel { named } => {
                let hub = named.at.open(config).await?;
                let path = named.path();
                let hints = [(StatusCode::NOT_FOUND, MISSING)];
                Ask::new(Method::DELETE, &path)
                    .hints(&hints)
                    .of(&hub)
                    .await?;
                print_line(format!("{} is to stop", named.id))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Start {
    /// Starts a job and follows it to its end; a job that failed ends the command with 1.
    async fn carry_out(self, config: &Config, wanted: Value) -> anyhow::Result<ExitCode> {
        let hub = self.at.open(config).await?;
        let hints = [(
            StatusCode::FORBIDDEN,
            "`azimuth hub job list` shows the one that runs.",
        )];
        let create = Ask::new(Method::POST, "/jobs/create").body(wanted);
        let mut job = create.hints(&hints).of(&hub).await?.body;
        let id = job["jobId"].as_str().unwrap_or_default().to_owned();
        if self.no_wait {
            told(
                &job,
                self.json,
                format!("job {id} is {}", cell(&job, "status")),
            )?;
            return Ok(ExitCode::SUCCESS);
        }
        let named = Named { id, at: self.at };
        let mut shown = None;
        while !is_over(&job) {
            let progress = job["progress"].as_u64();
            if progress != shown {
                shown = progress;
                eprintln!("{} % of job {}", cell(&job, "progress"), named.id);
            }
            tokio::time::sleep(LOOK_EVERY).await;
            job = named.read(&hub).await?;
        }
        let sentence = match job["failureReason"].as_str() {
            Some(reason) => format!("job {} {}: {reason}", named.id, cell(&job, "status")),
            None => format!("job {} {}", named.id, cell(&job, "status")),
        };
        told(&job, self.json, sentence)?;
        Ok(match job["status"] == "completed" {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }
}

impl Named {
    fn path(&self) -> String {
        format!("{JOBS}/{}", azimuth_wire::percent::encode(&self.id))
    }

    async fn read(&self, hub: &Open) -> anyhow::Result<Value> {
        let hints = [(StatusCode::NOT_FOUND, MISSING)];
        Ok(Ask::get(&self.path()).hints(&hints).of(hub).await?.body)
    }
}

fn is_over(job: &Value) -> bool {
    let status = job["status"].as_str().unwrap_or_default();
    matches!(status, "completed" | "failed" | "cancelled")
}

fn row(job: &Value) -> [String; 5] {
    ["jobId", "type", "status", "progress", "startTimeUtc"].map(|member| cell(job, member))
}

const JOBS: &str = "/jobs";
const MISSING: &str = "`azimuth hub job list` shows those there are; --hub names another hub.";
const LOOK_EVERY: Duration = Duration::from_millis(250);
const COLUMNS: [&str; 5] = ["JOB", "TYPE", "STATUS", "PROGRESS", "STARTED"];
const MEMBERS: &[&str] = &[
    "jobId",
    "type",
    "status",
    "progress",
    "failureReason",
    "startTimeUtc",
    "endTimeUtc",
];
