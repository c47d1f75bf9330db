//! Who is in time and who is late: a map of last heartbeats and an ordered set of deadlines.
//!
//! All times are the hub's. A look at the deadlines costs what is overdue, whatever the number of devices in time.
//! Nobody is called late from here: a shell first makes sure that it has read everything up to now, and that the
//! device is still registered; then it says so with [`Watch::call_late`].
//! May not enter: clocks, streams, the registry.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::change::{Change, News};
use crate::intervals::Intervals;
use crate::span::Span;

/// The devices of one hub.
///
/// ```text
///             expect                 deadline           call_late
/// Unexpected ────────► InTime ─────► InTime, overdue ───────────► Late
///     └────────────────►│ ▲ └─◄ heartbeat ┘                         │
///         heartbeat     │ └────────────── heartbeat: back ──────────┤
///                       └────────────────► forgotten ◄──────────────┘
/// ```
#[derive(Debug)]
pub struct Watch {
    hub: Arc<str>,
    intervals: Intervals,
    devices: HashMap<Arc<str>, Device>,
    deadlines: BTreeSet<(SystemTime, Arc<str>)>,
    late: BTreeSet<Arc<str>>,
    listing: u32,
}

#[derive(Debug)]
struct Device {
    id: Arc<str>,
    /// The last heartbeat, or since when there should be one.
    since: SystemTime,
    heard: bool,
    interval: Duration,
    state: State,
    /// The last listing it stood in.
    listed: u32,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Its tag is known, and nothing else.
    Unexpected,
    InTime {
        deadline: SystemTime,
    },
    Late {
        expected_by: SystemTime,
    },
}

/// Why a device is expected no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    Deleted,
    Disabled,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Of whom heartbeats are expected.
    pub expected: usize,
    pub late: usize,
}

impl Watch {
    pub fn new(hub: &str, intervals: Intervals) -> Self {
        Self {
            hub: hub.into(),
            intervals,
            devices: HashMap::new(),
            deadlines: BTreeSet::new(),
            late: BTreeSet::new(),
            listing: 0,
        }
    }

    /// A heartbeat that was enqueued at this time. The same may be told again, and older ones after newer ones.
    pub fn heartbeat(&mut self, id: &str, at: SystemTime) -> Option<Change> {
        let Some(device) = self.devices.get_mut(id) else {
            self.enter(id, at, true);
            return None;
        };
        if device.heard && at <= device.since {
            return None;
        }
        let silent_for = at.duration_since(device.since).unwrap_or_default();
        (device.since, device.heard) = (at, true);
        let deadline = at + self.intervals.allowance(device.interval);
        let mut change = None;
        match device.state {
            // A hub that was away has earned its devices more time than this.
            State::InTime { deadline: earlier } => {
                let deadline = deadline.max(earlier);
                device.postpone(&mut self.deadlines, deadline);
            }
            State::Unexpected => device.postpone(&mut self.deadlines, deadline),
            State::Late { expected_by } => {
                self.late.remove(id);
                device.postpone(&mut self.deadlines, deadline);
                let news = News::Back;
                change = Some(Change {
                    silent_for,
                    ..device.told(&self.hub, news, expected_by, at)
                });
            }
        }
        change
    }

    /// Those whose time is up, as far as known.
    pub fn overdue(&self, now: SystemTime) -> Vec<Arc<str>> {
        let overdue = self.deadlines.iter().take_while(|(at, _)| *at <= now);
        overdue.map(|(_, id)| id.clone()).collect()
    }

    /// When the next device is overdue, unless it is heard before.
    pub fn next_deadline(&self) -> Option<SystemTime> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// A device that is overdue is late from here on, until it is heard or forgotten.
    pub fn call_late(&mut self, id: &str, now: SystemTime) -> Option<Change> {
        let device = self.devices.get_mut(id)?;
        let State::InTime { deadline } = device.state else {
            return None;
        };
        if deadline > now {
            return None;
        }
        self.deadlines.remove(&(deadline, device.id.clone()));
        self.late.insert(device.id.clone());
        let expected_by = deadline;
        device.state = State::Late { expected_by };
        Some(device.told(&self.hub, News::Late, expected_by, now))
    }

