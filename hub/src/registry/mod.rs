//! The identity registry: create, read, update, list, delete, count; each write answered once stored.
//!
//! May not enter: HTTP, MQTT, tokens. Callers bring typed ids and bodies and get devices back.

mod bulk;
mod identity;
mod live;
mod rows;
mod twins;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use azimuth_clock::Clock;
use azimuth_storage::{Change, Document, Expect, Key, Store};
use azimuth_wire::etag::IfMatch;
use azimuth_wire::registry::{Device, DeviceBody, DeviceStatistics, ServiceStatistics, Status};
use azimuth_wire::twin::TwinBody;
use azimuth_wire::{DeviceId, time};
use serde::Deserialize;

pub use bulk::Applied;
pub use identity::{Fresh, Identity};
pub use live::{DeviceLife, Live, Liveness, Row};
pub use rows::{Documents, Rows};

use crate::error::Error;
use crate::keys;
use crate::twin::DesiredChange;

/// The devices of one hub.
pub struct Registry {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    live: Live,
    turns: twins::Turns,
    enabled: AtomicU64,
    disabled: AtomicU64,
}

/// What a write did beside being stored.
#[derive(Debug)]
pub struct Written {
    pub device: Device,
    /// The device may not be on the line any more.
    pub shut_out: bool,
    /// Of its twin.
    pub desired: Option<DesiredChange>,
}

impl Registry {
    /// Reads the store once, to count.
    pub fn open(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let live = Live::new(store.clone(), clock.utc());
        let registry = Self {
            store,
            clock,
            live,
            turns: twins::Turns::default(),
            enabled: AtomicU64::new(0),
            disabled: AtomicU64::new(0),
        };
        registry.count_all()?;
        Ok(registry)
    }

    /// The identity as stored.
    pub fn identity(&self, device: &DeviceId) -> Result<Option<Identity>, Error> {
        Ok(self.load(device)?.map(|(_, identity)| identity))
    }

    pub fn device(&self, device: &DeviceId) -> Result<Device, Error> {
        let identity = self.identity(device)?;
        self.answer(&identity.ok_or_else(|| Error::DeviceNotFound(device.to_string()))?)
    }

    /// The first `limit` devices in the order of their ids.
    pub fn devices(&self, limit: usize) -> Result<Vec<Device>, Error> {
        let page = self.store.scan(ROOM, "", None, limit)?;
        let documents = page.documents.iter();
        documents
            .map(|(_, document)| self.answer(&serde_json::from_slice(&document.body)?))
            .collect()
    }

    /// Creates or replaces a device; Azure's preconditions stand in [`Identity::put`].
    pub async fn put(
        &self,
        device: &DeviceId,
        if_match: &IfMatch,
        body: DeviceBody,
    ) -> Result<Written, Error> {
        let condition = |_: bool| if_match.clone();
        self.write(device, condition, body, &TwinBody::default())
            .await
    }

    /// Writes an identity and, where `content` says something of it, its twin, as one. The condition
    /// is asked for again where another write was faster; it is told whether the device is there.
    async fn write(
        &self,
        device: &DeviceId,
        condition: impl Fn(bool) -> IfMatch,
        body: DeviceBody,
        content: &TwinBody,
    ) -> Result<Written, Error> {
        loop {
            let present = self.load(device)?;
            let before = present.as_ref().map(|(_, identity)| identity);
            let if_match = condition(before.is_some());
            let after = Identity::put(before, device, &if_match, body.clone(), self.fresh())?;
            let json = serde_json::to_vec(&after)?;
            let mut changes = vec![Change::put(key(device), expect(present.as_ref()), json)];
            let twin = self.twin_beside(before, &after, content)?;
            let (twin, desired) =
                twin.map_or((None, None), |(change, desired)| (Some(change), desired));
            changes.extend(twin);
            if !self.commit(changes).await? {
                continue;
            }
            self.count(before.map(|identity| identity.status), Some(after.status));
            return Ok(Written {
                device: self.answer(&after)?,
                shut_out: after.status == Status::Disabled,
                desired,
            });
        }
    }

    pub async fn delete(&self, device: &DeviceId, if_match: &IfMatch) -> Result<(), Error> {
        loop {
            let present = self.load(device)?;
            let before = present.as_ref().map(|(_, identity)| identity);
            let gone = Identity::delete(before, device, if_match)?;
            let changes = vec![
                Change::delete(key(device), expect(present.as_ref())),
                Live::erase(device),
                twins::erase(device),
            ];
            if !self.commit(changes).await? {
                continue;
            }
            self.count(Some(gone.status), None);
            self.live.forget(device, &gone.generation_id);
            return Ok(());
        }
    }

    /// Exact, and as cheap for a million devices as for one.
    pub fn statistics(&self) -> DeviceStatistics {
        let enabled = self.enabled.load(Ordering::Relaxed);
        let disabled = self.disabled.load(Ordering::Relaxed);
        DeviceStatistics {
            total_device_count: enabled + disabled,
            enabled_device_count: enabled,
            disabled_device_count: disabled,
        }
    }

    pub fn service_statistics(&self) -> ServiceStatistics {
        ServiceStatistics {
            connected_device_count: self.live.connected(),
        }
    }

    pub fn live(&self) -> &Live {
        &self.live
    }

    /// Commits; false when another write was faster and all is to be looked at again.
    async fn commit(&self, changes: Vec<Change>) -> Result<bool, Error> {
        match self.store.commit(changes).await {
            Ok(_) => Ok(true),
            Err(azimuth_storage::Error::Conflict { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn load(&self, device: &DeviceId) -> Result<Option<(Document, Identity)>, Error> {
        let Some(document) = self.store.get(&key(device))? else {
            return Ok(None);
        };
        let identity = serde_json::from_slice(&document.body)?;
        Ok(Some((document, identity)))
    }

    fn answer(&self, identity: &Identity) -> Result<Device, Error> {
        let live = &self.live;
        let liveness = live.liveness(&identity.device_id, &identity.generation_id)?;
        Ok(identity.device(liveness))
    }

    fn fresh(&self) -> Fresh<fn() -> azimuth_wire::SymmetricKey> {
        let now: SystemTime = self.clock.utc();
        Fresh {
            now: now.into(),
            generation_id: time::dotnet_ticks(now).to_string(),
            counter: u64::from(rand::random_range(100_000_000..1_000_000_000_u32)),
            key: keys::random,
        }
    }

    fn count(&self, before: Option<Status>, after: Option<Status>) {
        let counter = |status| match status {
            Status::Enabled => &self.enabled,
            Status::Disabled => &self.disabled,
        };
        if let Some(status) = after {
            counter(status).fetch_add(1, Ordering::Relaxed);
        }
        if let Some(status) = before {
            counter(status).fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn count_all(&self) -> Result<(), Error> {
        #[derive(Deserialize)]
        struct Counted {
            status: Status,
        }
        let mut after = None;
        loop {
            let page = self.store.scan(ROOM, "", after.as_ref(), 1000)?;
            for (_, document) in &page.documents {
                let Counted { status } = serde_json::from_slice(&document.body)?;
                self.count(None, Some(status));
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }
}

const ROOM: &str = "device";

fn key(device: &DeviceId) -> Key {
    Key::new(ROOM, device.as_str())
}

fn expect(present: Option<&(Document, Identity)>) -> Expect {
    present.map_or(Expect::Absent, |(document, _)| {
        Expect::Version(document.version)
    })
}
