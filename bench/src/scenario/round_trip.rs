//! Questions and answers: a DPS that answers itself, or mosquitto with a responder client behind it.

use super::telemetry::figures;
use crate::figure::Figures;
use crate::lab::{Kind, Lab};
use crate::line::Target;
use crate::round_trip::{Asker, measure, responder};
use crate::{azimuth, mosquitto};

/// A client number that no asker has.
const RESPONDER: usize = 999_999;

pub async fn run(lab: &Lab, kind: Kind) -> anyhow::Result<Figures> {
    match kind {
        Kind::Azimuth => at_dps(lab).await,
        Kind::Mosquitto => at_broker(lab).await,
    }
}

async fn at_dps(lab: &Lab) -> anyhow::Result<Figures> {
    let mut server = azimuth::provisioning(lab).await?;
    let target = server.dps()?.target.clone();
    // Only the DPS answers here; its hub heard of the devices while they registered.
    let hub = server.processes.split_off(1);
    let alone = measure(&server, vec![Asker::at_dps(&target, 0).await?], &lab.plan).await?;
    let mut askers = Vec::with_capacity(lab.plan.talkers);
    for client in 0..lab.plan.talkers {
        askers.push(Asker::at_dps(&target, client).await?);
    }
    let together = measure(&server, askers, &lab.plan).await?;
    server.processes.extend(hub);
    server.stop().await?;
    Ok(both(&together, &alone))
}

async fn at_broker(lab: &Lab) -> anyhow::Result<Figures> {
    let server = mosquitto::start(lab, false).await?;
    let target: &Target = &server.target;
    let responder = responder(target, RESPONDER).await?;
    let alone = measure(&server, vec![Asker::at_broker(target, 0).await?], &lab.plan).await?;
    let mut askers = Vec::with_capacity(lab.plan.talkers);
    for client in 0..lab.plan.talkers {
        askers.push(Asker::at_broker(target, client).await?);
    }
    let together = measure(&server, askers, &lab.plan).await?;
    responder.abort();
    server.stop().await?;
    Ok(both(&together, &alone))
}

fn both(
    together: &crate::telemetry::Acknowledged,
    alone: &crate::telemetry::Acknowledged,
) -> Figures {
    let mut figures = figures(together);
    figures.saw(&alone.spent);
    figures.put("alone_p50_ms", alone.latencies.milliseconds(0.5));
    figures.put("alone_p99_ms", alone.latencies.milliseconds(0.99));
    figures
}
