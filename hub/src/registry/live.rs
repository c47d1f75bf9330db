//! What changes by itself: who is on the line, since when, and when a device was last heard of.
//!
//! In memory for every device seen since the start; written down now and then, never per message.
//! After a restart everyone is disconnected. May not enter: identities, sockets.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use azimuth_storage::{Change, Document, Expect, Key, Store};
use azimuth_wire::Identity as Name;
use azimuth_wire::registry::ConnectionState;
use azimuth_wire::time::Timestamp;
use dashmap::DashMap;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// The live members of a device's JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Liveness {
    pub state: ConnectionState,
    pub changed: Timestamp,
    pub activity: Timestamp,
}

/// Gets a document.
type Read<'a> = &'a dyn Fn(&Key) -> Result<Option<Document>, azimuth_storage::Error>;

/// The live state of all devices.
pub struct Live {
    store: Arc<dyn Store>,
    /// When this hub started: devices that were connected when the last one ended have been
    /// disconnected since.
    started: SystemTime,
    seen: DashMap<Name, Arc<DeviceLife>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    connected: AtomicU64,
    unwritten: Mutex<Vec<Arc<DeviceLife>>>,
    lost: Mutex<VecDeque<Lost>>,
}

/// A connection that was lost and is shown a while longer, as Azure shows it.
struct Lost {
    until: SystemTime,
    life: Arc<DeviceLife>,
    /// Of the life's turns when it was lost: with a later one it is on the line again, or was thrown off.
    turns: u32,
}

/// The live state of one device or module, of one generation of it.
pub struct DeviceLife {
    name: Name,
    generation_id: String,
    line: Mutex<OnLine>,
    /// Microseconds since 1970; 0 is never.
    activity: AtomicU64,
    /// What of `activity` is written down.
    written: AtomicU64,
    unwritten: AtomicBool,
    messages: AtomicU64,
    shared: Arc<Shared>,
}

#[derive(Debug, Clone, Copy)]
struct OnLine {
    state: ConnectionState,
    /// How often it came or went.
    turns: u32,
    changed: Timestamp,
}

/// A row of a live table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub device: String,
    /// `Connected` or `Disconnected`.
    pub connection_state: String,
    /// As Azure prints times.
    pub last_activity: String,
    /// Since the hub started.
    pub messages: u64,
}

impl Live {
    pub fn new(store: Arc<dyn Store>, started: SystemTime) -> Self {
        Self {
            store,
            started,
            seen: DashMap::new(),
            shared: Arc::default(),
        }
    }

    /// The live state of a device that comes on the line, from now on in memory.
    pub fn of(
        &self,
        name: &Name,
        generation_id: &str,
    ) -> Result<Arc<DeviceLife>, azimuth_storage::Error> {
        if let Some(life) = self.seen.get(name)
            && life.generation_id == generation_id
        {
            return Ok(life.clone());
        }
        let before = self.written(&|key| self.store.get(key), name, generation_id)?;
        let life = Arc::new(DeviceLife {
            name: name.clone(),
            generation_id: generation_id.into(),
            line: Mutex::new(OnLine {
                state: before.state,
                turns: 0,
                changed: before.changed,
            }),
            activity: AtomicU64::new(microseconds(before.activity)),
            written: AtomicU64::new(microseconds(before.activity)),
            unwritten: AtomicBool::new(false),
            messages: AtomicU64::new(0),
            shared: self.shared.clone(),
        });
        self.seen.insert(name.clone(), life.clone());
        Ok(life)
    }

    /// What a device's JSON is to say.
    pub fn liveness(
        &self,
        name: &Name,
        generation_id: &str,
    ) -> Result<Liveness, azimuth_storage::Error> {
        self.liveness_in(&|key| self.store.get(key), name, generation_id)
    }

    /// The same, what was written down being read by somebody else.
    pub fn liveness_in(
        &self,
        read: Read<'_>,
        name: &Name,
        generation_id: &str,
    ) -> Result<Liveness, azimuth_storage::Error> {
        match self.seen.get(name) {
            Some(life) if life.generation_id == generation_id => Ok(life.liveness()),
            Some(_) | None => self.written(read, name, generation_id),
        }
    }

    /// Connections that were lost long enough ago are shown no more.
    pub fn settle(&self, now: SystemTime) {
        loop {
            let due = {
                let mut lost = self.shared.lost.lock();
                match lost.front() {
                    Some(first) if first.until <= now => lost.pop_front(),
                    Some(_) | None => None,
                }
            };
            let Some(lost) = due else { return };
            lost.settle();
        }
    }

    /// How many devices are on the line.
    pub fn connected(&self) -> u64 {
        self.shared.connected.load(Ordering::Relaxed)
    }

    /// Forgets a device that was deleted. What was written down is `Live::erase`'s.
    pub fn forget(&self, name: &Name, generation_id: &str) {
        let gone = self
            .seen
            .remove_if(name, |_, life| life.generation_id == generation_id);
        let Some((_, gone)) = gone else { return };
        let mut lost = self.shared.lost.lock();
        if let Some(place) = lost.iter().position(|lost| Arc::ptr_eq(&lost.life, &gone))
            && let Some(lost) = lost.remove(place)
        {
            lost.settle();
        }
    }

    /// The change that removes what was written down of a device.
    pub fn erase(name: &Name) -> Change {
        Change::delete(key(name), Expect::Anything)
    }

    /// The first `limit` devices seen, by id.
    pub fn rows(&self, limit: usize) -> Vec<Row> {
        let mut rows: BTreeMap<Name, Arc<DeviceLife>> = BTreeMap::new();
        for life in &self.seen {
            let last = rows.last_key_value().map(|(id, _)| id);
            if rows.len() >= limit && last.is_none_or(|last| life.key() > last) {
                continue;
            }
            rows.insert(life.key().clone(), life.value().clone());
            if rows.len() > limit {
                rows.pop_last();
            }
        }
        rows.values().map(|life| life.row()).collect()
    }

