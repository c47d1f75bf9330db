//! Devices and modules on MQTT: what a CONNECT, a PUBLISH and a filter mean at a hub.
//!
//! Translates between the front door and the rooms behind it. May not enter: rules of tokens, of the
//! registry, of sessions.

mod throttle;
mod twins;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use azimuth_broker::{
    Admission, Answer, Backend, CloseReason, Granted, Hello, Inward, Lane, Ledger, Line, Owner,
    Publish, QoS, Refusal, Storing,
};
use azimuth_certs::CaCertificates;
use azimuth_clock::Clock;
use azimuth_wire::message::PropertyBag;
use azimuth_wire::registry::ConnectionState;
use azimuth_wire::topic::hub::{DeviceTopic, Interests, InvalidTopic};
use azimuth_wire::{Identity, ModuleId};

use crate::auth::{Entry, Rules, resource};
use crate::event::intake::{self, Flags, Oversize, Sender};
use crate::event::partition_for;
use crate::notification::Notifier;
use crate::quota::Meter;
use crate::registry::{DeviceLife, Registry};

use twins::{Asks, Request, Waiting};

/// The hub as the front door sees it.
pub struct DeviceDoor {
    pub rules: Arc<Rules>,
    pub registry: Arc<Registry>,
    pub ca_certificates: Arc<CaCertificates>,
    pub notifier: Arc<Notifier>,
    pub ledger: Arc<Ledger>,
    pub clock: Arc<dyn Clock>,
    /// Where the hub has a tier.
    pub meter: Option<Arc<Meter>>,
    /// Of the event log, and lanes of the router.
    pub partitions: u8,
    pub sas_grace: Duration,
    pub longest_silence: Duration,
    /// How long a connection that was lost is shown and told to be there; nothing is at once.
    pub lost_after: Duration,
}

/// A device or module on the line: everything a message needs, worked out once.
#[derive(Clone)]
pub struct Principal(Arc<Inside>);

struct Inside {
    owner: Owner,
    identity: Identity,
    auth_method: &'static str,
    model_id: Option<Box<str>>,
    /// Without one, a session of the first product generation: no twins.
    has_api_version: bool,
    lane: Lane,
    life: Arc<DeviceLife>,
    /// Since it arrived.
    line: OnceLock<Line>,
    waiting: Waiting,
    /// It sent telemetry or listens to messages of the cloud, so its connection was told.
    told: AtomicBool,
}

impl azimuth_broker::Principal for Principal {
    fn owner(&self) -> &Owner {
        &self.0.owner
    }
}

impl Backend for DeviceDoor {
    type Principal = Principal;

    async fn authenticate(&self, hello: Hello) -> Result<Admission<Principal>, Refusal> {
        self.may_connect()?;
        let now = self.clock.utc();
        let entry = self
            .rules
            .device(&hello, &self.ca_certificates.live(), now, |name| {
                self.registry.identity(name)
            })?;
        let expires = entry.expiry.and_then(|expiry| self.expires(expiry, now));
        Ok(Admission {
            principal: self.principal(entry)?,
            expires,
            longest_silence: self.longest_silence,
            persistent_sessions: true,
        })
    }

    fn publish(&self, from: &Principal, publish: Publish<'_>) -> Result<Inward, Refusal> {
        let device = &*from.0;
        let topic = DeviceTopic::parse(publish.topic, &device.identity).map_err(unknown_topic)?;
        let now = self.clock.utc();
        match topic {
            DeviceTopic::Telemetry(bag) => {
                self.may_send(&bag, publish.payload, now)?;
                let stored = telemetry(device, &bag, publish)?;
                device.life.message(now);
                if !publish.will {
                    self.tell(device, now);
                }
                Ok(stored)
            }
            DeviceTopic::TwinGet { request_id } => {
                device.life.touch(now);
                let request = Request {
                    id: request_id.into(),
                    asks: Asks::Read,
                };
                Ok(Inward::Answer(self.twin(from, request)))
            }
            DeviceTopic::TwinPatchReported {
                request_id,
                if_version,
            } => {
                device.life.touch(now);
                let patch = publish.payload.clone();
                let request = Request {
                    id: request_id.into(),
                    asks: Asks::Report { patch, if_version },
                };
                Ok(Inward::Answer(self.twin(from, request)))
            }
            // No method was called, so nobody waits; Azure drops late answers in silence too.
            DeviceTopic::MethodResponse { .. } => {
                device.life.touch(now);
                Ok(Inward::Answer(None))
            }
        }
    }

    fn subscribe(&self, who: &Principal, filter: &str, wanted: QoS) -> Result<Granted, Refusal> {
        let interests = known_filter(&who.0.identity, filter)?;
        let now = self.clock.utc();
        who.0.life.touch(now);
        if interests.cloud_to_device {
            self.tell(&who.0, now);
        }
        Ok(Granted::UpTo(wanted))
    }

    fn unsubscribe(&self, who: &Principal, filter: &str) -> Result<(), Refusal> {
        known_filter(&who.0.identity, filter).map(|_| ())
    }

    fn opened(&self, storing: Storing) {
        self.notifier.opened(Box::new(storing));
    }

    fn arrived(&self, who: &Principal, line: &Line) {
        who.0.life.connected(self.clock.utc());
        // Only ever this one: a principal is made for one connection.
        let _ = who.0.line.set(line.clone());
        // Between the look at the registry and this call, it may have been deleted or its device disabled.
        let generation_id = who.0.life.generation_id();
        let admitted = self.registry.admits(&who.0.identity, generation_id);
        if !matches!(admitted, Ok(true)) {
            line.close(CloseReason::Removed(REMOVED_MEANWHILE));
        }
    }

