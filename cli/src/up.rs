//! `azimuth up`: the whole simulator in one process, and two devices that show it at work.
//!
//! What may not enter: behaviour of a service or of a device.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use azimuth_dps::RunningDps;
use azimuth_hub::RunningHub;
use azimuth_monitor::{Change, News};
use clap::Args;
use clap::builder::FalseyValueParser;
use tokio_util::sync::CancellationToken;

use crate::announce::{announce, stopped, unbound_lines};
use crate::config::{Config, TUTORIAL_GROUP};
use crate::follow::hubs;
use crate::live::{self, Live, Row};
use crate::monitor::{Expected, Patrol};
use crate::paste::{Paste, take_name};
use crate::services::{self, empty_paste};
use crate::{certificates, fleet};

/// Starts a DPS, its hubs and two simulated devices in one process.
#[derive(Debug, Args)]
pub struct Up {
    /// Do not start the two simulated devices
    #[arg(long)]
    no_devices: bool,
    /// Seconds between two messages of a simulated device
    #[arg(long, default_value_t = HEARTBEAT, value_name = "SECONDS")]
    heartbeat: f64,
    /// Watch heartbeats as `azimuth monitor` does, and show which devices are late [default: if the
    /// configuration has a table `[monitor]`]. Every message is then read a second time
    #[arg(long, env = "AZIMUTH_MONITOR", value_parser = FalseyValueParser::new())]
    monitor: bool,
}

impl Default for Up {
    fn default() -> Self {
        Self {
            no_devices: false,
            heartbeat: HEARTBEAT,
            monitor: false,
        }
    }
}

/// Seconds.
const HEARTBEAT: f64 = 5.0;

/// The devices of Azure's multitenancy tutorial and the regions they are in.
const DEVICES: [(&str, &str); 2] = [
    ("contoso-simdevice-east", "eastus"),
    ("contoso-simdevice-west", "westus"),
];

/// Everything that runs.
struct Running {
    hubs: Vec<RunningHub>,
    dps: RunningDps,
}

impl Up {
    pub fn run(self, config: Config) -> anyhow::Result<ExitCode> {
        let authority = certificates::authority(&config)?;
        let names = config.hubs.iter().map(|hub| &hub.name);
        let _names = names
            .chain([&config.dps.name])
            .map(|name| take_name(config.connect_folder(), name))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let (running, paste) = start(&config, &authority)?;
        let mut unbound: Vec<_> = running
            .hubs
            .iter()
            .flat_map(services::hub_unbound)
            .collect();
        unbound.extend_from_slice(running.dps.unbound());
        paste
            .save(config.connect_folder())
            .context("connect.json could not be written")?;
        let published = config.dps.listen().is_loopback()
            && config.hubs.iter().all(|hub| hub.listen().is_loopback());
        announce(&paste, &unbound_lines(&unbound), published);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, self.show(&config, &paste, &running))?;
        running.dps.stop();
        running.hubs.into_iter().for_each(RunningHub::stop);
        Ok(ExitCode::SUCCESS)
    }

    /// Runs the two devices and the live table until the process is asked to stop.
    async fn show(&self, config: &Config, paste: &Paste, running: &Running) -> anyhow::Result<()> {
        let stop = CancellationToken::new();
        let mut fleets = Vec::new();
        let tutorial = config
            .enrollment_groups
            .iter()
            .any(|group| group.id == TUTORIAL_GROUP);
        if !self.no_devices && tutorial {
            println!();
            for (device, region) in DEVICES {
                let plan = fleet::demonstration(
                    config,
                    paste,
                    device,
                    region,
                    Duration::from_secs_f64(self.heartbeat),
                )?;
                fleets.push(fleet::start(
                    plan,
                    paste,
                    Arc::new(fleet::Steps),
                    stop.clone(),
                )?);
            }
            println!(
                "  Paste this to run a device of your own:  eval \"$({} env)\"",
                program(config)
            );
            println!();
        }
        let late = RefCell::new(Late::default());
        let mut watched = pin!(self.watch(config, paste, &late));
        let mut live = Live::default();
        let mut tick = tokio::time::interval(Duration::from_millis(500));
        let stopped = stopped();
        tokio::pin!(stopped);
        loop {
            tokio::select! {
                done = &mut stopped => {
                    done?;
                    break;
                }
                () = &mut watched => {}
                _ = tick.tick() => live.show(rows(running, &late.borrow()), late.borrow().line()),
            }
        }
        stop.cancel();
        for fleet in fleets {
            let _ = fleet.await;
        }
        Ok(())
    }

    /// Keeps `late` as the monitor has it, where one is wanted.
    async fn watch(&self, config: &Config, paste: &Paste, late: &RefCell<Late>) {
        if !self.monitor && config.monitor.is_none() {
            return std::future::pending().await;
        }
        let terminal = std::io::stdout().is_terminal();
        let tell = |change: &Change| match terminal {
            // The table shows it.
            true => late.borrow_mut().take(change),
            false => println!("{change}"),
        };
        let work = async {
            let section = config.monitor.clone().unwrap_or_default();
            let (settings, webhook) = Expected::default().over(&section)?;
            let mut patrol = Patrol::start(hubs(paste)?, settings, webhook).await?;
            patrol.walk(&tell).await
        };
        if let Err(error) = work.await {
            tracing::error!("heartbeats are not watched: {error:#}");
        }
        std::future::pending().await
    }
}

