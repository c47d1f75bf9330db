//! Why bytes are not the TPM structure they should be, or not for this TPM.
//!
//! No variant holds a byte of what was read: some of it is secret.

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{0} ends too early")]
    Truncated(&'static str),
    #[error("{structure} is followed by {bytes} bytes that do not belong to it")]
    Trailing {
        structure: &'static str,
        bytes: usize,
    },
    #[error("{structure} is longer than {most} bytes")]
    TooLong {
        structure: &'static str,
        most: usize,
    },
    #[error(
        "the public area is that of an ECC key; the clients of Azure's TPM attestation use RSA endorsement and storage root keys (tpm2_createek -G rsa)"
    )]
    Ecc,
    #[error("the public area is of the type {0:#06x}; an RSA key (0x0001) is needed")]
    KeyType(u16),
    #[error("the name algorithm of the key is {0:#06x}; SHA-256 (0x000b) is needed")]
    NameAlgorithm(u16),
    #[error(
        "the key is not a restricted decryption key; endorsement and storage root keys are (attributes `restricted` and `decrypt`, without `sign`)"
    )]
    NotStorage,
    #[error("the symmetric algorithm of the key is not AES-128 in CFB mode")]
    Symmetric,
    #[error("the key has a scheme of its own; a restricted decryption key has none")]
    Scheme,
    #[error("an RSA key of {0} bits; 2048, 3072 or 4096 are needed")]
    KeyBits(u16),
    #[error("the RSA modulus or exponent is not one of a key")]
    Modulus,
    #[error("the identity key is not an HMAC key with SHA-256")]
    IdentityKey,
    #[error("a key of {0} bytes cannot be delivered; 1 to 64 can")]
    DeliveredKey(usize),
    #[error("{0} is not for this TPM, or was changed on the way")]
    Integrity(&'static str),
    #[error("the cryptographic library failed at {0}")]
    Library(&'static str),
}
