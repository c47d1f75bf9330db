//! Registrations of a Device Provisioning Service as JSON: the request, the operation, the result.
//!
//! Member order is that of the real service; captures are compared byte by byte. What may not
//! enter: when a registration has which status.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::device_id::DeviceId;
use crate::enrollment::TpmAttestation;
use crate::registration_id::RegistrationId;
use crate::time::Timestamp;

/// The body of register. All members are optional, and so is the body.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegisterRequest<'a> {
    #[serde(default)]
    pub registration_id: Option<String>,
    /// For the webhook of custom allocation.
    #[serde(default, borrow)]
    pub payload: Option<&'a RawValue>,
    /// The public keys of a device with a TPM.
    #[serde(default)]
    pub tpm: Option<TpmAttestation>,
    #[serde(default, borrow)]
    pub csr: Option<&'a RawValue>,
    #[serde(default, borrow)]
    pub client_certificate_csr: Option<&'a RawValue>,
}

impl<'a> RegisterRequest<'a> {
    /// Reads a body; nothing but blanks is an empty request.
    pub fn parse(body: &'a [u8]) -> Result<Self, serde_json::Error> {
        match body.trim_ascii_start().first() {
            None => Ok(Self::default()),
            Some(b'{') => serde_json::from_slice(body),
            // serde would read the members of a struct from an array as well.
            Some(_) => Err(serde::de::Error::custom("a JSON object is expected")),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RegistrationStatus {
    Unassigned,
    Assigning,
    Assigned,
    Failed,
    Disabled,
}

/// How an assigned device came to its hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Substatus {
    InitialAssignment,
    DeviceDataMigrated,
    DeviceDataReset,
    ReprovisionedToInitialAssignment,
}

/// The record of a registration, as devices and back ends see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistrationState {
    /// X.509 devices: `{}`, or the group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x509: Option<Value>,
    /// In the device's own spelling.
    pub registration_id: RegistrationId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_date_time_utc: Option<Timestamp>,
    /// A host name, never a connection string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assigned_hub: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_id: Option<DeviceId>,
    pub status: RegistrationStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub substatus: Option<Substatus>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_updated_date_time_utc: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// Of a device with a TPM, when it is assigned; devices alone are shown it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpm: Option<DeliveredKey>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Value>,
}

/// The hub's key for a device, wrapped so that its TPM alone reads it. `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeliveredKey {
    /// Base64 of an activation blob.
    pub authentication_key: String,
}

/// The answer to a device with a TPM that has not proven to hold it yet. `Debug` shows no key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TpmChallenge {
    pub message: String,
    /// Base64 of an activation blob with the key to sign with.
    pub authentication_key: String,
    /// Null always.
    #[serde(default)]
    pub unencrypted_authentication_key: Option<String>,
    /// `skn` of the token to sign.
    pub key_name: String,
}

impl fmt::Debug for DeliveredKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeliveredKey(…)")
    }
}

impl fmt::Debug for TpmChallenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TpmChallenge(…)")
    }
}

impl RegistrationState {
    /// A state that says no more than its status.
    pub fn new(registration_id: RegistrationId, status: RegistrationStatus) -> Self {
        Self {
            x509: None,
            registration_id,
            created_date_time_utc: None,
            assigned_hub: None,
            device_id: None,
            status,
            substatus: None,
            error_code: None,
            error_message: None,
            last_updated_date_time_utc: None,
            etag: None,
            tpm: None,
            payload: None,
        }
    }
}

/// An operation as a device sees it: the answer to register and to a poll.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OperationStatus<Id, State> {
    /// A string always, empty when there is no operation.
    pub operation_id: Id,
    pub status: RegistrationStatus,
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    pub registration_state: Option<State>,
}

/// What stands in an answer that is an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorBody {
    /// Six digits; the first three are the status.
    pub error_code: u32,
    /// A GUID.
    pub tracking_id: String,
    pub message: String,
    pub timestamp_utc: Timestamp,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_body_seen_in_the_field_is_a_request() {
        for (body, id) in [
            (
                r#"{"payload": null, "registrationId": "contoso-simdevice-east"}"#,
                true,
            ),
            (r#"{"registrationId":"contoso-simdevice-east"}"#, true),
            (r#"{"payload":{"a":1}}"#, false),
            ("", false),
            ("{}", false),
            (" ", false),
            (
                r#"{"registrationId":"contoso-simdevice-east","payload":"text"}"#,
                true,
            ),
        ] {
            let request = RegisterRequest::parse(body.as_bytes()).unwrap();
            assert_eq!(request.registration_id.is_some(), id, "{body}");
        }
    }

    #[test]
    fn what_is_not_json_is_no_request() {
        for body in ["{", "[]", "nonsense", r#"{"registrationId":7}"#] {
            assert!(RegisterRequest::parse(body.as_bytes()).is_err(), "{body}");
        }
    }
}
