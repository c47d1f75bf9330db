//! Twins in the store: beside their identity, never without it.
//!
//! A twin that nobody wrote is not stored; it follows from its identity. So identities of any age have
//! one, and a million of them cost nothing. May not enter: what a write does to a twin.

use std::hash::{DefaultHasher, Hash, Hasher};

use azimuth_storage::{Change, Document, Expect, Key};
use azimuth_wire::DeviceId;
use azimuth_wire::etag::IfMatch;
use azimuth_wire::registry::{Authentication, Capabilities};
use azimuth_wire::time::{self, Timestamp};
use azimuth_wire::twin::{self, Properties, Thumbprints, TwinBody};
use serde_json::{Map, Value};
use tokio::sync::{Mutex, MutexGuard};

use super::{Identity, Liveness, Registry, key};
use crate::error::Error;
use crate::twin::{DesiredChange, Twin, Written};

/// Writes of twins that devices are told of, one after the other for each device: a device takes no version
/// that is older than one it has heard of, so each must be told before the next is written. Devices share
/// a fixed number of turns.
pub(super) struct Turns([Mutex<()>; 256]);

impl Default for Turns {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::const_new(())))
    }
}

/// A twin after a write of a service.
#[derive(Debug)]
pub struct TwinWritten {
    pub twin: twin::Twin,
    pub desired: Option<DesiredChange>,
}

impl Registry {
    /// Waits for the turn to write the twin of a device and to tell the device of it.
    pub async fn turn(&self, device: &DeviceId) -> MutexGuard<'_, ()> {
        let turns = &self.turns.0;
        let mut hasher = DefaultHasher::new();
        device.hash(&mut hasher);
        let place = hasher.finish() % turns.len() as u64;
        turns[place as usize].lock().await
    }

    /// The twin as a service sees it.
    pub fn twin(&self, device: &DeviceId) -> Result<twin::Twin, Error> {
        let identity = self.identity(device)?;
        let identity = identity.ok_or_else(|| Error::DeviceNotFound(device.to_string()))?;
        let (_, twin) = self.load_twin(&identity)?;
        self.shown(&identity, &twin)
    }

    /// The twin as the device of this generation sees it.
    pub fn own_twin(&self, device: &DeviceId, generation_id: &str) -> Result<Value, Error> {
        let identity = self.identity(device)?;
        let identity = identity.filter(|identity| identity.generation_id == generation_id);
        let identity = identity.ok_or_else(|| Error::DeviceNotFound(device.to_string()))?;
        Ok(self.load_twin(&identity)?.1.for_device())
    }

    /// Merges tags and desired properties.
    pub async fn patch_twin(
        &self,
        device: &DeviceId,
        if_match: &IfMatch,
        patch: &TwinBody,
    ) -> Result<TwinWritten, Error> {
        self.write_twin(device, if_match, |twin, now| twin.patched(patch, now))
            .await
    }

    /// Replaces tags and desired properties.
    pub async fn replace_twin(
        &self,
        device: &DeviceId,
        if_match: &IfMatch,
        body: &TwinBody,
    ) -> Result<TwinWritten, Error> {
        self.write_twin(device, if_match, |twin, now| twin.replaced(body, now))
            .await
    }

    /// Merges reported properties of the device of this generation; hands out their new version.
    pub async fn report(
        &self,
        device: &DeviceId,
        generation_id: &str,
        patch: &Map<String, Value>,
        if_version: Option<u64>,
    ) -> Result<u64, Error> {
        loop {
            let present = self.load(device)?;
            let present = present.filter(|(_, identity)| identity.generation_id == generation_id);
            let (beside, identity) =
                present.ok_or_else(|| Error::DeviceNotFound(device.to_string()))?;
            let (stored, twin) = self.load_twin(&identity)?;
            let twin = twin.reported(patch, if_version, self.clock.utc().into())?;
            if self
                .commit_twin(device, &beside, stored.as_ref(), &twin)
                .await?
            {
                return Ok(twin.reported.version);
            }
        }
    }

    /// The change that stores the twin that `content` makes of the present one, if it changes it.
    pub(super) fn twin_beside(
        &self,
        before: Option<&Identity>,
        after: &Identity,
        content: &TwinBody,
    ) -> Result<Option<(Change, Option<DesiredChange>)>, Error> {
        if content.is_empty() {
            return Ok(None);
        }
        let (stored, twin) = self.load_twin(after)?;
        let written = match before {
            None => Some(Written {
                twin: twin.with_content(content)?,
                desired: None,
            }),
            Some(_) => twin.updated(content, self.clock.utc().into())?,
        };
        let Some(Written { twin, desired }) = written else {
            return Ok(None);
        };
        let change = store(&after.device_id, stored.as_ref(), &twin)?;
        Ok(Some((change, desired)))
    }

    async fn write_twin(
        &self,
        device: &DeviceId,
        if_match: &IfMatch,
        change: impl Fn(&Twin, Timestamp) -> Result<Option<Written>, Error>,
    ) -> Result<TwinWritten, Error> {
        loop {
            let present = self.load(device)?;
            let (beside, identity) =
                present.ok_or_else(|| Error::DeviceNotFound(device.to_string()))?;
            let (stored, twin) = self.load_twin(&identity)?;
            twin.check_etag(if_match, device.as_str())?;
            let Some(Written { twin, desired }) = change(&twin, self.clock.utc().into())? else {
                return Ok(TwinWritten {
                    twin: self.shown(&identity, &twin)?,
                    desired: None,
                });
            };
            if self
                .commit_twin(device, &beside, stored.as_ref(), &twin)
                .await?
            {
                return Ok(TwinWritten {
                    twin: self.shown(&identity, &twin)?,
                    desired,
                });
            }
        }
    }

    /// Commits a twin while its identity is as it was.
    async fn commit_twin(
        &self,
        device: &DeviceId,
        beside: &Document,
        stored: Option<&Document>,
        twin: &Twin,
    ) -> Result<bool, Error> {
        let changes = vec![
            Change::require(key(device), Expect::Version(beside.version)),
            store(device, stored, twin)?,
        ];
        self.commit(changes).await
    }

    fn load_twin(&self, identity: &Identity) -> Result<(Option<Document>, Twin), Error> {
        let document = self.store.get(&twin_key(&identity.device_id))?;
        let twin = document
            .as_ref()
            .map(|document| serde_json::from_slice(&document.body))
            .transpose()?;
        Ok((document, own(identity, twin)))
    }

    fn shown(&self, identity: &Identity, twin: &Twin) -> Result<twin::Twin, Error> {
        let live = self
            .live
            .liveness(&identity.device_id, &identity.generation_id)?;
        shown(identity, twin, live)
    }
}

