//! `azimuth device-sim`: a fleet of simulated devices, its progress and its report.
//!
//! What may not enter: how a device behaves.

mod alarm;
mod leaves;
mod progress;
mod slot;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use azimuth_certs::without_resumption;
use azimuth_device_sim::{
    Credential, Dps, Fleet, Observer, Plan, Report, Shard, Silent, Sources, Step, Who,
};
use azimuth_wire::connection_string::ConnectionString;
use clap::Args;
use ipnet::IpNet;
use tokio_util::sync::CancellationToken;

use self::alarm::Alarm;
use self::leaves::Leaves;
use self::progress::Shown;
use self::slot::Slot;
use crate::announce;
use crate::config::Config;
use crate::paste::{DpsPaste, Paste};
use crate::services;
use crate::tpm;

/// Runs a fleet of simulated devices against this or any other endpoint.
///
/// With a group key or certificates they provision through DPS first; with a connection string they go to its hub.
/// Without any, the group of the simulator that runs from the data folder serves. Ends with
/// counts, rates, latencies from the time each message was due, and errors by kind; exit code 1 if
/// devices failed.
#[derive(Debug, Args)]
pub struct DeviceSim {
    /// How many devices
    #[arg(long, short = 'n', default_value_t = 1, value_name = "N")]
    count: u64,
    /// Registration or device ids; an n in braces becomes the number, from 1
    #[arg(long, default_value = "contoso-simdevice-{n}", value_name = "NAME")]
    name: String,
    /// Primary or secondary key of an enrollment group; each device derives its own [env: AZIMUTH_GROUP_KEY]
    // Read by hand: a variable of the shell must not exclude what a flag says.
    #[arg(long, value_name = "KEY")]
    group_key: Option<String>,
    /// Key of one device, of an individual enrollment or derived from a group's
    #[arg(long, conflicts_with_all = ["connection_string", "certificate", "certificates", "slots"], value_name = "KEY")]
    device_key: Option<String>,
    /// Certificate of one device, followed by those above it, as PEM; its common name is the registration id
    #[arg(long, requires = "key", conflicts_with_all = ["connection_string", "certificates", "slots"], value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// Key of that certificate, as PEM
    #[arg(long, requires = "certificate", value_name = "FILE")]
    key: Option<PathBuf>,
    /// Certificates of a whole fleet: a device for each NAME.chain.pem with a NAME.key beside it, as `azimuth certs leaf`
    /// writes them
    #[arg(long, conflicts_with_all = ["connection_string", "slots"], value_name = "FOLDER")]
    certificates: Option<PathBuf>,
    /// Connection string of one device, or of a hub policy with DeviceConnect for devices that exist
    #[arg(long, conflicts_with = "group_key", value_name = "STRING")]
    connection_string: Option<String>,
    /// Folder of TPMs that `azimuth tpm create` made: each is a device that registers over HTTPS under its
    /// file's name
    #[arg(long, conflicts_with_all = ["count", "name", "group_key", "connection_string", "slots"], value_name = "FOLDER")]
    tpm: Option<PathBuf>,
    /// DPS to register with, by name or address [default: that of the data folder]
    #[arg(long, value_name = "HOST")]
    dps: Option<String>,
    /// Id scope of the DPS [default: that of the data folder]
    #[arg(long, value_name = "SCOPE")]
    id_scope: Option<String>,
    /// Region the devices are in: their source addresses come from its network in the configuration
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// Source addresses instead, as a network
    #[arg(long, conflicts_with = "region", value_name = "CIDR")]
    source: Option<IpNet>,
    /// Where a name is found, beside DNS: NAME=ADDRESS; repeatable
    #[arg(long = "resolve", value_name = "NAME=ADDRESS")]
    resolve: Vec<String>,
    /// File of the CA to trust [default: that of the data folder]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Devices started a second [default: all at once]
    #[arg(long, value_name = "PER SECOND")]
    ramp: Option<f64>,
    /// Seconds between two messages of a device; 0 connects and stays silent
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS")]
    heartbeat: f64,
    /// How far a heartbeat may be off its beat, 0 to 1
    #[arg(long, default_value_t = 0.5, value_name = "SHARE")]
    jitter: f64,
    /// Bytes of a message's body
    #[arg(long, default_value_t = 200, value_name = "BYTES")]
    payload: usize,
    /// Seconds after which the fleet ends [default: until Ctrl-C]
    #[arg(long, value_name = "SECONDS")]
    duration: Option<f64>,
    /// A device ends after this many messages
    #[arg(long, value_name = "N")]
    messages: Option<u64>,
    /// QoS of telemetry
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=1), value_name = "0|1")]
    qos: u8,
    /// Same seed, same schedule
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Seconds a SAS token lives; renewed at 85 %
    #[arg(long, default_value_t = 3600, value_name = "SECONDS")]
    token_life: u64,
    /// Keep-alive in seconds
    #[arg(long, default_value_t = 240, value_name = "SECONDS")]
    keep_alive: u64,
    /// Handshakes under way at a time
    #[arg(long, default_value_t = 100, value_name = "N")]
    concurrency: usize,
    /// Run only the devices of shard i of n, counted from 1: a fleet over several processes
    #[arg(long, value_name = "I/N")]
    shard: Option<String>,
    /// Share a folder with other processes of this fleet, such as replicas of a container: each takes the first
    /// free slot and its devices, numbers 1 to --count in slot 1, on from there in slot 2 …
    #[arg(long, conflicts_with = "shard", value_name = "FOLDER")]
    slots: Option<PathBuf>,
    /// A device fails after this many failed tries in a row [default: it never gives up]
    #[arg(long, value_name = "N")]
    give_up_after: Option<u32>,
    /// The report as JSON
    #[arg(long)]
    json: bool,
    /// A line for each step of each device
    #[arg(long, short)]
    verbose: bool,
}

