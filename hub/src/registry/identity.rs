//! One identity as it is stored, of a device or of a module, and the rules of writing it. Pure.
//!
//! May not enter: the store, live state, chance other than what the caller brings.

use azimuth_wire::etag::{self, IfMatch};
use azimuth_wire::registry::regeneration::PolicyKey;
use azimuth_wire::registry::{
    Authentication, AuthenticationBody, Capabilities, Device, IdentityBody, InvalidBody, Module,
    Status,
};
use azimuth_wire::time::Timestamp;
use azimuth_wire::{DeviceId, Identity as Name, ModuleId, SymmetricKey};
use serde::{Deserialize, Serialize};

use super::live::Liveness;
use super::scope;
use crate::error::Error;

/// An identity without what changes by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    pub device_id: DeviceId,
    /// Of a module. It has no status of its own: it may connect while its device may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module_id: Option<ModuleId>,
    pub generation_id: String,
    /// Behind the etag: a random start, one more with each write.
    pub counter: u64,
    pub status: Status,
    pub status_reason: Option<String>,
    pub status_updated_time: Timestamp,
    pub authentication: Authentication,
    #[serde(default)]
    pub iot_edge: bool,
    /// An edge device's own; of another device its parent's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_scope: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parent_scopes: Vec<String>,
    /// Of a module.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed_by: Option<String>,
}

/// An identity as a service sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Shown {
    Device(Box<Device>),
    Module(Box<Module>),
}

/// What a write needs from outside.
pub struct Fresh<'a, K> {
    pub now: Timestamp,
    pub generation_id: String,
    pub counter: u64,
    pub key: K,
    /// The name of the hub, which stands in one of Azure's sentences.
    pub hub: &'a str,
}

impl Identity {
    /// The identity that a PUT leaves behind, or Azure's refusal. `is_edge` says whether a scope is that of
    /// an edge device of this hub.
    ///
    /// A PUT is a full replace: without `authentication` in the body, new keys are made. Without
    /// `If-Match` it creates and never updates, even when the body has the present etag.
    pub fn put<K: FnMut() -> SymmetricKey>(
        present: Option<&Self>,
        name: &Name,
        if_match: &IfMatch,
        body: IdentityBody,
        fresh: Fresh<'_, K>,
        is_edge: impl Fn(&str) -> Result<bool, Error>,
    ) -> Result<Self, Error> {
        check_body(name, &body)?;
        check_reserved(present, name)?;
        match (present, if_match) {
            (Some(_), IfMatch::Absent) => Err(Error::exists(name, fresh.hub)),
            (None, IfMatch::Any | IfMatch::Etag(_)) => Err(Error::not_found(name)),
            (None, IfMatch::Absent) => Self::new(name, body, fresh, is_edge),
            (Some(present), IfMatch::Any | IfMatch::Etag(_)) => {
                present.check_etag(if_match)?;
                present.replaced(body, fresh, is_edge)
            }
        }
    }

