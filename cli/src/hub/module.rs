//! `azimuth hub module`: the modules of a device, as the identity registry of a hub that runs has them.
//!
//! What may not enter: rules about identities; the hub has them.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::identity::{Name, Renewed, Which};
use super::proof::Proof;
use super::told;
use crate::ask::{self, Ask};
use crate::config::Config;
use crate::follow::{Target, print_line};
use crate::listing::{Table, cell};

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
    /// Show one module
    Show {
        #[command(flatten)]
        named: Named,
        /// As JSON, whole, with its keys
        #[arg(long)]
        json: bool,
    },
    /// Create a module, and print what it connects with
    Create {
        #[command(flatten)]
        named: Named,
        #[command(flatten)]
        proof: Proof,
        /// Who manages it: `iotEdge` is an edge deployment
        #[arg(long, value_name = "TEXT")]
        managed_by: Option<String>,
        /// Print it as JSON, whole, with its keys
        #[arg(long)]
        json: bool,
    },
    /// Change a module; what is not said stays
    Update {
        #[command(flatten)]
        named: Named,
        #[command(flatten)]
        proof: Proof,
        /// Who manages it
        #[arg(long, value_name = "TEXT")]
        managed_by: Option<String>,
        /// Print it as JSON, whole, with its keys
        #[arg(long)]
        json: bool,
    },
    /// Delete a module with its twin
    Delete {
        #[command(flatten)]
        named: Named,
    },
    /// Print what an SDK is given to be the module
    ConnectionString {
        #[command(flatten)]
        named: Named,
        #[command(flatten)]
        which: Which,
    },
    /// Make new keys, or swap the two
    RenewKey {
        #[command(flatten)]
        named: Named,
        /// Which of its keys
        #[arg(long, value_enum, value_name = "KEY")]
        key: Renewed,
    },
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
                let modules = device.ask(&hub, Ask::get(&path)).await?;
                print_all(modules, json)
            }
            ModuleCommand::Show { named, json } => {
                let module = named.name().read(&named.at.open(config).await?).await?;
                ask::print_record(&module, json, MEMBERS, |_, _| None)
            }
            ModuleCommand::Create {
                named,
                proof,
                managed_by,
                json,
            } => {
                let (hub, name) = (named.at.open(config).await?, named.name());
                let mut module = json!({ "deviceId": named.device, "moduleId": named.module });
                lay_over(&mut module, &proof, managed_by)?;
                let made = name.create(&hub, module).await?;
                let string = name.connection_string(&hub, &made, Default::default())?;
                told(
                    &made,
                    json,
                    format!("{named} is in {}\n{string}", hub.label()),
                )
            }
            ModuleCommand::Update {
                named,
                proof,
                managed_by,
                json,
            } => {
                let (hub, name) = (named.at.open(config).await?, named.name());
                let mut module = name.read(&hub).await?;
                lay_over(&mut module, &proof, managed_by)?;
                let written = name.write_back(&hub, module).await?;
                told(
                    &written,
                    json,
                    format!("{named} is changed in {}", hub.label()),
                )
            }
            ModuleCommand::Delete { named } => {
                let hub = named.at.open(config).await?;
                named.name().delete(&hub).await?;
                print_line(format!("deleted {named} in {}", hub.label()))
            }
            ModuleCommand::ConnectionString { named, which } => {
                let (hub, name) = (named.at.open(config).await?, named.name());
                let module = name.read(&hub).await?;
                print_line(name.connection_string(&hub, &module, which.key)?)
            }
            ModuleCommand::RenewKey { named, key } => {
                let hub = named.at.open(config).await?;
                named.name().renew_key(&hub, key).await?;
                print_line(format!("{named}: {} in {}", key.done(), hub.label()))
            }
        }
    }
}

impl Named {
    fn name(&self) -> Name<'_> {
        Name {
            device: &self.device,
            module: Some(&self.module),
        }
    }
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.device, self.module)
    }
}

fn lay_over(module: &mut Value, proof: &Proof, managed_by: Option<String>) -> anyhow::Result<()> {
    if let Some(authentication) = proof.asked()? {
        module["authentication"] = authentication;
    }
    if let Some(managed_by) = managed_by {
        module["managedBy"] = managed_by.into();
    }
    Ok(())
}

fn print_all(mut modules: Value, as_json: bool) -> anyhow::Result<()> {
    let found = modules.as_array_mut().map_or(&mut [][..], |all| all);
    if as_json {
        for module in found {
            module["authentication"]["symmetricKey"] = Value::Null;
        }
        return print_line(serde_json::to_string_pretty(&modules)?);
    }
    let rows: Vec<_> = found.iter().map(row).collect();
    let lines = Table::of(COLUMNS).lines(&rows);
    lines.iter().try_for_each(print_line)
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
