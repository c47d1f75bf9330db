//! Twins as JSON: what a hub answers, and what a client may write.
//!
//! Shapes, and Azure's rules of what a twin may hold. May not enter: versions, metadata, what a write does.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::device_id::{DeviceId, ModuleId};
use crate::members::{Members, expected};
use crate::registry::{Capabilities, ConnectionState, InvalidBody, Status, Thumbprint};
use crate::time::Timestamp;

mod rules;

pub use rules::{InvalidTwin, Section, initial, size};

/// The twin of a device or module as a hub answers it. What is not set is left out, except inside `x509Thumbprint`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Twin {
    pub device_id: DeviceId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module_id: Option<ModuleId>,
    /// Unquoted, of the twin.
    pub etag: String,
    /// Unquoted, of the identity.
    pub device_etag: String,
    pub status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_reason: Option<String>,
    pub status_update_time: Timestamp,
    pub connection_state: ConnectionState,
    pub last_activity_time: Timestamp,
    pub cloud_to_device_message_count: u32,
    pub authentication_type: &'static str,
    pub x509_thumbprint: Thumbprints,
    pub model_id: String,
    pub version: u64,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub tags: Map<String, Value>,
    pub properties: Properties,
    /// Of a device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_scope: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parent_scopes: Vec<String>,
}

/// Of a device with certificates; null otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Thumbprints {
    pub primary_thumbprint: Option<Thumbprint>,
    pub secondary_thumbprint: Option<Thumbprint>,
}

/// Both sections with their `$version`, and with their `$metadata` where a service reads.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Properties {
    pub desired: Value,
    pub reported: Value,
}

/// What a client writes of a twin. Everything else that a twin has is ignored where it stands.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TwinBody {
    pub tags: Option<SectionBody>,
    pub desired: Option<SectionBody>,
    pub reported: Option<SectionBody>,
}

/// One section as a client writes it, `$version` and `$metadata` set apart.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SectionBody {
    pub values: Map<String, Value>,
    /// The section was null: nothing of it is to stay.
    pub cleared: bool,
    pub version: Option<u64>,
    pub metadata: Option<Value>,
}

impl TwinBody {
    /// Reads the body of a PATCH or PUT.
    pub fn parse(json: &[u8]) -> Result<Self, InvalidBody> {
        let value: Value = serde_json::from_slice(json)
            .map_err(|error| InvalidBody::NotJson(error.to_string()))?;
        match &value {
            Value::Object(members) => Self::of(&Members(members)),
            _ => Err(expected("the body", "an object")),
        }
    }

    /// Reads the members of a twin out of a larger object.
    pub(crate) fn of(members: &Members<'_>) -> Result<Self, InvalidBody> {
        let properties = members.object("properties")?;
        let of = |name| match &properties {
            Some(properties) => SectionBody::of(properties, name),
            None => Ok(None),
        };
        Ok(Self {
            tags: SectionBody::of(members, "tags")?,
            desired: of("desired")?,
            reported: of("reported")?,
        })
    }

    /// Whether nothing of a twin is written.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl SectionBody {
    fn of(members: &Members<'_>, name: &'static str) -> Result<Option<Self>, InvalidBody> {
        match members.even_null(name) {
            None => Ok(None),
            Some(Value::Null) => Ok(Some(Self {
                cleared: true,
                ..Self::default()
            })),
            Some(Value::Object(values)) => Ok(Some(Self::from(values.clone()))),
            Some(_) => Err(expected(name, "an object")),
        }
    }
}

impl From<Map<String, Value>> for SectionBody {
    fn from(mut values: Map<String, Value>) -> Self {
        Self {
            version: values.remove("$version").and_then(|value| value.as_u64()),
            metadata: values.remove("$metadata"),
            cleared: false,
            values,
        }
    }
}
