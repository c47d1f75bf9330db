//! Hashes of TPM 2.0 part 1, all with SHA-256: Name, KDFa, HMAC.

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

use crate::algorithm;

pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

/// The Name of an object: its name algorithm and the hash of its public area.
pub fn name(public_area: &[u8]) -> [u8; 34] {
    let mut name = [0; 34];
    name[..2].copy_from_slice(&algorithm::SHA256.to_be_bytes());
    name[2..].copy_from_slice(&sha256(&[public_area]));
    name
}

/// KDFa: SP 800-108 in counter mode. One round is all that the keys here need.
pub fn kdfa<const BYTES: usize>(key: &[u8], label: &str, context: &[u8]) -> [u8; BYTES] {
    const { assert!(BYTES <= 32) };
    let bits = u32::try_from(BYTES * 8).expect("at most 256");
    let mut mac = mac(key);
    mac.update(&1u32.to_be_bytes());
    mac.update(label.as_bytes());
    mac.update(&[0]);
    mac.update(context);
    mac.update(&bits.to_be_bytes());
    let round: [u8; 32] = mac.finalize().into_bytes().into();
    let mut derived = [0; BYTES];
    derived.copy_from_slice(&round[..BYTES]);
    derived
}

pub fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    over(key, parts).finalize().into_bytes().into()
}

/// Compares in constant time.
pub fn hmac_is(key: &[u8], parts: &[&[u8]], given: &[u8]) -> bool {
    over(key, parts).verify_slice(given).is_ok()
}

fn over(key: &[u8], parts: &[&[u8]]) -> Hmac<Sha256> {
    let mut mac = mac(key);
    parts.iter().for_each(|part| mac.update(part));
    mac
}

fn mac(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::identity_key;

    #[test]
    fn every_intermediate_value_of_the_vector_is_derived() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../tests/vectors/tpm.json")).unwrap();
        let vector = &vectors["softwareVector"];
        let value = |name: &str| -> Vec<u8> {
            let text = vector["intermediates"][name].as_str().unwrap();
            let bytes = text.as_bytes().chunks(2);
            let digits = bytes.map(|pair| std::str::from_utf8(pair).unwrap());
            digits
                .map(|pair| u8::from_str_radix(pair, 16).unwrap())
                .collect()
        };
        let seed: [u8; 32] = value("idKeySeedValue").try_into().unwrap();
        let key = vector["deliveredKeyBase64"].as_str().unwrap();
        let key = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, key).unwrap();
        let area = identity_key::public_area(&seed, &key);
        assert!(area.ends_with(&value("idKeyUnique")));
        assert_eq!(name(&area).as_slice(), value("idKeyName"));
        for (seed, of, symmetric, integrity) in [
            (
                "credentialSeed",
                "srkName",
                "credentialSymKey",
                "credentialHmacKey",
            ),
            (
                "duplicationSeed",
                "idKeyName",
                "duplicateSymKey",
                "duplicateHmacKey",
            ),
        ] {
            let seed = value(seed);
            let derived: [u8; 16] = kdfa(&seed, "STORAGE", &value(of));
            assert_eq!(derived.as_slice(), value(symmetric));
            let derived: [u8; 32] = kdfa(&seed, "INTEGRITY", &[]);
            assert_eq!(derived.as_slice(), value(integrity));
        }
    }
}
