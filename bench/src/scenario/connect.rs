//! A connect storm; then every device stays, first as it is, then with its four subscriptions.

use anyhow::ensure;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::credentials::device_filters;
use crate::figure::Figures;
use crate::lab::{Kind, Lab};
use crate::line::Line;
use crate::server::Server;
use crate::storm::storm;

pub async fn run(lab: &Lab, kind: Kind) -> anyhow::Result<Figures> {
    let plan = &lab.plan;
    let server = Server::hub(lab, kind).await?;
    let mut figures = Figures::default();
    // The first connects pay for what is made once.
    drop(storm(&server.target, 0..20, 4).await?);
    sleep(plan.settle / 2).await;

    let empty = server.processes[0].resident_kib()?;
    let meter = server.meter()?;
    let storm = storm(&server.target, 0..plan.storm, plan.concurrency).await?;
    let spent = meter.read()?;
    let count = storm.brought.len() as f64;
    figures.saw(&spent);
    figures.put("connects_per_s", count / storm.wall);
    figures.put("p50_ms", storm.latencies.milliseconds(0.5));
    figures.put("p99_ms", storm.latencies.milliseconds(0.99));
    figures.put("server_cpu_ms_each", spent.server() * 1000.0 / count);
    figures.put("client_cpu_ms_each", spent.own * 1000.0 / count);

    sleep(plan.settle).await;
    let bare = server.processes[0].resident_kib()?;
    figures.put("idle_kib_each", (bare - empty) / count);

    let lines = subscribe_all(storm.brought).await?;
    sleep(plan.settle).await;
    let subscribed = server.processes[0].resident_kib()?;
    figures.put("idle_subscribed_kib_each", (subscribed - empty) / count);
    all_alive(lines).await?;
    server.stop().await?;
    Ok(figures)
}

/// Each subscribes to what a device of a hub listens to, 50 at a time.
async fn subscribe_all(lines: Vec<Line>) -> anyhow::Result<Vec<Line>> {
    let (mut subscribed, mut under_way) = (Vec::with_capacity(lines.len()), JoinSet::new());
    for (client, mut line) in lines.into_iter().enumerate() {
        if under_way.len() == 50 {
            subscribed.extend(under_way.join_next().await.transpose()?.transpose()?);
        }
        under_way.spawn(async move {
            line.subscribe(&device_filters(client)).await?;
            line.rest();
            anyhow::Ok(line)
        });
    }
    while let Some(line) = under_way.join_next().await {
        subscribed.push(line??);
    }
    Ok(subscribed)
}

/// A line that a server dropped in silence would make its memory look small.
async fn all_alive(lines: Vec<Line>) -> anyhow::Result<()> {
    let count = lines.len();
    let mut pings = JoinSet::new();
    for mut line in lines {
        pings.spawn(async move { line.ping().await.is_ok() });
    }
    let alive = pings
        .join_all()
        .await
        .into_iter()
        .filter(|alive| *alive)
        .count();
    ensure!(
        alive == count,
        "{} of {count} idle devices were dropped",
        count - alive
    );
    Ok(())
}
