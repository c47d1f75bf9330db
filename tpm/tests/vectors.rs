//! The published vectors: every intermediate value, the blob of a software TPM, and two blobs of the real
//! service.

#![allow(clippy::unwrap_used)]

use azimuth_tpm::{ActivationBlob, Error, Seeds, SoftwareTpm, StorageKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

fn vectors() -> Value {
    serde_json::from_str(include_str!("vectors/tpm.json")).unwrap()
}

fn base64(value: &Value) -> Vec<u8> {
    STANDARD.decode(value.as_str().unwrap()).unwrap()
}

fn hex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap().as_bytes();
    let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    text.chunks(2).map(byte).collect()
}

fn pem(value: &Value) -> Vec<u8> {
    let lines = value.as_str().unwrap().lines();
    let body: String = lines.filter(|line| !line.starts_with('-')).collect();
    STANDARD.decode(body).unwrap()
}

fn key(value: &Value) -> StorageKey {
    StorageKey::parse(&base64(value)).unwrap()
}

fn software_tpm(vector: &Value) -> SoftwareTpm {
    let endorsement = pem(&vector["ekPrivateKeyPem"]);
    SoftwareTpm::from_pkcs8(&endorsement, &pem(&vector["srkPrivateKeyPem"])).unwrap()
}

fn seeds(vector: &Value) -> Seeds {
    let values = &vector["intermediates"];
    let seed = |name: &str| hex(&values[name]);
    Seeds {
        wrap: seed("innerWrapKey").try_into().unwrap(),
        credential: seed("credentialSeed").try_into().unwrap(),
        identity_key: seed("idKeySeedValue").try_into().unwrap(),
        duplication: seed("duplicationSeed").try_into().unwrap(),
    }
}

#[test]
fn registration_ids_are_made_of_endorsement_keys() {
    let vectors = vectors();
    let rows = vectors["registrationIdFromEk"].as_array().unwrap();
    assert!(!rows.is_empty());
    let software = &vectors["softwareVector"];
    for row in rows.iter().chain([software]) {
        let id = key(&row["endorsementKeyBase64"]).registration_id();
        assert_eq!(id, row["registrationId"].as_str().unwrap());
    }
}

#[test]
fn the_standard_templates_give_the_public_areas_of_the_vector() {
    let vector = &vectors()["softwareVector"];
    let tpm = software_tpm(vector);
    let (ek, srk) = (
        &vector["endorsementKeyBase64"],
        &vector["storageRootKeyBase64"],
    );
    assert_eq!(tpm.endorsement_key(), &key(ek));
    assert_eq!(tpm.storage_root_key(), &key(srk));
    assert_eq!(tpm.endorsement_key().bytes(), base64(ek));
    let name = tpm.storage_root_key().name();
    assert_eq!(name.as_slice(), hex(&vector["intermediates"]["srkName"]));
}

#[test]
fn the_blob_of_the_vector_is_built_but_for_the_chance_in_oaep() {
    let vector = &vectors()["softwareVector"];
    let tpm = software_tpm(vector);
    let built = ActivationBlob::wrap(
        &base64(&vector["deliveredKeyBase64"]),
        tpm.endorsement_key(),
        tpm.storage_root_key(),
        vector["uriPlaintext"].as_str().unwrap(),
        &seeds(vector),
    )
    .unwrap();
    let parts = &vector["partsHex"];
    // Each part stands in the vector behind its size.
    let published = |name: &str| hex(&parts[name])[2..].to_vec();
    assert_eq!(built.credential_blob, published("credentialBlob"));
    assert_eq!(built.duplicate, published("duplicate"));
    assert_eq!(built.identity_key_public, published("idKeyPublic"));
    assert_eq!(built.encrypted_uri, published("encryptedUri"));
    let names = ["encryptedSecret", "encryptedSymSeed"];
    for (encrypted, name) in [&built.encrypted_secret, &built.encrypted_sym_seed]
        .into_iter()
        .zip(names)
    {
        assert_eq!(encrypted.len(), 256);
        assert_ne!(*encrypted, published(name), "OAEP has its own chance");
    }
    // The seeds under OAEP are those of the vector: the parts may be exchanged.
    let exchanged = ActivationBlob {
        encrypted_secret: published("encryptedSecret"),
        encrypted_sym_seed: published("encryptedSymSeed"),
        ..built.clone()
    };
    assert_eq!(exchanged.to_bytes(), base64(&vector["blobBase64"]));
    assert_eq!(tpm.activate(&exchanged), tpm.activate(&built));
    assert_eq!(
        built.to_bytes().len(),
        vector["blobLength"].as_u64().unwrap() as usize
    );
}

#[test]
fn the_blob_of_the_vector_opens() {
    let vector = &vectors()["softwareVector"];
    let blob = ActivationBlob::parse(&base64(&vector["blobBase64"])).unwrap();
    let found = software_tpm(vector).activate(&blob).unwrap();
    assert_eq!(found.reveal(), base64(&vector["deliveredKeyBase64"]));
    assert_eq!(found.uri(), vector["uriPlaintext"].as_str());
    assert_eq!(format!("{found:?}"), "DeliveredKey(…)");
}

#[test]
fn the_blobs_of_the_real_service_have_the_known_layout() {
    let real = &vectors()["realServiceBlobs"];
    for name in ["challenge", "assigned"] {
        let row = &real[name];
        let bytes = base64(&row["base64"]);
        assert_eq!(bytes.len() as u64, row["length"].as_u64().unwrap());
        let blob = ActivationBlob::parse(&bytes).unwrap();
        let sizes: Vec<_> = blob.parts().iter().map(|part| part.len()).collect();
        let expected = row["partSizes"].as_array().unwrap().iter();
        let expected: Vec<_> = expected
            .map(|size| size.as_u64().unwrap() as usize)
            .collect();
        assert_eq!(sizes, expected);
        let public = hex(&row["idKeyPublicHex"])[2..].to_vec();
        assert_eq!(blob.identity_key_public, public);
        assert_eq!(blob.to_bytes(), bytes);
    }
}

