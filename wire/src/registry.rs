//! Device identities as JSON: what a client may write and what a hub answers.
//!
//! Shapes and their checks only. May not enter: who may write, what is stored, generation of keys.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::device_id::DeviceId;
use crate::key::SymmetricKey;
use crate::time::Timestamp;

mod body;
pub mod bulk;

pub use body::{AuthenticationBody, DeviceBody, InvalidBody};

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

/// Whether the device is on the line.
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

/// How a device proves who it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "AuthenticationJson", into = "AuthenticationJson")]
pub enum Authentication {
    /// Both keys are valid at all times.
    Sas {
        primary: SymmetricKey,
        secondary: SymmetricKey,
    },
    SelfSigned {
        primary: Option<Thumbprint>,
        secondary: Option<Thumbprint>,
    },
    CertificateAuthority,
}

impl Authentication {
    /// As it stands in `type`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sas { .. } => SAS,
            Self::SelfSigned { .. } => SELF_SIGNED,
            Self::CertificateAuthority => CERTIFICATE_AUTHORITY,
        }
    }
}

const SAS: &str = "sas";
const SELF_SIGNED: &str = "selfSigned";
const CERTIFICATE_AUTHORITY: &str = "certificateAuthority";

/// A certificate's hash: 40 (SHA-1) or 64 (SHA-256) hex digits, kept in the case they came in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Thumbprint(Box<str>);

/// Azure's word for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("StringIsNotThumbprint")]
pub struct InvalidThumbprint;

impl Thumbprint {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Thumbprint {
    type Err = InvalidThumbprint;

    fn from_str(text: &str) -> Result<Self, InvalidThumbprint> {
        let hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if hex && matches!(text.len(), 40 | 64) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidThumbprint)
        }
    }
}

impl TryFrom<String> for Thumbprint {
    type Error = InvalidThumbprint;

    fn try_from(text: String) -> Result<Self, InvalidThumbprint> {
        text.parse()
    }
}

impl From<Thumbprint> for String {
    fn from(thumbprint: Thumbprint) -> String {
        thumbprint.0.into()
    }
}

impl fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
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

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuthenticationJson {
    #[serde(default)]
    symmetric_key: KeysJson,
    #[serde(default)]
    x509_thumbprint: ThumbprintsJson,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeysJson {
    primary_key: Option<SymmetricKey>,
    secondary_key: Option<SymmetricKey>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ThumbprintsJson {
    primary_thumbprint: Option<Thumbprint>,
    secondary_thumbprint: Option<Thumbprint>,
}

impl From<Authentication> for AuthenticationJson {
    fn from(authentication: Authentication) -> Self {
        let kind = authentication.kind().to_owned();
        let (mut symmetric_key, mut x509_thumbprint) = Default::default();
        match authentication {
            Authentication::Sas { primary, secondary } => {
                symmetric_key = KeysJson {
                    primary_key: Some(primary),
                    secondary_key: Some(secondary),
                };
            }
            Authentication::SelfSigned { primary, secondary } => {
                x509_thumbprint = ThumbprintsJson {
                    primary_thumbprint: primary,
                    secondary_thumbprint: secondary,
                };
            }
            Authentication::CertificateAuthority => {}
        }
        Self {
            symmetric_key,
            x509_thumbprint,
            kind,
        }
    }
}

impl TryFrom<AuthenticationJson> for Authentication {
    type Error = String;

    fn try_from(json: AuthenticationJson) -> Result<Self, String> {
        match json.kind.as_str() {
            SAS => {
                let keys = json.symmetric_key;
                match (keys.primary_key, keys.secondary_key) {
                    (Some(primary), Some(secondary)) => Ok(Self::Sas { primary, secondary }),
                    _ => Err("an identity of type sas without its two keys".into()),
                }
            }
            SELF_SIGNED => Ok(Self::SelfSigned {
                primary: json.x509_thumbprint.primary_thumbprint,
                secondary: json.x509_thumbprint.secondary_thumbprint,
            }),
            CERTIFICATE_AUTHORITY => Ok(Self::CertificateAuthority),
            other => Err(format!("`{other}` is not an authentication type")),
        }
    }
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
    fn a_device_keeps_azures_member_order_and_nulls() {
        let device: Device = serde_json::from_str(DEVICE).unwrap();
        assert_eq!(serde_json::to_string(&device).unwrap(), DEVICE);
        assert!(
            !format!("{device:?}").contains("AAECAw"),
            "Debug shows a key"
        );
    }

    #[test]
    fn thumbprints_are_forty_or_sixty_four_hex_digits() {
        let digits = |count: usize| "aF".repeat(count / 2);
        for (text, valid) in [
            (digits(40), true),
            (digits(64), true),
            (digits(38), false),
            (format!("{}g", "a".repeat(39)), false),
            (String::new(), false),
        ] {
            let parsed = text.parse::<Thumbprint>();
            assert_eq!(parsed.is_ok(), valid, "{text}");
            assert!(parsed.is_err() || parsed.unwrap().as_str() == text);
        }
    }
}
