//! One hub under watch: its event stream read from where it was left, its deadlines looked at when they come.
//!
//! Nobody is called late on the word of a silent stream. When a deadline comes, the event log is first read to the end
//! that it had then, by the hub's own clock; a heartbeat that was stored in time is thereby found, however slow or dead
//! the stream is. A hub that does not answer makes nobody late, and gives every device its whole time once it answers.
//! May not enter: when a device is late ([`Watch`] knows), how requests are signed, how changes are shown.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use azimuth_clock::Clock;
use azimuth_wire::time::Timestamp;
use reqwest::{Method, Response};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::change::Change;
use crate::error::Error;
use crate::event::{Line, Wanted};
use crate::hub::{Hub, Request, answered, in_time};
use crate::intervals::Intervals;
use crate::lines::Lines;
use crate::positions::Positions;
use crate::standing::{self, TagPath};
use crate::watch::{Absence, Counts, Watch};

/// What is expected of the devices, and where reading begins.
#[derive(Debug, Clone)]
pub struct Settings {
    pub intervals: Intervals,
    pub wanted: Wanted,
    pub since: Since,
    pub tag: Option<TagPath>,
    /// Devices that never sent are expected, too.
    pub expect_all: bool,
    /// Between two looks into the registry.
    pub refresh: Duration,
}

/// The oldest events that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    Now,
    Start,
    Time(SystemTime),
}

/// Hears of every change.
pub type Tell<'a> = dyn Fn(Change) + 'a;

/// Before a hub that does not answer is asked again.
const AGAIN: Duration = Duration::from_millis(500);
/// Between two looks at deadlines: each costs a request, if somebody is overdue.
const PAUSE: Duration = Duration::from_millis(200);
/// Devices that are judged together, so that news of many do not wait for the last.
const TOGETHER: usize = 256;

/// Watches a hub until it is told to stop. Fails if the hub refuses the very first requests, or never answered.
pub async fn monitor(
    hub: &impl Hub,
    settings: &Settings,
    clock: &dyn Clock,
    tell: &Tell<'_>,
    stop: &CancellationToken,
) -> Result<Counts, Error> {
    let mut round = Round {
        hub,
        settings,
        clock,
        tell,
        watch: Watch::new(hub.name(), settings.intervals.clone()),
        since: settings.since,
        positions: None,
        hub_time: (clock.utc(), clock.now()),
        refreshed: None,
        judged: None,
        reached: false,
        parted: false,
        away: false,
        unasked: false,
    };
    tokio::select! {
        ended = round.run() => ended?,
        () = stop.cancelled() => {}
    }
    // Who was watched in vain must not look as if all were well.
    round
        .reached
        .then(|| round.watch.counts())
        .ok_or(Error::NeverReached)
}

struct Round<'a, H> {
    hub: &'a H,
    settings: &'a Settings,
    clock: &'a dyn Clock,
    tell: &'a Tell<'a>,
    watch: Watch,
    since: Since,
    positions: Option<Positions>,
    /// The hub's clock, and this machine's at that moment.
    hub_time: (SystemTime, Instant),
    refreshed: Option<Instant>,
    judged: Option<Instant>,
    /// It has answered once.
    reached: bool,
    /// It did not answer, or ended a stream: devices may have had nobody to send to.
    parted: bool,
    /// That it does not answer was said.
    away: bool,
    /// The registry could not be asked about devices that are overdue; said once.
    unasked: bool,
}