#[test]
fn keys_of_every_length_go_round_and_no_other_does() {
    let vector = &vectors()["softwareVector"];
    let tpm = software_tpm(vector);
    let wrap = |key: &[u8], uri: &str| {
        let (ek, srk) = (tpm.endorsement_key(), tpm.storage_root_key());
        ActivationBlob::wrap(key, ek, srk, uri, &seeds(vector))
    };
    for length in [1, 32, 64] {
        let key = vec![7; length];
        let blob = wrap(&key, "hub/dev").unwrap();
        let blob = ActivationBlob::parse(&blob.to_bytes()).unwrap();
        assert_eq!(tpm.activate(&blob).unwrap().reveal(), key);
    }
    assert_eq!(wrap(&[], "u"), Err(Error::DeliveredKey(0)));
    assert_eq!(wrap(&[0; 65], "u"), Err(Error::DeliveredKey(65)));
    let long = "u".repeat(ActivationBlob::LONGEST_URI + 1);
    assert!(matches!(wrap(&[0; 32], &long), Err(Error::TooLong { .. })));
}

#[test]
fn another_tpm_opens_nothing_and_neither_does_a_new_owner() {
    let vector = &vectors()["softwareVector"];
    let blob = ActivationBlob::parse(&base64(&vector["blobBase64"])).unwrap();
    let other = SoftwareTpm::generate().unwrap();
    let credential = Err(Error::Integrity("the credential"));
    assert_eq!(other.activate(&blob), credential);
    // The same endorsement key below a storage root key that was made anew.
    let [_, srk] = other.to_pkcs8().unwrap();
    let cleared = SoftwareTpm::from_pkcs8(&pem(&vector["ekPrivateKeyPem"]), &srk).unwrap();
    assert_eq!(cleared.activate(&blob), credential);
}

#[test]
fn a_change_in_any_part_but_the_last_is_seen() {
    let vector = &vectors()["softwareVector"];
    let tpm = software_tpm(vector);
    let blob = ActivationBlob::parse(&base64(&vector["blobBase64"])).unwrap();
    let change: [fn(&mut ActivationBlob) -> &mut Vec<u8>; 5] = [
        |blob| &mut blob.credential_blob,
        |blob| &mut blob.encrypted_secret,
        |blob| &mut blob.duplicate,
        |blob| &mut blob.encrypted_sym_seed,
        |blob| &mut blob.identity_key_public,
    ];
    for part in change {
        for at in [0, 7, 40] {
            let mut changed = blob.clone();
            part(&mut changed)[at] ^= 1;
            assert!(tpm.activate(&changed).is_err());
            let mut cut = blob.clone();
            part(&mut cut).truncate(at);
            assert!(tpm.activate(&cut).is_err());
        }
    }
}

#[test]
fn a_software_tpm_is_the_same_after_it_was_kept() {
    let made = SoftwareTpm::generate().unwrap();
    let [ek, srk] = made.to_pkcs8().unwrap();
    let read = SoftwareTpm::from_pkcs8(&ek, &srk).unwrap();
    assert_eq!(read.endorsement_key(), made.endorsement_key());
    assert_eq!(read.storage_root_key(), made.storage_root_key());
    let parsed = StorageKey::parse(made.endorsement_key().bytes()).unwrap();
    assert_eq!(&parsed, made.endorsement_key());
}

#[test]
fn each_key_that_will_not_do_is_told_from_the_others() {
    let good = base64(&vectors()["softwareVector"]["endorsementKeyBase64"]);
    let at = |offset: usize, bytes: &[u8]| {
        let mut changed = good.clone();
        changed[offset..offset + bytes.len()].copy_from_slice(bytes);
        StorageKey::parse(&changed)
    };
    // Behind the size: type, name algorithm, attributes, policy of 32 bytes, symmetric, scheme, bits.
    assert_eq!(at(2, &[0, 0x23]), Err(Error::Ecc));
    assert_eq!(at(2, &[0, 8]), Err(Error::KeyType(8)));
    assert_eq!(at(4, &[0, 0x0C]), Err(Error::NameAlgorithm(12)));
    assert_eq!(at(6, &[0, 6]), Err(Error::NotStorage), "sign");
    assert_eq!(at(6, &[0, 2]), Err(Error::NotStorage), "not restricted");
    assert_eq!(at(44, &[0, 0x10]), Err(Error::Symmetric));
    assert_eq!(at(46, &[1, 0]), Err(Error::Symmetric));
    assert_eq!(at(50, &[0, 0x14]), Err(Error::Scheme));
    assert_eq!(at(52, &[4, 0]), Err(Error::KeyBits(1024)));
    assert_eq!(at(52, &[0x0C, 0]), Err(Error::Modulus), "3072 bits claimed");
    assert_eq!(at(54, &[0, 0, 0, 4]), Err(Error::Modulus));
    assert_eq!(at(60, &[0x7F]), Err(Error::Modulus));
    assert_eq!(at(good.len() - 1, &[2]), Err(Error::Modulus));
    assert!(at(54, &[0, 1, 0, 1]).is_ok(), "the exponent written out");
    let more = [&good[..], &[0]].concat();
    assert!(matches!(
        StorageKey::parse(&more),
        Err(Error::Trailing { bytes: 1, .. })
    ));
    for end in 0..good.len() {
        assert!(matches!(
            StorageKey::parse(&good[..end]),
            Err(Error::Truncated(_))
        ));
    }
}
