//! What a TPM or a service sends: no bytes panic, what is read is written back as it came, and what is not for
//! a TPM opens nothing.

use std::sync::LazyLock;

use azimuth_tpm::{ActivationBlob, Seeds, SoftwareTpm, StorageKey};

static TPM: LazyLock<SoftwareTpm> =
    LazyLock::new(|| SoftwareTpm::generate().expect("the system has chance"));

pub fn check(data: &[u8]) {
    if let Ok(key) = StorageKey::parse(data) {
        assert_eq!(key.bytes(), data);
        assert_eq!(key.registration_id().len(), 52);
        // Any number may claim to be a modulus; whatever it is, wrapping for it ends.
        let seeds = Seeds::from([7; Seeds::BYTES]);
        let _ = ActivationBlob::wrap(&[1; 32], &key, TPM.storage_root_key(), "u", &seeds);
        let _ = ActivationBlob::wrap(&[1; 32], TPM.endorsement_key(), &key, "u", &seeds);
    }
    if let Ok(blob) = ActivationBlob::parse(data) {
        assert_eq!(blob.to_bytes(), data);
        assert!(TPM.activate(&blob).is_err(), "it was made for nobody here");
    }
    inside(data);
}

/// The bytes as what is read behind the seals: laid over each part of a blob that is good.
fn inside(data: &[u8]) {
    let Some((which, part)) = data.split_first() else {
        return;
    };
    let mut blob = GOOD.clone();
    let parts: [&mut Vec<u8>; 5] = [
        &mut blob.credential_blob,
        &mut blob.encrypted_secret,
        &mut blob.duplicate,
        &mut blob.encrypted_sym_seed,
        &mut blob.identity_key_public,
    ];
    let Some(place) = parts.into_iter().nth(usize::from(*which % 5)) else {
        return;
    };
    if place.as_slice() != part {
        *place = part.to_vec();
        assert!(TPM.activate(&blob).is_err(), "a part was exchanged");
    }
}

static GOOD: LazyLock<ActivationBlob> = LazyLock::new(|| {
    let (ek, srk) = (TPM.endorsement_key(), TPM.storage_root_key());
    let seeds = Seeds::from([9; Seeds::BYTES]);
    let blob = ActivationBlob::wrap(&[1; 32], ek, srk, "hub/device", &seeds);
    blob.expect("keys of our own are good")
});
