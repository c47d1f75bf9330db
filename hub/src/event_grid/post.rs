//! The shell of one subscription: keeps its events in the store, asks its webhook, lays down dead letters.
//!
//! One request at a time, so that events come in the order they happened unless one is tried again. May not enter: rules
//! of retries and handshakes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use azimuth_broker::{Answer, Ledger, Operation, Refusal};
use azimuth_clock::Clock;
use azimuth_storage::{Change, Expect, Key, Store};
use azimuth_webhook::Webhooks;
use azimuth_wire::time::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Notify;

use super::delivery;
use super::event::{GridEvent, Obituary};
use super::handshake::{self, Handshake, Phase, Step};
use super::queue::{Attempt, Next, Outcome, Queue, Reason, Waiting};
use super::subscription::Subscription;
use crate::error::Error;
use crate::notification::{Happening, Number};

/// What all subscriptions of a hub share.
#[derive(Clone)]
pub struct PostOffice {
    pub topic: String,
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub ledger: Arc<Ledger>,
    pub webhooks: Arc<Webhooks>,
}

/// One subscription at work.
pub struct Post {
    subscription: Subscription,
    office: PostOffice,
    state: Mutex<State>,
    /// Rung when there is something new.
    bell: Notify,
}

struct State {
    handshake: Handshake,
    queue: Queue,
    delivered: u64,
    dead_lettered: u64,
    dropped: u64,
    last: Option<(Attempt, String)>,
}

/// How a subscription does, for people and programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    pub name: String,
    /// Without its query.
    pub url: String,
    pub schema: &'static str,
    pub event_types: Vec<&'static str>,
    pub state: &'static str,
    /// Why it is not active, or what the webhook said last where that was no yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    pub queued: usize,
    pub delivered: u64,
    pub dead_lettered: u64,
    pub dropped: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt: Option<Timestamp>,
}

/// An event that waits, as it is stored.
#[derive(Serialize, Deserialize)]
struct Kept {
    event: GridEvent,
    waiting: Waiting,
}

/// That a webhook said yes, as it is stored.
#[derive(PartialEq, Serialize, Deserialize)]
struct Validated {
    url: String,
    schema: String,
}

