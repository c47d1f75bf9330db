//! Where keys of this hub come from: chance, or, for published ones, a constant and names.
//!
//! The only room that makes keys. May not enter: who holds them.

use azimuth_wire::SymmetricKey;

/// 32 bytes from the operating system's generator.
pub fn random() -> SymmetricKey {
    SymmetricKey::from_bytes(&rand::random::<[u8; 32]>())
}

/// A key that everybody can work out: the HMAC-SHA256 of hub, policy and rank, each on its own line,
/// under [`PUBLISHED`].
pub fn published(hub: &str, policy: &str, rank: &str) -> SymmetricKey {
    let text = format!("{hub}\n{policy}\n{rank}");
    let constant = SymmetricKey::from_bytes(PUBLISHED);
    SymmetricKey::from_bytes(&constant.sign(text.as_bytes()))
}

/// Not a secret.
pub const PUBLISHED: &[u8; 32] = b"azimuth published, loopback only";
