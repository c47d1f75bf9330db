#![allow(clippy::unwrap_used)]
use std::time::UNIX_EPOCH;

use super::*;
use crate::notification::Numbers;

const DAY: u64 = 24 * 60 * 60;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// A queue with so many events that came at 0.
fn queue(events: usize, batch: Batch, retry: Retry) -> (Queue, Vec<Number>) {
    let numbers = Numbers::begin(at(0), None);
    let mut queue = Queue::new(batch, retry);
    let numbers: Vec<_> = (0..events).map(|_| numbers.next()).collect();
    for number in &numbers {
        let waiting = Waiting {
            published: at(0),
            due: at(0),
            attempts: 0,
            last: None,
            bytes: 100,
        };
        queue.add(*number, waiting);
    }
    (queue, numbers)
}

#[test]
fn an_event_is_tried_as_azures_table_says_for_a_day() {
    let (mut queue, numbers) = queue(1, Batch::default(), Retry::default());
    let one = numbers[0];
    let mut tried = Vec::new();
    let mut now = at(0);
    loop {
        match queue.next(now) {
            Next::Deliver(_) => {
                tried.push(now.duration_since(UNIX_EPOCH).unwrap().as_secs());
                assert_eq!(queue.failed(one, Outcome::Status(503), now), None);
            }
            Next::Wait(due) => now = due.unwrap(),
            Next::GiveUp(numbers, reason) => {
                assert_eq!((numbers, reason), (vec![one], Reason::TimeToLiveExceeded));
                break;
            }
        }
    }
    let pauses: Vec<_> = tried.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(
        pauses,
        [10, 30, 60, 300, 600, 1800, 3600, 10800, 21600, 43200]
    );
    assert!(now >= at(DAY));
    assert_eq!(queue.get(one).unwrap().attempts, 11);
}

#[test]
fn an_event_is_given_up_after_the_last_try_or_an_answer_that_says_never() {
    let retry = Retry {
        attempts: 2,
        ..Retry::default()
    };
    for (first, second, reason) in [
        (
            Outcome::Status(500),
            Outcome::TimedOut,
            Reason::MaxDeliveryAttemptsExceeded,
        ),
        (
            Outcome::Unreachable,
            Outcome::Status(404),
            Reason::MaxDeliveryAttemptsExceeded,
        ),
        (
            Outcome::Status(429),
            Outcome::Status(400),
            Reason::Undeliverable(400),
        ),
    ] {
        let (mut queue, numbers) = queue(1, Batch::default(), retry);
        assert_eq!(queue.failed(numbers[0], first, at(0)), None);
        assert_eq!(queue.next(at(9)), Next::Wait(Some(at(10))));
        assert_eq!(queue.failed(numbers[0], second, at(10)), Some(reason));
    }
    for status in [400, 401, 403, 413] {
        let (mut queue, numbers) = queue(1, Batch::default(), Retry::default());
        let given_up = queue.failed(numbers[0], Outcome::Status(status), at(0));
        assert_eq!(given_up, Some(Reason::Undeliverable(status)));
    }
}

#[test]
fn events_that_wait_share_a_request_up_to_both_limits() {
    let few = Batch {
        events: 3,
        bytes: 1000,
    };
    let (mut queue, numbers) = self::queue(5, few, Retry::default());
    assert_eq!(queue.next(at(0)), Next::Deliver(numbers[..3].to_vec()));
    for number in &numbers[..3] {
        queue.remove(*number);
    }
    assert_eq!(queue.next(at(0)), Next::Deliver(numbers[3..].to_vec()));
    let small = Batch {
        events: 3,
        bytes: 250,
    };
    let (queue, numbers) = self::queue(5, small, Retry::default());
    assert_eq!(queue.next(at(0)), Next::Deliver(numbers[..2].to_vec()));
    let tiny = Batch {
        events: 3,
        bytes: 1,
    };
    let (queue, numbers) = self::queue(5, tiny, Retry::default());
    assert_eq!(queue.next(at(0)), Next::Deliver(numbers[..1].to_vec()));
}

#[test]
fn beyond_the_bound_the_oldest_is_given_up() {
    let (mut queue, numbers) = queue(Queue::MOST + 1, Batch::default(), Retry::default());
    assert_eq!(
        queue.next(at(0)),
        Next::GiveUp(vec![numbers[0]], Reason::QueueFull)
    );
    queue.remove(numbers[0]);
    assert_eq!(queue.next(at(0)), Next::Deliver(vec![numbers[1]]));
}

#[test]
fn many_are_given_up_together() {
    let many = Queue::TOGETHER + 10;
    let (mut queue, numbers) = queue(Queue::MOST + many, Batch::default(), Retry::default());
    for together in [&numbers[..Queue::TOGETHER], &numbers[Queue::TOGETHER..many]] {
        let given_up = Next::GiveUp(together.to_vec(), Reason::QueueFull);
        assert_eq!(queue.next(at(0)), given_up);
        for number in together {
            queue.remove(*number);
        }
    }
    let next = Next::Deliver(vec![numbers[many]]);
    assert_eq!(queue.next(at(0)), next);
    let old = numbers[many..][..Queue::TOGETHER].to_vec();
    let given_up = Next::GiveUp(old, Reason::TimeToLiveExceeded);
    assert_eq!(queue.next(at(DAY)), given_up);
}

#[test]
fn what_was_taken_says_so() {
    for status in 200..=204 {
        assert!(Outcome::Status(status).is_success());
    }
    for outcome in [
        Outcome::Status(205),
        Outcome::Status(302),
        Outcome::TimedOut,
    ] {
        assert!(!outcome.is_success());
    }
}
