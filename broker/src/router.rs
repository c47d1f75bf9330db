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
//! Intake::send ─► pending batch per lane ─► (a round of all lanes at a time) ─► rumqttd ─► Consumer
//!      ▲                                                                                      │
//!      └────────── room, acknowledgements ◄───────────── receipts, in the same order ◄────────┘
//! ```

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rumqttd::local::{LinkRx, LinkTx};
use rumqttd::{Broker, Config, Notification, RouterConfig};
use tokio::sync::Notify;

use azimuth_clock::{Clock, SystemClock};

use crate::backend::{Consumer, Envelopes, Lane};
use crate::line::{CloseReason, Line};

/// Filters the router knows, whatever the number of devices. One filter is one log: batches come out
/// in the order they went in, whatever their lane.
const FILTER: &str = "lane/+";

/// The last message of a router that stops.
const STOP: &str = "lane/stop";

/// rumqttd forgets a whole segment at a time, on its only thread, so segments are small; their number
/// holds the bytes under way and more.
const SEGMENT_BYTES: usize = 256 << 10;

/// What an envelope takes on its way beside its own bytes.
const OVERHEAD: usize = 4;

/// The way from connections to the consumer.
#[derive(Debug, Clone)]
pub struct Intake(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    pending: Mutex<Vec<Pending>>,
    /// Rung when there is something to flush.
    bell: Notify,
    /// Batches under way, oldest first.
    under_way: Mutex<VecDeque<Receipts>>,
    /// Batches that are done with, whose senders have not heard.
    finished: Mutex<Vec<(Receipts, Result<(), String>)>>,
    /// Rung when there is something finished.
    done: Notify,
    bytes: AtomicUsize,
    limit: usize,
    waiting: Mutex<Waiting>,
    stopped: AtomicBool,
    /// The consumer or rumqttd is gone: nothing can be stored any more.
    gone: AtomicBool,
    counted: Mutex<Counted>,
}

/// Connections that wait for room. All are woken at once; each round has a number.
#[derive(Debug, Default)]
struct Waiting {
    round: u64,
    wakers: Vec<Waker>,
}

