//! A duplicate of the identity key, wrapped within for whoever knows the wrap key and without for the TPM
//! of a storage root key: what TPM2_Import takes.

use crate::cipher;
use crate::error::Error;
use crate::kdf::{hmac, hmac_is, kdfa, name, sha256};
use crate::marshal::{Reader, sized};
use crate::rsa::{DUPLICATE, PrivateKey};
use crate::storage_key::StorageKey;

/// The duplicate of `sensitive` and its encrypted seed.
pub fn make(
    storage_root_key: &StorageKey,
    public_area: &[u8],
    sensitive: &[u8],
    wrap: &[u8; 16],
    seed: &[u8; 16],
) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let name = name(public_area);
    let inner = [&sized(&sha256(&[sensitive, &name])), sensitive].concat();
    let inner = cipher::encrypt(wrap, inner)?;
    let outer = cipher::encrypt(&kdfa(seed, "STORAGE", &name), inner)?;
    let integrity = hmac(&kdfa::<32>(seed, "INTEGRITY", &[]), &[&outer, &name]);
    let duplicate = [sized(&integrity), outer].concat();
    Ok((duplicate, storage_root_key.encrypt(DUPLICATE, seed)?))
}

/// What [`make`] was given as the sensitive area.
pub fn import(
    storage_root_key: &PrivateKey,
    public_area: &[u8],
    duplicate: &[u8],
    encrypted_seed: &[u8],
    wrap: &[u8; 16],
) -> Result<Vec<u8>, Error> {
    let seed = storage_root_key.decrypt(DUPLICATE, encrypted_seed);
    let seed = seed.ok_or(WRONG)?;
    let name = name(public_area);
    let mut reader = Reader::new("the duplicate", duplicate);
    let integrity = reader.sized()?;
    let outer = reader.rest();
    let key = kdfa::<32>(&seed, "INTEGRITY", &[]);
    if !hmac_is(&key, &[outer, &name], integrity) {
        return Err(WRONG);
    }
    let inner = cipher::decrypt(&kdfa(&seed, "STORAGE", &name), outer.to_vec())?;
    let inner = cipher::decrypt(wrap, inner)?;
    let mut reader = Reader::new("the duplicate", &inner);
    // A wrap key that is not the right one shows in the size already, or in the hash.
    let digest = reader.sized().map_err(|_| WRONG)?;
    let sensitive = reader.rest();
    if sha256(&[sensitive, &name]) != digest {
        return Err(WRONG);
    }
    Ok(sensitive.to_vec())
}

const WRONG: Error = Error::Integrity("the duplicate of the identity key");