    fn restored(&self, who: &Principal, filter: &str) {
        let interests = Interests::parse(filter, &who.0.identity);
        if interests.is_some_and(|interests| interests.cloud_to_device) {
            self.tell(&who.0, self.clock.utc());
        }
    }

    fn left(&self, who: &Principal, reason: &CloseReason) {
        tracing::debug!(device.id = %who.0.owner, ?reason, "a device left");
        let now = self.clock.utc();
        let lost = matches!(reason, CloseReason::Lost | CloseReason::KeepAlive);
        let ends = match lost {
            true => now + self.lost_after,
            false => now,
        };
        match ends > now {
            true => who.0.life.lost(ends),
            false => who.0.life.disconnected(now),
        }
        if who.0.told.load(Ordering::Relaxed) {
            let identity = &who.0.identity;
            match reason {
                CloseReason::Shutdown => self.notifier.ended(identity),
                _ => self
                    .notifier
                    .connection(identity, ConnectionState::Disconnected, ends),
            }
        }
    }
}

impl DeviceDoor {
    fn principal(&self, entry: Entry) -> Result<Principal, Refusal> {
        let identity = entry.user_name.identity;
        let life = self
            .registry
            .live()
            .of(&identity, &entry.identity.generation_id)
            .map_err(|error| {
                let sentence = format!("the hub could not look the identity up: {error}");
                Refusal::new("store", Answer::Connack(3), sentence)
            })?;
        let partition = partition_for(identity.device.as_str(), self.partitions.into());
        Ok(Principal(Arc::new(Inside {
            owner: Owner::new(&identity.to_string()),
            auth_method: entry.auth_method,
            model_id: entry.user_name.model_id.map(Into::into),
            has_api_version: entry.user_name.api_version.is_some(),
            lane: Lane(u8::try_from(partition).unwrap_or(u8::MAX)),
            identity,
            life,
            line: OnceLock::new(),
            waiting: Waiting::default(),
            told: AtomicBool::new(false),
        })))
    }

    /// The first telemetry of a connection, or its first wish for messages of the cloud: only then Azure tells of it.
    fn tell(&self, device: &Inside, now: SystemTime) {
        if self.notifier.hears_connections() && !device.told.swap(true, Ordering::Relaxed) {
            self.notifier
                .connection(&device.identity, ConnectionState::Connected, now);
        }
    }

    /// When a connection opened with a token that ends at `expiry` is ended.
    fn expires(&self, expiry: u64, now: SystemTime) -> Option<std::time::Instant> {
        let end = UNIX_EPOCH
            .checked_add(Duration::from_secs(expiry))?
            .checked_add(self.sas_grace)?;
        let left = end.duration_since(now).unwrap_or_default();
        self.clock.now().checked_add(left)
    }
}

fn telemetry(
    device: &Inside,
    bag: &PropertyBag<'_>,
    publish: Publish<'_>,
) -> Result<Inward, Refusal> {
    let sender = Sender {
        device_id: device.identity.device.as_str(),
        module_id: device.identity.module.as_ref().map(ModuleId::as_str),
        generation_id: device.life.generation_id(),
        auth_method: device.auth_method,
        model_id: device.model_id.as_deref(),
    };
    let flags = Flags {
        retain: publish.retain,
        duplicate: publish.duplicate,
        will: publish.will,
    };
    let envelope = intake::envelope(sender, bag, flags, publish.payload).map_err(oversize)?;
    Ok(Inward::Store {
        lane: device.lane,
        envelope,
    })
}

fn oversize(Oversize { body, properties }: Oversize) -> Refusal {
    let (total, limit) = (body + properties, intake::LIMIT);
    let sentence = format!(
        "the message has {total} bytes, {} more than the {limit} that body and properties may have together",
        total.saturating_sub(limit)
    );
    Refusal::new("oversize", Answer::Close, sentence)
        .fact("bytes of the body", body)
        .fact("bytes of the properties", properties)
        .fact("bytes allowed", limit)
}

fn unknown_topic(invalid: InvalidTopic) -> Refusal {
    let kind = match invalid {
        InvalidTopic::Unknown { .. } => "unknown-topic",
        InvalidTopic::Bag(_) => "malformed-bag",
        InvalidTopic::RequestId | InvalidTopic::Version(_) | InvalidTopic::Status(_) => {
            "malformed-topic"
        }
    };
    Refusal::new(kind, Answer::Close, invalid.to_string())
}

/// A hub closes the connection over a filter it does not know; it does not answer SUBACK 0x80.
fn known_filter(identity: &Identity, filter: &str) -> Result<Interests, Refusal> {
    if let Some(interests) = Interests::parse(filter, identity) {
        return Ok(interests);
    }
    let shown: String = filter.chars().take(200).collect();
    let own = resource(identity);
    let sentence = format!(
        "`{shown}` is not a filter of `{identity}`; a hub knows `{own}/messages/devicebound/#`, \
         `$iothub/twin/res/#`, `$iothub/twin/PATCH/properties/desired/#`, `$iothub/methods/POST/#` and `#`"
    );
    Err(Refusal::new("unknown-filter", Answer::Close, sentence).fact("filter", shown))
}

const REMOVED_MEANWHILE: &str = "the identity was deleted or disabled while it connected";
