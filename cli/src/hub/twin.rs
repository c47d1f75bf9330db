//! `azimuth hub twin`: tags and properties of a device or module in a hub that runs.
//!
//! What may not enter: what a write does to a twin; the hub knows.

use anyhow::bail;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::identity::Name;
use super::json_of;
use crate::config::Config;
use crate::follow::{Target, print_line};

/// Shows and changes twins.
#[derive(Debug, Args)]
pub struct Twin {
    #[command(subcommand)]
    command: TwinCommand,
}

#[derive(Debug, Subcommand)]
enum TwinCommand {
    /// Show a twin as JSON
    Show {
        #[command(flatten)]
        named: Named,
    },
    /// Merge tags and desired properties into a twin; null removes. A device that listens is told at once
    Update {
        #[command(flatten)]
        named: Named,
        #[command(flatten)]
        content: Content,
    },
    /// Replace tags and desired properties; what is not given becomes empty
    Replace {
        #[command(flatten)]
        named: Named,
        #[command(flatten)]
        content: Content,
    },
}

#[derive(Debug, Args)]
struct Named {
    /// Device id
    #[arg(value_name = "DEVICE")]
    device: String,
    /// Module id, for the twin of a module
    #[arg(long, value_name = "MODULE")]
    module: Option<String>,
    #[command(flatten)]
    at: Target,
}

#[derive(Debug, Args)]
struct Content {
    /// Tags as a JSON object, or @FILE
    #[arg(long, value_name = "JSON")]
    tags: Option<String>,
    /// Desired properties as a JSON object, or @FILE
    #[arg(long, value_name = "JSON")]
    desired: Option<String>,
}

impl Twin {
    pub async fn run(self, config: &Config) -> anyhow::Result<()> {
        let twin = match self.command {
            TwinCommand::Show { named } => {
                let hub = named.at.open(config).await?;
                named.name().read_twin(&hub).await?
            }
            TwinCommand::Update { named, content } => {
                let body = content.body()?;
                if body == json!({}) {
                    bail!("nothing to change: give --tags or --desired");
                }
                let hub = named.at.open(config).await?;
                named.name().write_twin(&hub, Method::PATCH, body).await?
            }
            TwinCommand::Replace { named, content } => {
                let body = content.body()?;
                let hub = named.at.open(config).await?;
                named.name().write_twin(&hub, Method::PUT, body).await?
            }
        };
        print_line(serde_json::to_string_pretty(&twin)?)
    }
}

impl Named {
    fn name(&self) -> Name<'_> {
        Name {
            device: &self.device,
            module: self.module.as_deref(),
        }
    }
}

impl Content {
    fn body(&self) -> anyhow::Result<Value> {
        let mut body = json!({});
        if let Some(tags) = &self.tags {
            body["tags"] = json_of(tags)?;
        }
        if let Some(desired) = &self.desired {
            body["properties"] = json!({ "desired": json_of(desired)? });
        }
        Ok(body)
    }
}
