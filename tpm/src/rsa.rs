//! RSA-OAEP with SHA-256 and a label, and the one form of public key that the library takes.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{
    KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, OaepPublicEncryptingKey,
    PrivateDecryptingKey, PublicEncryptingKey,
};

use crate::error::Error;

/// The labels of TPM 2.0 part 1, each with its terminating zero.
pub const IDENTITY: &[u8] = b"IDENTITY\0";
pub const DUPLICATE: &[u8] = b"DUPLICATE\0";

/// Encrypts a seed for the owner of a key.
pub fn encrypt(modulus: &[u8], exponent: u32, label: &[u8], seed: &[u8]) -> Result<Vec<u8>, Error> {
    let key = PublicEncryptingKey::from_der(&subject_public_key_info(modulus, exponent));
    let key = key.map_err(|_| Error::Modulus)?;
    let key = OaepPublicEncryptingKey::new(key).map_err(|_| Error::Modulus)?;
    let mut encrypted = vec![0; key.ciphertext_size()];
    let written = key.encrypt(&OAEP_SHA256_MGF1SHA256, seed, &mut encrypted, Some(label));
    let length = written.map_err(|_| Error::Library("RSA-OAEP"))?.len();
    encrypted.truncate(length);
    Ok(encrypted)
}

/// The private part of an RSA 2048 key.
pub struct PrivateKey {
    key: PrivateDecryptingKey,
    pub modulus: [u8; 256],
}

impl PrivateKey {
    pub fn generate() -> Result<Self, Error> {
        let key = PrivateDecryptingKey::generate(KeySize::Rsa2048);
        Self::of(key.map_err(|_| Error::Library("the making of an RSA key"))?)
    }

    pub fn from_pkcs8(der: &[u8]) -> Result<Self, Error> {
        Self::of(PrivateDecryptingKey::from_pkcs8(der).map_err(|_| Error::Modulus)?)
    }

    pub fn to_pkcs8(&self) -> Result<Vec<u8>, Error> {
        let der = self.key.as_der();
        let der = der.map_err(|_| Error::Library("the writing of an RSA key"))?;
        Ok(der.as_ref().to_vec())
    }

    fn of(key: PrivateDecryptingKey) -> Result<Self, Error> {
        let info = key.public_key().as_der().map_err(|_| Error::Modulus)?;
        // Of a 2048-bit modulus with the exponent 65537 the whole form is known but for the modulus.
        let info = info.as_ref();
        let start = info.len().checked_sub(256 + 5).ok_or(Error::Modulus)?;
        let modulus: [u8; 256] = info[start..start + 256]
            .try_into()
            .map_err(|_| Error::Modulus)?;
        if subject_public_key_info(&modulus, DEFAULT_EXPONENT) != info {
            return Err(Error::Modulus);
        }
        Ok(Self { key, modulus })
    }

    /// Opens what was encrypted for this key. A wrong label and a wrong key look alike.
    pub fn decrypt(&self, label: &[u8], encrypted: &[u8]) -> Option<Vec<u8>> {
        let key = OaepPrivateDecryptingKey::new(self.key.clone()).ok()?;
        let mut seed = vec![0; key.min_output_size()];
        let opened = key.decrypt(&OAEP_SHA256_MGF1SHA256, encrypted, &mut seed, Some(label));
        let length = opened.ok()?.len();
        seed.truncate(length);
        Some(seed)
    }
}

/// What the exponent 0 of a public area means.
pub const DEFAULT_EXPONENT: u32 = 65_537;

/// X.509 `SubjectPublicKeyInfo`, DER.
fn subject_public_key_info(modulus: &[u8], exponent: u32) -> Vec<u8> {
    const RSA_ENCRYPTION: &[u8] = &[
        0x30, 0x0D, 0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x01, 0x05, 0x00,
    ];
    let exponent = exponent.to_be_bytes();
    let key = der(0x30, &[unsigned(modulus), unsigned(&exponent)].concat());
    let bits = der(0x03, &[&[0][..], &key].concat());
    der(0x30, &[RSA_ENCRYPTION, &bits].concat())
}

fn unsigned(bytes: &[u8]) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let bytes = &bytes[zeros..];
    let sign: &[u8] = if bytes.first().is_none_or(|first| *first >= 0x80) {
        &[0]
    } else {
        &[]
    };
    der(0x02, &[sign, bytes].concat())
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("moduli have at most 512 bytes");
    let [high, low] = length.to_be_bytes();
    let head: &[u8] = match length {
        0..=0x7F => &[tag, low],
        0x80..=0xFF => &[tag, 0x81, low],
        _ => &[tag, 0x82, high, low],
    };
    [head, content].concat()
}
