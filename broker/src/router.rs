//! The message router inside each service: rumqttd's router, never its listener. The only file that
//! names rumqttd.
//!
//! Envelopes of a lane travel in batches as one message of the topic `lane/NN`, in order, to one
//! consumer on a thread of its own. Acknowledgements and back-pressure are ours, because rumqttd
//! acknowledges what it has appended and drops what a slow reader has not read: no more bytes are on
//! their way than fit the log several times over, and a sender hears only after the consumer has
//! stored. What may not enter: what an envelope says, who sent it.
//!
//! ```text
//! Intake::send ─► pending batch per lane ─► (once per turn of the event loop) ─► rumqttd ─► Consumer
//!      ▲                                                                                      │
//!      └────────── room, acknowledgements ◄───────────── receipts, in the same order ◄────────┘
//! ```

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use rumqttd::local::{LinkRx, LinkTx};
use rumqttd::{Broker, Config, Notification, RouterConfig};
use tokio::sync::Notify;

use azimuth_clock::Clock;

use crate::backend::{Consumer, Envelopes, Lane};
use crate::line::{CloseReason, Line};

/// Bytes after which a batch is closed and the next one begun.
const BATCH_BYTES: usize = 512 << 10;

/// Filters the router knows, whatever the number of devices.
const FILTER: &str = "lane/+";

/// The way from connections to the consumer.
#[derive(Debug, Clone)]
pub struct Intake(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    pending: Mutex<Vec<Pending>>,
    /// Rung when there is something to flush.
    bell: Notify,
    /// Batches under way, per lane, oldest first.
    under_way: Mutex<Vec<VecDeque<Receipts>>>,
    /// Batches the consumer is done with, whose senders have not heard.
    finished: Mutex<Vec<(Receipts, Result<(), String>)>>,
    /// Rung when there is something finished.
    done: Notify,
    bytes: AtomicUsize,
    limit: usize,
    /// Connections that wait for room.
    waiting: Mutex<Vec<Waker>>,
    stopped: AtomicBool,
    counted: Mutex<Counted>,
}

/// What rumqttd was asked for: every link, every filter, every distinct topic.
#[derive(Debug, Default)]
struct Counted {
    links: usize,
    filters: usize,
    topics: HashSet<String>,
    batches: u64,
}

/// A batch that grows until the next flush.
#[derive(Debug, Default)]
struct Pending {
    batch: Vec<u8>,
    receipts: Receipts,
}

impl Counted {
    fn published(&mut self, topic: &str) {
        self.batches += 1;
        if !self.topics.contains(topic) {
            self.topics.insert(topic.into());
        }
    }
}

/// Who is to hear that a batch is stored: connections in the order of their packets. Packet id 0
/// stands for QoS 0, which nobody waits for.
#[derive(Debug, Default)]
struct Receipts {
    number: u64,
    bytes: usize,
    senders: Vec<(Line, u16)>,
}

/// The router and its consumer thread.
pub struct Router {
    intake: Intake,
    consumer: Option<JoinHandle<()>>,
    _broker: Broker,
}

/// Figures for tests and benchmarks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouterFigures {
    /// Bytes taken and not yet stored.
    pub bytes_under_way: usize,
    /// Links to rumqttd's router.
    pub links: usize,
    /// Filters it knows.
    pub filters: usize,
    /// Distinct topics published to it.
    pub topics: usize,
    /// Messages that went through it; each a batch.
    pub batches: u64,
}

impl Router {
    /// Starts the router with lanes `0..lanes` and `consumer` at its end. At most `limit` bytes, and
    /// one message, are on their way at once.
    pub fn start(
        service: &str,
        lanes: u8,
        limit: usize,
        mut consumer: Box<dyn Consumer>,
        clock: Arc<dyn Clock>,
    ) -> std::io::Result<Self> {
        let segment = limit.max(1 << 20) + (1 << 20);
        let broker = Broker::new(Config {
            router: RouterConfig {
                max_connections: 8,
                max_outgoing_packet_count: 200,
                max_segment_size: segment,
                max_segment_count: 3,
                ..RouterConfig::default()
            },
            ..Config::default()
        });
        let intake = Intake(Arc::new(Shared {
            pending: Mutex::new((0..lanes).map(|_| Pending::default()).collect()),
            bell: Notify::new(),
            under_way: Mutex::new((0..lanes).map(|_| VecDeque::new()).collect()),
            finished: Mutex::default(),
            done: Notify::new(),
            bytes: AtomicUsize::new(0),
            limit,
            waiting: Mutex::default(),
            stopped: AtomicBool::new(false),
            counted: Mutex::default(),
        }));
        let (mut subscriber, receiver) = link(&broker, &intake, "consumer")?;
        subscriber.subscribe(FILTER).map_err(refused)?;
        intake.0.counted.lock().filters += 1;
        let publisher = link(&broker, &intake, "front-door")?;
        let shared = intake.0.clone();
        let thread = std::thread::Builder::new()
            .name(format!("{service}-store"))
            .spawn(move || {
                // The subscriber's sending half must live as long as its receiving half.
                let _subscriber = subscriber;
                consume(&shared, receiver, consumer.as_mut(), clock.as_ref());
            })?;
        tokio::spawn(flush(intake.0.clone(), publisher));
        tokio::spawn(settle(intake.0.clone()));
        Ok(Self {
            intake,
            consumer: Some(thread),
            _broker: broker,
        })
    }

