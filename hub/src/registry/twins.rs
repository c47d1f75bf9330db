//! Twins in the store: beside their identity, never without it.
//!
//! A twin that nobody wrote is not stored; it follows from its identity. So identities of any age have
//! one, and a million of them cost nothing. May not enter: what a write does to a twin.

use std::hash::{DefaultHasher, Hash, Hasher};

use azimuth_storage::{Change, Document, Expect, Key};
use azimuth_wire::Identity as Name;
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
    pub async fn turn(&self, name: &Name) -> MutexGuard<'_, ()> {
        let turns = &self.turns.0;
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let place = hasher.finish() % turns.len() as u64;
        turns[place as usize].lock().await
    }

    /// The twin as a service sees it.
    pub fn twin(&self, name: &Name) -> Result<twin::Twin, Error> {
        let identity = self.identity(name)?;
        let identity = identity.ok_or_else(|| no_twin(name))?;
        let (_, twin) = self.load_twin(&identity)?;
        self.shown_twin(&identity, &twin)
    }

    /// The twin as the device of this generation sees it.
    pub fn own_twin(&self, name: &Name, generation_id: &str) -> Result<Value, Error> {
        let identity = self.identity(name)?;
        let identity = identity.filter(|identity| identity.generation_id == generation_id);
        let identity = identity.ok_or_else(|| no_twin(name))?;
        Ok(self.load_twin(&identity)?.1.for_device())
    }

    /// Merges tags and desired properties.
    pub async fn patch_twin(
        &self,
        name: &Name,
        if_match: &IfMatch,
        patch: &TwinBody,
    ) -> Result<TwinWritten, Error> {
        self.write_twin(name, if_match, |twin, now| twin.patched(patch, now))
            .await
    }

    /// Replaces tags and desired properties.
    pub async fn replace_twin(
        &self,
        name: &Name,
        if_match: &IfMatch,
        body: &TwinBody,
    ) -> Result<TwinWritten, Error> {
        self.write_twin(name, if_match, |twin, now| twin.replaced(body, now))
            .await
    }

    /// Merges reported properties of the device of this generation; hands out their new version.
    pub async fn report(
        &self,
        name: &Name,
        generation_id: &str,
        patch: &Map<String, Value>,
        if_version: Option<u64>,
    ) -> Result<u64, Error> {
        loop {
            let present = self.load(name)?;
            let present = present.filter(|(_, identity)| identity.generation_id == generation_id);
            let (beside, identity) = present.ok_or_else(|| no_twin(name))?;
            let (stored, twin) = self.load_twin(&identity)?;
            let twin = twin.reported(patch, if_version, self.clock.utc().into())?;
            if self
                .commit_twin(name, &beside, stored.as_ref(), &twin)
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
        let change = store(&after.name(), stored.as_ref(), &twin)?;
        Ok(Some((change, desired)))
    }

    async fn write_twin(
        &self,
        name: &Name,
        if_match: &IfMatch,
        change: impl Fn(&Twin, Timestamp) -> Result<Option<Written>, Error>,
    ) -> Result<TwinWritten, Error> {
        loop {
            let present = self.load(name)?;
            let (beside, identity) = present.ok_or_else(|| no_twin(name))?;
            let (stored, twin) = self.load_twin(&identity)?;
            twin.check_etag(if_match, &name.to_string())?;
            let Some(Written { twin, desired }) = change(&twin, self.clock.utc().into())? else {
                return Ok(TwinWritten {
                    twin: self.shown_twin(&identity, &twin)?,
                    desired: None,
                });
            };
            if self
                .commit_twin(name, &beside, stored.as_ref(), &twin)
                .await?
            {
                return Ok(TwinWritten {
                    twin: self.shown_twin(&identity, &twin)?,
                    desired,
                });
            }
        }
    }

    /// Commits a twin while its identity is as it was.
    async fn commit_twin(
        &self,
        name: &Name,
        beside: &Document,
        stored: Option<&Document>,
        twin: &Twin,
    ) -> Result<bool, Error> {
        let changes = vec![
            Change::require(key(name), Expect::Version(beside.version)),
            store(name, stored, twin)?,
        ];
        self.commit(changes).await
    }

    pub(super) fn load_twin(&self, identity: &Identity) -> Result<(Option<Document>, Twin), Error> {
        let stored = self.store.get(&twin_key(&identity.name()))?;
        of(identity, stored)
    }

    pub(super) fn shown_twin(&self, identity: &Identity, twin: &Twin) -> Result<twin::Twin, Error> {
        let live = self
            .live()
            .liveness(&identity.name(), &identity.generation_id)?;
        shown(identity, twin, live)
    }
}

/// A twin beside its identity, as a service sees it.
pub(super) fn shown(identity: &Identity, twin: &Twin, live: Liveness) -> Result<twin::Twin, Error> {
    let is_device = identity.module_id.is_none();
    Ok(twin::Twin {
        device_id: identity.device_id.clone(),
        module_id: identity.module_id.clone(),
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
        capabilities: is_device.then_some(Capabilities {
            iot_edge: identity.iot_edge,
        }),
        device_scope: identity.device_scope.clone(),
        parent_scopes: identity.parent_scopes.clone(),
    })
}

/// The change that removes a twin together with its identity.
pub(super) fn erase(name: &Name) -> Change {
    Change::delete(twin_key(name), Expect::Anything)
}

/// The twin of an identity, from the document under its name if that is its own.
pub(super) fn of(
    identity: &Identity,
    stored: Option<Document>,
) -> Result<(Option<Document>, Twin), Error> {
    let twin = stored
        .as_ref()
        .map(|document| serde_json::from_slice(&document.body));
    let twin = own(identity, twin.transpose()?);
    Ok((stored, twin))
}

/// A twin that was read, or the first one where it belongs to an earlier identity of that name.
pub(super) fn own(identity: &Identity, read: Option<Twin>) -> Twin {
    let own = read.filter(|twin| twin.generation_id == identity.generation_id);
    own.unwrap_or_else(|| {
        // A module's twin does not say when it was made.
        let created = match &identity.module_id {
            None => identity.generation_id.parse().ok(),
            Some(_) => None,
        };
        let created = created.map_or(Timestamp::NEVER, time::of_dotnet_ticks);
        Twin::initial(&identity.generation_id, created)
    })
}

pub(super) fn twin_key(name: &Name) -> Key {
    let room = match name.module {
        None => OF_DEVICES,
        Some(_) => OF_MODULES,
    };
    Key::new(room, &name.to_string())
}

pub(super) const OF_DEVICES: &str = "twin";
pub(super) const OF_MODULES: &str = "module-twin";

fn store(name: &Name, stored: Option<&Document>, twin: &Twin) -> Result<Change, Error> {
    let expect = stored.map_or(Expect::Absent, |document| Expect::Version(document.version));
    Ok(Change::put(
        twin_key(name),
        expect,
        serde_json::to_vec(twin)?,
    ))
}

/// Azure names the device, also where its module is missing.
fn no_twin(name: &Name) -> Error {
    Error::DeviceNotFound(name.to_string())
}

pub(super) fn thumbprints(authentication: &Authentication) -> Thumbprints {
    match authentication {
        Authentication::SelfSigned { primary, secondary } => Thumbprints {
            primary_thumbprint: primary.clone(),
            secondary_thumbprint: secondary.clone(),
        },
        Authentication::Sas { .. }
        | Authentication::CertificateAuthority
        | Authentication::None => Thumbprints::default(),
    }
}
