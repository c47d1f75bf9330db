//! What the router's guard does when rumqttd does not deliver what it took, and when nobody stores.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use super::*;

fn shared(limit: usize) -> Arc<Shared> {
    Arc::new(Shared {
        pending: Mutex::new(vec![Pending::default(), Pending::default()]),
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
    })
}

/// Stores what it is given, and remembers it.
#[derive(Default)]
struct Remember(Vec<(u8, Vec<u8>)>);

impl Consumer for Remember {
    fn consume(&mut self, lane: Lane, envelopes: Envelopes<'_>) -> Result<(), String> {
        self.0
            .extend(envelopes.map(|envelope| (lane.0, envelope.to_vec())));
        Ok(())
    }
}

fn delivered(topic: String, batch: Vec<u8>) -> rumqttd::protocol::Publish {
    rumqttd::protocol::Publish::new(topic.into_bytes(), batch, false)
}

/// The packets acknowledged on a line and why it is to close.
fn heard(line: &Line) -> (Vec<u16>, Option<CloseReason>) {
    let context = Context::from_waker(Waker::noop());
    match line.poll_mail(false, &context) {
        Poll::Ready(mail) => (mail.acknowledged, mail.close),
        Poll::Pending => (Vec::new(), None),
    }
}

#[test]
fn a_batch_that_the_router_loses_closes_its_senders_unacknowledged() {
    let shared = shared(1000);
    let intake = Intake(shared.clone());
    let lines: Vec<Line> = (0..3).map(|_| Line::unconnected()).collect();
    let mut number = 0;
    let mut batches = Vec::new();
    // Three batches; the lost one is alone on its lane, so no later batch of that lane shows the gap.
    for (lane, line) in [0, 1, 0].into_iter().zip(&lines) {
        intake.send(Lane(lane), b"envelope", line, 7);
        batches.extend(take_pending(&shared, &mut number));
    }
    let mut consumer = Remember::default();
    let (topic, batch) = batches.remove(0);
    take(&shared, &delivered(topic, batch), &mut consumer);
    let (topic, batch) = batches.remove(1);
    take(&shared, &delivered(topic, batch), &mut consumer);
    shared.settle();
    assert_eq!(heard(&lines[0]), (vec![7], None));
    assert_eq!(heard(&lines[2]), (vec![7], None));
    let (acknowledged, close) = heard(&lines[1]);
    assert!(acknowledged.is_empty(), "what is lost is not acknowledged");
    assert_eq!(close, Some(not_stored("the router lost batch 2 of lane 1")));
    assert_eq!(consumer.0.len(), 2);
    assert_eq!(intake.figures().bytes_under_way, 0, "nothing is waited for");
}

#[test]
fn a_batch_delivered_twice_is_stored_once() {
    let shared = shared(1000);
    let intake = Intake(shared.clone());
    let line = Line::unconnected();
    intake.send(Lane(0), b"envelope", &line, 7);
    let (topic, batch) = take_pending(&shared, &mut 0).remove(0);
    let mut consumer = Remember::default();
    for _ in 0..2 {
        let message = delivered(topic.clone(), batch.clone());
        take(&shared, &message, &mut consumer);
    }
    shared.settle();
    assert_eq!(consumer.0.len(), 1);
    assert_eq!(heard(&line), (vec![7], None));
}

#[test]
fn a_task_that_asks_for_room_again_and_again_stands_in_line_once() {
    let shared = shared(1);
    let intake = Intake(shared.clone());
    let line = Line::unconnected();
    intake.send(Lane(0), b"envelope", &line, 7);
    let context = Context::from_waker(Waker::noop());
    let mut turn = Turn::default();
    for _ in 0..100 {
        assert!(intake.poll_room(&mut turn, &context).is_pending());
    }
    assert_eq!(shared.waiting.lock().wakers.len(), 1);
    shared.wake();
    assert!(intake.poll_room(&mut turn, &context).is_pending());
    assert_eq!(shared.waiting.lock().wakers.len(), 1, "a new round");
}

#[test]
fn an_envelope_without_bytes_is_waited_for_too() {
    let shared = shared(1000);
    let intake = Intake(shared);
    intake.send(Lane(0), b"", &Line::unconnected(), 7);
    let context = Context::from_waker(Waker::noop());
    let empty = intake.poll_empty(&mut Turn::default(), &context);
    assert!(empty.is_pending());
}

#[test]
fn a_lane_that_was_not_announced_closes_the_sender() {
    let shared = shared(1000);
    let line = Line::unconnected();
    Intake(shared).send(Lane(9), b"envelope", &line, 7);
    assert!(matches!(heard(&line).1, Some(CloseReason::Refused(_))));
}

/// Falls over at its first batch.
struct Panic;

impl Consumer for Panic {
    fn consume(&mut self, _: Lane, _: Envelopes<'_>) -> Result<(), String> {
        panic!("the disk is gone")
    }
}

#[tokio::test]
async fn a_consumer_that_panics_leaves_nobody_waiting() {
    let router = Router::start("test", 1, 1000, Box::new(Panic)).unwrap();
    let line = Line::unconnected();
    router.intake().send(Lane(0), b"envelope", &line, 7);
    let mail = std::future::poll_fn(|context| line.poll_mail(false, context)).await;
    assert!(mail.acknowledged.is_empty());
    assert_eq!(mail.close, Some(not_stored("the store has stopped")));
    let late = Line::unconnected();
    router.intake().send(Lane(0), b"envelope", &late, 8);
    assert!(heard(&late).1.is_some(), "and those who come later hear it");
    router.stop().await;
}
