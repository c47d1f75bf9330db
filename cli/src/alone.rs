//! `azimuth hub` and `azimuth dps`: one service in a process of its own, found by others through a shared folder.
//!
//! What may not enter: behaviour of a service.

use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};

use crate::announce::{announce, unbound_lines, wait};
use crate::certificates;
use crate::config::{Allocation, Config, HubSection};
use crate::dps;
use crate::hub::HubCommand;
use crate::linked_hub::LinkedHub;
use crate::paste::{HubPaste, Paste, take_name};
use crate::services::{
    dps_paste, empty_paste, hub_paste, hub_unbound, published_hub, start_dps, start_hub,
};

/// Starts one of the configured hubs and serves until it is stopped; with a command, asks one that runs.
#[derive(Debug, Args)]
pub struct OneHub {
    /// Hub by name [default: the first of the configuration]
    #[arg(value_name = "HUB")]
    name: Option<String>,
    /// Azure region; with it and --address a hub may have a name that the configuration does not know
    #[arg(long, env = "AZIMUTH_REGION", value_name = "REGION")]
    region: Option<String>,
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Option<HubCommand>,
}

/// Starts the Device Provisioning Service and serves until it is stopped; with a command, changes one that runs.
#[derive(Debug, Args)]
pub struct OneDps {
    /// How a hub is chosen where an enrollment does not say it
    #[arg(long, env = "AZIMUTH_ALLOCATION", value_name = "POLICY")]
    allocation: Option<Allocation>,
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Option<DpsCommand>,
}

/// What is done with a DPS that runs instead of starting one.
#[derive(Debug, Subcommand)]
enum DpsCommand {
    /// List, add, change and remove the hubs that a running DPS sends devices to
    LinkedHub(LinkedHub),
    /// Create, show, list, change and delete the entries of single devices
    Enrollment(dps::Enrollment),
    /// Create, show, list, change and delete the entries of many devices, and derive their keys
    Group(dps::Group),
    /// Upload, verify, list, show and delete the CA certificates that chains of devices lead to
    Certificate(dps::CaCertificate),
    /// List, show and delete the records of devices that registered
    Registration(dps::Registration),
    /// Take a device, or all devices of a group, out of service: in the DPS and in the hub
    Deprovision(dps::Deprovision),
}

/// Where a service that runs apart is found.
#[derive(Debug, Args)]
struct Place {
    /// Address that devices are told [default: that of the configuration]
    #[arg(long, env = "AZIMUTH_ADDRESS", value_name = "ADDRESS")]
    address: Option<IpAddr>,
    /// Address to bind, when it is another: 0.0.0.0 in a container [default: the address]
    #[arg(long, env = "AZIMUTH_LISTEN", value_name = "ADDRESS")]
    listen: Option<IpAddr>,
}

impl OneHub {
    pub fn run(self, config: Config) -> anyhow::Result<ExitCode> {
        let mut section = match self.command {
            Some(command) => return command.run(config),
            None => self.section(&config)?,
        };
        section.region = self.region.unwrap_or(section.region);
        section.address = self.place.address.unwrap_or(section.address);
        section.listen = self.place.listen.or(section.listen);
        let authority = certificates::authority(&config)?;
        let _name = take_name(config.connect_folder(), &section.name)?;
        let hub = start_hub(&config, &section, &authority)?;
        let mut paste = empty_paste(&config);
        paste.hubs.push(hub_paste(&section, &hub));
        paste
            .publish(config.connect_folder())
            .context(NOT_WRITTEN)?;
        announce(
            &paste,
            &unbound_lines(&hub_unbound(&hub)),
            section.listen().is_loopback(),
        );
        wait()?;
        hub.stop();
        Ok(ExitCode::SUCCESS)
    }

    fn section(&self, config: &Config) -> anyhow::Result<HubSection> {
        let Some(name) = &self.name else {
            return config
                .hubs
                .first()
                .cloned()
                .context("no [[hub]] is configured");
        };
        if let Some(section) = config.hub(name) {
            return Ok(section.clone());
        }
        if let (Some(region), Some(address)) = (&self.region, self.place.address) {
            return Ok(HubSection::new(name, region, address)?);
        }
        let known: Vec<_> = config.hubs.iter().map(|hub| hub.name.as_str()).collect();
        anyhow::bail!(
            "no hub is called `{name}`; configured are {}. Give --region and --address to start another",
            known.join(", ")
        )
    }
}

impl OneDps {
    pub fn run(self, mut config: Config) -> anyhow::Result<ExitCode> {
        match self.command {
            Some(DpsCommand::LinkedHub(command)) => return command.run(config),
            Some(DpsCommand::Enrollment(command)) => return command.run(config),
            Some(DpsCommand::Group(command)) => return command.run(config),
            Some(DpsCommand::Certificate(command)) => return command.run(config),
            Some(DpsCommand::Registration(command)) => return command.run(config),
            Some(DpsCommand::Deprovision(command)) => return command.run(config),
            None => {}
        }
        config.dps.address = self.place.address.unwrap_or(config.dps.address);
        config.dps.listen = self.place.listen.or(config.dps.listen);
        config.dps.allocation = self.allocation.unwrap_or(config.dps.allocation);
        let authority = certificates::authority(&config)?;
        let _name = take_name(config.connect_folder(), &config.dps.name)?;
        let known = Paste::load(config.connect_folder()).ok();
        let (linked, absent) = configured_hubs(&config, known.as_ref());
        let dps = start_dps(&config, &authority, &linked)?;
        let mut paste = empty_paste(&config);
        paste.hubs = linked;
        paste.dps = Some(dps_paste(&config, &dps));
        paste
            .publish(config.connect_folder())
            .context(NOT_WRITTEN)?;
        let mut warnings = unbound_lines(dps.unbound());
        warnings.extend(absent);
        announce(&paste, &warnings, config.dps.listen().is_loopback());
        wait()?;
        dps.stop();
        Ok(ExitCode::SUCCESS)
    }
}

/// The hubs of the configuration as they were started from the same folder, or by their published keys;
/// and a sentence for each whose keys nobody can know.
fn configured_hubs(config: &Config, known: Option<&Paste>) -> (Vec<HubPaste>, Vec<String>) {
    let (mut linked, mut absent) = (Vec::new(), Vec::new());
    for section in &config.hubs {
        let started =
            known.and_then(|paste| paste.hubs.iter().find(|hub| hub.name == section.name));
        match started {
            Some(hub) => linked.push(hub.clone()),
            None if config.dps.listen().is_loopback() && section.listen().is_loopback() => {
                linked.push(published_hub(section));
            }
            None => absent.push(format!(
                "hub {0} has not been started with {1}, so its key is not known and it is not linked; start it, then this again",
                section.name,
                config.connect_folder().display()
            )),
        }
    }
    (linked, absent)
}

const NOT_WRITTEN: &str = "connect.json could not be written";
