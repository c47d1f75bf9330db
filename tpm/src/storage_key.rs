//! Endorsement and storage root keys: the public areas that enrollments and devices give.
//!
//! Kept byte for byte as they came, since an enrollment compares bytes and a Name hashes them.

use std::fmt;
use std::ops::Range;

use crate::algorithm;
use crate::error::Error;
use crate::kdf;
use crate::marshal::{Reader, sized};
use crate::rsa;

/// The public area of a restricted RSA decryption key, as a `TPM2B_PUBLIC`.
#[derive(Clone, PartialEq, Eq)]
pub struct StorageKey {
    marshalled: Box<[u8]>,
    modulus: Range<usize>,
    exponent: u32,
}

impl StorageKey {
    /// Reads a `TPM2B_PUBLIC`.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut outer = Reader::new("the TPM2B_PUBLIC", bytes);
        let area = outer.sized()?;
        outer.end()?;
        let mut area = Reader::new("the public area", area);
        match area.u16()? {
            algorithm::RSA => {}
            algorithm::ECC => return Err(Error::Ecc),
            other => return Err(Error::KeyType(other)),
        }
        match area.u16()? {
            algorithm::SHA256 => {}
            other => return Err(Error::NameAlgorithm(other)),
        }
        let attributes = area.u32()?;
        let _policy = area.sized()?;
        if attributes & (RESTRICTED | DECRYPT | SIGN) != RESTRICTED | DECRYPT {
            return Err(Error::NotStorage);
        }
        let symmetric = [area.u16()?, area.u16()?, area.u16()?];
        if symmetric != [algorithm::AES, 128, algorithm::CFB] {
            return Err(Error::Symmetric);
        }
        if area.u16()? != algorithm::NULL {
            return Err(Error::Scheme);
        }
        let bits = area.u16()?;
        if ![2048, 3072, 4096].contains(&bits) {
            return Err(Error::KeyBits(bits));
        }
        let exponent = match area.u32()? {
            0 => rsa::DEFAULT_EXPONENT,
            other => other,
        };
        let modulus = area.sized()?;
        area.end()?;
        let whole = modulus.len() == usize::from(bits) / 8;
        let full = modulus.first().is_some_and(|first| *first >= 0x80);
        let odd = modulus.last().is_some_and(|last| last & 1 == 1);
        if !whole || !full || !odd || exponent < 3 || exponent & 1 == 0 {
            return Err(Error::Modulus);
        }
        Ok(Self {
            marshalled: bytes.into(),
            modulus: bytes.len() - modulus.len()..bytes.len(),
            exponent,
        })
    }

    /// The `TPM2B_PUBLIC` as it came.
    pub fn bytes(&self) -> &[u8] {
        &self.marshalled
    }

    /// Its Name, by which a TPM tells objects apart.
    pub fn name(&self) -> [u8; 34] {
        // Behind the size stands the public area.
        kdf::name(&self.marshalled[2..])
    }

    /// The registration id that Microsoft's tools make of an endorsement key: base32 of its hash.
    pub fn registration_id(&self) -> String {
        const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        let hash = kdf::sha256(&[&self.marshalled]);
        let (mut id, mut bits, mut held) = (String::with_capacity(52), 0, 0u32);
        for byte in hash {
            held = held << 8 | u32::from(byte);
            bits += 8;
            while bits >= 5 {
                bits -= 5;
                id.push(char::from(LETTERS[(held >> bits & 31) as usize]));
            }
            held &= (1 << bits) - 1;
        }
        // 256 bits are 51 letters and a bit.
        id.push(char::from(LETTERS[(held << (5 - bits) & 31) as usize]));
        id
    }

    /// Encrypts a seed so that only the TPM with this key reads it.
    pub(crate) fn encrypt(&self, label: &[u8], seed: &[u8]) -> Result<Vec<u8>, Error> {
        let modulus = &self.marshalled[self.modulus.clone()];
        rsa::encrypt(modulus, self.exponent, label, seed)
    }

    /// The standard endorsement key with this modulus (TCG EK Credential Profile, template L-1).
    pub(crate) fn endorsement(modulus: &[u8; 256]) -> Self {
        Self::of_template(ENDORSEMENT_ATTRIBUTES, &ENDORSEMENT_POLICY, modulus)
    }

    /// The usual storage root key with this modulus.
    pub(crate) fn storage_root(modulus: &[u8; 256]) -> Self {
        Self::of_template(STORAGE_ROOT_ATTRIBUTES, &[], modulus)
    }

    fn of_template(attributes: u32, policy: &[u8], modulus: &[u8; 256]) -> Self {
        let u16s = |values: &[u16]| -> Vec<u8> {
            values
                .iter()
                .flat_map(|value| value.to_be_bytes())
                .collect()
        };
        let area = [
            u16s(&[algorithm::RSA, algorithm::SHA256]),
            attributes.to_be_bytes().to_vec(),
            sized(policy),
            u16s(&[algorithm::AES, 128, algorithm::CFB, algorithm::NULL, 2048]),
            // The exponent 65537.
            vec![0; 4],
            sized(modulus),
        ];
        let marshalled = sized(&area.concat());
        Self {
            modulus: marshalled.len() - modulus.len()..marshalled.len(),
            marshalled: marshalled.into(),
            exponent: rsa::DEFAULT_EXPONENT,
        }
    }
}

impl fmt::Debug for StorageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StorageKey")
            .field(&self.registration_id())
            .finish()
    }
}

// TPMA_OBJECT.
const RESTRICTED: u32 = 1 << 16;
const DECRYPT: u32 = 1 << 17;
const SIGN: u32 = 1 << 18;
/// fixedTPM, fixedParent, sensitiveDataOrigin, adminWithPolicy, restricted, decrypt.
const ENDORSEMENT_ATTRIBUTES: u32 = 0x0003_00B2;
/// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted, decrypt.
const STORAGE_ROOT_ATTRIBUTES: u32 = 0x0003_0472;
/// PolicySecret with the endorsement hierarchy.
const ENDORSEMENT_POLICY: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xB3, 0xF8, 0x1A, 0x90, 0xCC, 0x8D, 0x46, 0xA5, 0xD7, 0x24,
    0xFD, 0x52, 0xD7, 0x6E, 0x06, 0x52, 0x0B, 0x64, 0xF2, 0xA1, 0xDA, 0x1B, 0x33, 0x14, 0x69, 0xAA,
];
