//! Devices that publish, over connections that are already there.

use crate::figure::Figures;
use crate::lab::{Kind, Lab};
use crate::server::Server;
use crate::storm::storm;
use crate::telemetry::{Acknowledged, closed_loop, open_loop};

/// As fast as acknowledgements come.
pub async fn run(lab: &Lab, kind: Kind) -> anyhow::Result<Figures> {
    let server = Server::hub(lab, kind).await?;
    let lines = storm(&server.target, 0..lab.plan.talkers, lab.plan.concurrency)
        .await?
        .brought;
    let (acknowledged, _) = closed_loop(&server, lines, &lab.plan).await?;
    server.stop().await?;
    Ok(figures(&acknowledged))
}

/// At a given rate.
pub async fn run_paced(lab: &Lab, kind: Kind) -> anyhow::Result<Figures> {
    let server = Server::hub(lab, kind).await?;
    let lines = storm(&server.target, 0..lab.plan.talkers, lab.plan.concurrency)
        .await?
        .brought;
    let (acknowledged, _) = open_loop(&server, lines, &lab.plan).await?;
    server.stop().await?;
    Ok(figures(&acknowledged))
}

pub fn figures(acknowledged: &Acknowledged) -> Figures {
    let mut figures = Figures::default();
    figures.saw(&acknowledged.spent);
    figures.put("per_s", acknowledged.per_second());
    figures.put("server_cpu_s_per_100k", acknowledged.server_per_100k());
    figures.put(
        "server_cores",
        acknowledged.spent.server() / acknowledged.spent.wall,
    );
    figures.put(
        "client_cores",
        acknowledged.spent.own / acknowledged.spent.wall,
    );
    figures.put("p50_ms", acknowledged.latencies.milliseconds(0.5));
    figures.put("p99_ms", acknowledged.latencies.milliseconds(0.99));
    figures
}
