//! TPM2_MakeCredential and TPM2_ActivateCredential: a secret for the TPM that holds both the endorsement
//! key and the object of a Name, here the storage root key.

use crate::cipher;
use crate::error::Error;
use crate::kdf::{hmac, hmac_is, kdfa};
use crate::marshal::{Reader, sized};
use crate::rsa::{IDENTITY, PrivateKey};
use crate::storage_key::StorageKey;

/// The credential blob and the encrypted seed.
pub fn make(
    endorsement_key: &StorageKey,
    name: &[u8; 34],
    secret: &[u8; 16],
    seed: &[u8; 32],
) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let identity = cipher::encrypt(&kdfa(seed, "STORAGE", name), sized(secret))?;
    let integrity = hmac(&kdfa::<32>(seed, "INTEGRITY", &[]), &[&identity, name]);
    let blob = [sized(&integrity), identity].concat();
    Ok((blob, endorsement_key.encrypt(IDENTITY, seed)?))
}

/// What [`make`] was given as the secret.
pub fn activate(
    endorsement_key: &PrivateKey,
    name: &[u8; 34],
    blob: &[u8],
    encrypted_seed: &[u8],
) -> Result<[u8; 16], Error> {
    let seed = endorsement_key.decrypt(IDENTITY, encrypted_seed);
    let seed = seed.ok_or(WRONG)?;
    let mut reader = Reader::new("the credential blob", blob);
    let integrity = reader.sized()?;
    let identity = reader.rest();
    let key = kdfa::<32>(&seed, "INTEGRITY", &[]);
    if !hmac_is(&key, &[identity, name], integrity) {
        return Err(WRONG);
    }
    let identity = cipher::decrypt(&kdfa(&seed, "STORAGE", name), identity.to_vec())?;
    let mut reader = Reader::new("the credential", &identity);
    let secret = reader.sized()?;
    reader.end()?;
    secret.try_into().map_err(|_| WRONG)
}

const WRONG: Error = Error::Integrity("the credential");
