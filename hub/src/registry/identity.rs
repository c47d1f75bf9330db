//! One device identity as it is stored, and the rules of writing it. Pure.
//!
//! May not enter: the store, live state, chance other than what the caller brings.

use azimuth_wire::registry::{
    Authentication, AuthenticationBody, Capabilities, Device, DeviceBody, Status,
};
use azimuth_wire::time::Timestamp;
use azimuth_wire::{DeviceId, SymmetricKey, etag};
use serde::{Deserialize, Serialize};

use super::live::Liveness;
use crate::error::Error;
use azimuth_wire::etag::IfMatch;

/// A device identity without what changes by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    pub device_id: DeviceId,
    pub generation_id: String,
    /// Behind the etag: a random start, one more with each write.
    pub counter: u64,
    pub status: Status,
    pub status_reason: Option<String>,
    pub status_updated_time: Timestamp,
    pub authentication: Authentication,
    /// Whether it is an edge device. Kept and shown; what belongs to one (its scope, its modules) is
    /// not simulated.
    #[serde(default)]
    pub iot_edge: bool,
}

/// What a new identity needs from outside.
pub struct Fresh<K> {
    pub now: Timestamp,
    pub generation_id: String,
    pub counter: u64,
    pub key: K,
}

impl Identity {
    /// The identity that a PUT leaves behind, or Azure's refusal.
    ///
    /// A PUT is a full replace: without `authentication` in the body, new keys are made. Without
    /// `If-Match` it creates and never updates, even when the body has the present etag.
    pub fn put<K: FnMut() -> SymmetricKey>(
        present: Option<&Self>,
        device: &DeviceId,
        if_match: &IfMatch,
        body: DeviceBody,
        fresh: Fresh<K>,
    ) -> Result<Self, Error> {
        check_body(device, &body)?;
        match (present, if_match) {
            (Some(_), IfMatch::Absent) => Err(Error::DeviceAlreadyExists(device.to_string())),
            (None, IfMatch::Absent) => Ok(Self::new(device, body, fresh)),
            (None, IfMatch::Any | IfMatch::Etag(_)) => {
                Err(Error::DeviceNotFound(device.to_string()))
            }
            (Some(present), IfMatch::Any | IfMatch::Etag(_)) => {
                present.check_etag(if_match)?;
                Ok(present.replaced(body, fresh))
            }
        }
    }

    /// Whether a DELETE may remove what is `present`.
    pub fn delete<'a>(
        present: Option<&'a Self>,
        device: &DeviceId,
        if_match: &IfMatch,
    ) -> Result<&'a Self, Error> {
        if *if_match == IfMatch::Absent {
            return Err(Error::EtagMissing);
        }
        let present = present.ok_or_else(|| Error::DeviceNotFound(device.to_string()))?;
        present.check_etag(if_match)?;
        Ok(present)
    }

    /// The unquoted etag.
    pub fn etag(&self) -> String {
        etag::of_counter(self.counter)
    }

    /// The JSON shape, live state merged in.
    pub fn device(&self, live: Liveness) -> Device {
        Device {
            device_id: self.device_id.clone(),
            generation_id: self.generation_id.clone(),
            etag: self.etag(),
            connection_state: live.state,
            status: self.status,
            status_reason: self.status_reason.clone(),
            connection_state_updated_time: live.changed,
            status_updated_time: self.status_updated_time,
            last_activity_time: live.activity,
            cloud_to_device_message_count: 0,
            authentication: self.authentication.clone(),
            capabilities: Capabilities {
                iot_edge: self.iot_edge,
            },
            device_scope: None,
            parent_scopes: Vec::new(),
        }
    }

    fn new<K: FnMut() -> SymmetricKey>(
        device: &DeviceId,
        body: DeviceBody,
        fresh: Fresh<K>,
    ) -> Self {
        Self {
            device_id: device.clone(),
            generation_id: fresh.generation_id,
            counter: fresh.counter,
            status: body.status,
            status_reason: body.status_reason,
            status_updated_time: Timestamp::NEVER,
            authentication: complete(body.authentication, fresh.key),
            iot_edge: body.iot_edge,
        }
    }

    fn replaced<K: FnMut() -> SymmetricKey>(&self, body: DeviceBody, fresh: Fresh<K>) -> Self {
        Self {
            device_id: self.device_id.clone(),
            generation_id: self.generation_id.clone(),
            counter: self.counter.wrapping_add(1),
            status_updated_time: if body.status == self.status {
                self.status_updated_time
            } else {
                fresh.now
            },
            status: body.status,
            status_reason: body.status_reason,
            authentication: complete(body.authentication, fresh.key),
            iot_edge: body.iot_edge,
        }
    }

    fn check_etag(&self, if_match: &IfMatch) -> Result<(), Error> {
        match if_match {
            IfMatch::Etag(wanted) if *wanted != self.etag() => Err(Error::StaleEtag {
                existing: self.counter,
                wanted: shown(wanted),
            }),
            IfMatch::Etag(_) | IfMatch::Any | IfMatch::Absent => Ok(()),
        }
    }
}

/// What this hub cannot keep is refused, not forgotten.
fn check_body(device: &DeviceId, body: &DeviceBody) -> Result<(), Error> {
    if let Some(id) = &body.device_id
        && id != device.as_str()
    {
        return Err(Error::Argument(format!(
            "the deviceId of the body is not `{device}`, as the path says"
        )));
    }
    if body.device_scope.is_some() || !body.parent_scopes.is_empty() {
        return Err(Error::DeviceScope(
            "the scope names no edge device of this hub",
        ));
    }
    Ok(())
}

fn complete(body: AuthenticationBody, mut key: impl FnMut() -> SymmetricKey) -> Authentication {
    match body {
        AuthenticationBody::Sas(Some((primary, secondary))) => {
            Authentication::Sas { primary, secondary }
        }
        AuthenticationBody::Sas(None) => Authentication::Sas {
            primary: key(),
            secondary: key(),
        },
        AuthenticationBody::SelfSigned { primary, secondary } => {
            Authentication::SelfSigned { primary, secondary }
        }
        AuthenticationBody::CertificateAuthority => Authentication::CertificateAuthority,
    }
}

/// The number behind an etag, as Azure prints it; a text that is no etag of ours as it came.
fn shown(etag: &str) -> String {
    etag::counter_of(etag).map_or_else(
        || etag.chars().take(40).collect(),
        |counter| counter.to_string(),
    )
}
