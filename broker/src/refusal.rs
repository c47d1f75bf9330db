//! Refusals: for each, one record that says who, what, by which rule, and the arithmetic behind it.
//!
//! What may not enter: keys, tokens, signatures. `azimuth why` shows these records.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::SystemTime;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Why something was refused, before it is known to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The rule, as a stable word: `sas-expired`, `unknown-device`, `oversize`, …
    pub kind: &'static str,
    /// One plain sentence that says why, and what to do next where that is known.
    pub sentence: String,
    /// The arithmetic: names and values, never a key or a token.
    pub facts: Vec<(&'static str, String)>,
    /// What the client is told.
    pub answer: Answer,
}

/// What a refused client sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// CONNACK with this code, then close [MQTT-3.1.4-5].
    Connack(u8),
    /// A bare close: MQTT 3.1.1 has no other word.
    Close,
    /// SUBACK 0x80 for one filter.
    SubackFailure,
    /// A TLS alert.
    Alert(String),
    /// An HTTP status with Azure's error name.
    Http(u16, String),
    /// A response PUBLISH with this status.
    Response(u16),
    /// Nobody is told: there is no client.
    Nobody,
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connack(code) => write!(f, "CONNACK {code}"),
            Self::Close => f.write_str("connection closed"),
            Self::SubackFailure => f.write_str("SUBACK 0x80"),
            Self::Alert(alert) => write!(f, "TLS alert {alert}"),
            Self::Http(status, name) => write!(f, "HTTP {status} {name}"),
            Self::Response(status) => write!(f, "response {status}"),
            Self::Nobody => f.write_str("nobody is told"),
        }
    }
}

impl Refusal {
    pub fn new(kind: &'static str, answer: Answer, sentence: impl Into<String>) -> Self {
        Self {
            kind,
            sentence: sentence.into(),
            facts: Vec::new(),
            answer,
        }
    }

    /// Adds a line of the arithmetic.
    pub fn fact(mut self, name: &'static str, value: impl ToString) -> Self {
        self.facts.push((name, value.to_string()));
        self
    }
}

/// What was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Handshake,
    Connect,
    Publish,
    Subscribe,
    Registration,
    Request,
    /// A connection that was allowed and is now ended by a rule.
    Connection,
    /// Of an event, by the webhook it was for.
    Delivery,
}

impl Operation {
    pub fn name(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Connect => "connect",
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
            Self::Registration => "registration",
            Self::Request => "request",
            Self::Connection => "connection",
            Self::Delivery => "delivery",
        }
    }
}

/// One refusal that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Counts from 1 and has no gaps.
    pub number: u64,
    pub at: SystemTime,
    pub operation: Operation,
    /// Client id, device id, registration id or policy, as far as known.
    pub who: Option<String>,
    pub remote: Option<SocketAddr>,
    pub refusal: Refusal,
}

/// The newest refusals of one service, bounded in number.
#[derive(Debug)]
pub struct Ledger {
    records: Mutex<(u64, VecDeque<Record>)>,
    news: Notify,
    service: String,
}

impl Ledger {
    /// Records that are kept.
    const CAPACITY: usize = 1000;

    /// A ledger for the service of this name.
    pub fn new(service: &str) -> Self {
        Self {
            records: Mutex::default(),
            news: Notify::new(),
            service: service.into(),
        }
    }

    /// Writes a refusal down and says it in the log.
    pub fn record(
        &self,
        at: SystemTime,
        operation: Operation,
        who: Option<&str>,
        remote: Option<SocketAddr>,
        refusal: Refusal,
    ) {
        tracing::info!(
            service = %self.service,
            operation = operation.name(),
            who,
            remote = remote.map(tracing::field::display),
            kind = refusal.kind,
            answer = %refusal.answer,
            "refused: {}", refusal.sentence
        );
        let mut records = self.records.lock();
        records.0 += 1;
        let number = records.0;
        if records.1.len() == Self::CAPACITY {
            records.1.pop_front();
        }
        records.1.push_back(Record {
            number,
            at,
            operation,
            who: who.map(Into::into),
            remote,
            refusal,
        });
        drop(records);
        self.news.notify_waiters();
    }

    /// Records after `number`, oldest first.
    pub fn since(&self, number: u64) -> Vec<Record> {
        self.records
            .lock()
            .1
            .iter()
            .filter(|record| record.number > number)
            .cloned()
            .collect()
    }

    /// The newest `most` refusals of one client, device or registration, oldest first. Requests of a back end
    /// are not among them: those bear the name of a policy.
    pub fn of(&self, who: &str, most: usize) -> Vec<Record> {
        let records = self.records.lock();
        let is_its = |record: &&Record| {
            let name = record.who.as_deref();
            record.operation != Operation::Request
                && name.is_some_and(|name| name.eq_ignore_ascii_case(who))
        };
        let mut newest: Vec<_> = records.1.iter().rev().filter(is_its).take(most).collect();
        newest.reverse();
        newest.into_iter().cloned().collect()
    }

    /// Waits until there is a record after `number`.
    pub async fn wait(&self, number: u64) {
        loop {
            let news = self.news.notified();
            if self.records.lock().0 > number {
                return;
            }
            news.await;
        }
    }
}
