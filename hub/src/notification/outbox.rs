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
    round: Mutex<Round>,
}

/// How far it is emptied.
#[derive(Default)]
struct Round {
    /// It is emptied no more.
    ended: bool,
    /// Dropped, those who wait go on.
    waiting: Vec<oneshot::Sender<()>>,
    /// On their way to the log, and here until they are stored.
    under_way: Vec<Key>,
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
            round: Mutex::default(),
        }
    }

    /// The change that leaves a notification here.
    pub fn leave(number: Number, envelope: Vec<u8>) -> Change {
        Change::put(key(number), Expect::Absent, envelope)
    }

    /// Waits until these, which are committed, are on their way to the log: nothing that comes later comes before them.
    pub async fn handed_on(&self, numbers: Vec<Number>) {
        let (done, handed_on) = oneshot::channel();
        {
            let mut round = self.round.lock();
            let is_gone = |key: &Key| matches!(self.store.get(key), Ok(None));
            let mut keys = numbers.into_iter().map(key);
            if round.ended || keys.all(|key| round.under_way.contains(&key) || is_gone(&key)) {
                return;
            }
            round.waiting.push(done);
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
        // Whoever waits by now committed before what follows is read.
        let mut waiting = {
            let mut round = self.round.lock();
            round.under_way.clear();
            std::mem::take(&mut round.waiting)
        };
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
            let all = page.documents.len();
            let mut bytes = 0;
            let documents = page.documents.into_iter().take_while(|(_, document)| {
                let first = bytes == 0;
                bytes += document.body.len();
                first || bytes <= MOST_BYTES
            });
            let (keys, bodies): (Vec<_>, Vec<_>) = documents
                .map(|(key, document)| (key, document.body))
                .unzip();
            after = match keys.len() < all {
                true => keys.last().cloned(),
                false => page.next,
            };
            let envelopes = bodies.into_iter().filter_map(|envelope| {
                let lane = Event::decode(&envelope).map(|event| self.lane(event.device_id));
                Some((lane.ok()?, envelope))
            });
            let stored = lanes.put(envelopes.collect());
            self.round.lock().under_way.clone_from(&keys);
            if after.is_none() {
                waiting.clear();
            }
            stored.await?;
            let gone = keys
                .into_iter()
                .map(|key| Change::delete(key, Expect::Anything));
            self.store.commit(gone.collect()).await.map_err(told)?;
            self.round.lock().under_way.clear();
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
        let mut round = self.0.round.lock();
        round.ended = true;
        round.waiting.clear();
    }
}

fn key(number: Number) -> Key {
    Key::new(ROOM, &number.to_string())
}

const ROOM: &str = "notification-outbox";
const PAGE: usize = 256;
/// Of envelopes that are put at once: the router forgets what is much more than its share of a round.
const MOST_BYTES: usize = 512 << 10;
const _: () = assert!(PAGE <= Storing::AT_ONCE);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{Numbers, Stored};
    use super::*;
    use crate::event::Pairs;

    /// Counts what comes, and ends when all of it has.
    struct Scales {
        most: Mutex<usize>,
        left: Mutex<usize>,
        all: Notify,
    }

    impl Lanes for Scales {
        fn put(&self, envelopes: Vec<(Lane, Vec<u8>)>) -> Stored {
            let bytes: usize = envelopes.iter().map(|(_, envelope)| envelope.len()).sum();
            let mut most = self.most.lock();
            *most = bytes.max(*most);
            let mut left = self.left.lock();
            *left -= envelopes.len();
            if *left == 0 {
                self.all.notify_one();
            }
            Box::pin(async { Ok(()) })
        }
    }

    #[tokio::test]
    async fn the_router_gets_no_more_at_once_than_it_can_hold() {
        const LARGE: usize = 100_000;
        let store = azimuth_storage::memory();
        let numbers = Numbers::begin(std::time::UNIX_EPOCH, None);
        let body = vec![b'a'; LARGE];
        let mut envelope = Vec::new();
        Event {
            device_id: "d",
            module_id: None,
            generation_id: "",
            auth_method: "",
            source: "",
            system: Pairs::new(&[]),
            application: Pairs::new(&[]),
            body: &body,
        }
        .encode(&mut envelope);
        let left = (0..40).map(|_| Outbox::leave(numbers.next(), envelope.clone()));
        store.commit(left.collect()).await.unwrap();
        let outbox = Outbox::new(store.clone(), 4);
        let scales = Scales {
            most: Mutex::new(0),
            left: Mutex::new(40),
            all: Notify::new(),
        };
        tokio::select! {
            () = outbox.empty(&scales) => {}
            () = scales.all.notified() => {}
        }
        let most = *scales.most.lock();
        assert!((LARGE..=1 << 20).contains(&most), "{most}");
    }
}
