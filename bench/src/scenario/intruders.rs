//! Clients that never speak TLS, and clients that stop in the middle of CONNECT: others must not feel them.

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::figure::Figures;
use crate::lab::{Kind, Lab};
use crate::line::{Stream, Target};
use crate::server::Server;
use crate::storm::storm;

pub async fn run(lab: &Lab, kind: Kind) -> anyhow::Result<Figures> {
    let plan = &lab.plan;
    let concurrency = (plan.concurrency / 5).max(1);
    let server = Server::hub(lab, kind).await?;
    let mut figures = Figures::default();
    drop(storm(&server.target, 0..plan.intruded_connects / 4, concurrency).await?);
    sleep(plan.settle / 2).await;

    let meter = server.meter()?;
    let undisturbed = storm(&server.target, 0..plan.intruded_connects, concurrency)
        .await?
        .latencies;
    figures.saw(&meter.read()?);
    sleep(plan.settle / 2).await;

    let (mut silent, mut stuck): (Vec<TcpStream>, Vec<Stream>) = (Vec::new(), Vec::new());
    for client in 0..plan.intruders {
        silent.push(server.target.dial(client).await?);
        stuck.push(half_a_connect(&server.target, client).await?);
    }
    let meter = server.meter()?;
    let disturbed = storm(&server.target, 0..plan.intruded_connects, concurrency)
        .await?
        .latencies;
    figures.saw(&meter.read()?);
    drop((silent, stuck));

    figures.put("undisturbed_p99_ms", undisturbed.milliseconds(0.99));
    figures.put("disturbed_p99_ms", disturbed.milliseconds(0.99));
    figures.put(
        "p99_ratio",
        disturbed.milliseconds(0.99) / undisturbed.milliseconds(0.99),
    );
    server.stop().await?;
    Ok(figures)
}

async fn half_a_connect(target: &Target, client: usize) -> anyhow::Result<Stream> {
    let mut stream = target.secure(client).await?;
    let mut bytes = BytesMut::new();
    target.credentials.connect(client, 60).write(&mut bytes)?;
    stream.write_all(&bytes[..bytes.len() / 2]).await?;
    stream.flush().await?;
    Ok(stream)
}