    pub fn intake(&self) -> &Intake {
        &self.intake
    }

    pub fn figures(&self) -> RouterFigures {
        self.intake.figures()
    }

    /// Waits until everything taken is stored, then ends the consumer.
    pub async fn stop(mut self) {
        std::future::poll_fn(|context| self.intake.poll_empty(context)).await;
        self.intake.0.stopped.store(true, Ordering::Release);
        self.intake.0.bell.notify_one();
        self.intake.0.done.notify_one();
        if let Some(consumer) = self.consumer.take() {
            let _ = tokio::task::spawn_blocking(move || consumer.join()).await;
        }
    }
}

impl Intake {
    /// Whether there is room for another message.
    pub fn has_room(&self) -> bool {
        self.0.bytes.load(Ordering::Acquire) < self.0.limit
    }

    /// Whether there is room for another message; if not, the caller is woken when there is.
    pub fn poll_room(&self, context: &Context<'_>) -> Poll<()> {
        self.poll_below(self.0.limit, context)
    }

    /// What is under way, and what rumqttd holds.
    pub fn figures(&self) -> RouterFigures {
        let counted = self.0.counted.lock();
        RouterFigures {
            bytes_under_way: self.0.bytes.load(Ordering::Acquire),
            links: counted.links,
            filters: counted.filters,
            topics: counted.topics.len(),
            batches: counted.batches,
        }
    }

    fn poll_empty(&self, context: &Context<'_>) -> Poll<()> {
        self.poll_below(1, context)
    }

