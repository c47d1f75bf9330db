//! `azimuth dps linked-hub`: the hubs of a DPS that runs, listed, added, changed and removed.
//!
//! What may not enter: rules about links; the DPS has them.

use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::{Context, bail};
use azimuth_wire::connection_string::ConnectionString;
use azimuth_wire::linked_hub::{IotHubChange, IotHubDefinition};
use azimuth_wire::percent;
use clap::{ArgAction, Args, Subcommand};
use reqwest::{Method, StatusCode};

use crate::ask::{self, Ask};
use crate::config::Config;
use crate::dps::Target;
use crate::endpoint::Open;
use crate::paste::Paste;

/// Lists, adds, changes and removes the hubs that a running DPS sends devices to.
#[derive(Debug, Args)]
pub struct LinkedHub {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: LinkedHubCommand,
}

#[derive(Debug, Subcommand)]
enum LinkedHubCommand {
    /// Link a hub: devices may be sent to it from now on
    Add(Add),
    /// List the hubs that are linked
    List {
        /// As JSON, whole but for the keys
        #[arg(long)]
        json: bool,
    },
    /// Change a link; registrations from now on are decided by it
    Update(Update),
    /// Unlink a hub: its devices stay in it, none is sent to it any more
    Remove {
        /// Host name of the hub, or its first part
        #[arg(value_name = "HUB")]
        hub: String,
    },
}

#[derive(Debug, Args)]
struct Add {
    /// Hub that was started from the same folder, by name, host name or address
    #[arg(
        value_name = "HUB",
        required_unless_present = "connection_string",
        conflicts_with = "connection_string"
    )]
    hub: Option<String>,
    /// Connection string of a policy with registry read and write, of a hub that runs elsewhere
    #[arg(long, requires = "region", value_name = "STRING")]
    connection_string: Option<String>,
    #[command(flatten)]
    traits: Traits,
}

#[derive(Debug, Args)]
struct Update {
    /// Host name of the hub, or its first part
    #[arg(value_name = "HUB")]
    hub: String,
    /// Another connection string, when the hub's keys were changed
    #[arg(long, value_name = "STRING")]
    connection_string: Option<String>,
    #[command(flatten)]
    traits: Traits,
}

/// What can be said about a link.
#[derive(Debug, Args)]
struct Traits {
    /// Azure region of the hub
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// Its share under evenly weighted allocation, 1 to 1000
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000), value_name = "N")]
    weight: Option<u32>,
    /// false keeps it out of allocation unless an enrollment names it
    #[arg(long, action = ArgAction::Set, value_name = "true|false")]
    apply_allocation_policy: Option<bool>,
    /// Where the hub is found instead of by its name, by the DPS and by devices that speak in addresses
    #[arg(long, value_name = "ADDRESS")]
    address: Option<IpAddr>,
}

impl LinkedHub {
    pub fn run(self, config: Config) -> anyhow::Result<ExitCode> {
        ask::run(self.done(&config))
    }

