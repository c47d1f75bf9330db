//! `azimuth hub module`: the modules of a device, as the identity registry of a hub that runs has them.
//!
//! What may not enter: rules about identities; the hub has them.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::identity::Name;
use super::print_identities;
use super::verb::{self, Verb};
use crate::ask::Ask;
use crate::config::Config;
use crate::endpoint::Open;
use crate::follow::Target;
use crate::listing::cell;

/// Creates, shows, lists, changes and deletes the modules of a device.
#[derive(Debug, Args)]
pub struct Module {
    #[command(subcommand)]
    command: ModuleCommand,
}

#[derive(Debug, Subcommand)]
enum ModuleCommand {
    /// List the modules of a device
    List {
        /// Device id
        #[arg(value_name = "DEVICE")]
        device: String,
        #[command(flatten)]
        at: Target,
        /// As JSON, whole but for the keys
        #[arg(long)]
        json: bool,
    },
    #[command(flatten)]
    One(Verb<Named, Terms>),
}

#[derive(Debug, Args)]
struct Named {
    /// Device id
    #[arg(value_name = "DEVICE")]
    device: String,
    /// Module id
    #[arg(value_name = "MODULE")]
    module: String,
    #[command(flatten)]
    at: Target,
}

/// What a module is beside its proof.
#[derive(Debug, Args)]
struct Terms {
    /// Who manages it: `iotEdge` is an edge deployment
    #[arg(long, value_name = "TEXT")]
    managed_by: Option<String>,
}

impl Module {
    pub async fn run(self, config: &Config) -> anyhow::Result<()> {
        match self.command {
            ModuleCommand::List { device, at, json } => {
                let hub = at.open(config).await?;
                let device = Name {
                    device: &device,
                    module: None,
                };
                let path = format!("{}/modules", device.path());
                let mut modules = device.ask(&hub, Ask::get(&path)).await?;
                print_identities(&mut modules, json, COLUMNS, row).map(drop)
            }
            ModuleCommand::One(verb) => verb.run(config).await,
        }
    }
}

impl verb::Named for Named {
    const MEMBERS: &[&str] = MEMBERS;

    fn name(&self) -> Name<'_> {
        Name {
            device: &self.device,
            module: Some(&self.module),
        }
    }

    fn at(&self) -> &Target {
        &self.at
    }
}

impl verb::Terms for Terms {
    async fn lay_over(&self, module: &mut Value, _: &Open) -> anyhow::Result<()> {
        if let Some(managed_by) = &self.managed_by {
            module["managedBy"] = managed_by.as_str().into();
        }
        Ok(())
    }
}

fn row(module: &Value) -> [String; 5] {
    [
        cell(module, "moduleId"),
        cell(module, "managedBy"),
        cell(module, "connectionState"),
        cell(&module["authentication"], "type"),
        cell(module, "lastActivityTime"),
    ]
}

const COLUMNS: [&str; 5] = [
    "MODULE",
    "MANAGED BY",
    "CONNECTION",
    "AUTHENTICATION",
    "LAST ACTIVITY",
];
const MEMBERS: &[&str] = &[
    "deviceId",
    "moduleId",
    "managedBy",
    "connectionState",
    "connectionStateUpdatedTime",
    "lastActivityTime",
];
