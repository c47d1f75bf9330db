//! The cost of a message and of a connect: with 500 devices, then beside a crowd of idle ones.

use crate::figure::Figures;
use crate::lab::{Kind, Lab};
use crate::line::Line;
use crate::server::Server;
use crate::storm::storm;
use crate::telemetry::closed_loop;

struct Cost {
    per_100k: f64,
    per_connect: f64,
    lines: Vec<Line>,
}

pub async fn run(lab: &Lab, kind: Kind) -> anyhow::Result<Figures> {
    let plan = &lab.plan;
    let server = Server::hub(lab, kind).await?;
    let mut figures = Figures::default();
    let lines = storm(&server.target, 0..plan.talkers, plan.concurrency)
        .await?
        .brought;
    let few = cost(lab, &server, lines, &mut figures).await?;
    let crowd = storm(
        &server.target,
        plan.talkers..plan.talkers + plan.crowd,
        plan.concurrency,
    )
    .await?
    .brought;
    let many = cost(lab, &server, few.lines, &mut figures).await?;
    figures.put("crowd", crowd.len() as f64);
    figures.put("few_server_cpu_s_per_100k", few.per_100k);
    figures.put("many_server_cpu_s_per_100k", many.per_100k);
    figures.put("few_connect_cpu_ms", few.per_connect);
    figures.put("many_connect_cpu_ms", many.per_connect);
    figures.put("message_ratio", many.per_100k / few.per_100k);
    figures.put("connect_ratio", many.per_connect / few.per_connect);
    drop((crowd, many.lines));
    server.stop().await?;
    Ok(figures)
}

/// Telemetry over `lines`, then connects of devices beyond the crowd, which leave again.
async fn cost(
    lab: &Lab,
    server: &Server,
    lines: Vec<Line>,
    figures: &mut Figures,
) -> anyhow::Result<Cost> {
    let plan = &lab.plan;
    let (acknowledged, lines) = closed_loop(server, lines, plan).await?;
    figures.saw(&acknowledged.spent);
    let first = plan.talkers + plan.crowd;
    let meter = server.meter()?;
    let guests = storm(
        &server.target,
        first..first + plan.crowd_connects,
        plan.concurrency,
    )
    .await?;
    let spent = meter.read()?;
    figures.saw(&spent);
    let per_connect = spent.server() * 1000.0 / guests.brought.len() as f64;
    drop(guests);
    tokio::time::sleep(plan.settle).await;
    Ok(Cost {
        per_100k: acknowledged.server_per_100k(),
        per_connect,
        lines,
    })
}
