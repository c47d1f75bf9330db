//! Notifications: what a hub says of its own accord, when an identity is made or deleted, connects or disconnects.
//!
//! As messages among the telemetry of the event log, where a source of them is asked for, and as events of Event Grid
//! (`event_grid`). Here is what they say; [`Notifier`] sees to it that they are said. May not enter: HTTP, who subscribes.
//!
//! ```text
//!  registry ─ created, deleted ─► outbox, in the commit of the identity ─► lane ─► event log ─► gone from the outbox
//!  devices ── connected, disconnected ────────────────────────────────────► lane ─► event log
//! ```

mod notifier;
mod number;
mod outbox;
mod snapshot;

use std::collections::BTreeSet;

use azimuth_wire::Identity;
use azimuth_wire::time::Timestamp;
use serde_json::{Map, Value, json};

pub use notifier::{Announcement, Lanes, Notifier, NotifierConfig, Stored};
pub use number::{Number, Numbers};

use crate::error::Error;
use crate::event::{Event, Pairs};
use crate::twin::Twin;

/// What happened to an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    Created,
    Deleted,
    Connected,
    Disconnected,
}

/// A message source that a hub has beside the devices' own messages. A route asks for one by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    DeviceLifecycle,
    ModuleLifecycle,
    DeviceConnectionState,
}

/// The sources that are written to the event log.
pub type Sources = BTreeSet<Source>;

impl Source {
    pub const ALL: [Self; 3] = [
        Self::DeviceLifecycle,
        Self::ModuleLifecycle,
        Self::DeviceConnectionState,
    ];

    fn of(happening: Happening, identity: &Identity) -> Self {
        match (happening, &identity.module) {
            (Happening::Created | Happening::Deleted, None) => Self::DeviceLifecycle,
            (Happening::Created | Happening::Deleted, Some(_)) => Self::ModuleLifecycle,
            (Happening::Connected | Happening::Disconnected, _) => Self::DeviceConnectionState,
        }
    }

    /// As routes name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::DeviceLifecycle => "DeviceLifecycleEvents",
            Self::ModuleLifecycle => "ModuleLifecycleEvents",
            Self::DeviceConnectionState => "DeviceConnectionStateEvents",
        }
    }

    /// As messages name it.
    fn message_source(self) -> &'static str {
        match self {
            Self::DeviceLifecycle => "deviceLifecycleEvents",
            Self::ModuleLifecycle => "moduleLifecycleEvents",
            Self::DeviceConnectionState => "deviceConnectionStateEvents",
        }
    }

    fn schema(self) -> &'static str {
        match self {
            Self::DeviceLifecycle => "deviceLifecycleNotification",
            Self::ModuleLifecycle => "moduleLifecycleNotification",
            Self::DeviceConnectionState => "deviceConnectionStateNotification",
        }
    }
}

/// Something to be told.
#[derive(Debug, Clone, Copy)]
pub struct Notification<'a> {
    pub hub: &'a str,
    pub identity: &'a Identity,
    pub happening: Happening,
    pub at: Timestamp,
    pub number: Number,
}

impl Notification<'_> {
    fn source(&self) -> Source {
        Source::of(self.happening, self.identity)
    }

    /// As it stands in the event log.
    fn envelope(&self, body: &Value) -> Vec<u8> {
        let Self { hub, identity, .. } = *self;
        let source = self.source();
        let (at, body) = (self.at.to_seven_digits(), body.to_string());
        let correlation = format!("{:012x}", self.number.correlation());
        let device = identity.device.as_str();
        let module = identity.module.as_ref().map(|module| module.as_str());
        let mut application = vec![("hubName", Some(hub)), ("deviceId", Some(device))];
        application.extend(module.map(|module| ("moduleId", Some(module))));
        application.extend([
            ("operationTimestamp", Some(at.as_str())),
            ("opType", Some(self.operation())),
            ("iothub-message-schema", Some(source.schema())),
        ]);
        let mut bytes = Vec::new();
        Event {
            device_id: device,
            module_id: module,
            generation_id: "",
            auth_method: "",
            source: source.message_source(),
            system: Pairs::new(&[
                ("content-type", "application/json"),
                ("content-encoding", "utf-8"),
                ("correlation-id", &correlation),
                ("user-id", hub),
            ]),
            application: Pairs::new(&application),
            body: body.as_bytes(),
        }
        .encode(&mut bytes);
        bytes
    }

    /// As in `opType`.
    fn operation(&self) -> &'static str {
        match (self.happening, &self.identity.module) {
            (Happening::Created, None) => "createDeviceIdentity",
            (Happening::Created, Some(_)) => "createModuleIdentity",
            (Happening::Deleted, None) => "deleteDeviceIdentity",
            (Happening::Deleted, Some(_)) => "deleteModuleIdentity",
            (Happening::Connected, None) => "deviceConnected",
            (Happening::Connected, Some(_)) => "moduleConnected",
            (Happening::Disconnected, None) => "deviceDisconnected",
            (Happening::Disconnected, Some(_)) => "moduleDisconnected",
        }
    }

    /// What is said of a connection.
    fn state(&self) -> Value {
        json!({ "sequenceNumber": self.number.to_string() })
    }
}

/// What is said of an identity: its twin, as it is at its begin or was at its end.
fn lifecycle(identity: &Identity, twin: &Twin) -> Result<Value, Error> {
    let mut body = Map::new();
    body.insert("deviceId".into(), identity.device.as_str().into());
    if let Some(module) = &identity.module {
        body.insert("moduleId".into(), module.as_str().into());
    }
    body.insert("etag".into(), twin.etag().into());
    body.insert("version".into(), twin.version.into());
    if !twin.tags.is_empty() {
        body.insert("tags".into(), twin.tags.clone().into());
    }
    let (desired, reported) = (twin.desired.for_service()?, twin.reported.for_service()?);
    body.insert(
        "properties".into(),
        json!({ "desired": desired, "reported": reported }),
    );
    Ok(body.into())
}

#[cfg(test)]
mod tests;