    async fn done(self, config: &Config) -> anyhow::Result<ExitCode> {
        let dps = self.target.open(config).await?;
        match self.command {
            LinkedHubCommand::Add(add) => {
                let definition = add.definition(config)?;
                let string: ConnectionString = definition.connection_string.parse()?;
                let body = serde_json::to_value(&definition)?;
                let answer = Ask::new(Method::PUT, &path(&string.host_name))
                    .headers(&[("if-none-match", "*")])
                    .body(body)
                    .hints(&[(StatusCode::CONFLICT, LINKED_ALREADY)])
                    .of(&dps)
                    .await?;
                told("linked", serde_json::from_value(answer.body)?);
            }
            LinkedHubCommand::List { json } => {
                let answer = Ask::get(PATH).of(&dps).await?;
                let linked: Vec<IotHubDefinition> = serde_json::from_value(answer.body)?;
                if json {
                    println!("{}", serde_json::to_string_pretty(&linked)?);
                } else {
                    table(&linked).iter().for_each(|line| println!("{line}"));
                }
            }
            LinkedHubCommand::Update(update) => {
                let body = serde_json::to_value(update.change()?)?;
                let path = path(&linked(&dps, &update.hub).await?);
                let answer = Ask::new(Method::PATCH, &path).body(body).of(&dps).await?;
                told("updated", serde_json::from_value(answer.body)?);
            }
            LinkedHubCommand::Remove { hub } => {
                let host = linked(&dps, &hub).await?;
                Ask::new(Method::DELETE, &path(&host)).of(&dps).await?;
                println!("removed {host}");
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Add {
    fn definition(self, config: &Config) -> anyhow::Result<IotHubDefinition> {
        let traits = self.traits;
        let mut definition = match (&self.connection_string, traits.region) {
            (Some(string), Some(region)) => {
                let string: ConnectionString = string.parse().context("--connection-string")?;
                definition(&string, &region, config.ports.https)
            }
            (_, region) => {
                let paste = Paste::load(config.connect_folder())?;
                let hub = paste.hub(self.hub.as_deref()).context(
                    "give --connection-string and --region for a hub that runs elsewhere",
                )?;
                let mut string: ConnectionString = hub.connection_string.parse()?;
                string.host_name.clone_from(&hub.host_name);
                let region = region.as_ref().unwrap_or(&hub.region);
                IotHubDefinition {
                    dial_address: hub.dial,
                    advertised_address: Some(hub.address),
                    ..definition(&string, region, paste.https_port)
                }
            }
        };
        definition.allocation_weight = traits.weight;
        definition.apply_allocation_policy = traits.apply_allocation_policy;
        if traits.address.is_some() {
            definition.dial_address = traits.address;
            definition.advertised_address = traits.address;
        }
        Ok(definition)
    }
}

impl Update {
    fn change(&self) -> anyhow::Result<IotHubChange> {
        let traits = &self.traits;
        let change = IotHubChange {
            connection_string: self.connection_string.clone(),
            location: traits.region.clone(),
            allocation_weight: traits.weight,
            apply_allocation_policy: traits.apply_allocation_policy,
            dial_address: traits.address,
            advertised_address: traits.address,
            https_port: None,
        };
        if change == IotHubChange::default() {
            bail!(
                "say what to change: --weight, --apply-allocation-policy, --region, --address or --connection-string"
            );
        }
        Ok(change)
    }
}

fn definition(string: &ConnectionString, region: &str, https_port: u16) -> IotHubDefinition {
    IotHubDefinition {
        name: None,
        connection_string: string.reveal(),
        location: region.into(),
        allocation_weight: None,
        apply_allocation_policy: None,
        dial_address: None,
        advertised_address: None,
        https_port: Some(https_port),
        etag: None,
        warning: None,
    }
}

/// The host name of the linked hub that somebody means.
pub async fn linked(dps: &Open, wanted: &str) -> anyhow::Result<String> {
    let answer = Ask::get(PATH).of(dps).await?;
    let linked: Vec<IotHubDefinition> = serde_json::from_value(answer.body)?;
    let names: Vec<_> = linked.into_iter().filter_map(|hub| hub.name).collect();
    Ok(meant(&names, wanted)?.to_owned())
}

fn meant<'a>(names: &'a [String], wanted: &str) -> anyhow::Result<&'a str> {
    let whole = names.iter().find(|name| name.eq_ignore_ascii_case(wanted));
    let first_part = |name: &&String| {
        let part = name.split('.').next().unwrap_or_default();
        part.eq_ignore_ascii_case(wanted)
    };
    let mut partly = names.iter().filter(first_part);
    match (whole, partly.next(), partly.next()) {
        (Some(name), _, _) | (None, Some(name), None) => Ok(name),
        (None, Some(_), Some(_)) => {
            bail!("several linked hubs begin with `{wanted}`; give the whole name")
        }
        (None, None, _) if names.is_empty() => {
            bail!("no hub is linked; link one with `azimuth dps linked-hub add`")
        }
        (None, None, _) => bail!(
            "no hub `{wanted}` is linked; linked are {}",
            names.join(", ")
        ),
    }
}

fn told(what: &str, hub: IotHubDefinition) {
    println!(
        "{what} {} ({}, weight {}{})",
        hub.name.unwrap_or_default(),
        hub.location,
        hub.allocation_weight.unwrap_or(1),
        match hub.apply_allocation_policy {
            Some(false) => ", for enrollments that name it only",
            _ => "",
        }
    );
    if let Some(warning) = hub.warning {
        eprintln!("  ! {warning}");
    }
}

/// Header and rows in columns.
fn table(hubs: &[IotHubDefinition]) -> Vec<String> {
    let name = |hub: &IotHubDefinition| hub.name.clone().unwrap_or_default();
    let width = |least: &str, of: &dyn Fn(&IotHubDefinition) -> usize| {
        hubs.iter().map(of).chain([least.len()]).max().unwrap_or(0)
    };
    let wide = width("NAME", &|hub| name(hub).chars().count());
    let region = width("REGION", &|hub| hub.location.chars().count());
    let line = |a: &str, b: &str, c: &str, d: &str| format!("{a:wide$}  {b:region$}  {c:>6}  {d}");
    let rows = hubs.iter().map(|hub| {
        let applies = match hub.apply_allocation_policy {
            Some(false) => "no",
            _ => "yes",
        };
        let weight = hub.allocation_weight.unwrap_or(1).to_string();
        line(&name(hub), &hub.location, &weight, applies)
    });
    std::iter::once(line("NAME", "REGION", "WEIGHT", "APPLIES"))
        .chain(rows)
        .collect()
}

fn path(host: &str) -> String {
    format!("{PATH}/{}", percent::encode(host))
}

const PATH: &str = "/azimuth/linkedHubs";
const LINKED_ALREADY: &str = "Change it with `azimuth dps linked-hub update`, or remove it first.";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_hub_is_meant_by_its_name_or_the_first_part_of_it() {
        let names = ["a.net", "b.net", "b.org"].map(String::from);
        for (wanted, found) in [
            ("A.net", Ok("a.net")),
            ("a", Ok("a.net")),
            ("b.org", Ok("b.org")),
            ("b", Err("give the whole name")),
            ("c", Err("linked are a.net, b.net, b.org")),
            ("", Err("linked are")),
        ] {
            match (meant(&names, wanted), found) {
                (Ok(name), Ok(expected)) => assert_eq!(name, expected),
                (Err(error), Err(sentence)) => {
                    assert!(error.to_string().contains(sentence), "{error}");
                }
                (got, _) => panic!("{wanted}: {got:?}"),
            }
        }
        let error = meant(&[], "a").unwrap_err().to_string();
        assert!(error.contains("linked-hub add"), "{error}");
    }

    #[test]
    fn columns_line_up() {
        let string = "HostName=h;SharedAccessKeyName=p;SharedAccessKey=MDEyMzQ1Njc4OWFiY2RlZg==";
        let hub = |name: &str, region: &str, weight, applies| IotHubDefinition {
            name: Some(name.into()),
            allocation_weight: weight,
            apply_allocation_policy: applies,
            ..definition(&string.parse().unwrap(), region, 443)
        };
        let lines = table(&[
            hub("a.azure-devices.net", "eastus", None, None),
            hub(
                "longer.azure-devices.net",
                "southeastasia",
                Some(1000),
                Some(false),
            ),
        ]);
        assert_eq!(
            lines,
            [
                "NAME                      REGION         WEIGHT  APPLIES",
                "a.azure-devices.net       eastus              1  yes",
                "longer.azure-devices.net  southeastasia    1000  no",
            ]
        );
    }
}
