//! Why a TPM is refused.

use azimuth_broker::{Answer, Refusal};
use azimuth_wire::RegistrationId;

use super::{BAD_REQUEST, UNAUTHORIZED};
use crate::attestation::tpm::Rejection;

pub fn tpm_over_mqtt() -> Refusal {
    let sentence = "the body of register holds the keys of a TPM, but Azure offers TPM attestation over HTTPS and AMQP, never over MQTT; register over HTTPS";
    Refusal::new("not-supported", UNAUTHORIZED, sentence)
}

/// No group has TPMs.
pub fn tpm_not_enrolled(id: &RegistrationId) -> Refusal {
    let sentence = format!(
        "there is no individual enrollment {id}, and enrollment groups have no TPMs; enroll the TPM by its endorsement key"
    );
    Refusal::new("unknown-registration", Answer::Response(404), sentence)
}

pub fn tpm_rejected(id: &RegistrationId, rejection: Rejection) -> Refusal {
    match rejection {
        Rejection::OtherKind { kind } => {
            let sentence = format!(
                "the individual enrollment {id} wants {kind}, the device sent the keys of a TPM"
            );
            Refusal::new("wrong-attestation", UNAUTHORIZED, sentence)
        }
        Rejection::OtherTpm { shown, enrolled } => {
            let sentence = format!(
                "the endorsement key is not that of the individual enrollment {id}: this is another TPM, or its endorsement key was made anew"
            );
            Refusal::new("wrong-endorsement-key", UNAUTHORIZED, sentence)
                .fact("registration id made of the key shown", shown)
                .fact("registration id made of the key enrolled", enrolled)
        }
        Rejection::Key { member, why } => {
            let sentence =
                format!("{member} is not base64 of the TPM2B_PUBLIC of such a key: {why}");
            Refusal::new("bad-tpm-key", BAD_REQUEST, sentence)
        }
        Rejection::NoStorageRootKey => {
            let sentence = "tpm.storageRootKey is missing, in the body of register and in the enrollment; without it no key can be wrapped for the TPM";
            Refusal::new("bad-tpm-key", BAD_REQUEST, sentence)
        }
    }
}

pub fn no_challenge(id: &RegistrationId, challenges: usize, string_to_sign: String) -> Refusal {
    let sentence = match challenges {
        0 => format!(
            "no key was wrapped for the TPM of {id} within the last hour and since the service started; register without a token first"
        ),
        _ => format!(
            "the token is not signed with one of the {challenges} keys that were last wrapped for the TPM of {id}; register without a token to get another"
        ),
    };
    Refusal::new("wrong-key", UNAUTHORIZED, sentence).fact("text signed", string_to_sign)
}

pub fn tpm_not_wrapped(error: &azimuth_tpm::Error) -> Refusal {
    let sentence = format!("no key could be wrapped for the TPM: {error}");
    Refusal::new("tpm-failed", Answer::Response(500), sentence)
}
