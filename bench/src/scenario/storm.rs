//! Known devices come all at once: to a hub that knows them alone, then to one that holds a million identities.

use crate::azimuth;
use crate::figure::Figures;
use crate::lab::{Kind, Lab};
use crate::server::Server;
use crate::storm::storm;

pub async fn run(lab: &Lab) -> anyhow::Result<Figures> {
    let mut figures = Figures::default();
    let few = Server::hub(lab, Kind::Azimuth).await?;
    let alone = connects(lab, few, &mut figures).await?;
    let (full, _) = azimuth::hub_holding(lab, lab.plan.identities).await?;
    let beside = connects(lab, full, &mut figures).await?;
    figures.put("few_connect_cpu_ms", alone.cpu_ms);
    figures.put("full_connect_cpu_ms", beside.cpu_ms);
    figures.put("cpu_ratio", beside.cpu_ms / alone.cpu_ms);
    figures.put("few_connects_per_s", alone.per_s);
    figures.put("full_connects_per_s", beside.per_s);
    figures.put("few_p99_ms", alone.p99_ms);
    figures.put("full_p99_ms", beside.p99_ms);
    Ok(figures)
}

struct Cost {
    cpu_ms: f64,
    per_s: f64,
    p99_ms: f64,
}

async fn connects(lab: &Lab, hub: Server, figures: &mut Figures) -> anyhow::Result<Cost> {
    let plan = &lab.plan;
    // The first connects pay for what is made once.
    let first = plan.devices() - 20..plan.devices();
    drop(storm(&hub.target, first, 4).await?);
    let meter = hub.meter()?;
    let crowd = storm(&hub.target, 0..plan.crowd, plan.concurrency).await?;
    let spent = meter.read()?;
    figures.saw(&spent);
    let count = crowd.brought.len() as f64;
    let cost = Cost {
        cpu_ms: spent.server() * 1000.0 / count,
        per_s: count / crowd.wall,
        p99_ms: crowd.latencies.milliseconds(0.99),
    };
    drop(crowd);
    hub.stop().await?;
    Ok(cost)
}
