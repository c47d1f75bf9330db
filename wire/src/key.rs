//! Symmetric keys: of devices, of policies, of enrollments.
//!
//! `Debug` shows nothing of a key, and there is no `Display`.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

/// Why a text is not a symmetric key. The text itself is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    #[error("the key is not base64")]
    NotBase64,
    #[error("the key decodes to {0} bytes; 16 to 64 are allowed")]
    Length(usize),
}

/// A key as Azure writes it: base64 of 16 to 64 bytes, kept as it was written.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SymmetricKey {
    text: Box<str>,
    bytes: Box<[u8]>,
}

impl SymmetricKey {
    /// The base64 text, for connection strings and REST bodies. Never for a log.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// The key itself, for whoever wraps it. Never for a log.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// HMAC-SHA256 of `message` under this key.
    pub fn sign(&self, message: &[u8]) -> [u8; 32] {
        self.mac(message).finalize().into_bytes().into()
    }

    /// Whether `signature` is that of `message`, compared in constant time.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        self.mac(message).verify_slice(signature).is_ok()
    }

    /// The key of one device of an enrollment group: the signature of its registration id,
    /// byte for byte as the device writes it (Azure: symmetric key attestation).
    pub fn derive(&self, registration_id: &str) -> Self {
        Self::from_bytes(&self.sign(registration_id.as_bytes()))
    }

    /// A key from raw bytes, for generators and derivation.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self {
            text: STANDARD.encode(bytes).into(),
            bytes: bytes.into(),
        }
    }

    fn mac(&self, message: &[u8]) -> Hmac<Sha256> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.bytes).expect("HMAC takes keys of any length");
        mac.update(message);
        mac
    }
}

impl FromStr for SymmetricKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let bytes = STANDARD.decode(text).map_err(|_| InvalidKey::NotBase64)?;
        if !(16..=64).contains(&bytes.len()) {
            return Err(InvalidKey::Length(bytes.len()));
        }
        Ok(Self {
            text: text.into(),
            bytes: bytes.into(),
        })
    }
}

impl TryFrom<String> for SymmetricKey {
    type Error = InvalidKey;

    fn try_from(text: String) -> Result<Self, InvalidKey> {
        text.parse()
    }
}

impl From<SymmetricKey> for String {
    fn from(key: SymmetricKey) -> String {
        key.text.into()
    }
}

impl fmt::Debug for SymmetricKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SymmetricKey(…)")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sixteen_to_sixty_four_bytes_are_a_key() {
        for (length, expected) in [
            (0, Err(InvalidKey::Length(0))),
            (15, Err(InvalidKey::Length(15))),
            (16, Ok(())),
            (64, Ok(())),
            (65, Err(InvalidKey::Length(65))),
        ] {
            let text = STANDARD.encode(vec![7; length]);
            assert_eq!(text.parse::<SymmetricKey>().map(drop), expected, "{length}");
        }
        for text in ["?", "AAEC AwQF", "AAECAwQFBgcICQoLDA0ODw", "é"] {
            assert_eq!(
                text.parse::<SymmetricKey>(),
                Err(InvalidKey::NotBase64),
                "{text}"
            );
        }
    }

    #[test]
    fn debug_shows_nothing_of_a_key() {
        let key = SymmetricKey::from_bytes(&[7; 32]);
        assert_eq!(format!("{key:?}"), "SymmetricKey(…)");
        assert_eq!(format!("{key:#?}"), "SymmetricKey(…)");
    }

    #[test]
    fn json_carries_the_text_and_refuses_what_is_no_key() {
        let key = SymmetricKey::from_bytes(&[7; 32]);
        let json = serde_json::to_string(&key).unwrap();
        assert_eq!(json, format!("\"{}\"", key.reveal()));
        assert_eq!(serde_json::from_str::<SymmetricKey>(&json).unwrap(), key);
        let error = serde_json::from_str::<SymmetricKey>("\"c2VjcmV0\"").unwrap_err();
        assert!(!error.to_string().contains("c2VjcmV0"), "{error}");
    }

    #[test]
    fn a_signature_is_verified_whole() {
        let key = SymmetricKey::from_bytes(&[7; 32]);
        let signature = key.sign(b"text");
        assert!(key.verify(b"text", &signature));
        assert!(!key.verify(b"text", &signature[..16]));
        assert!(!key.verify(b"text", &[]));
        assert!(!key.verify(b"other", &signature));
    }
}
