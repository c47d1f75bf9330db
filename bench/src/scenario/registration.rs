//! Devices from nothing: registered at the DPS, made in the hub; then the same with the connect to the hub
//! and its subscriptions.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context;
use azimuth_wire::topic::dps::RESPONSES;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::azimuth;
use crate::credentials::device_filters;
use crate::figure::{Figures, Latencies};
use crate::lab::Lab;
use crate::line::{Line, Target};
use crate::process::Spent;
use crate::round_trip::register;
use crate::server::Server;

pub async fn run(lab: &Lab) -> anyhow::Result<Figures> {
    let server = azimuth::provisioning(lab).await?;
    let count = lab.plan.registrations;
    let mut figures = Figures::default();

    let (latencies, spent) = provision(lab, &server, 0..count, false).await?;
    figures.saw(&spent);
    figures.put("registrations_per_s", count as f64 / spent.wall);
    figures.put("p50_ms", latencies.milliseconds(0.5));
    figures.put("p99_ms", latencies.milliseconds(0.99));
    figures.put("dps_cpu_ms_each", spent.servers[0] * 1000.0 / count as f64);
    figures.put("hub_cpu_ms_each", spent.servers[1] * 1000.0 / count as f64);

    let (latencies, spent) = provision(lab, &server, count..2 * count, true).await?;
    figures.saw(&spent);
    figures.put("cold_starts_per_s", count as f64 / spent.wall);
    figures.put("cold_start_p99_ms", latencies.milliseconds(0.99));
    figures.put(
        "cold_start_cpu_ms_each",
        spent.server() * 1000.0 / count as f64,
    );
    server.stop().await?;
    Ok(figures)
}

async fn provision(
    lab: &Lab,
    server: &Server,
    clients: Range<usize>,
    connect: bool,
) -> anyhow::Result<(Latencies, Spent)> {
    let dps = server.dps.clone().context("the DPS was started")?;
    let next = Arc::new(AtomicUsize::new(clients.start));
    let mut workers = JoinSet::new();
    let meter = server.meter()?;
    for _ in 0..lab.plan.registration_concurrency {
        let (dps, hub, next) = (
            dps.clone(),
            connect.then(|| server.target.clone()),
            next.clone(),
        );
        workers.spawn(async move {
            let (mut lines, mut latencies) = (Vec::new(), Latencies::default());
            loop {
                let client = next.fetch_add(1, Ordering::Relaxed);
                if client >= clients.end {
                    return anyhow::Ok((lines, latencies));
                }
                let began = Instant::now();
                lines.extend(one(&dps, hub.as_ref(), client).await?);
                latencies.record(began.elapsed());
            }
        });
    }
    let (mut held, mut latencies) = (Vec::new(), Latencies::default());
    while let Some(worker) = workers.join_next().await {
        let (lines, some) = worker??;
        held.extend(lines);
        latencies.add(&some);
    }
    Ok((latencies, meter.read()?))
}

/// Provisions one device; with a hub it connects there, subscribes and stays.
async fn one(dps: &Target, hub: Option<&Target>, client: usize) -> anyhow::Result<Option<Line>> {
    let mut line = dps.enter(client).await?;
    line.subscribe(&[RESPONSES.to_owned()]).await?;
    register(&mut line, client).await?;
    drop(line);
    let Some(hub) = hub else { return Ok(None) };
    let mut line = hub.enter(client).await?;
    line.subscribe(&device_filters(client)).await?;
    line.rest();
    Ok(Some(line))
}
