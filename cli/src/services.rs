//! Services out of a configuration: one hub, the DPS, and the commands that start one of them.
//!
//! What may not enter: behaviour of a service.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use azimuth_certs::Authority;
use azimuth_clock::{Clock, SystemClock};
use azimuth_dps::{
    AllocationPolicy, AssignedHubForm, DeclaredGroup, DeclaredIndividual, Dps, DpsConfig, KeySource as DpsKeys, LinkedHubConfig, Regions, RunningDps,
};
use azimuth_hub::event::{LogConfig, Sync};
use azimuth_hub::{Hub, HubConfig, KeySource, RunningHub};
use clap::Args;

use crate::certificates;
use crate::config::{Allocation, Config, HubSection};
use crate::paste::{DpsPaste, GroupPaste, HubPaste, Paste};

/// Starts one of the configured hubs and serves until it is stopped.
#[derive(Debug, Args)]
pub struct OneHub {
    /// Hub by name [default: the first of the configuration]
    #[arg(value_name = "HUB")]
    name: Option<String>,
}

/// Starts the Device Provisioning Service and serves until it is stopped.
#[derive(Debug, Args)]
pub struct OneDps {}

impl OneHub {
    pub fn run(self, config: Config) -> anyhow::Result<ExitCode> {
        let section = match &self.name {
            None => config.hubs.first().context("no [[hub]] is configured")?,
            Some(name) => config.hub(name).with_context(|| {
                let known: Vec<_> = config.hubs.iter().map(|hub| hub.name.as_str()).collect();
                format!("no hub is called `{name}`; configured are {}", known.join(", "))
            })?,
        };
        let authority = certificates::authority(&config.data)?;
        let hub = start_hub(&config, section, &authority)?;
        let mut paste = empty_paste(&config, &authority);
        paste.hubs.push(hub_paste(section, &hub));
        announce(&config, &paste, &unbound_lines(hub.unbound()))?;
        wait()?;
        hub.stop();
        Ok(ExitCode::SUCCESS)
    }
}

impl OneDps {
    pub fn run(self, config: Config) -> anyhow::Result<ExitCode> {
        let authority = certificates::authority(&config.data)?;
        // The hubs may run elsewhere; their connection strings are the published ones or stand in the
        // paste that another process left.
        let linked = match Paste::load(&config.data) {
            Ok(paste) if !paste.hubs.is_empty() => paste.hubs,
            _ => config.hubs.iter().map(published_hub).collect(),
        };
        let dps = start_dps(&config, &authority, &linked)?;
        let mut paste = empty_paste(&config, &authority);
        paste.hubs = linked;
        paste.dps = Some(dps_paste(&config, &dps));
        announce(&config, &paste, &unbound_lines(dps.unbound()))?;
        wait()?;
        dps.stop();
        Ok(ExitCode::SUCCESS)
    }
}

/// Starts a hub of the configuration.
pub fn start_hub(config: &Config, section: &HubSection, authority: &Authority) -> anyhow::Result<RunningHub> {
    let folder = config.data.join(&section.name);
    let mut names = section.names();
    let tls = certificates::server(config, authority, &folder.join("tls"), names.clone(), vec![section.address])?;
    names.push(section.address.to_string());
    let hub = HubConfig {
        keys: if section.address.is_loopback() { KeySource::Published } else { KeySource::Kept },
        mqtt: vec![SocketAddr::new(section.address, config.ports.mqtt)],
        https: vec![SocketAddr::new(section.address, config.ports.https)],
        sas_grace: Duration::from_secs(config.security.sas_grace),
        clock_skew: Duration::from_secs(config.security.clock_skew),
        event_log: LogConfig {
            partitions: config.telemetry.partitions,
            retain_bytes: config.telemetry.retention_size << 20,
            retain_for: Duration::from_secs(u64::from(config.telemetry.retention_days) * 86_400),
            sync: if config.telemetry.sync { Sync::EveryBatch } else { Sync::Never },
            ..LogConfig::default()
        },
        ..HubConfig::new(&section.name, names, &section.region, folder, Arc::new(tls))
    };
    let hub = Hub::start(hub, clock()).map_err(|error| with_port_flag(error, &section.name))?;
    for cut in hub.cuts() {
        eprintln!("{}: {cut}", section.name);
    }
    Ok(hub)
}

/// Starts the DPS of the configuration, linked to these hubs.
pub fn start_dps(config: &Config, authority: &Authority, hubs: &[HubPaste]) -> anyhow::Result<RunningDps> {
    let folder = config.data.join(&config.dps.name);
    let mut names = config.dps.names();
    let tls = certificates::server(config, authority, &folder.join("tls"), names.clone(), vec![config.dps.address])?;
    names.push(config.dps.address.to_string());
    let linked = hubs.iter().map(|hub| linked_hub(config, hub)).collect::<anyhow::Result<_>>()?;
    let dps = DpsConfig {
        keys: if config.dps.address.is_loopback() { DpsKeys::Published } else { DpsKeys::Kept },
        mqtt: vec![SocketAddr::new(config.dps.address, config.ports.mqtt)],
        https: vec![SocketAddr::new(config.dps.address, config.ports.https)],
        allocation: policy(config.dps.allocation),
        linked_hubs: linked,
        regions: regions(config),
        individual_enrollments: individuals(config)?,
        enrollment_groups: groups(config)?,
        assigned_hub_form: AssignedHubForm::Auto,
        retry_after: config.dps.retry_after,
        assigning_polls: config.dps.assigning_polls,
        ..DpsConfig::new(
            &config.dps.name,
            names,
            config.dps.id_scope.clone(),
            folder,
            Arc::new(tls),
            authority.certificate_pem(),
        )
    };
    Dps::start(dps, clock()).map_err(|error| with_port_flag(error, &config.dps.name))
}