    /// Whether a DELETE may remove what is `present`.
    pub fn delete<'a>(
        present: Option<&'a Self>,
        name: &Name,
        if_match: &IfMatch,
    ) -> Result<&'a Self, Error> {
        if *if_match == IfMatch::Absent {
            return Err(Error::EtagMissing);
        }
        let present = present.ok_or_else(|| Error::not_found(name))?;
        check_reserved(Some(present), name)?;
        present.check_etag(if_match)?;
        Ok(present)
    }

    /// The identity with new keys in place of one or both.
    pub fn rekeyed(
        &self,
        which: PolicyKey,
        mut key: impl FnMut() -> SymmetricKey,
    ) -> Result<Self, Error> {
        check_reserved(Some(self), &self.name())?;
        let Authentication::Sas { primary, secondary } = &self.authentication else {
            return Err(Error::Argument(format!(
                "an identity of authentication type {} has no keys",
                self.authentication.kind()
            )));
        };
        let (mut primary, mut secondary) = (primary.clone(), secondary.clone());
        if matches!(which, PolicyKey::Primary | PolicyKey::Both) {
            primary = key();
        }
        if matches!(which, PolicyKey::Secondary | PolicyKey::Both) {
            secondary = key();
        }
        Ok(Self {
            counter: self.counter.wrapping_add(1),
            authentication: Authentication::Sas { primary, secondary },
            ..self.clone()
        })
    }

    /// One of the two modules that an edge device is made with.
    pub fn system_module<K>(name: Name, fresh: Fresh<'_, K>) -> Self {
        Self {
            device_id: name.device,
            module_id: name.module,
            generation_id: fresh.generation_id,
            counter: fresh.counter,
            status: Status::Enabled,
            status_reason: None,
            status_updated_time: Timestamp::NEVER,
            authentication: Authentication::None,
            iot_edge: false,
            device_scope: None,
            parent_scopes: Vec::new(),
            managed_by: Some("iotEdge".into()),
        }
    }

    pub fn name(&self) -> Name {
        Name {
            device: self.device_id.clone(),
            module: self.module_id.clone(),
        }
    }

    /// The unquoted etag.
    pub fn etag(&self) -> String {
        etag::of_counter(self.counter)
    }

    /// The scope that others may name as their parent's.
    pub fn own_scope(&self) -> Option<&str> {
        self.device_scope.as_deref().filter(|_| self.iot_edge)
    }

    /// The JSON shape, live state merged in.
    pub fn shown(&self, live: Liveness) -> Shown {
        let (device_id, generation_id) = (self.device_id.clone(), self.generation_id.clone());
        match &self.module_id {
            None => Shown::Device(Box::new(Device {
                device_id,
                generation_id,
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
                device_scope: self.device_scope.clone(),
                parent_scopes: self.parent_scopes.clone(),
            })),
            Some(module_id) => Shown::Module(Box::new(Module {
                module_id: module_id.clone(),
                managed_by: self.managed_by.clone(),
                device_id,
                generation_id,
                etag: self.etag(),
                connection_state: live.state,
                connection_state_updated_time: live.changed,
                last_activity_time: live.activity,
                cloud_to_device_message_count: 0,
                authentication: self.authentication.clone(),
            })),
        }
    }

    fn new<K: FnMut() -> SymmetricKey>(
        name: &Name,
        body: IdentityBody,
        fresh: Fresh<'_, K>,
        is_edge: impl Fn(&str) -> Result<bool, Error>,
    ) -> Result<Self, Error> {
        let blank = Self {
            device_id: name.device.clone(),
            module_id: name.module.clone(),
            generation_id: fresh.generation_id.clone(),
            counter: fresh.counter.wrapping_sub(1),
            status: body.status,
            status_reason: None,
            status_updated_time: Timestamp::NEVER,
            authentication: Authentication::None,
            iot_edge: false,
            device_scope: None,
            parent_scopes: Vec::new(),
            managed_by: None,
        };
        let mut body = body;
        if body.iot_edge {
            // What a client says of the scope of a new edge device is passed over, but for one that it had in
            // another hub: other devices name it.
            let said = body.device_scope.take();
            body.device_scope =
                said.filter(|said| scope::device_of(said).as_ref() == Some(&name.device));
        }
        blank.replaced(body, fresh, is_edge)
    }

    fn replaced<K: FnMut() -> SymmetricKey>(
        &self,
        body: IdentityBody,
        fresh: Fresh<'_, K>,
        is_edge: impl Fn(&str) -> Result<bool, Error>,
    ) -> Result<Self, Error> {
        let authentication = complete(body.authentication, self.module_id.is_some(), fresh.key)?;
        let unchanged = Self {
            counter: self.counter.wrapping_add(1),
            authentication,
            ..self.clone()
        };
        if self.module_id.is_some() {
            return Ok(Self {
                status: Status::Enabled,
                managed_by: body.managed_by,
                ..unchanged
            });
        }
        let asked = scope::Asked {
            iot_edge: body.iot_edge,
            device_scope: body.device_scope.as_deref(),
            parent_scopes: &body.parent_scopes,
        };
        let (device_scope, parent_scopes) = asked.of(self, &fresh.generation_id, is_edge)?;
        Ok(Self {
            status_updated_time: if body.status == self.status {
                self.status_updated_time
            } else {
                fresh.now
            },
            status: body.status,
            status_reason: body.status_reason,
            iot_edge: body.iot_edge,
            device_scope,
            parent_scopes,
            ..unchanged
        })
    }

    fn check_etag(&self, if_match: &IfMatch) -> Result<(), Error> {
        match if_match {
            IfMatch::Etag(wanted) if *wanted != self.etag() => Err(Error::StaleEtag {
                existing: self.counter,
                wanted: counter_shown(wanted),
            }),
            IfMatch::Etag(_) | IfMatch::Any | IfMatch::Absent => Ok(()),
        }
    }
}

impl Shown {
    pub fn etag(&self) -> &str {
        match self {
            Self::Device(device) => &device.etag,
            Self::Module(module) => &module.etag,
        }
    }
}

/// The path says whom a body is about.
fn check_body(name: &Name, body: &IdentityBody) -> Result<(), Error> {
    if let Some(id) = &body.device_id
        && id != name.device.as_str()
    {
        return Err(Error::Argument(format!(
            "the deviceId of the body is not `{}`, as the path says",
            name.device
        )));
    }
    let module = name.module.as_ref().map(ModuleId::as_str);
    match &body.module_id {
        Some(id) if module.is_some_and(|module| module != id) => Err(Error::Argument(format!(
            "the moduleId of the body is not that of `{name}`, as the path says"
        ))),
        Some(_) | None => Ok(()),
    }
}

/// Names that begin with `$` are the hub's: who asks for the modules of an edge device may read them.
fn check_reserved(present: Option<&Identity>, name: &Name) -> Result<(), Error> {
    match &name.module {
        Some(module) if module.as_str().starts_with('$') => match present {
            Some(_) => Err(Error::SystemModule(name.to_string())),
            None => Err(Error::Argument(format!(
                "the moduleId `{module}` begins with `$`, which only modules of the hub's own do"
            ))),
        },
        Some(_) | None => Ok(()),
    }
}

fn complete(
    body: AuthenticationBody,
    is_module: bool,
    mut key: impl FnMut() -> SymmetricKey,
) -> Result<Authentication, Error> {
    Ok(match body {
        AuthenticationBody::Sas(Some((primary, secondary))) => {
            Authentication::Sas { primary, secondary }
        }
        AuthenticationBody::None if !is_module => Err(InvalidBody::NoAuthenticationType)?,
        AuthenticationBody::Sas(None) | AuthenticationBody::None => Authentication::Sas {
            primary: key(),
            secondary: key(),
        },
        AuthenticationBody::SelfSigned { primary, secondary } => {
            Authentication::SelfSigned { primary, secondary }
        }
        AuthenticationBody::CertificateAuthority => Authentication::CertificateAuthority,
    })
}

/// The number behind an etag, as Azure prints it; a text that is no etag of ours as it came.
fn counter_shown(etag: &str) -> String {
    etag::counter_of(etag).map_or_else(
        || etag.chars().take(40).collect(),
        |counter| counter.to_string(),
    )
}
