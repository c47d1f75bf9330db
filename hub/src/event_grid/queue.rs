//! The events of one subscription that wait: which is due, when it is tried again, when it is given up.
//!
//! Pure; holds numbers and times, not the events. May not enter: requests, the store.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::subscription::{Batch, Retry};
use crate::notification::Number;

/// How often an event was tried, and how that ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    pub published: SystemTime,
    pub due: SystemTime,
    pub attempts: u32,
    pub last: Option<Attempt>,
    /// Of the event as it is sent.
    pub bytes: usize,
}

/// One try.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    pub at: SystemTime,
    pub outcome: Outcome,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    Status(u16),
    TimedOut,
    Unreachable,
}

/// Why an event is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    MaxDeliveryAttemptsExceeded,
    TimeToLiveExceeded,
    /// The webhook answered that it never will take it.
    Undeliverable(u16),
    /// More events waited than are kept; this was the oldest.
    QueueFull,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    Deliver(Vec<Number>),
    GiveUp(Vec<Number>, Reason),
    Wait(Option<SystemTime>),
}

/// The events that wait.
#[derive(Debug)]
pub struct Queue {
    batch: Batch,
    retry: Retry,
    waiting: BTreeMap<Number, Waiting>,
    due: BTreeSet<(SystemTime, Number)>,
}

impl Queue {
    /// Events that are kept of one subscription.
    pub const MOST: usize = 10_000;
    /// Events that are given up together, so that many of them cost few writes.
    pub const TOGETHER: usize = 256;

    pub fn new(batch: Batch, retry: Retry) -> Self {
        Self {
            batch,
            retry,
            waiting: BTreeMap::new(),
            due: BTreeSet::new(),
        }
    }

    pub fn count(&self) -> usize {
        self.waiting.len()
    }

    pub fn oldest(&self) -> Option<Number> {
        self.waiting.first_key_value().map(|(number, _)| *number)
    }

    pub fn get(&self, number: Number) -> Option<&Waiting> {
        self.waiting.get(&number)
    }

    pub fn add(&mut self, number: Number, waiting: Waiting) {
        self.due.insert((waiting.due, number));
        self.waiting.insert(number, waiting);
    }

    pub fn remove(&mut self, number: Number) -> Option<Waiting> {
        let waiting = self.waiting.remove(&number)?;
        self.due.remove(&(waiting.due, number));
        Some(waiting)
    }

    /// What stays in the queue until it is removed or has failed: ask once for each thing done.
    pub fn next(&self, now: SystemTime) -> Next {
        let beyond = self.count().saturating_sub(Self::MOST);
        if beyond > 0 {
            let oldest = self.waiting.keys().take(beyond.min(Self::TOGETHER));
            return Next::GiveUp(oldest.copied().collect(), Reason::QueueFull);
        }
        let (mut numbers, mut expired, mut bytes) = (Vec::new(), Vec::new(), 0);
        for (due, number) in &self.due {
            let Some(waiting) = self.waiting.get(number).filter(|_| *due <= now) else {
                break;
            };
            if now >= waiting.published + self.retry.time_to_live {
                if !numbers.is_empty() || expired.len() >= Self::TOGETHER {
                    break;
                }
                expired.push(*number);
                continue;
            }
            if !expired.is_empty() {
                break;
            }
            bytes += waiting.bytes;
            let full = numbers.len() >= self.batch.events || bytes > self.batch.bytes;
            if full && !numbers.is_empty() {
                break;
            }
            numbers.push(*number);
        }
        if !expired.is_empty() {
            return Next::GiveUp(expired, Reason::TimeToLiveExceeded);
        }
        match numbers.is_empty() {
            false => Next::Deliver(numbers),
            true => Next::Wait(self.due.first().map(|(due, _)| *due)),
        }
    }

    /// A try failed. A reason where it was the last; the event then waits to be removed.
    pub fn failed(&mut self, number: Number, outcome: Outcome, now: SystemTime) -> Option<Reason> {
        let mut waiting = self.remove(number)?;
        waiting.attempts += 1;
        waiting.last = Some(Attempt { at: now, outcome });
        waiting.due = now + pause(waiting.attempts);
        let attempts = waiting.attempts;
        self.add(number, waiting);
        match outcome {
            Outcome::Status(status @ (400 | 401 | 403 | 413)) => {
                Some(Reason::Undeliverable(status))
            }
            _ if attempts >= self.retry.attempts => Some(Reason::MaxDeliveryAttemptsExceeded),
            Outcome::Status(_) | Outcome::TimedOut | Outcome::Unreachable => None,
        }
    }
}

/// How long after so many tries the next one is made: Azure's table, without its touch of chance.
fn pause(attempts: u32) -> Duration {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    Duration::from_secs(match attempts {
        0 | 1 => 10,
        2 => 30,
        3 => MINUTE,
        4 => 5 * MINUTE,
        5 => 10 * MINUTE,
        6 => 30 * MINUTE,
        7 => HOUR,
        8 => 3 * HOUR,
        9 => 6 * HOUR,
        _ => 12 * HOUR,
    })
}

impl Outcome {
    /// Whether the events were taken.
    pub fn is_success(self) -> bool {
        matches!(self, Self::Status(200..=204))
    }

    pub fn status(self) -> Option<u16> {
        match self {
            Self::Status(status) => Some(status),
            Self::TimedOut | Self::Unreachable => None,
        }
    }

    /// Azure's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Status(400) => "BadRequest",
            Self::Status(401) => "Unauthorized",
            Self::Status(403) => "Forbidden",
            Self::Status(404) => "NotFound",
            Self::Status(408) | Self::TimedOut => "TimedOut",
            Self::Status(413) => "PayloadTooLarge",
            Self::Status(429 | 503) => "Busy",
            Self::Status(_) => "GenericError",
            Self::Unreachable => "SocketError",
        }
    }
}

impl Reason {
    /// As in `deadLetterReason`.
    pub fn name(self) -> &'static str {
        match self {
            Self::MaxDeliveryAttemptsExceeded => "MaxDeliveryAttemptsExceeded",
            Self::TimeToLiveExceeded => "TimeToLiveExceeded",
            Self::Undeliverable(401) => "UndeliverableDueToHttpUnauthorized",
            Self::Undeliverable(403) => "UndeliverableDueToHttpForbidden",
            Self::Undeliverable(413) => "UndeliverableDueToHttpRequestEntityTooLarge",
            Self::Undeliverable(_) => "UndeliverableDueToHttpBadRequest",
            Self::QueueFull => "QueueFull",
        }
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