/// What a hub of the configuration looks like from outside, with the key that is published for its name.
pub fn published_hub(section: &HubSection) -> HubPaste {
    HubPaste {
        name: section.name.clone(),
        host_name: section.host_name(),
        region: section.region.clone(),
        address: section.address,
        connection_string: azimuth_hub::published_connection_string(&section.name, &section.address.to_string()),
    }
}

/// What a running hub looks like from outside.
pub fn hub_paste(section: &HubSection, hub: &RunningHub) -> HubPaste {
    HubPaste {
        connection_string: hub.connection_string("iothubowner", &section.address.to_string()),
        ..published_hub(section)
    }
}

pub fn dps_paste(config: &Config, dps: &RunningDps) -> DpsPaste {
    let group = config.enrollment_groups.first().and_then(|group| {
        Some(GroupPaste { id: group.id.clone(), primary_key: group.primary_key.as_ref()?.parse().ok()? })
    });
    DpsPaste {
        name: config.dps.name.clone(),
        address: config.dps.address,
        id_scope: config.dps.id_scope.to_string(),
        connection_string: dps.connection_string(&config.dps.address.to_string()),
        group,
    }
}

pub fn empty_paste(config: &Config, authority: &Authority) -> Paste {
    Paste {
        ca_file: certificates::absolute(&authority.path()),
        ca_bundle: certificates::absolute(&certificates::bundle_file(&config.data)),
        mqtt_port: config.ports.mqtt,
        https_port: config.ports.https,
        dps: None,
        hubs: Vec::new(),
    }
}

/// Prints what to paste and `Ready`, which programs that start this one wait for.
pub fn announce(config: &Config, paste: &Paste, warnings: &[String]) -> anyhow::Result<()> {
    paste.save(&config.data).context("connect.json could not be written to the data folder")?;
    print!("{}", paste.banner());
    warnings.iter().for_each(|warning| println!("  ! {warning}"));
    println!("Ready");
    Ok(())
}

/// What to do about HTTPS addresses that could not be bound.
pub fn unbound_lines(unbound: &[(SocketAddr, std::io::Error)]) -> Vec<String> {
    let remedy = |address: &SocketAddr, error: &std::io::Error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => format!(
            "HTTPS is not served on {address}: ports below 1024 need permission. Everything else runs. Give it once with \
             `sudo setcap cap_net_bind_service=+ep $(command -v azimuth)` or \
             `sudo sysctl net.ipv4.ip_unprivileged_port_start=443`, or choose another with --https-port"
        ),
        _ => format!("HTTPS is not served on {address}: {error}. Everything else runs; choose another with --https-port"),
    };
    unbound.iter().map(|(address, error)| remedy(address, error)).collect()
}

/// Blocks until the process is asked to stop.
pub fn wait() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(stopped())
}

/// Resolves on Ctrl-C or SIGTERM.
pub async fn stopped() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        pressed = tokio::signal::ctrl_c() => pressed?,
    }
    Ok(())
}

pub fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

/// A port that is taken names the flag that chooses another.
fn with_port_flag(error: impl Into<anyhow::Error>, service: &str) -> anyhow::Error {
    let error = error.into();
    let taken = error.chain().any(|cause| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::AddrInUse)
    });
    let hint = if taken { "; is another simulator running? Choose another port with --mqtt-port" } else { "" };
    error.context(format!("{service} did not start{hint}"))
}

fn linked_hub(config: &Config, hub: &HubPaste) -> anyhow::Result<LinkedHubConfig> {
    let mut string: azimuth_wire::connection_string::ConnectionString = hub.connection_string.parse()?;
    string.host_name.clone_from(&hub.host_name);
    let weight = config.hub(&hub.name).map_or(1, |section| section.weight);
    Ok(LinkedHubConfig {
        connection_string: string,
        region: hub.region.clone(),
        address: Some(hub.address),
        https_port: config.ports.https,
        weight,
        apply_allocation_policy: true,
    })
}

fn policy(allocation: Allocation) -> AllocationPolicy {
    match allocation {
        Allocation::Hashed => AllocationPolicy::Hashed,
        Allocation::GeoLatency => AllocationPolicy::GeoLatency,
        Allocation::Static => AllocationPolicy::Static,
    }
}

fn regions(config: &Config) -> Regions {
    let section = &config.regions;
    let networks = section.networks.iter().map(|network| (network.cidr, network.region.clone())).collect();
    let latencies = section.latencies.iter().map(|l| (l.from.clone(), l.to.clone(), l.milliseconds)).collect();
    Regions::new(section.default.clone(), networks, latencies)
}

fn individuals(config: &Config) -> anyhow::Result<Vec<DeclaredIndividual>> {
    let _ = config;
    todo!("adapt to the dps crate")
}

fn groups(config: &Config) -> anyhow::Result<Vec<DeclaredGroup>> {
    let _ = config;
    todo!("adapt to the dps crate")
}
