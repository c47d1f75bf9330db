//! The key that a device with a TPM gets in its hub: made by the service, wrapped for that TPM.
//!
//! It stands in the registration's record, beside what REST shows of it, so that a device that registers
//! again is given the key it has. What may not enter: how a TPM opens it, requests to hubs.

use std::fmt;

use azimuth_tpm::{ActivationBlob, Seeds};
use azimuth_wire::SymmetricKey;
use azimuth_wire::registration::DeliveredKey;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::attestation::DeviceKeys;
use crate::attestation::tpm::TpmKeys;
use crate::registration::{Data, Decision};

/// What a TPM was given. `Debug` shows no key.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// Base64: another TPM gets other keys.
    endorsement_key: String,
    primary_key: SymmetricKey,
    secondary_key: SymmetricKey,
    /// Base64 of the activation blob with the primary key.
    authentication_key: String,
}

impl Delivery {
    /// The keys a device has after `decision`: those of `before` where it stays the same device, else `made`.
    pub fn keys(
        before: Option<&Self>,
        tpm: &TpmKeys,
        decision: Decision<'_>,
        made: DeviceKeys,
    ) -> DeviceKeys {
        let stays = match decision {
            Decision::Keep { .. } => true,
            Decision::Move { data, .. } => data == Data::Migrate,
            Decision::Create { .. } => false,
        };
        let endorsement_key = STANDARD.encode(tpm.endorsement.bytes());
        let same = before.filter(|before| stays && before.endorsement_key == endorsement_key);
        same.map_or(made, |same| DeviceKeys {
            primary: same.primary_key.clone(),
            secondary: same.secondary_key.clone(),
        })
    }

    /// Wraps the primary key. `uri` says what it is for.
    pub fn wrap(
        keys: DeviceKeys,
        tpm: &TpmKeys,
        uri: &str,
        seeds: &Seeds,
    ) -> Result<Self, azimuth_tpm::Error> {
        Ok(Self {
            endorsement_key: STANDARD.encode(tpm.endorsement.bytes()),
            authentication_key: wrapped(&keys.primary, tpm, uri, seeds)?,
            primary_key: keys.primary,
            secondary_key: keys.secondary,
        })
    }

    /// What the device is shown.
    pub fn shown(&self) -> DeliveredKey {
        DeliveredKey {
            authentication_key: self.authentication_key.clone(),
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Delivery(…)")
    }
}

/// Base64 of the activation blob that brings a key to a TPM.
pub fn wrapped(
    key: &SymmetricKey,
    tpm: &TpmKeys,
    uri: &str,
    seeds: &Seeds,
) -> Result<String, azimuth_tpm::Error> {
    let (ek, srk) = (&tpm.endorsement, &tpm.storage_root);
    let blob = ActivationBlob::wrap(key.bytes(), ek, srk, uri, seeds)?;
    Ok(STANDARD.encode(blob.to_bytes()))
}

/// New keys of a device, as long as the service makes them for TPMs.
pub fn new_keys() -> DeviceKeys {
    DeviceKeys {
        primary: new_key(),
        secondary: new_key(),
    }
}

/// 32 random bytes.
pub fn new_key() -> SymmetricKey {
    SymmetricKey::from_bytes(&rand::random::<[u8; 32]>())
}

/// The chance in one blob.
pub fn new_seeds() -> Seeds {
    rand::random::<[u8; Seeds::BYTES]>().into()
}
