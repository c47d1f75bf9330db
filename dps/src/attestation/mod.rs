//! Whether a device is who it says it is.
//!
//! Pure: the credential, the enrollments and the time in, a verdict out. What may not enter: where
//! enrollments are kept, hubs.

pub mod anchor;
pub mod symmetric;
pub mod tpm;
pub mod x509;

use std::sync::Arc;

use azimuth_certs::Thumbprint;
use azimuth_wire::{EnrollmentGroupId, RegistrationId, SymmetricKey};

/// What a device claims with its credential.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// In the device's own spelling: derived keys are over these very bytes.
    pub registration_id: &'a RegistrationId,
    /// `{id scope}/registrations/{registration id}`.
    pub resource: &'a str,
    /// Seconds since 1970.
    pub now: u64,
}

/// The keys a device gets in its hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceKeys {
    pub primary: SymmetricKey,
    pub secondary: SymmetricKey,
}

/// By what the hub will know a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HubCredential {
    Keys(DeviceKeys),
    /// Of the certificate that the device showed here.
    Certificate(Thumbprint),
}

/// What a device proved with its credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attested {
    /// What the hub will know it by as well.
    Credential(HubCredential),
    /// That it holds these keys; for the hub it gets others, wrapped for this TPM.
    Tpm(Arc<tpm::TpmKeys>),
}

/// Why a token was not taken. The device is told `Unauthorized` in every case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejection {
    /// The token names somebody or something else.
    Resource { given: String, expected: String },
    /// Past its expiry and the allowance for clocks that are off; seconds since 1970.
    Expired { expiry: u64, now: u64 },
    /// Neither key of the individual enrollment signed the token.
    WrongKey { string_to_sign: String },
    /// A group's key itself signed the token, not one derived from it.
    GroupKey { group: EnrollmentGroupId },
    /// No individual enrollment, and no group's derived key signed the token.
    Unknown {
        groups: usize,
        string_to_sign: String,
    },
    /// None of the keys that were wrapped for the TPM of late signed the token.
    NoChallenge {
        challenges: usize,
        string_to_sign: String,
    },
    /// The individual enrollment wants another kind of proof.
    OtherKind { kind: &'static str },
}
