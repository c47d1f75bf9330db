//! What a DPS answers, as a device understands it. Nothing here keeps a state.

use std::time::Duration;

use azimuth_wire::registration::DeliveredKey;
use azimuth_wire::{DeviceId, SymmetricKey};
use serde::Deserialize;

use crate::fault::{Fault, FaultKind};

/// Seconds; what the C client takes when a 202 names no `retry-after`, and the range it obeys.
const USUAL_WAIT: u32 = 1;
const LONGEST_WAIT: u32 = 300;

/// Where a device belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Assignment {
    pub hub: Box<str>,
    pub device: DeviceId,
    /// Of a device with a TPM: what it signs with at its hub.
    pub key: Option<SymmetricKey>,
}

/// What a device makes of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Assigned {
        to: Assignment,
        /// For the TPM, where the device has one.
        tpm: Option<DeliveredKey>,
    },
    /// Ask for this operation after the wait.
    Assigning {
        operation: Box<str>,
        wait: Duration,
    },
    /// Ask the same again, not before the wait is over where there is one.
    Again {
        wait: Option<Duration>,
        fault: Fault,
    },
    Never(Fault),
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Body {
    operation_id: Option<String>,
    status: Option<String>,
    registration_state: Option<State>,
    error_code: Option<i64>,
    message: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct State {
    assigned_hub: Option<String>,
    device_id: Option<String>,
    error_code: Option<i64>,
    error_message: Option<String>,
    tpm: Option<DeliveredKey>,
}

impl Answer {
    /// Reads an answer: the status of its topic, its `retry-after` in seconds, and its body.
    pub(super) fn read(status: u16, retry_after: Option<u32>, body: &[u8]) -> Self {
        let seconds = |wait: u32| Duration::from_secs(wait.clamp(1, LONGEST_WAIT).into());
        let body: Body = match serde_json::from_slice(body) {
            Ok(body) => body,
            Err(_) if status >= 300 => Body::default(),
            Err(error) => {
                return Self::Never(Fault::new(
                    FaultKind::Protocol,
                    format!(
                        "the DPS answered {status} with a body that is not JSON of a registration: {error}"
                    ),
                ));
            }
        };
        match status {
            200..=299 => Self::of_state(body, seconds(retry_after.unwrap_or(USUAL_WAIT))),
            // C and Python retry from 429 on; 409 is another registration of the same device.
            409 | 429.. => Self::Again {
                wait: retry_after.map(seconds),
                fault: refused(status, &body),
            },
            _ => Self::Never(refused(status, &body)),
        }
    }

    fn of_state(body: Body, wait: Duration) -> Self {
        let state = body.registration_state.unwrap_or_default();
        let never = |kind, sentence: String| Self::Never(Fault::new(kind, sentence));
        match body.status.as_deref() {
            Some("assigned") => match (
                state.assigned_hub,
                state.device_id.as_deref().map(str::parse),
            ) {
                (Some(hub), Some(Ok(device))) => Self::Assigned {
                    to: Assignment {
                        hub: hub.into(),
                        device,
                        key: None,
                    },
                    tpm: state.tpm,
                },
                (Some(_), Some(Err(error))) => never(
                    FaultKind::Protocol,
                    format!("the DPS assigned a device id that is none: {error}"),
                ),
                (None, _) | (_, None) => never(
                    FaultKind::Protocol,
                    "the DPS answered `assigned` without `assignedHub` and `deviceId`".into(),
                ),
            },
            Some("assigning") => match body.operation_id {
                Some(operation) => Self::Assigning {
                    operation: operation.into(),
                    wait,
                },
                None => never(
                    FaultKind::Protocol,
                    "the DPS answered `assigning` without `operationId`".into(),
                ),
            },
            Some("failed") => never(
                FaultKind::ProvisioningFailed,
                format!(
                    "the DPS could not assign a hub: {} ({})",
                    state.error_message.as_deref().unwrap_or("no reason given"),
                    state.error_code.unwrap_or_default()
                ),
            ),
            Some("disabled") => never(
                FaultKind::ProvisioningDisabled,
                "the enrollment of this device is disabled: enable it, or leave the device out"
                    .into(),
            ),
            other => never(
                FaultKind::Protocol,
                format!("the DPS answered the status {other:?}, which is none that a device knows"),
            ),
        }
    }
}

fn refused(status: u16, body: &Body) -> Fault {
    let code = body
        .error_code
        .map_or(String::new(), |code| format!(", {code}"));
    let message = body.message.as_deref().unwrap_or("no reason given");
    let remedy = match status {
        401 => {
            ". Is the device enrolled, and is the key or the certificate that of its enrollment? `azimuth why` tells Azimuth's reasons"
        }
        429 => ". Use a slower ramp",
        _ => "",
    };
    Fault::new(
        FaultKind::ProvisioningStatus(status),
        format!("the DPS answered {status}{code}: {message}{remedy}"),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_answer_means_one_thing_to_a_device() {
        let assigning = r#"{"operationId":"5.1.2","status":"assigning"}"#;
        for (status, wait, body, expected) in [
            (202, Some(3), assigning, "5.1.2 in 3s"),
            (202, None, assigning, "5.1.2 in 1s"),
            (202, Some(0), assigning, "5.1.2 in 1s"),
            (202, Some(9999), assigning, "5.1.2 in 300s"),
            (202, None, r#"{"status":"assigning"}"#, "never protocol"),
            (
                200,
                None,
                r#"{"operationId":"5","status":"assigned","registrationState":{"assignedHub":"h","deviceId":"d"}}"#,
                "d at h",
            ),
            (200, None, r#"{"status":"assigned"}"#, "never protocol"),
            (
                200,
                None,
                r#"{"status":"assigned","registrationState":{"assignedHub":"h","deviceId":"a/b"}}"#,
                "never protocol",
            ),
            (
                200,
                None,
                r#"{"status":"disabled"}"#,
                "never provisioning-disabled",
            ),
            (
                200,
                None,
                r#"{"status":"failed","registrationState":{"errorCode":401001}}"#,
                "never provisioning-failed",
            ),
            (200, None, "{}", "never protocol"),
            (200, None, "[", "never protocol"),
            (400, None, "", "never provisioning-400"),
            (
                401,
                None,
                r#"{"errorCode":401002,"message":"Unauthorized"}"#,
                "never provisioning-401",
            ),
            (404, None, "", "never provisioning-404"),
            (409, None, "", "again provisioning-409 None"),
            (429, Some(7), "", "again provisioning-429 Some(7s)"),
            (503, None, "not json", "again provisioning-503 None"),
        ] {
            let answer = match Answer::read(status, wait, body.as_bytes()) {
                Answer::Assigned { to, .. } => format!("{} at {}", to.device, to.hub),
                Answer::Assigning { operation, wait } => format!("{operation} in {wait:?}"),
                Answer::Again { wait, fault } => format!("again {} {wait:?}", fault.kind),
                Answer::Never(fault) => format!("never {}", fault.kind),
            };
            assert_eq!(answer, expected, "{status} {body}");
        }
    }
}
