//! The keys of a TPM in an enrollment: which may be enrolled. They are kept and shown as they were given.

use azimuth_wire::enrollment::Attestation;

use crate::attestation::tpm::{Rejection, read};
use crate::error::Error;

pub fn check(attestation: &Attestation, individual: bool) -> Result<(), Error> {
    if !individual {
        let sentence = "TPMs are enrolled one by one; an enrollment group has symmetricKey or x509";
        return Err(Error::Invalid(sentence.into()));
    }
    let Some(tpm) = &attestation.tpm else {
        let sentence = "attestation of type tpm needs the member tpm";
        return Err(Error::Invalid(sentence.into()));
    };
    readable("endorsementKey", &tpm.endorsement_key, ENDORSEMENT_KEY)?;
    let storage_root = tpm.storage_root_key.as_ref();
    storage_root.map_or(Ok(()), |key| {
        readable("storageRootKey", key, "Storage root key is invalid.")
    })
}

fn readable(member: &'static str, key: &str, words: &str) -> Result<(), Error> {
    match read(member, key) {
        Err(Rejection::Key { member, why }) => {
            let sentence = format!(
                "{words} attestation.tpm.{member} must be base64 of the TPM2B_PUBLIC of the key, as `tpm2_readpublic -f tss` and Azure's tools write it: {why}"
            );
            Err(Error::Invalid(sentence))
        }
        _ => Ok(()),
    }
}

/// Azure's words for a key of another format.
const ENDORSEMENT_KEY: &str = "Endorsement key is invalid, or does not match the Enrollment.";
