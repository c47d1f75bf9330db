//! `azimuth`: one binary that starts any part of the simulator and asks the parts that run.
//!
//! What may not enter: behaviour of a hub, of a DPS or of a device.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

mod alone;
mod announce;
mod ask;
mod ca_certificate;
mod certificates;
mod config;
mod dps;
mod endpoint;
mod environment;
mod fleet;
mod follow;
mod health;
mod hierarchy;
mod hub;
mod linked_hub;
mod listing;
mod live;
mod logging;
mod monitor;
mod paste;
mod services;
mod tpm;
mod up;

// Devices come and go by the thousand: an allocator that gives memory back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A local Azure IoT Hub and Device Provisioning Service.
///
/// Without a command it starts everything in one process: a DPS, two regional hubs, and two simulated
/// devices that provision themselves. Unmodified Azure SDKs and MQTT devices can be pointed at it;
/// what to paste is printed.
#[derive(Debug, Parser)]
#[command(name = "azimuth", version, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
struct Common {
    /// Configuration file (TOML). Without one: the defaults of Azure's multitenancy tutorial
    #[arg(
        long,
        short,
        global = true,
        env = "AZIMUTH_CONFIG",
        value_name = "FILE"
    )]
    config: Option<PathBuf>,
    /// Folder that holds the CA, identities, enrollments and events [default: azimuth-data]
    #[arg(long, global = true, env = "AZIMUTH_DATA", value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Folder of the CA, where several data folders share one [default: certs in the data folder]
    #[arg(long, global = true, env = "AZIMUTH_CERTS", value_name = "FOLDER")]
    certs: Option<PathBuf>,
    /// Folder where services say how they are reached; shared by services that run apart
    /// [default: the data folder]
    #[arg(long, global = true, env = "AZIMUTH_CONNECT", value_name = "FOLDER")]
    connect: Option<PathBuf>,
    /// MQTT port; Azure's clients hard-code 8883 [default: 8883]
    #[arg(long, global = true, env = "AZIMUTH_MQTT_PORT", value_name = "PORT")]
    mqtt_port: Option<u16>,
    /// HTTPS port; Azure's clients hard-code 443 [default: 443]
    #[arg(long, global = true, env = "AZIMUTH_HTTPS_PORT", value_name = "PORT")]
    https_port: Option<u16>,
    /// What is logged, for example `info` or `azimuth_broker=debug` [default: warn,progress=info]
    #[arg(long, global = true, env = "AZIMUTH_LOG", value_name = "FILTER")]
    log: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a DPS, its hubs and two simulated devices in one process (the default)
    Up(up::Up),
    /// Start one hub, or ask one that runs for its devices
    Hub(alone::OneHub),
    /// Start the Device Provisioning Service alone, or change the hubs of one that runs
    Dps(alone::OneDps),
    /// Run a fleet of simulated devices against this or any other endpoint
    DeviceSim(fleet::DeviceSim),
    /// Make TPMs of software for simulated devices
    Tpm(tpm::Tpm),
    /// Show or make the CA and server certificates
    Certs(certificates::Certs),
    /// Follow the telemetry of a hub
    Events(follow::Events),
    /// Watch heartbeats: say which devices are late, and which are back
    Monitor(monitor::Monitor),
    /// Show what was refused, and why
    Why(follow::Why),
    /// Ask whether a service is healthy: a device's message must go round
    Health(health::Health),
    /// Print the environment variables that official samples read
    Env(environment::Env),
    /// Say how each SDK and tool is made to trust the CA
    Trust(certificates::Trust),
}

impl Common {
    /// The configuration, with flags and environment laid over file and defaults.
    fn load(&self) -> Result<config::Config, config::Error> {
        let mut config = config::Config::load(self.config.as_deref())?;
        if let Some(data) = &self.data {
            config.data.clone_from(data);
        }
        config.certs = self.certs.clone().or(config.certs);
        config.connect = self.connect.clone().or(config.connect);
        config.ports.mqtt = self.mqtt_port.unwrap_or(config.ports.mqtt);
        config.ports.https = self.https_port.unwrap_or(config.ports.https);
        Ok(config)
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    logging::start(cli.common.log.as_deref());
    let command = cli
        .command
        .unwrap_or_else(|| Command::Up(up::Up::default()));
    let outcome = cli
        .common
        .load()
        .map_err(anyhow::Error::from)
        .and_then(|config| match command {
            Command::Up(up) => up.run(config),
            Command::Hub(hub) => hub.run(config),
            Command::Dps(dps) => dps.run(config),
            Command::DeviceSim(fleet) => fleet.run(config),
            Command::Tpm(tpm) => tpm.run(),
            Command::Certs(certs) => certs.run(config),
            Command::Events(events) => events.run(config),
            Command::Monitor(monitor) => monitor.run(config),
            Command::Why(why) => why.run(config),
            Command::Health(health) => health.run(config),
            Command::Env(env) => env.run(config),
            Command::Trust(trust) => trust.run(config),
        });
    match outcome {
        Ok(code) => code,
        // Who pipes into `head` has what they wanted.
        Err(error) if reads_no_further(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("azimuth: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn reads_no_further(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<std::io::Error>();
    error.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