/// Prints each step of each device.
#[derive(Debug)]
pub struct Steps;

impl Observer for Steps {
    fn step(&self, device: &str, step: &Step) {
        println!("{device}: {step}");
    }
}

impl DeviceSim {
    pub fn run(self, config: Config) -> anyhow::Result<ExitCode> {
        let paste = Paste::load(config.connect_folder());
        let slot = self.slots.as_deref().map(Slot::take).transpose()?;
        let plan = self.plan(&config, paste.as_ref().ok(), slot.as_ref())?;
        let ca = match (&self.ca, paste) {
            (Some(file), _) => file.clone(),
            (None, Ok(paste)) => paste.ca_file,
            (None, Err(error)) => return Err(error.context("no --ca is given and none is known")),
        };
        let tls = tls(&ca)?;
        let observer: Arc<dyn Observer> = if self.verbose {
            Arc::new(Steps)
        } else {
            Arc::new(Silent)
        };
        let observer = Arc::new(Alarm::new(services::clock(), observer));
        let shown = Shown::new();
        if let Some(slot) = &slot {
            shown.say(&slot.line(&plan));
        }
        let fleet = Fleet::new(plan, tls, services::clock(), observer)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let report = runtime.block_on(run_fleet(fleet, shown))?;
        if self.json {
            println!("{}", serde_json::to_string_pretty(&report)?);
        } else {
            println!("{report}");
        }
        Ok(if report.failed() {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }

    fn plan(
        &self,
        config: &Config,
        paste: Option<&Paste>,
        slot: Option<&Slot>,
    ) -> anyhow::Result<Plan> {
        let mut addresses: HashMap<String, IpAddr> = HashMap::new();
        for hub in paste.iter().flat_map(|paste| &paste.hubs) {
            addresses.extend(hub.dial.map(|dial| (hub.host_name.to_lowercase(), dial)));
        }
        for pair in &self.resolve {
            let (name, address) = pair
                .split_once('=')
                .with_context(|| format!("--resolve {pair}: not NAME=ADDRESS"))?;
            addresses.insert(
                name.to_lowercase(),
                address
                    .parse()
                    .with_context(|| format!("--resolve {pair}"))?,
            );
        }
        let (who, credential, provisioning) = match (self.leaves()?, &self.tpm) {
            (Some(leaves), _) => (
                Who::Named(leaves.names),
                Credential::Certificates(leaves.certificates),
                Some(self.provisioning(config, paste)?),
            ),
            (None, Some(folder)) => {
                let (names, tpms) = tpm::read_all(folder)?.into_iter().unzip();
                let dps = self.provisioning(config, paste)?;
                (Who::Named(names), Credential::Tpms(tpms), Some(dps))
            }
            (None, None) => {
                let (credential, provisioning) = self.credential(config, paste)?;
                (self.who(&credential, slot)?, credential, provisioning)
            }
        };
        let mut plan = Plan::new(who, credential, provisioning);
        plan.addresses = addresses;
        plan.hub_port = config.ports.mqtt;
        plan.dps_https_port = config.ports.https;
        plan.sources = self.sources(config)?;
        plan.ramp = self.ramp;
        plan.heartbeat = (self.heartbeat > 0.0)
            .then(|| seconds(self.heartbeat))
            .transpose()?;
        plan.jitter = self.jitter;
        plan.payload_bytes = self.payload;
        plan.duration = self.duration.map(seconds).transpose()?;
        plan.messages = self.messages;
        plan.at_least_once = self.qos == 1;
        plan.seed = self.seed;
        plan.token_life = Duration::from_secs(self.token_life);
        plan.keep_alive = Duration::from_secs(self.keep_alive);
        plan.connects_at_once = self.concurrency;
        plan.give_up_after = self.give_up_after;
        plan.shard = self.shard()?;
        Ok(plan)
    }

    fn who(&self, credential: &Credential, slot: Option<&Slot>) -> anyhow::Result<Who> {
        let name = match credential {
            Credential::ConnectionString(string) => string
                .device_id()
                .context("the connection string names no device")?
                .to_string(),
            Credential::GroupKey(_)
            | Credential::DeviceKey(_)
            | Credential::Tpms(_)
            | Credential::HubPolicy(_)
            | Credential::Certificates(_) => self.name.clone(),
        };
        let first = slot.map_or(Ok(1), |slot| slot.first(&name, self.count))?;
        if matches!(credential, Credential::DeviceKey(_)) && self.count > 1 {
            bail!(
                "--device-key is the key of one device; give --group-key for {}",
                self.count
            );
        }
        let one = matches!(credential, Credential::ConnectionString(_))
            || (self.count == 1 && !name.contains("{n}"));
        Ok(if one {
            Who::Named(vec![name])
        } else {
            let count = self.count;
            Who::Numbered { name, first, count }
        })
    }

    fn credential(
        &self,
        config: &Config,
        paste: Option<&Paste>,
    ) -> anyhow::Result<(Credential, Option<Dps>)> {
        if let Some(string) = &self.connection_string {
            let string: ConnectionString = string.parse().context("--connection-string")?;
            let credential = match string.identity {
                Some(_) => Credential::ConnectionString(string),
                None => Credential::HubPolicy(string),
            };
            return Ok((credential, None));
        }
        if let Some(key) = &self.device_key {
            let key = Credential::DeviceKey(key.parse().context("--device-key")?);
            return Ok((key, Some(self.provisioning(config, paste)?)));
        }
        let known = paste.and_then(|paste| paste.dps.as_ref());
        let given = self.group_key.clone();
        let given = given.or_else(|| std::env::var("AZIMUTH_GROUP_KEY").ok());
        let key = match (given, known.and_then(|dps| dps.group.as_ref())) {
            (Some(key), _) => key.parse().context("--group-key")?,
            (None, Some(group)) => group.primary_key.clone(),
            (None, None) => {
                bail!(
                    "give --group-key, --device-key or --certificate with --dps and --id-scope, or --connection-string"
                )
            }
        };
        let dps = self.provisioning(config, paste)?;
        Ok((Credential::GroupKey(key), Some(dps)))
    }

    fn leaves(&self) -> anyhow::Result<Option<Leaves>> {
        match (&self.certificate, &self.key, &self.certificates) {
            (Some(certificate), Some(key), _) => Leaves::one(certificate, key).map(Some),
            (_, _, Some(folder)) => Leaves::folder(folder).map(Some),
            _ => Ok(None),
        }
    }

    /// The DPS to register with.
    fn provisioning(&self, config: &Config, paste: Option<&Paste>) -> anyhow::Result<Dps> {
        let known = paste.and_then(|paste| paste.dps.as_ref());
        let host = self
            .dps
            .clone()
            .or(known.map(DpsPaste::host))
            .context("--dps is missing")?;
        let id_scope = match (&self.id_scope, known) {
            (Some(scope), _) => scope.parse()?,
            (None, Some(dps)) => dps.id_scope.parse()?,
            (None, None) => bail!("--id-scope is missing"),
        };
        Ok(Dps {
            host,
            port: config.ports.mqtt,
            address: None,
            id_scope,
        })
    }

    fn sources(&self, config: &Config) -> anyhow::Result<Sources> {
        match (&self.region, self.source) {
            (Some(region), _) => region_sources(config, region),
            (None, Some(network)) => Ok(Sources::Net(network)),
            (None, None) => Ok(Sources::Any),
        }
    }

    fn shard(&self) -> anyhow::Result<Shard> {
        let Some(text) = &self.shard else {
            return Ok(Shard { index: 0, of: 1 });
        };
        let (index, of) = text
            .split_once('/')
            .with_context(|| format!("--shard {text}: not I/N, as 1/4"))?;
        let (index, of): (u64, u64) = (index.parse()?, of.parse()?);
        if index == 0 || index > of {
            bail!("--shard {text}: shards are counted from 1 to {of}");
        }
        Ok(Shard {
            index: index - 1,
            of,
        })
    }
}

/// One device of the tutorial, as `azimuth up` shows it.
pub fn demonstration(
    config: &Config,
    paste: &Paste,
    device: &str,
    region: &str,
    heartbeat: Duration,
) -> anyhow::Result<Plan> {
    let dps = paste.dps.as_ref().context("no DPS runs")?;
    let group = dps
        .group
        .as_ref()
        .context("the enrollment group has no key that is known")?;
    let provisioning = Dps {
        host: dps.host(),
        port: config.ports.mqtt,
        address: None,
        id_scope: dps.id_scope.parse()?,
    };
    let key = Credential::GroupKey(group.primary_key.clone());
    let mut plan = Plan::new(Who::Named(vec![device.into()]), key, Some(provisioning));
    plan.hub_port = config.ports.mqtt;
    plan.heartbeat = Some(heartbeat);
    plan.jitter = 0.0;
    if dps.address.is_loopback() {
        plan.sources = region_sources(config, region)?;
    }
    Ok(plan)
}

/// Starts a fleet beside whatever else runs; the report comes when `stop` is cancelled.
pub fn start(
    plan: Plan,
    paste: &Paste,
    observer: Arc<dyn Observer>,
    stop: CancellationToken,
) -> anyhow::Result<tokio::task::JoinHandle<Report>> {
    let fleet = Fleet::new(plan, tls(&paste.ca_file)?, services::clock(), observer)?;
    Ok(tokio::spawn(fleet.run(stop)))
}

/// Runs a fleet on a thread of its own, with its progress on this one. Ctrl-C and SIGTERM end it with a
/// report.
async fn run_fleet(fleet: Fleet, mut shown: Shown) -> anyhow::Result<Report> {
    let stop = CancellationToken::new();
    let progress = fleet.progress();
    let mut running = tokio::spawn(fleet.run(stop.clone()));
    let mut tick = tokio::time::interval(shown.period());
    tick.tick().await;
    let stopped = announce::stopped();
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            report = &mut running => {
                shown.end();
                return Ok(report?);
            }
            asked = &mut stopped, if !stop.is_cancelled() => {
                asked?;
                stop.cancel();
            }
            _ = tick.tick() => shown.show(&progress),
        }
    }
}

fn region_sources(config: &Config, region: &str) -> anyhow::Result<Sources> {
    let network = config
        .regions
        .networks
        .iter()
        .find(|network| network.region == region);
    let network = network.with_context(|| {
        let known: Vec<_> = config
            .regions
            .networks
            .iter()
            .map(|network| network.region.as_str())
            .collect();
        format!(
            "no network of the configuration is in region `{region}`; known: {}",
            known.join(", ")
        )
    })?;
    Ok(Sources::Net(network.cidr))
}

fn tls(ca: &std::path::Path) -> anyhow::Result<Arc<rustls::ClientConfig>> {
    let pem = std::fs::read_to_string(ca)
        .with_context(|| format!("the CA file {} cannot be read", ca.display()))?;
    Ok(Arc::new(without_resumption(azimuth_certs::client_config(
        Some(&pem),
    )?)))
}

fn seconds(value: f64) -> anyhow::Result<Duration> {
    Duration::try_from_secs_f64(value)
        .map_err(|_| anyhow::anyhow!("{value} is not a number of seconds"))
}