/// A twin beside its identity, as a service sees it.
pub(super) fn shown(identity: &Identity, twin: &Twin, live: Liveness) -> Result<twin::Twin, Error> {
    Ok(twin::Twin {
        device_id: identity.device_id.clone(),
        etag: twin.etag(),
        device_etag: identity.etag(),
        status: identity.status,
        status_reason: identity.status_reason.clone(),
        status_update_time: identity.status_updated_time,
        connection_state: live.state,
        last_activity_time: live.activity,
        cloud_to_device_message_count: 0,
        authentication_type: identity.authentication.kind(),
        x509_thumbprint: thumbprints(&identity.authentication),
        model_id: String::new(),
        version: twin.version,
        tags: twin.tags.clone(),
        properties: Properties {
            desired: twin.desired.for_service()?,
            reported: twin.reported.for_service()?,
        },
        capabilities: Capabilities {
            iot_edge: identity.iot_edge,
        },
    })
}

/// The twin of an identity: the one stored under its name, if that is its own.
pub(super) fn own(identity: &Identity, stored: Option<Twin>) -> Twin {
    let own = stored.filter(|twin| twin.generation_id == identity.generation_id);
    own.unwrap_or_else(|| {
        let created = identity.generation_id.parse();
        let created = created.map_or(Timestamp::NEVER, time::of_dotnet_ticks);
        Twin::initial(&identity.generation_id, created)
    })
}

/// The change that removes a twin together with its identity.
pub(super) fn erase(device: &DeviceId) -> Change {
    Change::delete(twin_key(device), Expect::Anything)
}

fn store(device: &DeviceId, stored: Option<&Document>, twin: &Twin) -> Result<Change, Error> {
    let expect = stored.map_or(Expect::Absent, |document| Expect::Version(document.version));
    Ok(Change::put(
        twin_key(device),
        expect,
        serde_json::to_vec(twin)?,
    ))
}

fn thumbprints(authentication: &Authentication) -> Thumbprints {
    match authentication {
        Authentication::SelfSigned { primary, secondary } => Thumbprints {
            primary_thumbprint: primary.clone(),
            secondary_thumbprint: secondary.clone(),
        },
        Authentication::Sas { .. } | Authentication::CertificateAuthority => Thumbprints::default(),
    }
}

pub(super) fn twin_key(device: &DeviceId) -> Key {
    Key::new("twin", device.as_str())
}
