//! The activation blob of a Device Provisioning Service: six buffers, each behind its size.
//!
//! What may not enter: for whom a key is, and how long it is good.

use std::fmt;

use crate::cipher;
use crate::error::Error;
use crate::marshal::{Reader, sized};
use crate::storage_key::StorageKey;
use crate::{credential, duplicate, identity_key};

/// A symmetric key on its way to one TPM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActivationBlob {
    /// `TPM2B_ID_OBJECT`.
    pub credential_blob: Vec<u8>,
    /// `TPM2B_ENCRYPTED_SECRET` under the endorsement key.
    pub encrypted_secret: Vec<u8>,
    /// `TPM2B_PRIVATE`.
    pub duplicate: Vec<u8>,
    /// `TPM2B_ENCRYPTED_SECRET` under the storage root key.
    pub encrypted_sym_seed: Vec<u8>,
    /// `TPM2B_PUBLIC` of the identity key.
    pub identity_key_public: Vec<u8>,
    /// `TPM2B_DATA`; clients pass over it.
    pub encrypted_uri: Vec<u8>,
}

/// The chance in a blob. No two blobs may share it.
#[derive(Clone)]
pub struct Seeds {
    /// The inner wrap key: what the credential carries.
    pub wrap: [u8; 16],
    pub credential: [u8; 32],
    pub identity_key: [u8; 32],
    pub duplication: [u8; 16],
}

impl Seeds {
    /// How much chance a blob needs.
    pub const BYTES: usize = 96;
}

impl From<[u8; Seeds::BYTES]> for Seeds {
    fn from(random: [u8; Self::BYTES]) -> Self {
        let mut seeds = Self {
            wrap: [0; 16],
            credential: [0; 32],
            identity_key: [0; 32],
            duplication: [0; 16],
        };
        seeds.wrap.copy_from_slice(&random[..16]);
        seeds.credential.copy_from_slice(&random[16..48]);
        seeds.identity_key.copy_from_slice(&random[48..80]);
        seeds.duplication.copy_from_slice(&random[80..]);
        seeds
    }
}

impl ActivationBlob {
    /// The longest key that a TPM takes for HMAC with SHA-256.
    pub const LONGEST_KEY: usize = 64;
    /// Of the text at the blob's end.
    pub const LONGEST_URI: usize = 1024;
    /// Of a whole blob, with room to spare.
    pub const LONGEST: usize = 8192;

    /// Wraps a key for the TPM with these two keys. `uri` says what the key is for.
    pub fn wrap(
        key: &[u8],
        endorsement_key: &StorageKey,
        storage_root_key: &StorageKey,
        uri: &str,
        seeds: &Seeds,
    ) -> Result<Self, Error> {
        if key.is_empty() || key.len() > Self::LONGEST_KEY {
            return Err(Error::DeliveredKey(key.len()));
        }
        if uri.len() > Self::LONGEST_URI {
            return Err(Error::TooLong {
                structure: "the URI of an activation blob",
                most: Self::LONGEST_URI,
            });
        }
        let identity_key_public = identity_key::public_area(&seeds.identity_key, key);
        let sensitive = identity_key::sensitive(&seeds.identity_key, key);
        let (duplicate, encrypted_sym_seed) = duplicate::make(
            storage_root_key,
            &identity_key_public,
            &sensitive,
            &seeds.wrap,
            &seeds.duplication,
        )?;
        let name = storage_root_key.name();
        let (credential_blob, encrypted_secret) =
            credential::make(endorsement_key, &name, &seeds.wrap, &seeds.credential)?;
        Ok(Self {
            credential_blob,
            encrypted_secret,
            duplicate,
            encrypted_sym_seed,
            identity_key_public,
            encrypted_uri: cipher::encrypt(&seeds.wrap, uri.into())?,
        })
    }

    /// Reads the six parts; what is in them is for the TPM to judge.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > Self::LONGEST {
            return Err(Error::TooLong {
                structure: "the activation blob",
                most: Self::LONGEST,
            });
        }
        let mut reader = Reader::new("the activation blob", bytes);
        let mut part = || reader.sized().map(<[u8]>::to_vec);
        let blob = Self {
            credential_blob: part()?,
            encrypted_secret: part()?,
            duplicate: part()?,
            encrypted_sym_seed: part()?,
            identity_key_public: part()?,
            encrypted_uri: part()?,
        };
        reader.end()?;
        Ok(blob)
    }

    /// As it goes over the wire, before base64.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.parts().map(sized).concat()
    }

    /// The parts in their order, without sizes.
    pub fn parts(&self) -> [&[u8]; 6] {
        [
            &self.credential_blob,
            &self.encrypted_secret,
            &self.duplicate,
            &self.encrypted_sym_seed,
            &self.identity_key_public,
            &self.encrypted_uri,
        ]
    }
}

/// What a TPM found in a blob. `Debug` shows nothing of the key.
#[derive(Clone, PartialEq, Eq)]
pub struct DeliveredKey {
    pub(crate) key: Box<[u8]>,
    pub(crate) uri: Box<[u8]>,
}

impl DeliveredKey {
    pub fn reveal(&self) -> &[u8] {
        &self.key
    }

    /// What the key is for, where the service says it in text.
    pub fn uri(&self) -> Option<&str> {
        std::str::from_utf8(&self.uri).ok()
    }
}

impl fmt::Debug for DeliveredKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeliveredKey(…)")
    }
}
