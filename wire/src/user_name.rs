//! MQTT user names: who a client says it is, at a hub and at a DPS.

use crate::api_version::{ApiVersion, InvalidApiVersion};
use crate::device_id::{Identity, InvalidId};
use crate::percent;
use crate::registration_id::{IdScope, InvalidIdScope, InvalidRegistrationId, RegistrationId};

/// Why a user name is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUserName {
    #[error(
        "the CONNECT has no user name; a hub expects `{{host}}/{{device id}}/?api-version=2021-04-12`"
    )]
    Missing,
    #[error(
        "the user name `{0}` does not name a host and a device; a hub expects `{{host}}/{{device id}}/?api-version=2021-04-12`"
    )]
    Shape(String),
    #[error(
        "the user name `{0}` is not `{{id scope}}/registrations/{{registration id}}/api-version={{version}}`"
    )]
    DpsShape(String),
    #[error("the client id `{client_id}` is not `{expected}`, which the user name announces")]
    ClientId { client_id: String, expected: String },
    #[error("the user name has no api-version")]
    NoApiVersion,
    #[error(transparent)]
    Id(#[from] InvalidId),
    #[error(transparent)]
    RegistrationId(#[from] InvalidRegistrationId),
    #[error(transparent)]
    IdScope(#[from] InvalidIdScope),
    #[error(transparent)]
    ApiVersion(#[from] InvalidApiVersion),
}

/// The user name of a device or module at a hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubUserName {
    pub host: String,
    pub identity: Identity,
    /// Absent: a session of the first product generation, telemetry and cloud-to-device only.
    pub api_version: Option<ApiVersion>,
    pub client_type: Option<String>,
    pub model_id: Option<String>,
}

impl HubUserName {
    /// Reads `{host}/{deviceId}[/{moduleId}]/?{parameters}` and its older forms, and holds it
    /// against the client id. Ids are never percent-decoded (Azure: connect over MQTT).
    pub fn parse(text: &str, client_id: &str) -> Result<Self, InvalidUserName> {
        if text.is_empty() {
            return Err(InvalidUserName::Missing);
        }
        let shape = || InvalidUserName::Shape(text.chars().take(200).collect());
        let (host, rest) = text
            .split_once('/')
            .filter(|(host, _)| !host.is_empty())
            .ok_or_else(shape)?;
        let (ids, parameters) = split_parameters(rest);
        let mut segments = ids.split('/');
        let identity = match (segments.next(), segments.next(), segments.next()) {
            (Some(device), None, None) if !device.is_empty() => Identity::device(device.parse()?),
            (Some(device), Some(module), None) => Identity {
                device: device.parse()?,
                module: Some(module.parse()?),
            },
            _ => return Err(shape()),
        };
        let expected = identity.to_string();
        if client_id != expected {
            return Err(InvalidUserName::ClientId {
                client_id: client_id.chars().take(200).collect(),
                expected,
            });
        }
        let value = |name: &str| {
            parameter(parameters, name).map(|value| percent::decode(value).into_owned())
        };
        Ok(Self {
            host: host.into(),
            identity,
            api_version: value("api-version")
                .map(|version| version.parse())
                .transpose()?,
            client_type: value("DeviceClientType"),
            model_id: value("model-id"),
        })
    }
}

/// Cuts the parameters off: they begin with `?` at the start of the last segment, or, in older
/// forms, with a segment that begins with a known `name=`.
fn split_parameters(rest: &str) -> (&str, &str) {
    if let Some((ids, parameters)) = rest.rsplit_once("/?") {
        return (ids, parameters);
    }
    let known = ["/api-version=", "/DeviceClientType=", "/model-id="];
    let begin = known.iter().filter_map(|name| rest.find(name)).min();
    match begin.and_then(|at| rest.split_at_checked(at)) {
        Some((ids, parameters)) => (ids, &parameters[1..]),
        None => (rest.strip_suffix('/').unwrap_or(rest), ""),
    }
}

/// The first of repeated names wins. `/` separates as well: an old preview client wrote it.
fn parameter<'a>(parameters: &'a str, name: &str) -> Option<&'a str> {
    let legacy = parameters.split_once("/DeviceClientType=");
    if let Some((before, client_type)) = legacy {
        return if name == "DeviceClientType" {
            Some(client_type)
        } else {
            parameter(before, name)
        };
    }
    parameters
        .split('&')
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// The user name of a device at a DPS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DpsUserName {
    pub id_scope: IdScope,
    pub registration_id: RegistrationId,
    pub api_version: ApiVersion,
    pub client_version: Option<String>,
}

impl DpsUserName {
    /// Reads `{scope}/registrations/{registrationId}/api-version={version}[&ClientVersion={text}]`
    /// and holds it against the client id, which compares without regard to case.
    pub fn parse(text: &str, client_id: &str) -> Result<Self, InvalidUserName> {
        let shape = || InvalidUserName::DpsShape(text.chars().take(200).collect());
        let mut segments = text.splitn(4, '/');
        let (Some(scope), Some("registrations"), Some(id), Some(query)) = (
            segments.next(),
            segments.next(),
            segments.next(),
            segments.next(),
        ) else {
            return Err(shape());
        };
        let id = percent::decode(id);
        if !client_id.eq_ignore_ascii_case(&id) {
            return Err(InvalidUserName::ClientId {
                client_id: client_id.chars().take(200).collect(),
                expected: id.chars().take(200).collect(),
            });
        }
        let query = query.strip_prefix('?').unwrap_or(query);
        let value = |name: &str| {
            let mut pairs = query.split('&');
            pairs
                .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
                .map(percent::decode)
        };
        Ok(Self {
            id_scope: scope.parse()?,
            registration_id: id.parse()?,
            api_version: value("api-version")
                .ok_or(InvalidUserName::NoApiVersion)?
                .parse()?,
            client_version: value("ClientVersion").map(|text| text.into_owned()),
        })
    }
}