impl<H: Hub> Round<'_, H> {
    async fn run(&mut self) -> Result<(), Error> {
        loop {
            match self.stream().await {
                Ok(()) => {}
                Err(error) if !self.reached && error.is_final() => return Err(error),
                Err(error) => self.lost(&error),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Reads what there is, then a stream for as long as it lasts.
    async fn stream(&mut self) -> Result<(), Error> {
        self.catch_up().await?;
        if std::mem::take(&mut self.parted) {
            self.watch.hub_is_back(self.hub_time.0);
        }
        if std::mem::take(&mut self.away) {
            let hub = self.hub.name();
            tracing::warn!(
                hub,
                "the hub answers again; every device has its whole time from now on"
            );
        }
        self.refresh_when_due().await?;
        self.judge().await?;
        let mut stream = self.events(true).await?;
        if !std::mem::replace(&mut self.reached, true) {
            let hub = self.hub.name();
            tracing::info!(target: "progress", hub, "watching the heartbeats of the devices of {hub}");
        }
        let mut lines = Lines::default();
        loop {
            tokio::select! {
                piece = stream.chunk() => match piece {
                    Ok(Some(piece)) => self.read(&mut lines, &piece)?,
                    // Whether the hub is there shows at the next request.
                    Ok(None) | Err(_) => {
                        self.parted = true;
                        return Ok(());
                    }
                },
                () = tokio::time::sleep(self.until_next_look()) => {
                    self.refresh_when_due().await?;
                    if self.judge().await? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Reads everything up to the present end of the event log.
    async fn catch_up(&mut self) -> Result<(), Error> {
        let mut answer = match self.events(false).await {
            Err(Error::Refused { status: 400, body }) if self.positions.is_some() => {
                let hub = self.hub.name();
                tracing::warn!(
                    hub,
                    "the event log is not the one it was, and is read from its start: {body}"
                );
                self.positions = None;
                self.since = Since::Start;
                self.events(false).await?
            }
            answer => answer?,
        };
        let mut lines = Lines::default();
        while let Some(piece) = in_time(answer.chunk()).await?? {
            self.read(&mut lines, &piece)?;
        }
        Ok(())
    }

    /// Events from where reading stands, and the hub's time.
    async fn events(&mut self, follow: bool) -> Result<Response, Error> {
        let from = match (&self.positions, self.since) {
            (Some(positions), _) => positions.from(),
            (None, Since::Now) => "latest".into(),
            (None, Since::Start) => "earliest".into(),
            (None, Since::Time(time)) => format!("time:{}", Timestamp::from(time)),
        };
        let request = Request {
            method: Method::GET,
            path: "/azimuth/events",
            query: &[("from", from), ("follow", follow.to_string())],
            headers: &[],
            body: None,
        };
        let answer = answered(self.hub, request).await?;
        let header = |name: &str| answer.headers().get(name)?.to_str().ok();
        let begin = header(Positions::HEADER).and_then(Positions::parse);
        let time = header("azimuth-time").map(|time| Value::String(time.into()));
        let time = time.and_then(|time| serde_json::from_value::<Timestamp>(time).ok()?.get());
        let (Some(begin), Some(time)) = (begin, time) else {
            return Err(Error::NoPositions);
        };
        self.positions.get_or_insert(begin);
        self.hub_time = (time, self.clock.now());
        Ok(answer)
    }

    fn read(&mut self, lines: &mut Lines, piece: &[u8]) -> Result<(), Error> {
        let all = lines.feed(piece, |line| {
            let event = match self.settings.wanted.read(line).map_err(Error::Line)? {
                Line::Event(event) => event,
                Line::Skipped(events) => {
                    let hub = self.hub.name();
                    tracing::warn!(hub, events, "events were dropped by retention before they were read; heartbeats may be among them");
                    return Ok(true);
                }
            };
            if let Some(positions) = &mut self.positions {
                positions.passed(event.partition, event.sequence);
            }
            if let Some((device, at)) = event.heartbeat
                && let Some(change) = self.watch.heartbeat(&device, at)
            {
                (self.tell)(change);
            }
            Ok::<_, Error>(true)
        });
        all.map(drop)
    }

    /// Calls late who is. True if the stream kept back a heartbeat: then it is not worth following.
    async fn judge(&mut self) -> Result<bool, Error> {
        let now = self.clock.now();
        let suspects = self.watch.overdue(self.hub_now());
        if suspects.is_empty() || self.judged.is_some_and(|last| now < last + PAUSE) {
            return Ok(false);
        }
        self.judged = Some(now);
        self.catch_up().await?;
        let now = self.hub_time.0;
        let overdue = self.watch.overdue(now);
        for devices in overdue.chunks(TOGETHER) {
            self.judge_overdue(devices, now).await?;
        }
        let overdue: HashSet<_> = overdue.iter().collect();
        Ok(suspects.iter().any(|device| !overdue.contains(device)))
    }

    async fn judge_overdue(&mut self, devices: &[Arc<str>], now: SystemTime) -> Result<(), Error> {
        let absences = match standing::absences(self.hub, devices).await {
            Err(Error::Refused { status, body }) if status < 500 => {
                if !std::mem::replace(&mut self.unasked, true) {
                    let hub = self.hub.name();
                    tracing::warn!(
                        hub,
                        "whether devices that are late are still registered cannot be asked: {status} {body}"
                    );
                }
                Vec::new()
            }
            absences => absences?,
        };
        self.forget(absences, now);
        for device in devices {
            if let Some(change) = self.watch.call_late(device, now) {
                (self.tell)(change);
            }
        }
        Ok(())
    }

    /// Tags and new devices, where they matter; and whether those that are late are still registered.
    async fn refresh_when_due(&mut self) -> Result<(), Error> {
        let now = self.clock.now();
        if self
            .refreshed
            .is_some_and(|last| now < last + self.settings.refresh)
        {
            return Ok(());
        }
        let (hub, time) = (self.hub, self.hub_now());
        let (tag, all) = (self.settings.tag.as_ref(), self.settings.expect_all);
        if tag.is_some() || all {
            self.watch.begin_listing();
            let watch = &mut self.watch;
            let each = |device: &str, interval| watch.listed(device, interval, all, time);
            standing::list(hub, tag, all, each).await?;
            let left_out = self.watch.end_listing();
            if all {
                let absences = standing::absences(hub, &left_out).await?;
                self.forget(absences, time);
            }
        }
        let late = self.watch.late();
        if !self.unasked && !late.is_empty() {
            let absences = standing::absences(hub, &late).await?;
            self.forget(absences, time);
        }
        self.refreshed = Some(now);
        Ok(())
    }

    fn forget(&mut self, absences: Vec<(Arc<str>, Absence)>, now: SystemTime) {
        for (device, absence) in absences {
            if let Some(change) = self.watch.forget(&device, absence, now) {
                (self.tell)(change);
            }
        }
    }

    fn lost(&mut self, error: &Error) {
        self.parted = true;
        if !std::mem::replace(&mut self.away, true) {
            let hub = self.hub.name();
            tracing::warn!(
                hub,
                error = error as &dyn std::error::Error,
                "the hub does not answer; nobody is late until it does: {error}"
            );
        }
    }

    fn hub_now(&self) -> SystemTime {
        self.hub_time.0 + self.clock.now().saturating_duration_since(self.hub_time.1)
    }

    fn until_next_look(&self) -> Duration {
        let now = self.clock.now();
        let refresh = self
            .refreshed
            .map_or(now, |last| last + self.settings.refresh);
        let refresh = refresh.saturating_duration_since(now);
        let pause = self.judged.map_or(now, |last| last + PAUSE);
        let pause = pause.saturating_duration_since(now);
        let deadline = self.watch.next_deadline().map_or(refresh, |deadline| {
            deadline.duration_since(self.hub_now()).unwrap_or_default()
        });
        // A timer has steps of a millisecond and may be early.
        refresh.min(deadline.max(pause)) + Duration::from_millis(1)
    }
}