/// Devices that are late, as they are shown.
#[derive(Debug, Default)]
struct Late(BTreeSet<(Arc<str>, Arc<str>)>);

impl Late {
    fn take(&mut self, change: &Change) {
        let device = (change.hub.clone(), change.device.clone());
        match change.news {
            News::Late => self.0.insert(device),
            News::Back | News::Gone(_) => self.0.remove(&device),
        };
    }

    fn holds(&self, hub: &str, device: &str) -> bool {
        !self.0.is_empty() && self.0.contains(&(hub.into(), device.into()))
    }

    /// Some of them by name: the table has no room for all devices.
    fn line(&self) -> Option<String> {
        const NAMED: usize = 5;
        let names = self.0.iter().take(NAMED).map(|(_, device)| &**device);
        let names = names.collect::<Vec<_>>().join(", ");
        match self.0.len() {
            0 => None,
            count @ ..=NAMED => Some(format!("{count} late: {names}")),
            count => Some(format!("{count} late: {names} …")),
        }
    }
}

/// The command line that reaches this data folder.
fn program(config: &Config) -> String {
    let program = std::env::args().next().unwrap_or_else(|| "azimuth".into());
    if config.data == std::path::Path::new("azimuth-data") {
        return program;
    }
    format!("{program} --data {}", config.data.display())
}

fn start(
    config: &Config,
    authority: &azimuth_certs::Authority,
) -> anyhow::Result<(Running, Paste)> {
    let mut paste = empty_paste(config);
    let mut hubs = Vec::new();
    for section in &config.hubs {
        let hub = services::start_hub(config, section, authority)?;
        paste.hubs.push(services::hub_paste(section, &hub));
        hubs.push(hub);
    }
    let dps = services::start_dps(config, authority, &paste.hubs)?;
    paste.dps = Some(services::dps_paste(config, &dps));
    Ok((Running { hubs, dps }, paste))
}

fn rows(running: &Running, late: &Late) -> Vec<Row> {
    let rows = running.hubs.iter().flat_map(|hub| {
        hub.rows(live::ROWS).into_iter().map(|row| Row {
            state: match late.holds(hub.name(), &row.device) {
                true => format!("{}, late", row.connection_state),
                false => row.connection_state,
            },
            device: row.device,
            hub: hub.name().to_owned(),
            last_activity: row.last_activity,
            messages: row.messages,
        })
    });
    rows.take(live::ROWS).collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn devices_that_are_late_stand_below_the_table_until_they_are_back() {
        let change = |news, device: &str| Change {
            news,
            hub: "east".into(),
            device: device.into(),
            at: UNIX_EPOCH,
            last_heartbeat: None,
            expected_by: UNIX_EPOCH,
            interval: Duration::from_secs(1),
            silent_for: Duration::from_secs(2),
        };
        let mut late = Late::default();
        assert_eq!(late.line(), None);
        late.take(&change(News::Late, "b"));
        late.take(&change(News::Late, "a"));
        assert_eq!(late.line().as_deref(), Some("2 late: a, b"));
        assert!(late.holds("east", "a") && !late.holds("west", "a"));
        late.take(&change(News::Back, "a"));
        assert!(!late.holds("east", "a"));
        for n in 0..9 {
            late.take(&change(News::Late, &n.to_string()));
        }
        assert_eq!(late.line().as_deref(), Some("10 late: 0, 1, 2, 3, 4 …"));
    }
}
