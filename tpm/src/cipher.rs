//! AES-128 in CFB mode with an initialisation vector of zeros, as TPMs wrap what leaves them. Each key is
//! used once.

use aws_lc_rs::cipher::{
    AES_128, DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;

use crate::error::Error;

pub fn encrypt(key: &[u8; 16], mut text: Vec<u8>) -> Result<Vec<u8>, Error> {
    let failed = |_| Error::Library("AES-CFB");
    let key = UnboundCipherKey::new(&AES_128, key).map_err(failed)?;
    let key = EncryptingKey::cfb128(key).map_err(failed)?;
    let zero = EncryptionContext::Iv128(FixedLength::from([0; 16]));
    key.less_safe_encrypt(&mut text, zero).map_err(failed)?;
    Ok(text)
}

pub fn decrypt(key: &[u8; 16], mut text: Vec<u8>) -> Result<Vec<u8>, Error> {
    let failed = |_| Error::Library("AES-CFB");
    let key = UnboundCipherKey::new(&AES_128, key).map_err(failed)?;
    let key = DecryptingKey::cfb128(key).map_err(failed)?;
    let zero = DecryptionContext::Iv128(FixedLength::from([0; 16]));
    key.decrypt(&mut text, zero).map_err(failed)?;
    Ok(text)
}
