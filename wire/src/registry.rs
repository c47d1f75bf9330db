//! Identities of devices and modules as JSON: what a client may write and what a hub answers.
//!
//! Shapes and their checks only. May not enter: who may write, what is stored, generation of keys.

use serde::{Deserialize, Serialize};

use crate::device_id::{DeviceId, ModuleId};
use crate::time::Timestamp;

mod authentication;
mod body;
pub mod bulk;
pub mod regeneration;

pub use authentication::{Authentication, InvalidThumbprint, Thumbprint};
pub use body::{AuthenticationBody, IdentityBody, InvalidBody};

/// A device identity as a hub answers it. Null members stand in the JSON; scopes only when set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    pub device_id: DeviceId,
    /// Decimal digits, another one each time the id is created.
    pub generation_id: String,
    /// Unquoted; the `ETag` header has the quotes.
    pub etag: String,
    pub connection_state: ConnectionState,
    pub status: Status,
    pub status_reason: Option<String>,
    pub connection_state_updated_time: Timestamp,
    pub status_updated_time: Timestamp,
    pub last_activity_time: Timestamp,
    pub cloud_to_device_message_count: u32,
    pub authentication: Authentication,
    pub capabilities: Capabilities,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_scope: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parent_scopes: Vec<String>,
}

/// A module identity as a hub answers it: no status of its own, and no capabilities.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Module {
    pub module_id: ModuleId,
    /// Free text; `iotEdge` where an edge runtime looks after the module.
    pub managed_by: Option<String>,
    pub device_id: DeviceId,
    pub generation_id: String,
    /// Unquoted, as everywhere in a body.
    pub etag: String,
    pub connection_state: ConnectionState,
    pub connection_state_updated_time: Timestamp,
    pub last_activity_time: Timestamp,
    pub cloud_to_device_message_count: u32,
    pub authentication: Authentication,
}

/// Whether the device or module is on the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ConnectionState {
    Connected,
    #[default]
    Disconnected,
}

impl ConnectionState {
    pub fn name(self) -> &'static str {
        match self {
            Self::Connected => "Connected",
            Self::Disconnected => "Disconnected",
        }
    }
}

/// Whether the device may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Status {
    #[default]
    Enabled,
    Disabled,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Capabilities {
    pub iot_edge: bool,
}

/// `GET /statistics/devices`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceStatistics {
    pub total_device_count: u64,
    pub enabled_device_count: u64,
    pub disabled_device_count: u64,
}

/// `GET /statistics/service`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatistics {
    pub connected_device_count: u64,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const DEVICE: &str = concat!(
        r#"{"deviceId":"dev-01","generationId":"637612875240648717","etag":"NzI3ODk0ODYz","#,
        r#""connectionState":"Disconnected","status":"enabled","statusReason":null,"#,
        r#""connectionStateUpdatedTime":"0001-01-01T00:00:00Z","statusUpdatedTime":"0001-01-01T00:00:00Z","#,
        r#""lastActivityTime":"0001-01-01T00:00:00Z","cloudToDeviceMessageCount":0,"#,
        r#""authentication":{"symmetricKey":{"primaryKey":"AAECAwQFBgcICQoLDA0ODw==","#,
        r#""secondaryKey":"AAECAwQFBgcICQoLDA0ODw=="},"#,
        r#""x509Thumbprint":{"primaryThumbprint":null,"secondaryThumbprint":null},"type":"sas"},"#,
        r#""capabilities":{"iotEdge":false}}"#
    );

    #[test]
    fn a_module_keeps_azures_member_order_and_has_no_status() {
        let module = concat!(
            r#"{"moduleId":"mod-a","managedBy":"iotEdge","deviceId":"edge-01","#,
            r#""generationId":"637612875240648718","etag":"MTIzNDU2","#,
            r#""connectionState":"Disconnected","connectionStateUpdatedTime":"0001-01-01T00:00:00Z","#,
            r#""lastActivityTime":"0001-01-01T00:00:00Z","cloudToDeviceMessageCount":0,"#,
            r#""authentication":{"symmetricKey":{"primaryKey":null,"secondaryKey":null},"#,
            r#""x509Thumbprint":{"primaryThumbprint":null,"secondaryThumbprint":null},"type":"none"}}"#
        );
        let read: Module = serde_json::from_str(module).unwrap();
        assert_eq!(read.authentication, Authentication::None);
        assert_eq!(serde_json::to_string(&read).unwrap(), module);
    }

    #[test]
    fn a_device_keeps_azures_member_order_and_nulls() {
        let device: Device = serde_json::from_str(DEVICE).unwrap();
        assert_eq!(serde_json::to_string(&device).unwrap(), DEVICE);
        assert!(
            !format!("{device:?}").contains("AAECAw"),
            "Debug shows a key"
        );
    }
}
