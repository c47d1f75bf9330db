//! Devices that publish: as fast as acknowledgements come, or at a given rate.
//!
//! What may not enter: which server, and what the figures are compared with.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Packet, Publish};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::credentials::device_id;
use crate::figure::Latencies;
use crate::line::Line;
use crate::plan::Plan;
use crate::process::Spent;
use crate::server::Server;

/// What was acknowledged while it was measured.
pub struct Acknowledged {
    pub count: u64,
    pub latencies: Latencies,
    pub spent: Spent,
}

impl Acknowledged {
    pub fn per_second(&self) -> f64 {
        self.count as f64 / self.spent.wall
    }

    /// Server CPU seconds for 100,000 of them.
    pub fn server_per_100k(&self) -> f64 {
        self.spent.server() * 100_000.0 / self.count.max(1) as f64
    }
}

/// Counts of all clients together.
#[derive(Default)]
pub struct Tally {
    stop: AtomicBool,
    count: AtomicU64,
    latencies: Mutex<Latencies>,
}

impl Tally {
    pub fn record(&self, latency: Duration) {
        self.count.fetch_add(1, Relaxed);
        self.latencies
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .record(latency);
    }

    pub fn stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }

    /// Lets the clients warm up, measures, and asks them to stop.
    pub async fn measure(&self, server: &Server, plan: &Plan) -> anyhow::Result<Acknowledged> {
        sleep(plan.warm_up).await;
        let meter = server.meter()?;
        self.latencies
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        let before = self.count.load(Relaxed);
        sleep(plan.measure).await;
        let spent = meter.read()?;
        let count = self.count.load(Relaxed) - before;
        let latencies = self
            .latencies
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        self.stop.store(true, Relaxed);
        Ok(Acknowledged {
            count,
            latencies,
            spent,
        })
    }
}

/// One message of a client, encoded once; only its packet id changes.
struct Letter {
    bytes: BytesMut,
    id_at: usize,
}

impl Letter {
    fn new(client: usize, size: usize) -> anyhow::Result<Self> {
        let topic = format!("devices/{}/messages/events/", device_id(client));
        let mut publish = Publish::new(topic, QoS::AtLeastOnce, vec![b'x'; size]);
        publish.pkid = 1;
        let mut bytes = BytesMut::new();
        publish.write(&mut bytes)?;
        let id_at = bytes.len() - size - 2;
        Ok(Self { bytes, id_at })
    }

    fn with_id(&mut self, id: u16) -> &[u8] {
        self.bytes[self.id_at..self.id_at + 2].copy_from_slice(&id.to_be_bytes());
        &self.bytes
    }
}

/// Every line publishes its next message when the last one is acknowledged. Client numbers count from 0.
pub async fn closed_loop(
    server: &Server,
    lines: Vec<Line>,
    plan: &Plan,
) -> anyhow::Result<(Acknowledged, Vec<Line>)> {
    let tally = Arc::new(Tally::default());
    let mut clients = JoinSet::new();
    for (client, line) in lines.into_iter().enumerate() {
        let publishing =
            publish_when_acknowledged(line, Letter::new(client, plan.payload)?, tally.clone());
        clients.spawn(async move { anyhow::Ok((client, publishing.await?)) });
    }
    finish(&tally, server, plan, clients).await
}

/// All lines together publish `plan.rate` messages a second whatever the server does; latency counts from
/// the time a message was due.
pub async fn open_loop(
    server: &Server,
    lines: Vec<Line>,
    plan: &Plan,
) -> anyhow::Result<(Acknowledged, Vec<Line>)> {
    let tally = Arc::new(Tally::default());
    let mut clients = JoinSet::new();
    let every = Duration::from_secs_f64(lines.len() as f64 / plan.rate as f64);
    let began = Instant::now();
    let total = lines.len();
    for (client, line) in lines.into_iter().enumerate() {
        let first = began + every.mul_f64(client as f64 / total as f64);
        let letter = Letter::new(client, plan.payload)?;
        let publishing = publish_when_due(line, letter, first, every, plan.window, tally.clone());
        clients.spawn(async move { anyhow::Ok((client, publishing.await?)) });
    }
    finish(&tally, server, plan, clients).await
}

async fn finish(
    tally: &Tally,
    server: &Server,
    plan: &Plan,
    mut clients: JoinSet<anyhow::Result<(usize, Line)>>,
) -> anyhow::Result<(Acknowledged, Vec<Line>)> {
    let acknowledged = tokio::select! {
        measured = tally.measure(server, plan) => measured?,
        // No client ends before it is asked to, but by an error.
        Some(ended) = clients.join_next() => return Err(early(ended)),
    };
    let mut lines = Vec::with_capacity(clients.len());
    while let Some(client) = clients.join_next().await {
        lines.push(client??);
    }
    // A line belongs to one device: the next measurement must find it at the same place.
    lines.sort_by_key(|(client, _)| *client);
    Ok((
        acknowledged,
        lines.into_iter().map(|(_, line)| line).collect(),
    ))
}

/// Why a client ended before it was asked to.
pub fn early<T>(ended: Result<anyhow::Result<T>, tokio::task::JoinError>) -> anyhow::Error {
    match ended {
        Ok(Err(error)) => error.context("a client was cut off while it was measured"),
        Ok(Ok(_)) => anyhow::anyhow!("a client ended while it was measured"),
        Err(error) => error.into(),
    }
}

async fn publish_when_acknowledged(
    mut line: Line,
    mut letter: Letter,
    tally: Arc<Tally>,
) -> anyhow::Result<Line> {
    let mut id = 0u16;
    while !tally.stopped() {
        id = id.checked_add(1).unwrap_or(1);
        let sent = Instant::now();
        line.send(letter.with_id(id)).await?;
        while line.next().await? != Packet::PubAck(rumqttc::mqttbytes::v4::PubAck { pkid: id }) {}
        tally.record(sent.elapsed());
    }
    line.rest();
    Ok(line)
}

async fn publish_when_due(
    mut line: Line,
    mut letter: Letter,
    mut due: Instant,
    every: Duration,
    window: usize,
    tally: Arc<Tally>,
) -> anyhow::Result<Line> {
    let mut id = 0u16;
    let mut flying: VecDeque<(u16, Instant)> = VecDeque::with_capacity(window);
    while !tally.stopped() || !flying.is_empty() {
        let sending = !tally.stopped() && flying.len() < window;
        tokio::select! {
            biased;
            () = sleep_until(due), if sending => {
                id = id.checked_add(1).unwrap_or(1);
                line.send(letter.with_id(id)).await?;
                flying.push_back((id, due));
                due += every;
            }
            filled = line.fill() => filled?,
            // A stop while nothing flies and nothing is due must be seen.
            () = sleep(Duration::from_millis(200)), if !sending => {}
        }
        while let Some(packet) = line.buffered()? {
            let Packet::PubAck(ack) = packet else {
                continue;
            };
            let Some(at) = flying.iter().position(|(id, _)| *id == ack.pkid) else {
                continue;
            };
            let (_, due) = flying.remove(at).expect("the position was just found");
            tally.record(due.elapsed());
        }
    }
    line.rest();
    Ok(line)
}