impl Post {
    /// Reads what waits. A webhook that said yes before is not asked again.
    pub fn open(subscription: Subscription, office: PostOffice) -> Result<Self, Error> {
        let now = office.clock.utc();
        let stored = office.store.get(&validated_key(&subscription.name))?;
        let stored: Option<Validated> = stored
            .map(|document| serde_json::from_slice(&document.body))
            .transpose()?;
        let handshake = match stored == Some(validated(&subscription)) {
            true => Handshake::done(now),
            false => Handshake::begin(uuid::Uuid::new_v4().to_string(), now),
        };
        let mut queue = Queue::new(subscription.batch, subscription.retry);
        let mut after = None;
        loop {
            let prefix = prefix(&subscription.name);
            let page = office.store.scan(ROOM, &prefix, after.as_ref(), 256)?;
            for (key, document) in &page.documents {
                let number = key.name().strip_prefix(&prefix).map(str::parse);
                if let Some(Ok(number)) = number {
                    let kept: Kept = serde_json::from_slice(&document.body)?;
                    queue.add(number, kept.waiting);
                }
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        Ok(Self {
            subscription,
            office,
            state: Mutex::new(State {
                handshake,
                queue,
                delivered: 0,
                dead_lettered: 0,
                dropped: 0,
                last: None,
            }),
            bell: Notify::new(),
        })
    }

    /// Whether it takes such an event.
    pub fn wants(&self, happening: Happening, subject: &str) -> bool {
        self.subscription.wants(happening, subject)
            && *self.state.lock().handshake.phase() != Phase::Failed
    }

    /// The change that keeps an event, and what is told to [`Post::added`] once it is committed.
    pub fn keep(&self, number: Number, event: GridEvent) -> Result<(Change, Waiting), Error> {
        let now = self.office.clock.utc();
        let shown = event.json(self.subscription.schema, &self.office.topic);
        let waiting = Waiting {
            published: now,
            due: now,
            attempts: 0,
            last: None,
            bytes: shown.to_string().len(),
        };
        let kept = Kept {
            event,
            waiting: waiting.clone(),
        };
        let body = serde_json::to_vec(&kept)?;
        let change = Change::put(self.key(number), Expect::Absent, body);
        Ok((change, waiting))
    }

    pub fn added(&self, number: Number, waiting: Waiting) {
        self.state.lock().queue.add(number, waiting);
        self.bell.notify_one();
    }

    /// Somebody opened the validation URL; whether that was right.
    pub fn opened(&self, code: &str) -> bool {
        let now = self.office.clock.utc();
        let right = self.state.lock().handshake.opened(code, now);
        if right {
            self.bell.notify_one();
        }
        right
    }

    pub fn name(&self) -> &str {
        &self.subscription.name
    }

    pub fn status(&self) -> Status {
        let state = self.state.lock();
        let phase = state.handshake.phase();
        let why = match phase {
            Phase::Valid => state.last.as_ref().map(|(_, why)| why.clone()),
            Phase::Asking { .. } | Phase::Manual | Phase::Failed => {
                state.handshake.why().map(ToOwned::to_owned)
            }
        };
        let next = match state.queue.next(self.office.clock.utc()) {
            Next::Wait(due) => due.filter(|_| *phase == Phase::Valid),
            Next::Deliver(_) | Next::GiveUp(..) => None,
        };
        let types = self.subscription.types.iter();
        Status {
            name: self.subscription.name.clone(),
            url: azimuth_webhook::masked(&self.subscription.url),
            schema: self.subscription.schema.name(),
            event_types: types.map(|kind| kind.name()).collect(),
            state: phase.name(),
            why,
            queued: state.queue.count(),
            delivered: state.delivered,
            dead_lettered: state.dead_lettered,
            dropped: state.dropped,
            next_attempt: next.map(Into::into),
        }
    }

    /// Shakes hands and delivers, until it is dropped. `address` is `https://` and where this hub is found.
    pub async fn work(&self, address: &str) {
        let (mut kept_valid, mut abandoned) = (false, false);
        loop {
            let now = self.office.clock.utc();
            let (step, next) = {
                let mut state = self.state.lock();
                (state.handshake.step(now), state.queue.next(now))
            };
            if step == Step::Deliver && !kept_valid {
                kept_valid = true;
                self.keep_validated().await;
            }
            let until = match (step, next) {
                (Step::Ask, _) => {
                    self.shake_hands(address).await;
                    continue;
                }
                (Step::Rest, _) => {
                    if !std::mem::replace(&mut abandoned, true) {
                        self.abandon().await;
                    }
                    None
                }
                (_, Next::GiveUp(numbers, reason)) => {
                    let given_up = numbers.into_iter().map(|number| (number, reason));
                    self.give_up(given_up.collect()).await;
                    continue;
                }
                (Step::Deliver, Next::Deliver(numbers)) => {
                    self.deliver(numbers).await;
                    continue;
                }
                (Step::Wait(until), _) => Some(until),
                (Step::Deliver, Next::Wait(until)) => until,
            };
            let wait = until.map(|until| until.duration_since(now).unwrap_or_default());
            tokio::select! {
                () = self.bell.notified() => {}
                // Never zero: what is due is acted on, not waited for.
                () = tokio::time::sleep(wait.unwrap_or(LONG).max(Duration::from_millis(1))) => {}
            }
        }
    }

    async fn shake_hands(&self, address: &str) {
        let Self {
            subscription,
            office,
            ..
        } = self;
        if handshake::by_options(subscription.schema) {
            let answer = office
                .webhooks
                .ask(delivery::permission(subscription), LONG)
                .await;
            let now = office.clock.utc();
            let mut state = self.state.lock();
            match answer {
                Ok(answer) => {
                    let origin = answer.headers.get("webhook-allowed-origin");
                    let origin = origin.and_then(|value| value.to_str().ok());
                    state.handshake.allowed(Ok((answer.status, origin)), now);
                }
                Err(why) => state.handshake.allowed(Err(why.to_string()), now),
            }
        } else {
            let code = self.state.lock().handshake.code().to_owned();
            let name = &subscription.name;
            let url = format!("{address}/azimuth/eventSubscriptions/{name}/validate?code={code}");
            let now = office.clock.utc();
            let body = handshake::validation(&office.topic, &code, &url, now.into());
            let question = delivery::validation(subscription, &body);
            let answer = office.webhooks.ask(question, LONG).await;
            let now = office.clock.utc();
            let mut state = self.state.lock();
            match answer {
                Ok(answer) => state
                    .handshake
                    .answered(Ok((answer.status, &answer.body)), now),
                Err(why) => state.handshake.answered(Err(why.to_string()), now),
            }
        }
        let why = self.state.lock().handshake.why().map(ToOwned::to_owned);
        if let Some(why) = why {
            let sentence = format!(
                "the webhook of {} is not validated: {why}",
                subscription.name
            );
            self.refuse("webhook-validation", sentence);
        }
    }

    /// A failure costs a handshake at the next start, nothing else.
    async fn keep_validated(&self) {
        tracing::info!(subscription = %self.subscription.name, "the webhook is valid");
        let key = validated_key(&self.subscription.name);
        let Ok(body) = serde_json::to_vec(&validated(&self.subscription)) else {
            return;
        };
        self.commit(vec![Change::put(key, Expect::Anything, body)])
            .await;
    }

    /// Who did not say yes gets nothing.
    async fn abandon(&self) {
        let mut gone = Vec::new();
        {
            let mut state = self.state.lock();
            let state = &mut *state;
            while let Some(number) = state.queue.oldest() {
                state.queue.remove(number);
                gone.push(Change::delete(self.key(number), Expect::Anything));
            }
            state.dropped += gone.len() as u64;
        }
        let name = &self.subscription.name;
        let sentence = format!(
            "the webhook of {name} was not validated within 10 minutes; {} events for it were dropped, and it is asked \
             again when the hub starts",
            gone.len()
        );
        self.refuse("webhook-validation", sentence);
        for some in gone.chunks(256) {
            self.commit(some.to_vec()).await;
        }
    }

    async fn deliver(&self, numbers: Vec<Number>) {
        let (mut found, mut events, mut attempts) = (Vec::new(), Vec::new(), 0);
        for number in numbers {
            match self.kept(number) {
                Ok(Some(kept)) => {
                    attempts = attempts.max(kept.waiting.attempts);
                    events.push(kept.event);
                    found.push(number);
                }
                Ok(None) => drop(self.state.lock().queue.remove(number)),
                Err(error) => {
                    tracing::error!(%error, "an event that waits for its webhook could not be read");
                    self.state.lock().queue.remove(number);
                }
            }
        }
        if events.is_empty() {
            return;
        }
        let question =
            delivery::notification(&self.subscription, &self.office.topic, &events, attempts);
        let answer = self.office.webhooks.ask(question, LONG).await;
        let now = self.office.clock.utc();
        let (outcome, why) = match answer {
            Ok(answer) => (
                Outcome::Status(answer.status),
                format!("it answered {}", answer.status),
            ),
            Err(why) => (delivery::outcome(&why), why.to_string()),
        };
        if outcome.is_success() {
            let gone = found
                .iter()
                .map(|number| Change::delete(self.key(*number), Expect::Anything));
            self.commit(gone.collect()).await;
            let mut state = self.state.lock();
            for number in &found {
                state.queue.remove(*number);
            }
            state.delivered += found.len() as u64;
            state.last = None;
            return;
        }
        self.failed(found, events, outcome, &why, now).await;
    }

    async fn failed(
        &self,
        numbers: Vec<Number>,
        events: Vec<GridEvent>,
        outcome: Outcome,
        why: &str,
        now: SystemTime,
    ) {
        let name = &self.subscription.name;
        let sentence = format!(
            "the webhook of {name} did not take {}: {why}",
            match &events[..] {
                [one] => format!("{} of {}", one.event_type, one.subject),
                several => format!("{} events", several.len()),
            }
        );
        let (mut given_up, mut changes) = (Vec::new(), Vec::new());
        {
            let mut state = self.state.lock();
            state.last = Some((Attempt { at: now, outcome }, why.to_owned()));
            for (number, event) in numbers.into_iter().zip(events) {
                match state.queue.failed(number, outcome, now) {
                    Some(reason) => given_up.push((number, reason)),
                    None => {
                        let Some(waiting) = state.queue.get(number).cloned() else {
                            continue;
                        };
                        if let Ok(body) = serde_json::to_vec(&Kept { event, waiting }) {
                            changes.push(Change::put(self.key(number), Expect::Present, body));
                        }
                    }
                }
            }
        }
        self.refuse("event-delivery", sentence);
        self.commit(changes).await;
        self.give_up(given_up).await;
    }

    /// Events that wait no more are forgotten once something became of each.
    async fn give_up(&self, given_up: Vec<(Number, Reason)>) {
        let mut gone = Vec::new();
        for (number, reason) in given_up {
            if self.bury(number, reason).await {
                gone.push(Change::delete(self.key(number), Expect::Anything));
            }
        }
        if !gone.is_empty() {
            self.commit(gone).await;
        }
    }

    /// Lays an event down where dead letters go, or drops it where there is no such place. False where it cannot be
    /// read.
    async fn bury(&self, number: Number, reason: Reason) -> bool {
        let kept = self.kept(number);
        let waiting = self.state.lock().queue.remove(number);
        let (Ok(Some(Kept { event, .. })), Some(waiting)) = (kept, waiting) else {
            return false;
        };
        let name = &self.subscription.name;
        let (what, reason) = (
            format!("{} of {}", event.event_type, event.subject),
            reason.name(),
        );
        let sentence = match &self.subscription.dead_letters {
            None => {
                self.state.lock().dropped += 1;
                format!(
                    "{what} is dropped by {name}, which has no place for dead letters: {reason}"
                )
            }
            Some(folder) => match self
                .lay_down(folder.clone(), &event, &waiting, reason)
                .await
            {
                Ok(file) => {
                    self.state.lock().dead_lettered += 1;
                    format!("{what} is a dead letter of {name}: {reason}; see {file}")
                }
                Err(error) => {
                    self.state.lock().dropped += 1;
                    format!(
                        "{what} is dropped by {name}, and could not be laid down as a dead letter: {reason}; {error}"
                    )
                }
            },
        };
        self.refuse("event-given-up", sentence);
        true
    }

    async fn lay_down(
        &self,
        folder: PathBuf,
        event: &GridEvent,
        waiting: &Waiting,
        reason: &str,
    ) -> Result<String, std::io::Error> {
        let now = Timestamp::from(self.office.clock.utc());
        let last = waiting.last.as_ref();
        let obituary = Obituary {
            dead_letter_reason: reason,
            delivery_attempts: waiting.attempts,
            last_delivery_outcome: last.map_or("NotAttempted", |last| last.outcome.name()),
            last_http_status_code: last.and_then(|last| last.outcome.status()),
            publish_time: waiting.published.into(),
            last_delivery_attempt_time: last.map_or(Timestamp::NEVER, |last| last.at.into()),
        };
        let (schema, topic) = (self.subscription.schema, &self.office.topic);
        let text = Value::Array(vec![event.dead_letter(schema, topic, &obituary)]).to_string();
        // As Azure names its blobs: by subscription and hour.
        let hour = now.to_seven_digits();
        let hour = hour.get(..13).unwrap_or(&hour).replace(['-', 'T'], "/");
        let folder = folder
            .join(self.subscription.name.to_ascii_uppercase())
            .join(hour);
        let file = folder.join(format!("{}.json", uuid::Uuid::new_v4()));
        let shown = file.display().to_string();
        let written = tokio::task::spawn_blocking(move || {
            std::fs::create_dir_all(&folder)?;
            std::fs::write(&file, text)
        });
        written.await.map_err(std::io::Error::other)??;
        Ok(shown)
    }

    fn refuse(&self, kind: &'static str, sentence: String) {
        let refusal = Refusal::new(kind, Answer::Nobody, sentence)
            .fact("webhook", azimuth_webhook::masked(&self.subscription.url));
        let now = self.office.clock.utc();
        let who = Some(self.subscription.name.as_str());
        self.office
            .ledger
            .record(now, Operation::Delivery, who, None, refusal);
    }

    /// What cannot be written down is written to the log; the worst that follows is that an event comes twice.
    async fn commit(&self, changes: Vec<Change>) {
        if let Err(error) = self.office.store.commit(changes).await {
            tracing::error!(%error, subscription = %self.subscription.name, "how an event was delivered could not be stored");
        }
    }

    fn kept(&self, number: Number) -> Result<Option<Kept>, Error> {
        let document = self.office.store.get(&self.key(number))?;
        let kept = document.map(|document| serde_json::from_slice(&document.body));
        Ok(kept.transpose()?)
    }

    fn key(&self, number: Number) -> Key {
        Key::new(
            ROOM,
            &format!("{}{number}", prefix(&self.subscription.name)),
        )
    }
}

/// Removes what waits for subscriptions that are not configured any more.
pub async fn forget_others(store: &dyn Store, known: &[&str]) -> Result<(), Error> {
    for room in [ROOM, VALIDATED] {
        let mut after = None;
        loop {
            let page = store.scan(room, "", after.as_ref(), 256)?;
            let gone = page.documents.iter().filter(|(key, _)| {
                let name = key.name().split('/').next().unwrap_or_default();
                !known.contains(&name)
            });
            let gone: Vec<_> = gone
                .map(|(key, _)| Change::delete(key.clone(), Expect::Anything))
                .collect();
            if !gone.is_empty() {
                store.commit(gone).await?;
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    Ok(())
}

fn validated(subscription: &Subscription) -> Validated {
    Validated {
        url: subscription.url.clone(),
        schema: subscription.schema.name().into(),
    }
}

fn validated_key(name: &str) -> Key {
    Key::new(VALIDATED, name)
}

fn prefix(name: &str) -> String {
    format!("{name}/")
}

const ROOM: &str = "event-grid";
const VALIDATED: &str = "event-subscription";

/// Longer than any request takes; a clock that is set by hand is looked at as often.
const LONG: Duration = Duration::from_secs(3600);
