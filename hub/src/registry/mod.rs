//! The identity registry: create, read, update, list, delete, count; each write answered once stored.
//!
//! May not enter: HTTP, MQTT, tokens. Callers bring typed ids and bodies and get identities back.

mod bulk;
mod identity;
mod live;
mod members;
mod modules;
mod page;
mod rows;
mod scope;
mod telling;
mod twins;
mod write;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use azimuth_clock::Clock;
use azimuth_storage::{Document, Key, Store};
use azimuth_wire::registry::{DeviceStatistics, ServiceStatistics, Status};
use azimuth_wire::{DeviceId, Identity as Name, time};
use serde::Deserialize;

pub use bulk::Applied;
pub use identity::{Fresh, Identity, Shown};
pub use live::{DeviceLife, Live, Liveness, Row};
pub use page::{Collection, Page, Pair};
pub use rows::{Documents, Rows};
pub use write::Written;

use crate::error::Error;
use crate::keys;
use crate::notification::Notifier;

/// The devices of one hub and their modules.
pub struct Registry {
    hub: Box<str>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    live: Live,
    turns: twins::Turns,
    enabled: AtomicU64,
    disabled: AtomicU64,
    /// Devices that there may be.
    most: u64,
    /// Who is told of what is made and removed.
    notifier: Option<Arc<Notifier>>,
}

impl Registry {
    /// Of the hub of this name. Reads the store once, to count.
    pub fn open(hub: &str, store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let live = Live::new(store.clone(), clock.utc());
        let registry = Self {
            hub: hub.into(),
            store,
            clock,
            live,
            turns: twins::Turns::default(),
            enabled: AtomicU64::new(0),
            disabled: AtomicU64::new(0),
            most: u64::MAX,
            notifier: None,
        };
        registry.count_all()?;
        Ok(registry)
    }

    /// The same, and what is made and removed is told.
    pub fn telling(self, notifier: Arc<Notifier>) -> Self {
        Self {
            notifier: Some(notifier),
            ..self
        }
    }

    /// The identity as stored.
    pub fn identity(&self, name: &Name) -> Result<Option<Identity>, Error> {
        Ok(self.load(name)?.map(|(_, identity)| identity))
    }

    /// The identity as a service sees it.
    pub fn read(&self, name: &Name) -> Result<Shown, Error> {
        let identity = self.identity(name)?;
        self.shown(&identity.ok_or_else(|| Error::not_found(name))?)
    }

    /// The first `limit` devices in the order of their ids.
    pub fn devices(&self, limit: usize) -> Result<Vec<Shown>, Error> {
        let page = self.store.scan(DEVICES, "", None, limit)?;
        let documents = page.documents.iter();
        documents
            .map(|(_, document)| self.shown(&serde_json::from_slice(&document.body)?))
            .collect()
    }

    /// The modules of a device in the order of their ids.
    pub fn modules(&self, device: &DeviceId) -> Result<Vec<Shown>, Error> {
        let modules = self.modules_of(device)?;
        let modules = modules.iter();
        modules.map(|(_, module)| self.shown(module)).collect()
    }

    /// Whether an identity of this generation may be on the line: it is there still, and its device, which
    /// for a device is itself, is enabled.
    pub fn admits(&self, name: &Name, generation_id: &str) -> Result<bool, Error> {
        let identity = self.identity(name)?;
        let present = identity.filter(|identity| identity.generation_id == generation_id);
        let device = match (&name.module, present) {
            (_, None) => return Ok(false),
            (None, Some(device)) => Some(device),
            (Some(_), Some(_)) => self.identity(&name.of_device())?,
        };
        Ok(device.is_some_and(|device| device.status == Status::Enabled))
    }

    /// No more devices than that are made from now on.
    pub fn allowing(self, most: u64) -> Self {
        Self { most, ..self }
    }

    /// Whether there is room for one more device.
    fn has_room(&self) -> Result<(), Error> {
        let count = self.statistics().total_device_count;
        if count < self.most {
            return Ok(());
        }
        Err(Error::TooManyDevices {
            hub: self.hub.to_string(),
            most: self.most,
            count,
        })
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
            connected_device_count: self.live().connected(),
        }
    }

    /// As it is now.
    pub fn live(&self) -> &Live {
        self.live.settle(self.clock.utc());
        &self.live
    }

    fn load(&self, name: &Name) -> Result<Option<(Document, Identity)>, Error> {
        let Some(document) = self.store.get(&key(name))? else {
            return Ok(None);
        };
        let identity = serde_json::from_slice(&document.body)?;
        Ok(Some((document, identity)))
    }

    fn shown(&self, identity: &Identity) -> Result<Shown, Error> {
        let liveness = self
            .live()
            .liveness(&identity.name(), &identity.generation_id)?;
        Ok(identity.shown(liveness))
    }

    fn fresh(&self) -> Fresh<'_, fn() -> azimuth_wire::SymmetricKey> {
        let now: SystemTime = self.clock.utc();
        Fresh {
            now: now.into(),
            generation_id: time::dotnet_ticks(now).to_string(),
            counter: u64::from(rand::random_range(100_000_000..1_000_000_000_u32)),
            key: keys::random,
            hub: &self.hub,
        }
    }

    /// A device came, changed or went. Modules are no devices.
    fn count(&self, before: Option<&Identity>, after: Option<&Identity>) {
        let device = |identity: Option<&Identity>| {
            let device = identity.filter(|identity| identity.module_id.is_none());
            device.map(|device| device.status)
        };
        if let Some(status) = device(after) {
            self.counter(status).fetch_add(1, Ordering::Relaxed);
        }
        if let Some(status) = device(before) {
            self.counter(status).fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn counter(&self, status: Status) -> &AtomicU64 {
        match status {
            Status::Enabled => &self.enabled,
            Status::Disabled => &self.disabled,
        }
    }

    fn count_all(&self) -> Result<(), Error> {
        #[derive(Deserialize)]
        struct Counted {
            status: Status,
        }
        let mut after = None;
        loop {
            let page = self.store.scan(DEVICES, "", after.as_ref(), 1000)?;
            for (_, document) in &page.documents {
                let Counted { status } = serde_json::from_slice(&document.body)?;
                self.counter(status).fetch_add(1, Ordering::Relaxed);
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }
}

const DEVICES: &str = "device";
const MODULES: &str = "module";

/// A device under its id, a module under `device/module`.
fn key(name: &Name) -> Key {
    let room = match name.module {
        None => DEVICES,
        Some(_) => MODULES,
    };
    Key::new(room, &name.to_string())
}
