//! The bodies of answers to devices, byte for byte as the service writes them.
//!
//! What may not enter: topics, and why something is answered.

use std::time::SystemTime;

use azimuth_wire::RegistrationId;
use azimuth_wire::registration::{
    ErrorBody, OperationStatus, RegistrationState, RegistrationStatus, TpmChallenge,
};
use bytes::Bytes;

/// The reply to register.
pub fn accepted(operation: &str) -> Bytes {
    write::<RegistrationState>(operation, RegistrationStatus::Assigning, None)
}

/// The reply to a poll that came early.
pub fn assigning(operation: &str, id: &RegistrationId) -> Bytes {
    let state = RegistrationState::new(id.clone(), RegistrationStatus::Assigning);
    write(operation, RegistrationStatus::Assigning, Some(&state))
}

/// The reply when all is done.
pub fn done(operation: &str, state: &RegistrationState) -> Bytes {
    write(operation, state.status, Some(state))
}

/// The reply to a lookup: the registration without an operation.
pub fn state(state: &RegistrationState) -> Bytes {
    bytes(state)
}

/// The reply to a device with a TPM that has no token yet.
pub fn challenge(challenge: &TpmChallenge) -> Bytes {
    bytes(challenge)
}

/// An error body.
pub fn error(code: u32, message: &str, tracking_id: &str, now: SystemTime) -> Bytes {
    let body = ErrorBody {
        error_code: code,
        tracking_id: tracking_id.into(),
        message: message.into(),
        timestamp_utc: now.into(),
    };
    bytes(&body)
}

fn write<State: serde::Serialize>(
    operation: &str,
    status: RegistrationStatus,
    state: Option<&State>,
) -> Bytes {
    bytes(&OperationStatus {
        operation_id: operation,
        status,
        registration_state: state,
    })
}

fn bytes<T: serde::Serialize>(body: &T) -> Bytes {
    let mut text = Vec::with_capacity(512);
    serde_json::to_writer(&mut text, body).expect("bodies are structs with text keys");
    text.into()
}