/// A task's wait for room: it stands in line once, however often it asks.
#[derive(Debug, Default)]
pub struct Turn(Option<u64>);

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
    lane: u8,
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
        consumer: Box<dyn Consumer>,
    ) -> std::io::Result<Self> {
        let broker = Broker::new(Config {
            router: RouterConfig {
                max_connections: 8,
                max_outgoing_packet_count: 200,
                max_segment_size: SEGMENT_BYTES,
                max_segment_count: limit / SEGMENT_BYTES + 4,
                ..RouterConfig::default()
            },
            ..Config::default()
        });
        let intake = Intake(Arc::new(Shared {
            pending: Mutex::new((0..lanes).map(|_| Pending::default()).collect()),
            bell: Notify::new(),
            under_way: Mutex::default(),
            finished: Mutex::default(),
            done: Notify::new(),
            bytes: AtomicUsize::new(0),
            limit,
            waiting: Mutex::default(),
            stopped: AtomicBool::new(false),
            gone: AtomicBool::new(false),
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
                // Dropped last: whatever ends this thread, nobody waits for it in vain.
                let _end = End(&shared);
                let mut consumer = consumer;
                consume(&shared, receiver, consumer.as_mut());
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

    /// Waits until everything taken is stored, or cannot be any more, then ends the consumer.
    pub async fn stop(mut self) {
        let mut turn = Turn::default();
        std::future::poll_fn(|context| self.intake.poll_empty(&mut turn, context)).await;
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
    pub fn poll_room(&self, turn: &mut Turn, context: &Context<'_>) -> Poll<()> {
        self.poll_below(self.0.limit, turn, context)
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

    fn poll_empty(&self, turn: &mut Turn, context: &Context<'_>) -> Poll<()> {
        self.poll_below(1, turn, context)
    }

    fn poll_below(&self, limit: usize, turn: &mut Turn, context: &Context<'_>) -> Poll<()> {
        let below =
            || self.0.bytes.load(Ordering::Acquire) < limit || self.0.gone.load(Ordering::Acquire);
        if below() {
            return Poll::Ready(());
        }
        let mut waiting = self.0.waiting.lock();
        if turn.0 != Some(waiting.round) {
            turn.0 = Some(waiting.round);
            waiting.wakers.push(context.waker().clone());
        }
        drop(waiting);
        // The consumer may have made room between the look and the registration.
        if below() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Sends an envelope on its way. `packet` is acknowledged through `line` once it is stored; where
    /// it never can be, the connection is closed.
    pub fn send(&self, lane: Lane, envelope: &[u8], line: &Line, packet: u16) {
        let mut lanes = self.0.pending.lock();
        // Looked at under the lock, as `Shared::give_up` takes what is pending under it.
        if self.0.gone.load(Ordering::Acquire) {
            return line.close(not_stored("the store has stopped"));
        }
        let Some(pending) = lanes.get_mut(usize::from(lane.0)) else {
            return line.close(not_stored(&format!("{lane:?} was not announced at start")));
        };
        let bytes = envelope.len() + OVERHEAD;
        let first = pending.batch.is_empty();
        Envelopes::push(&mut pending.batch, envelope);
        pending.receipts.senders.push((line.clone(), packet));
        pending.receipts.bytes += bytes;
        self.0.bytes.fetch_add(bytes, Ordering::AcqRel);
        if first {
            self.0.bell.notify_one();
        }
    }
}

impl Shared {
    /// Nothing will be stored any more: all who wait for it are told.
    fn give_up(&self) {
        let mut lost: Vec<Receipts> = Vec::new();
        {
            let mut pending = self.pending.lock();
            self.gone.store(true, Ordering::Release);
            lost.extend(self.under_way.lock().drain(..));
            lost.extend(pending.iter_mut().map(|lane| std::mem::take(lane).receipts));
            lost.retain(|receipts| !receipts.senders.is_empty());
        }
        for receipts in lost {
            self.finish(receipts, Err("the store has stopped".into()));
        }
        self.wake();
    }

    /// A batch is stored, or never will be. Its senders hear of it with those of the whole round.
    fn finish(&self, receipts: Receipts, outcome: Result<(), String>) {
        self.finished.lock().push((receipts, outcome));
        if self.under_way.lock().is_empty() {
            self.done.notify_one();
        }
    }

    /// Tells the senders of finished batches.
    fn settle(&self) {
        let finished = std::mem::take(&mut *self.finished.lock());
        let mut bytes = 0;
        for (receipts, outcome) in finished {
            bytes += receipts.bytes;
            match outcome {
                Ok(()) => acknowledge(&receipts.senders),
                Err(reason) => hang_up(&receipts.senders, &reason),
            }
        }
        let before = self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        if before - bytes < self.limit {
            self.wake();
        }
        // What came in the meantime is the next round.
        self.bell.notify_one();
    }

    fn wake(&self) {
        let mut waiting = self.waiting.lock();
        waiting.round += 1;
        let wakers = std::mem::take(&mut waiting.wakers);
        drop(waiting);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// The end of the consumer's thread, be it a panic.
struct End<'a>(&'a Shared);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.give_up();
    }
}

fn link(broker: &Broker, intake: &Intake, name: &str) -> std::io::Result<(LinkTx, LinkRx)> {
    intake.0.counted.lock().links += 1;
    broker.link(name).map_err(refused)
}

fn refused(error: rumqttd::local::LinkError) -> std::io::Error {
    std::io::Error::other(format!("the router refused a link: {error}"))
}

/// Hands pending batches to the router, a round of all lanes at a time. The next round leaves when
/// this one is stored: what comes in the meantime shares its way, so that a message costs less the
/// more there are, and a lone one does not wait.
async fn flush(shared: Arc<Shared>, (mut publisher, _receiver): (LinkTx, LinkRx)) {
    let mut number = 0;
    loop {
        shared.bell.notified().await;
        if shared.stopped.load(Ordering::Acquire) {
            let _ = publisher.publish(STOP, Vec::new());
            return;
        }
        if !shared.under_way.lock().is_empty() {
            // Rung again when the round is over.
            continue;
        }
        let mut round = take_pending(&shared, &mut number);
        let Some((topic, batch)) = round.pop() else {
            continue;
        };
        {
            let mut counted = shared.counted.lock();
            let topics = round.iter().map(|(topic, _)| topic).chain([&topic]);
            topics.for_each(|topic| counted.published(topic));
        }
        // One event for the whole round: what lies in the buffer goes with the last.
        publisher
            .buffer()
            .extend(round.into_iter().map(|(topic, batch)| {
                let (topic, batch) = (Bytes::from(topic), Bytes::from(batch));
                let publish = rumqttd::protocol::Publish::new(topic, batch, false);
                rumqttd::protocol::Packet::Publish(publish, None)
            }));
        if publisher.publish(topic, batch).is_err() {
            tracing::error!("the router is gone; nothing more can be stored");
            return shared.give_up();
        }
    }
}

/// Takes what is pending and writes it down as under way, as one: who gives up finds it in one place
/// or the other.
fn take_pending(shared: &Shared, number: &mut u64) -> Vec<(String, Vec<u8>)> {
    let mut pending = shared.pending.lock();
    let mut under_way = shared.under_way.lock();
    let lanes = (0u8..).zip(pending.iter_mut());
    lanes
        .filter(|(_, pending)| !pending.batch.is_empty())
        .map(|(lane, pending)| {
            let Pending {
                mut batch,
                mut receipts,
            } = std::mem::take(pending);
            *number += 1;
            batch.extend_from_slice(&number.to_le_bytes());
            (receipts.number, receipts.lane) = (*number, lane);
            under_way.push_back(receipts);
            (format!("lane/{lane:02}"), batch)
        })
        .collect()
}

/// The consumer's thread: takes batches in order until the service stops.
fn consume(shared: &Shared, mut receiver: LinkRx, consumer: &mut dyn Consumer) {
    const TICK: Duration = Duration::from_millis(250);
    const QUIET_TICKS: u32 = 4;
    // This thread waits in the machine's time, whatever time the service lives in.
    let machine = SystemClock;
    let mut quiet = 0;
    loop {
        match receiver.recv_deadline(machine.now() + TICK) {
            Ok(Some(Notification::Forward(forward))) => {
                quiet = 0;
                if *forward.publish.topic == *STOP.as_bytes() {
                    return;
                }
                take(shared, &forward.publish, consumer);
            }
            Ok(Some(Notification::Unschedule)) => {
                if receiver.ready().is_err() {
                    return;
                }
            }
            Ok(_) => {}
            Err(_) if shared.stopped.load(Ordering::Acquire) => return,
            Err(rumqttd::local::LinkError::RecvTimeout(_)) => {
                quiet += 1;
                if quiet == QUIET_TICKS {
                    quiet = 0;
                    consumer.idle();
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
    // A batch that the router lost is found by the gap it leaves: its senders are told.
    while let Some((due, of)) = oldest(shared).filter(|(due, _)| *due <= number) {
        let outcome = if due == number {
            consumer.consume(Lane(lane), Envelopes::new(batch))
        } else {
            Err(format!("the router lost batch {due} of lane {of}"))
        };
        // Under way until here: a consumer that panics leaves nobody waiting.
        let receipts = shared.under_way.lock().pop_front();
        if let Some(receipts) = receipts {
            shared.finish(receipts, outcome);
        }
        if due == number {
            return;
        }
    }
    tracing::error!(lane, number, "the router delivered a batch twice");
}

fn open(message: &rumqttd::protocol::Publish) -> Option<(u8, &[u8], u64)> {
    let topic = std::str::from_utf8(&message.topic).ok()?;
    let lane = topic.strip_prefix("lane/")?.parse().ok()?;
    let (batch, number) = message.payload.split_last_chunk::<8>()?;
    Some((lane, batch, u64::from_le_bytes(*number)))
}

/// Number and lane of the oldest batch under way.
fn oldest(shared: &Shared) -> Option<(u64, u8)> {
    let under_way = shared.under_way.lock();
    under_way
        .front()
        .map(|receipts| (receipts.number, receipts.lane))
}

/// Tells senders what became of their messages. On the event loop, where waking a connection is
/// cheap: the consumer's thread wakes only this task.
async fn settle(shared: Arc<Shared>) {
    loop {
        shared.done.notified().await;
        shared.settle();
        if shared.stopped.load(Ordering::Acquire) {
            return;
        }
    }
}

/// What is not stored is not acknowledged: the device hears it by a close.
fn hang_up(senders: &[(Line, u16)], reason: &str) {
    tracing::error!(
        messages = senders.len(),
        "messages were not stored: {reason}"
    );
    for (line, _) in senders {
        line.close(not_stored(reason));
    }
}

fn not_stored(reason: &str) -> CloseReason {
    CloseReason::Refused(format!("the message could not be stored: {reason}"))
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

#[cfg(test)]
#[path = "router_tests.rs"]
mod tests;
