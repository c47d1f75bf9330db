//! TPM 2.0 in software, as far as Azure's TPM attestation goes: the public areas of endorsement and
//! storage root keys, and the activation blob that carries a symmetric key to one TPM alone.
//!
//! ```text
//!  service   key ─ duplicate (for the SRK, wrapped) ─┐
//!            wrap ─ credential (for the EK) ─────────┴─► activation blob
//!                                                              │
//!  device    SoftwareTpm: ActivateCredential ─► wrap ─ Import ─┴─► key
//! ```
//!
//! Names, structures and rules are those of the TPM 2.0 Library, parts 1 to 3. Everything is bytes in and
//! bytes out; chance is an argument, but for OAEP and the making of RSA keys, which have their own. What
//! may not enter: I/O, async, clocks, enrollments, who may register.

pub mod blob;
mod cipher;
mod credential;
mod duplicate;
mod error;
mod identity_key;
mod kdf;
mod marshal;
mod rsa;
pub mod software;
pub mod storage_key;

pub use blob::{ActivationBlob, DeliveredKey, Seeds};
pub use error::Error;
pub use software::SoftwareTpm;
pub use storage_key::StorageKey;

/// `TPM_ALG_ID`: the algorithms of the standard templates.
mod algorithm {
    pub const RSA: u16 = 0x0001;
    pub const HMAC: u16 = 0x0005;
    pub const AES: u16 = 0x0006;
    pub const KEYEDHASH: u16 = 0x0008;
    pub const SHA256: u16 = 0x000B;
    pub const NULL: u16 = 0x0010;
    pub const ECC: u16 = 0x0023;
    pub const CFB: u16 = 0x0043;
}
