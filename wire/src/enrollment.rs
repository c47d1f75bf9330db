//! Enrollments of a Device Provisioning Service as JSON: individual ones and groups.
//!
//! Shapes only, in the member order of the service. What may not enter: which enrollments are
//! acceptable, where they are kept, what registering with one does.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::device_id::DeviceId;
use crate::key::SymmetricKey;
use crate::registration::RegistrationState;
use crate::registration_id::{EnrollmentGroupId, RegistrationId};
use crate::time::Timestamp;

mod tpm;
mod x509;

pub use tpm::TpmAttestation;
pub use x509::{CaReferences, X509Attestation, X509CertificateWithInfo, X509Certificates};

macro_rules! enrollment {
    ($(#[$doc:meta])* $name:ident { $($(#[$attr:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase")]
        pub struct $name {
            $($(#[$attr])* pub $field: $type,)*
            pub attestation: Attestation,
            #[serde(default, deserialize_with = "null_is_default")]
            pub capabilities: Capabilities,
            /// The older way to say static allocation to one hub.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub iot_hub_host_name: Option<String>,
            /// `{tags, properties: {desired}}`.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub initial_twin: Option<Value>,
            /// Of the record; what a request carries here is no condition.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub etag: Option<String>,
            #[serde(default, deserialize_with = "null_is_default")]
            pub provisioning_status: ProvisioningStatus,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub reprovision_policy: Option<ReprovisionPolicy>,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub created_date_time_utc: Option<Timestamp>,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub last_updated_date_time_utc: Option<Timestamp>,
            /// `None`: that of the service.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub allocation_policy: Option<AllocationPolicy>,
            /// Host names; none or empty: all linked hubs.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub iot_hubs: Option<Vec<String>>,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub custom_allocation_definition: Option<CustomAllocationDefinition>,
            /// Stored and given back only.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub credential_policy_name: Option<String>,
        }
    };
}

enrollment! {
    /// The entry of one device.
    IndividualEnrollment {
        registration_id: RegistrationId,
        /// Its name in the hub; absent: the registration id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device_id: Option<DeviceId>,
        /// In answers only.
        #[serde(default, skip_deserializing, skip_serializing_if = "Option::is_none")]
        registration_state: Option<RegistrationState>,
        /// Stored and given back only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        optional_device_information: Option<Value>,
    }
}

enrollment! {
    /// The entry of many devices.
    EnrollmentGroup {
        enrollment_group_id: EnrollmentGroupId,
    }
}

/// How devices of an enrollment prove who they are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attestation {
    #[serde(rename = "type")]
    pub kind: AttestationKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpm: Option<TpmAttestation>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x509: Option<X509Attestation>,
    /// Left out where keys are not shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symmetric_key: Option<SymmetricKeys>,
}

/// The member of [`Attestation`] that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AttestationKind {
    None,
    Tpm,
    X509,
    SymmetricKey,
}

/// Two keys, both valid at all times. Absent, null and `""` all mean: the service makes one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SymmetricKeys {
    #[serde(
        default,
        deserialize_with = "empty_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub primary_key: Option<SymmetricKey>,
    #[serde(
        default,
        deserialize_with = "empty_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub secondary_key: Option<SymmetricKey>,
}

/// What the device in the hub can do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Capabilities {
    #[serde(default)]
    pub iot_edge: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ProvisioningStatus {
    #[default]
    Enabled,
    Disabled,
}

/// What happens when a device that has a hub registers again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReprovisionPolicy {
    #[serde(default = "yes")]
    pub update_hub_assignment: bool,
    #[serde(default = "yes")]
    pub migrate_device_data: bool,
}

impl Default for ReprovisionPolicy {
    fn default() -> Self {
        Self {
            update_hub_assignment: true,
            migrate_device_data: true,
        }
    }
}

/// How a hub is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AllocationPolicy {
    Hashed,
    GeoLatency,
    Static,
    Custom,
}

impl AllocationPolicy {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hashed => "hashed",
            Self::GeoLatency => "geoLatency",
            Self::Static => "static",
            Self::Custom => "custom",
        }
    }
}

/// The webhook of custom allocation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CustomAllocationDefinition {
    pub webhook_url: String,
    pub api_version: String,
}

fn yes() -> bool {
    true
}

fn null_is_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

fn empty_text_is_none<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.filter(|text| !text.is_empty()))
}

fn empty_is_none<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SymmetricKey>, D::Error> {
    let text = empty_text_is_none(deserializer)?;
    let key = text.map(|text| text.parse().map_err(serde::de::Error::custom));
    key.transpose()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    #[test]
    fn members_that_are_absent_take_azures_defaults() {
        let text = r#"{"registrationId":"dev-001","attestation":{"type":"symmetricKey","symmetricKey":{}}}"#;
        let enrollment: IndividualEnrollment = serde_json::from_str(text).unwrap();
        assert!(!enrollment.capabilities.iot_edge);
        assert_eq!(enrollment.provisioning_status, ProvisioningStatus::Enabled);
        assert_eq!(enrollment.allocation_policy, None);
    }

    #[test]
    fn absent_null_and_empty_keys_are_no_keys_and_a_bad_one_is_refused() {
        for (keys, given) in [
            ("{}".to_owned(), Some(false)),
            (r#"{"primaryKey":null}"#.to_owned(), Some(false)),
            (r#"{"primaryKey":""}"#.to_owned(), Some(false)),
            (format!(r#"{{"primaryKey":"{KEY}"}}"#), Some(true)),
            (r#"{"primaryKey":"c2hvcnQ="}"#.to_owned(), None),
        ] {
            let parsed = serde_json::from_str::<SymmetricKeys>(&keys);
            assert_eq!(
                parsed.ok().map(|keys| keys.primary_key.is_some()),
                given,
                "{keys}"
            );
        }
    }

    #[test]
    fn a_state_in_a_request_is_not_taken() {
        let text = r#"{"registrationId":"a","registrationState":{"registrationId":"a","status":"assigned"},
            "attestation":{"type":"none"}}"#;
        let enrollment: IndividualEnrollment = serde_json::from_str(text).unwrap();
        assert_eq!(enrollment.registration_state, None);
    }

    #[test]
    fn debug_shows_no_key() {
        let keys: SymmetricKeys =
            serde_json::from_str(&format!(r#"{{"primaryKey":"{KEY}"}}"#)).unwrap();
        assert!(!format!("{keys:?}").contains("AAEC"));
    }
}