    /// Writes down what changed; what the process loses when it is killed is the last call's worth.
    pub fn write_down(&self) {
        let changed = std::mem::take(&mut *self.shared.unwritten.lock());
        for some in changed.chunks(256) {
            let changes = some.iter().filter_map(|life| life.change()).collect();
            self.store.commit_lazily(changes);
        }
    }

    fn written(
        &self,
        read: Read<'_>,
        name: &Name,
        generation_id: &str,
    ) -> Result<Liveness, azimuth_storage::Error> {
        let Some(document) = read(&key(name))? else {
            return Ok(Liveness::default());
        };
        let written = match serde_json::from_slice::<Written>(&document.body) {
            Ok(written) if written.generation_id == generation_id => written,
            // Of an earlier device with this id.
            _ => return Ok(Liveness::default()),
        };
        let ended = Timestamp::from(self.started);
        Ok(Liveness {
            state: ConnectionState::Disconnected,
            changed: match written.state {
                ConnectionState::Connected => ended,
                ConnectionState::Disconnected => written.changed,
            },
            activity: written.activity,
        })
    }
}

impl Lost {
    fn settle(self) {
        if self.life.line.lock().turns == self.turns {
            // Nothing was heard of it since.
            self.life.turn(ConnectionState::Disconnected, self.until);
        }
    }
}

impl DeviceLife {
    /// Heard of or spoken to. Cheap enough for every message.
    pub fn touch(self: &Arc<Self>, now: SystemTime) {
        let now = microseconds(now.into());
        self.activity.fetch_max(now, Ordering::Relaxed);
        let written = self.written.load(Ordering::Relaxed);
        if now.saturating_sub(written) > WRITTEN_AT_LEAST_EVERY.as_micros() as u64 {
            self.mark();
        }
    }

    /// A message was taken.
    pub fn message(self: &Arc<Self>, now: SystemTime) {
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.touch(now);
    }

    pub fn connected(self: &Arc<Self>, now: SystemTime) {
        self.touch(now);
        self.turn(ConnectionState::Connected, now);
    }

    pub fn disconnected(self: &Arc<Self>, now: SystemTime) {
        self.touch(now);
        self.turn(ConnectionState::Disconnected, now);
    }

    /// The connection broke; it is shown until then, unless the device comes back before.
    pub fn lost(self: &Arc<Self>, until: SystemTime) {
        let turns = self.line.lock().turns;
        let life = self.clone();
        self.shared
            .lost
            .lock()
            .push_back(Lost { until, life, turns });
    }

    pub fn generation_id(&self) -> &str {
        &self.generation_id
    }

    pub fn liveness(&self) -> Liveness {
        let OnLine { state, changed, .. } = *self.line.lock();
        Liveness {
            state,
            changed,
            activity: timestamp(self.activity.load(Ordering::Relaxed)),
        }
    }

    fn turn(self: &Arc<Self>, to: ConnectionState, now: SystemTime) {
        let mut line = self.line.lock();
        let (from, turns) = (line.state, line.turns.wrapping_add(1));
        *line = OnLine {
            state: to,
            turns,
            changed: now.into(),
        };
        drop(line);
        match (from, to) {
            // Modules are no devices, so they are not counted.
            _ if self.name.module.is_some() => {}
            (ConnectionState::Disconnected, ConnectionState::Connected) => {
                self.shared.connected.fetch_add(1, Ordering::Relaxed);
            }
            (ConnectionState::Connected, ConnectionState::Disconnected) => {
                self.shared.connected.fetch_sub(1, Ordering::Relaxed);
            }
            (ConnectionState::Connected, ConnectionState::Connected)
            | (ConnectionState::Disconnected, ConnectionState::Disconnected) => {}
        }
        self.mark();
    }

    fn mark(self: &Arc<Self>) {
        if !self.unwritten.swap(true, Ordering::AcqRel) {
            self.shared.unwritten.lock().push(self.clone());
        }
    }

    fn change(&self) -> Option<Change> {
        // Before reading, so that what changes meanwhile is marked again.
        self.unwritten.store(false, Ordering::Release);
        let live = self.liveness();
        self.written
            .store(microseconds(live.activity), Ordering::Relaxed);
        let body = serde_json::to_vec(&Written {
            generation_id: self.generation_id.clone(),
            state: live.state,
            changed: live.changed,
            activity: live.activity,
        });
        Some(Change::put(key(&self.name), Expect::Anything, body.ok()?))
    }

    fn row(&self) -> Row {
        let live = self.liveness();
        Row {
            device: self.name.to_string(),
            connection_state: live.state.name().into(),
            last_activity: live.activity.to_string(),
            messages: self.messages.load(Ordering::Relaxed),
        }
    }
}

/// How far `lastActivityTime` may fall behind over a crash.
const WRITTEN_AT_LEAST_EVERY: Duration = Duration::from_secs(60);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    generation_id: String,
    state: ConnectionState,
    changed: Timestamp,
    activity: Timestamp,
}

fn key(name: &Name) -> Key {
    Key::new("live", &name.to_string())
}

fn microseconds(time: Timestamp) -> u64 {
    let since = time.get().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    u64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(u64::MAX)
}

fn timestamp(microseconds: u64) -> Timestamp {
    match microseconds {
        0 => Timestamp::NEVER,
        since => Timestamp::from(UNIX_EPOCH + Duration::from_micros(since)),
    }
}
