//! `azimuth monitor` with very many devices: what it holds, what a heartbeat costs, and what it costs when all is well.

use std::net::SocketAddr;
use std::process::Stdio;

use anyhow::Context;
use azimuth_clock::{Clock, SystemClock};
use tokio::process::Command;

use crate::credentials::device_id;
use crate::figure::Figures;
use crate::lab::{HUB_ADDRESS, Lab};
use crate::process::{Meter, Process};
use crate::stub_hub::StubHub;

/// Heartbeats of each device while CPU is measured.
const ROUNDS: usize = 3;

pub async fn run(lab: &Lab) -> anyhow::Result<Figures> {
    let plan = &lab.plan;
    let folder = lab.fresh_folder("monitor")?;
    let address = SocketAddr::new(HUB_ADDRESS, lab.https_port);
    let mut hub = StubHub::start(&folder, address).await?;
    let mut command = Command::new(lab.azimuth.as_ref().context("azimuth is not built")?);
    command
        .args([
            "--https-port",
            &lab.https_port.to_string(),
            "monitor",
            "--json",
        ])
        .args(["--interval", "10m", "--refresh", "1h"])
        .args(["--connection-string", &hub.connection_string(), "--ca"])
        .arg(&hub.ca_file)
        .stdout(Stdio::null());
    let monitor = Process::start("azimuth monitor", command, &lab.log())?;
    let mut follower = hub.follower().await?;
    tokio::time::sleep(plan.settle).await;
    let mut figures = Figures::default();
    let before = monitor.resident_kib()?;
    let body = "x".repeat(plan.payload);
    let meter = Meter::start(&[&monitor])?;
    for _ in 0..ROUNDS {
        for device in 0..plan.watched {
            let now = SystemClock.utc();
            follower.tell(&device_id(device), &body, now).await?;
        }
        follower.flush().await?;
    }
    // What it has been sent last it may not have read yet.
    tokio::time::sleep(plan.settle).await;
    let spent = meter.read()?;
    figures.saw(&spent);
    let after = monitor.resident_kib()?;
    figures.put("resident_kib", after);
    let devices = plan.watched as f64;
    figures.put("bytes_each", (after - before) * 1024.0 / devices);
    let heartbeats = devices * ROUNDS as f64;
    figures.put("cpu_s_per_100k", spent.server() * 100_000.0 / heartbeats);
    let meter = Meter::start(&[&monitor])?;
    tokio::time::sleep(plan.measure).await;
    let spent = meter.read()?;
    figures.put("idle_cpu_percent", spent.server() * 100.0 / spent.wall);
    monitor.stop().await?;
    Ok(figures)
}
