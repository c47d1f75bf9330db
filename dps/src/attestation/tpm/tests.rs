#![allow(clippy::unwrap_used)]
use std::sync::LazyLock;

use azimuth_tpm::SoftwareTpm;
use azimuth_wire::{RegistrationId, sas};
use serde_json::json;

use super::*;
use crate::attestation::Rejection as Refused;

const NOW: u64 = 1_800_000_000;
const RESOURCE: &str = "0ne00002193/registrations/tpm-1";

/// The TPM of all tests: keys take a while to make.
pub static TPM: LazyLock<SoftwareTpm> = LazyLock::new(|| SoftwareTpm::generate().unwrap());
static OTHER: LazyLock<SoftwareTpm> = LazyLock::new(|| SoftwareTpm::generate().unwrap());

pub fn shown() -> TpmAttestation {
    shown_by(&TPM)
}

fn shown_by(tpm: &SoftwareTpm) -> TpmAttestation {
    TpmAttestation {
        endorsement_key: STANDARD.encode(tpm.endorsement_key().bytes()),
        storage_root_key: Some(STANDARD.encode(tpm.storage_root_key().bytes())),
    }
}

/// An enrollment that knows the endorsement key only.
pub fn enrolled() -> IndividualEnrollment {
    let keys = json!({ "endorsementKey": shown().endorsement_key });
    let attestation = json!({ "type": "tpm", "tpm": keys });
    let entry = json!({ "registrationId": "tpm-1", "attestation": attestation });
    serde_json::from_value(entry).unwrap()
}

#[test]
fn the_enrolled_tpm_is_taken_with_the_storage_root_key_it_has_now() {
    let keys = introduced(&shown(), &enrolled()).unwrap();
    assert_eq!(&keys.endorsement, TPM.endorsement_key());
    assert_eq!(keys.shown(), shown());
    let mut cleared = enrolled();
    let enrolled_keys = cleared.attestation.tpm.as_mut().unwrap();
    enrolled_keys.storage_root_key = shown_by(&OTHER).storage_root_key;
    let keys = introduced(&shown(), &cleared).unwrap();
    assert_eq!(&keys.storage_root, TPM.storage_root_key());
    // A device that shows none has the enrolled one.
    let mut silent = shown();
    silent.storage_root_key = None;
    let keys = introduced(&silent, &cleared).unwrap();
    assert_eq!(&keys.storage_root, OTHER.storage_root_key());
}

#[test]
fn each_tpm_that_is_not_taken_is_told_from_the_others() {
    let other = introduced(&shown_by(&OTHER), &enrolled());
    assert!(matches!(other, Err(Rejection::OtherTpm { .. })));
    let mut silent = shown();
    silent.storage_root_key = None;
    let silent = introduced(&silent, &enrolled());
    assert_eq!(silent, Err(Rejection::NoStorageRootKey));
    for (key, why) in [("!", "not base64"), ("AAAA", "TPM2B_PUBLIC")] {
        let mut bad = shown();
        bad.storage_root_key = Some(key.into());
        let Err(Rejection::Key { member, why: found }) = introduced(&bad, &enrolled()) else {
            panic!("{key}");
        };
        assert_eq!(member, "tpm.storageRootKey");
        assert!(found.contains(why), "{found}");
    }
    for kind in [
        AttestationKind::SymmetricKey,
        AttestationKind::X509,
        AttestationKind::None,
    ] {
        let mut entry = enrolled();
        entry.attestation.kind = kind;
        let found = introduced(&shown(), &entry);
        assert!(
            matches!(found, Err(Rejection::OtherKind { .. })),
            "{kind:?}"
        );
    }
}

#[test]
fn a_token_signed_with_a_challenge_of_the_enrolled_tpm_is_taken() {
    let id: RegistrationId = "tpm-1".parse().unwrap();
    let claim = Claim {
        registration_id: &id,
        resource: RESOURCE,
        now: NOW,
    };
    let key = |number| SymmetricKey::from_bytes(&[number; 32]);
    let token = |key: &SymmetricKey, expiry| {
        let text = sas::sign(RESOURCE, key, expiry, Some("registration"));
        SasToken::parse(&text).unwrap()
    };
    let tpm = Arc::new(introduced(&shown(), &enrolled()).unwrap());
    let challenges = [1, 2].map(|number| Challenge {
        tpm: tpm.clone(),
        key: key(number),
    });
    let judge = |token: &SasToken, enrollment: &IndividualEnrollment| {
        individual(token, claim, enrollment, &challenges)
    };
    for number in [1, 2] {
        let verdict = judge(&token(&key(number), NOW + 60), &enrolled());
        assert_eq!(verdict, Ok(tpm.clone()));
    }
    let verdict = judge(&token(&key(3), NOW + 60), &enrolled());
    assert!(matches!(
        verdict,
        Err(Refused::NoChallenge { challenges: 2, .. })
    ));
    let verdict = judge(&token(&key(1), NOW - 301), &enrolled());
    assert!(matches!(verdict, Err(Refused::Expired { .. })));
    // The enrollment was given another TPM meanwhile.
    let mut replaced = enrolled();
    replaced.attestation.tpm = Some(shown_by(&OTHER));
    let verdict = judge(&token(&key(1), NOW + 60), &replaced);
    assert!(matches!(verdict, Err(Refused::NoChallenge { .. })));
}
