//! TPM: a key that only the enrolled TPM can read, and a token signed with it.
//!
//! A device shows the public keys of its TPM, which prove nothing. It is sent a key that is wrapped for them;
//! whoever signs with that key holds the TPM. There are no groups of TPMs. What may not enter: where the
//! keys of challenges are kept.

use std::sync::Arc;

use azimuth_tpm::StorageKey;
use azimuth_wire::SymmetricKey;
use azimuth_wire::enrollment::{AttestationKind, IndividualEnrollment, TpmAttestation};
use azimuth_wire::sas::SasToken;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Claim;
use super::symmetric::check_claim;

/// The public keys of a TPM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TpmKeys {
    pub endorsement: StorageKey,
    pub storage_root: StorageKey,
}

impl TpmKeys {
    /// As the device showed them.
    pub fn shown(&self) -> TpmAttestation {
        TpmAttestation {
            endorsement_key: STANDARD.encode(self.endorsement.bytes()),
            storage_root_key: Some(STANDARD.encode(self.storage_root.bytes())),
        }
    }
}

/// A key that was wrapped for a TPM.
#[derive(Debug, Clone)]
pub struct Challenge {
    pub tpm: Arc<TpmKeys>,
    pub key: SymmetricKey,
}

/// Why the keys a device showed were not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejection {
    /// The individual enrollment wants another kind of proof.
    OtherKind {
        kind: &'static str,
    },
    /// The endorsement key is not the enrolled one; each as the registration id made of it.
    OtherTpm {
        shown: String,
        enrolled: String,
    },
    /// What a member holds is not a key of a TPM.
    Key {
        member: &'static str,
        why: String,
    },
    NoStorageRootKey,
}

/// Holds what a device shows against its enrollment. The storage root key is the device's own matter: it
/// changes with the owner of the TPM.
pub fn introduced(
    shown: &TpmAttestation,
    enrollment: &IndividualEnrollment,
) -> Result<TpmKeys, Rejection> {
    let kind = match enrollment.attestation.kind {
        AttestationKind::Tpm => "",
        AttestationKind::SymmetricKey => "a SAS token made with its symmetric key",
        AttestationKind::X509 => "an X.509 certificate",
        AttestationKind::None => "nothing at all",
    };
    if !kind.is_empty() {
        return Err(Rejection::OtherKind { kind });
    }
    let endorsement = read("tpm.endorsementKey", &shown.endorsement_key)?;
    let enrolled = endorsement_key(enrollment);
    if enrolled.as_ref() != Some(&endorsement) {
        return Err(Rejection::OtherTpm {
            shown: endorsement.registration_id(),
            enrolled: enrolled.map_or_else(String::new, |enrolled| enrolled.registration_id()),
        });
    }
    let own = enrollment.attestation.tpm.as_ref();
    let own = own.and_then(|tpm| tpm.storage_root_key.as_ref());
    let storage_root = shown.storage_root_key.as_ref().or(own);
    let storage_root = storage_root.ok_or(Rejection::NoStorageRootKey)?;
    Ok(TpmKeys {
        endorsement,
        storage_root: read("tpm.storageRootKey", storage_root)?,
    })
}

/// Holds a token against the keys that were wrapped for the enrolled TPM.
pub fn individual(
    token: &SasToken,
    claim: Claim<'_>,
    enrollment: &IndividualEnrollment,
    challenges: &[Challenge],
) -> Result<Arc<TpmKeys>, super::Rejection> {
    check_claim(token, claim)?;
    let enrolled = endorsement_key(enrollment);
    // Those from before the enrollment was given another TPM are void.
    let mut current = challenges
        .iter()
        .filter(|challenge| enrolled.as_ref() == Some(&challenge.tpm.endorsement));
    let signed = current.find(|challenge| token.signed_by(&challenge.key));
    signed
        .map(|challenge| challenge.tpm.clone())
        .ok_or_else(|| super::Rejection::NoChallenge {
            challenges: challenges.len(),
            string_to_sign: token.string_to_sign(),
        })
}

/// Reads base64 of a `TPM2B_PUBLIC`.
pub fn read(member: &'static str, text: &str) -> Result<StorageKey, Rejection> {
    let bytes = STANDARD.decode(text).map_err(|_| Rejection::Key {
        member,
        why: "it is not base64".into(),
    })?;
    StorageKey::parse(&bytes).map_err(|error| Rejection::Key {
        member,
        why: error.to_string(),
    })
}

fn endorsement_key(enrollment: &IndividualEnrollment) -> Option<StorageKey> {
    let tpm = enrollment.attestation.tpm.as_ref()?;
    read("endorsementKey", &tpm.endorsement_key).ok()
}

#[cfg(test)]
pub mod tests;
