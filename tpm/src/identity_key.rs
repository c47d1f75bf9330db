//! The identity key: an HMAC key that the service makes and a TPM imports below its storage root key.

use crate::algorithm;
use crate::error::Error;
use crate::kdf;
use crate::marshal::{Reader, sized};

/// The public area of the key that carries `key`; `seed` hides the key in it.
pub fn public_area(seed: &[u8; 32], key: &[u8]) -> Vec<u8> {
    // sign, userWithAuth, noDA: a key that may be imported, without a policy.
    const ATTRIBUTES: u32 = 0x0004_0440;
    [
        &algorithm::KEYEDHASH.to_be_bytes()[..],
        &algorithm::SHA256.to_be_bytes(),
        &ATTRIBUTES.to_be_bytes(),
        &sized(&[]),
        &algorithm::HMAC.to_be_bytes(),
        &algorithm::SHA256.to_be_bytes(),
        &sized(&unique(seed, key)),
    ]
    .concat()
}

/// The `TPM2B_SENSITIVE` of the key.
pub fn sensitive(seed: &[u8; 32], key: &[u8]) -> Vec<u8> {
    let kind = algorithm::KEYEDHASH.to_be_bytes();
    let area = [&kind[..], &sized(&[]), &sized(seed), &sized(key)];
    sized(&area.concat())
}

/// Reads a `TPM2B_SENSITIVE` and holds it against the public area it came with.
pub fn key_of<'a>(sensitive: &'a [u8], public_area: &[u8]) -> Result<&'a [u8], Error> {
    let mut outer = Reader::new("the TPM2B_SENSITIVE", sensitive);
    let mut area = Reader::new("the sensitive area", outer.sized()?);
    outer.end()?;
    if area.u16()? != algorithm::KEYEDHASH {
        return Err(Error::IdentityKey);
    }
    let _auth = area.sized()?;
    let seed = area.sized()?;
    let key = area.sized()?;
    area.end()?;
    if unique(seed, key) != unique_of(public_area)? {
        return Err(Error::Integrity("the identity key"));
    }
    Ok(key)
}

/// Reads the public area of an HMAC key.
fn unique_of(public_area: &[u8]) -> Result<[u8; 32], Error> {
    let mut area = Reader::new("the public area of the identity key", public_area);
    let kind = [area.u16()?, area.u16()?];
    let _attributes = area.u32()?;
    let _policy = area.sized()?;
    let scheme = [area.u16()?, area.u16()?];
    let unique = area.sized()?;
    area.end()?;
    if kind != [algorithm::KEYEDHASH, algorithm::SHA256]
        || scheme != [algorithm::HMAC, algorithm::SHA256]
    {
        return Err(Error::IdentityKey);
    }
    unique.try_into().map_err(|_| Error::IdentityKey)
}

fn unique(seed: &[u8], key: &[u8]) -> [u8; 32] {
    kdf::sha256(&[seed, key])
}
