//! Notifications that wait for the event log: in the store from the commit of their identity on, until the log has them.
//!
//! So none of a write that was answered is lost; after a kill in between one may stand in the log twice. May not enter:
//! what they say.

use std::sync::Arc;
use std::time::Duration;

use azimuth_broker::{Lane, Storing};
use azimuth_storage::{Change, Expect, Key, Store};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::{Lanes, Number};
use crate::event::{Event, partition_for};

/// The room in the store, and those who wait for it to be emptied.
pub struct Outbox {
    store: Arc<dyn Store>,
    partitions: u16,
    bell: Notify,
    /// `None` when it is emptied no more.
    waiting: Mutex<Option<Vec<oneshot::Sender<()>>>>,
}

impl Outbox {
    pub fn new(store: Arc<dyn Store>, partitions: u16) -> Self {
        let bell = Notify::new();
        // What an earlier run left.
        bell.notify_one();
        Self {
            store,
            partitions,
            bell,
            waiting: Mutex::new(Some(Vec::new())),
        }
    }

    /// The change that leaves a notification here.
    pub fn leave(number: Number, envelope: Vec<u8>) -> Change {
        Change::put(
            Key::new(ROOM, &number.to_string()),
            Expect::Absent,
            envelope,
        )
    }

    /// Waits until what is committed is on its way to the log, so that nothing that comes later comes before it.
    pub async fn handed_on(&self) {
        let (done, handed_on) = oneshot::channel();
        match &mut *self.waiting.lock() {
            Some(waiting) => waiting.push(done),
            None => return,
        }
        self.bell.notify_one();
        // An error says that it is done too.
        let _ = handed_on.await;
    }

    /// Which lane an event of this device takes.
    pub fn lane(&self, device: &str) -> Lane {
        Lane(u8::try_from(partition_for(device, self.partitions)).unwrap_or(u8::MAX))
    }

    /// Empties the room again and again, until it is dropped.
    pub async fn empty(&self, lanes: &dyn Lanes) {
        const AGAIN_AFTER: Duration = Duration::from_secs(5);
        let _end = End(self);
        loop {
            self.bell.notified().await;
            while let Err(error) = self.round(lanes).await {
                tracing::error!(
                    error,
                    "notifications wait, for they could not be stored in the event log"
                );
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        }
    }

    async fn round(&self, lanes: &dyn Lanes) -> Result<(), String> {
        // Whoever waits by now committed before what follows is read. Dropped, they go on.
        let mut waiting = self.waiting.lock().as_mut().map(std::mem::take);
        let told = |error: azimuth_storage::Error| error.to_string();
        let mut after = None;
        loop {
            let page = self
                .store
                .scan(ROOM, "", after.as_ref(), PAGE)
                .map_err(told)?;
            if page.documents.is_empty() {
                return Ok(());
            }
            let (gone, bodies): (Vec<_>, Vec<_>) = page
                .documents
                .into_iter()
                .map(|(key, document)| (Change::delete(key, Expect::Anything), document.body))
                .unzip();
            let envelopes = bodies.into_iter().filter_map(|envelope| {
                let lane = Event::decode(&envelope).map(|event| self.lane(event.device_id));
                Some((lane.ok()?, envelope))
            });
            let stored = lanes.put(envelopes.collect());
            after = page.next;
            if after.is_none() {
                drop(waiting.take());
            }
            stored.await?;
            self.store.commit(gone).await.map_err(told)?;
            if after.is_none() {
                return Ok(());
            }
        }
    }
}

/// Nobody waits for a room that is emptied no more.
struct End<'a>(&'a Outbox);

impl Drop for End<'_> {
    fn drop(&mut self) {
        *self.0.waiting.lock() = None;
    }
}

const ROOM: &str = "notification-outbox";
const PAGE: usize = 256;
const _: () = assert!(PAGE <= Storing::AT_ONCE);