    fn poll_below(&self, limit: usize, context: &Context<'_>) -> Poll<()> {
        if self.0.bytes.load(Ordering::Acquire) < limit {
            return Poll::Ready(());
        }
        self.0.waiting.lock().push(context.waker().clone());
        // The consumer may have made room between the look and the registration.
        if self.0.bytes.load(Ordering::Acquire) < limit {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Sends an envelope on its way. `packet` is acknowledged through `line` once it is stored.
    pub fn send(&self, lane: Lane, envelope: &[u8], line: &Line, packet: u16) {
        let mut pending = self.0.pending.lock();
        let Some(pending) = pending.get_mut(usize::from(lane.0)) else {
            debug_assert!(false, "{lane:?} was not announced at start");
            return;
        };
        let first = pending.batch.is_empty();
        Envelopes::push(&mut pending.batch, envelope);
        pending.receipts.senders.push((line.clone(), packet));
        pending.receipts.bytes += envelope.len();
        self.0.bytes.fetch_add(envelope.len(), Ordering::AcqRel);
        if first || pending.batch.len() >= BATCH_BYTES {
            self.0.bell.notify_one();
        }
    }
}

fn link(broker: &Broker, intake: &Intake, name: &str) -> std::io::Result<(LinkTx, LinkRx)> {
    intake.0.counted.lock().links += 1;
    broker.link(name).map_err(refused)
}

fn refused(error: rumqttd::local::LinkError) -> std::io::Error {
    std::io::Error::other(format!("the router refused a link: {error}"))
}

/// Hands pending batches to the router, once per turn of the event loop: every connection that was
/// ready has added to them by then.
async fn flush(shared: Arc<Shared>, (mut publisher, _receiver): (LinkTx, LinkRx)) {
    let mut number = 0;
    loop {
        shared.bell.notified().await;
        if shared.stopped.load(Ordering::Acquire) {
            return;
        }
        let batches: Vec<(usize, Pending)> = {
            let mut pending = shared.pending.lock();
            let lanes = pending
                .iter_mut()
                .enumerate()
                .filter(|(_, lane)| !lane.batch.is_empty());
            lanes
                .map(|(lane, pending)| (lane, std::mem::take(pending)))
                .collect()
        };
        for (lane, mut pending) in batches {
            number += 1;
            pending.receipts.number = number;
            let mut batch = pending.batch;
            batch.extend_from_slice(&number.to_le_bytes());
            shared.under_way.lock()[lane].push_back(pending.receipts);
            let topic = format!("lane/{lane:02}");
            shared.counted.lock().published(&topic);
            if publisher.publish(topic, batch).is_err() {
                tracing::error!("the router is gone; nothing more can be stored");
                return;
            }
        }
    }
}

/// The consumer's thread: takes batches in order until the service stops.
fn consume(shared: &Shared, mut receiver: LinkRx, consumer: &mut dyn Consumer, clock: &dyn Clock) {
    const IDLE: Duration = Duration::from_millis(250);
    let mut quiet_since = clock.now();
    loop {
        match receiver.recv_deadline(clock.now() + IDLE) {
            Ok(Some(Notification::Forward(forward))) => {
                take(shared, &forward.publish, consumer);
                quiet_since = clock.now();
            }
            Ok(Some(Notification::Unschedule)) => {
                if receiver.ready().is_err() {
                    return;
                }
            }
            Ok(_) => {}
            Err(_) if shared.stopped.load(Ordering::Acquire) => return,
            Err(rumqttd::local::LinkError::RecvTimeout(_)) => {
                if clock.now().duration_since(quiet_since) >= Duration::from_secs(1) {
                    consumer.idle();
                    quiet_since = clock.now();
                }
            }
            Err(error) => {
                tracing::error!(%error, "the router is gone; nothing more can be stored");
                return;
            }
        }
    }
}

/// Stores one batch and tells its senders.
fn take(shared: &Shared, message: &rumqttd::protocol::Publish, consumer: &mut dyn Consumer) {
    let Some((lane, batch, number)) = open(message) else {
        tracing::error!("the router delivered something that is not a batch");
        return;
    };
    // A batch that the router lost is found by the gap it leaves: its senders never hear of it.
    while let Some(receipts) = oldest(shared, lane) {
        if receipts.number == number {
            let outcome = consumer.consume(Lane(lane), Envelopes::new(batch));
            finish(shared, receipts, outcome);
            return;
        }
        let lost = format!("the router lost batch {} of lane {lane}", receipts.number);
        finish(shared, receipts, Err(lost));
    }
    tracing::error!(lane, number, "the router delivered a batch twice");
}

fn open(message: &rumqttd::protocol::Publish) -> Option<(u8, &[u8], u64)> {
    let topic = std::str::from_utf8(&message.topic).ok()?;
    let lane = topic.strip_prefix("lane/")?.parse().ok()?;
    let (batch, number) = message.payload.split_last_chunk::<8>()?;
    Some((lane, batch, u64::from_le_bytes(*number)))
}

fn oldest(shared: &Shared, lane: u8) -> Option<Receipts> {
    shared
        .under_way
        .lock()
        .get_mut(usize::from(lane))?
        .pop_front()
}

fn finish(shared: &Shared, receipts: Receipts, outcome: Result<(), String>) {
    shared.finished.lock().push((receipts, outcome));
    shared.done.notify_one();
}

/// Tells senders what became of their messages. On the event loop, where waking a connection is
/// cheap: the consumer's thread wakes only this task.
async fn settle(shared: Arc<Shared>) {
    loop {
        shared.done.notified().await;
        let finished = std::mem::take(&mut *shared.finished.lock());
        if finished.is_empty() && shared.stopped.load(Ordering::Acquire) {
            return;
        }
        let mut bytes = 0;
        for (receipts, outcome) in finished {
            bytes += receipts.bytes;
            match outcome {
                Ok(()) => acknowledge(&receipts.senders),
                Err(reason) => hang_up(&receipts.senders, &reason),
            }
        }
        shared.bytes.fetch_sub(bytes, Ordering::AcqRel);
        let waiting = std::mem::take(&mut *shared.waiting.lock());
        waiting.into_iter().for_each(Waker::wake);
    }
}

/// What is not stored is not acknowledged: the device hears it by a close.
fn hang_up(senders: &[(Line, u16)], reason: &str) {
    tracing::error!(
        messages = senders.len(),
        "messages were not stored: {reason}"
    );
    for (line, _) in senders {
        line.close(CloseReason::Refused(format!(
            "the message could not be stored: {reason}"
        )));
    }
}

/// Tells each connection once of all its packets that follow each other.
fn acknowledge(mut senders: &[(Line, u16)]) {
    while let Some((line, _)) = senders.first() {
        let run = senders
            .iter()
            .take_while(|(other, _)| other.same(line))
            .count();
        let (own, rest) = senders.split_at(run);
        if own.iter().any(|(_, packet)| *packet != 0) {
            line.acknowledge(
                own.iter()
                    .map(|(_, packet)| *packet)
                    .filter(|packet| *packet != 0),
            );
        }
        senders = rest;
    }
}
