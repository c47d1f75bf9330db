//! The device half: a TPM of software, with an endorsement key and a storage root key of the standard
//! templates, which opens what was wrapped for it.
//!
//! It keeps no secret from who holds its files: for trying things out, as every software TPM is.

use std::fmt;

use crate::blob::{ActivationBlob, DeliveredKey};
use crate::error::Error;
use crate::rsa::PrivateKey;
use crate::storage_key::StorageKey;
use crate::{cipher, credential, duplicate, identity_key};

/// A TPM of software.
pub struct SoftwareTpm {
    endorsement: PrivateKey,
    storage_root: PrivateKey,
    endorsement_key: StorageKey,
    storage_root_key: StorageKey,
}

impl SoftwareTpm {
    /// Makes both keys; takes a moment, RSA being what it is.
    pub fn generate() -> Result<Self, Error> {
        Ok(Self::of(PrivateKey::generate()?, PrivateKey::generate()?))
    }

    /// Both keys as PKCS#8, DER, as [`Self::to_pkcs8`] gave them.
    pub fn from_pkcs8(endorsement: &[u8], storage_root: &[u8]) -> Result<Self, Error> {
        let endorsement = PrivateKey::from_pkcs8(endorsement)?;
        Ok(Self::of(endorsement, PrivateKey::from_pkcs8(storage_root)?))
    }

    /// The private parts of the endorsement key and the storage root key. Never for a log.
    pub fn to_pkcs8(&self) -> Result<[Vec<u8>; 2], Error> {
        Ok([self.endorsement.to_pkcs8()?, self.storage_root.to_pkcs8()?])
    }

    fn of(endorsement: PrivateKey, storage_root: PrivateKey) -> Self {
        Self {
            endorsement_key: StorageKey::endorsement(&endorsement.modulus),
            storage_root_key: StorageKey::storage_root(&storage_root.modulus),
            endorsement,
            storage_root,
        }
    }

    pub fn endorsement_key(&self) -> &StorageKey {
        &self.endorsement_key
    }

    pub fn storage_root_key(&self) -> &StorageKey {
        &self.storage_root_key
    }

    /// ActivateCredential, Import and Load: the key that was wrapped for this TPM.
    pub fn activate(&self, blob: &ActivationBlob) -> Result<DeliveredKey, Error> {
        let name = self.storage_root_key.name();
        let wrap = credential::activate(
            &self.endorsement,
            &name,
            &blob.credential_blob,
            &blob.encrypted_secret,
        )?;
        let sensitive = duplicate::import(
            &self.storage_root,
            &blob.identity_key_public,
            &blob.duplicate,
            &blob.encrypted_sym_seed,
            &wrap,
        )?;
        let key = identity_key::key_of(&sensitive, &blob.identity_key_public)?;
        Ok(DeliveredKey {
            key: key.into(),
            uri: cipher::decrypt(&wrap, blob.encrypted_uri.clone())?.into(),
        })
    }
}

impl fmt::Debug for SoftwareTpm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SoftwareTpm")
            .field(&self.endorsement_key)
            .finish()
    }
}