    /// A device that does not exist any more, or may not send.
    pub fn forget(&mut self, id: &str, absence: Absence, now: SystemTime) -> Option<Change> {
        let device = self.devices.remove(id)?;
        match device.state {
            State::Unexpected => None,
            State::InTime { deadline } => {
                self.deadlines.remove(&(deadline, device.id));
                None
            }
            State::Late { expected_by } => {
                self.late.remove(id);
                Some(device.told(&self.hub, News::Gone(absence), expected_by, now))
            }
        }
    }

    /// The hub answers again: its devices could not send meanwhile, so each has its whole time from now on.
    pub fn hub_is_back(&mut self, now: SystemTime) {
        let deadlines = std::mem::take(&mut self.deadlines);
        let postponed = deadlines.into_iter().map(|(deadline, id)| {
            let Some(device) = self.devices.get_mut(&id) else {
                return (deadline, id);
            };
            let deadline = deadline.max(now + self.intervals.allowance(device.interval));
            device.state = State::InTime { deadline };
            (deadline, id)
        });
        self.deadlines = postponed.collect();
    }

    /// Before [`listed`](Self::listed): what was listed before is to be listed again.
    pub fn begin_listing(&mut self) {
        self.listing = self.listing.wrapping_add(1);
    }

    /// A device that the registry knows, with the interval of its tag; `expected` even if it never sends.
    pub fn listed(&mut self, id: &str, tag: Option<Span>, expected: bool, now: SystemTime) {
        if !self.devices.contains_key(id) {
            self.enter(id, now, false);
        }
        self.set_interval(id, tag);
        let Some(device) = self.devices.get_mut(id) else {
            return;
        };
        device.listed = self.listing;
        if expected && matches!(device.state, State::Unexpected) {
            device.since = now;
            let deadline = now + self.intervals.allowance(device.interval);
            device.postpone(&mut self.deadlines, deadline);
        }
    }

    /// Those that the listing left out: nobody knows of a tag of theirs, or of them at all.
    pub fn end_listing(&mut self) -> Vec<Arc<str>> {
        let left_out = self.devices.iter();
        let left_out = left_out.filter(|(_, device)| device.listed != self.listing);
        let left_out: Vec<_> = left_out.map(|(id, _)| id.clone()).collect();
        for id in &left_out {
            self.set_interval(id, None);
        }
        left_out
    }

    pub fn late(&self) -> Vec<Arc<str>> {
        self.late.iter().cloned().collect()
    }

    pub fn counts(&self) -> Counts {
        Counts {
            expected: self.deadlines.len() + self.late.len(),
            late: self.late.len(),
        }
    }

    fn enter(&mut self, id: &str, since: SystemTime, heard: bool) {
        let mut device = Device {
            id: id.into(),
            since,
            heard,
            interval: self.intervals.of(id, None),
            state: State::Unexpected,
            listed: 0,
        };
        if heard {
            let deadline = since + self.intervals.allowance(device.interval);
            device.postpone(&mut self.deadlines, deadline);
        }
        self.devices.insert(device.id.clone(), device);
    }

    /// A late device stays late until it is heard, however long its interval has become.
    fn set_interval(&mut self, id: &str, tag: Option<Span>) {
        let interval = self.intervals.of(id, tag);
        let Some(device) = self.devices.get_mut(id) else {
            return;
        };
        let before = self.intervals.allowance(device.interval);
        if let State::InTime { deadline } = device.state
            && device.interval != interval
        {
            let deadline = deadline - before + self.intervals.allowance(interval);
            device.postpone(&mut self.deadlines, deadline);
        }
        device.interval = interval;
    }
}

impl Device {
    /// In time until then.
    fn postpone(&mut self, deadlines: &mut BTreeSet<(SystemTime, Arc<str>)>, deadline: SystemTime) {
        if let State::InTime { deadline: earlier } = self.state {
            if earlier == deadline {
                return;
            }
            deadlines.remove(&(earlier, self.id.clone()));
        }
        self.state = State::InTime { deadline };
        deadlines.insert((deadline, self.id.clone()));
    }

    fn told(&self, hub: &Arc<str>, news: News, expected_by: SystemTime, now: SystemTime) -> Change {
        Change {
            news,
            hub: hub.clone(),
            device: self.id.clone(),
            at: now,
            last_heartbeat: self.heard.then_some(self.since),
            expected_by,
            interval: self.interval,
            silent_for: now.duration_since(self.since).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests;
