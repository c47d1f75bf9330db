//! The flags that enroll a TPM.
//!
//! What may not enter: whether a key is one of a TPM; the DPS says so.

use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};

/// The public keys of a TPM. A device with one is enrolled alone.
#[derive(Debug, Args)]
pub struct Tpm {
    /// Endorsement key of the device's TPM, base64 of its TPM2B_PUBLIC
    #[arg(long, value_name = "KEY", conflicts_with_all = ["primary_key", "secondary_key"])]
    endorsement_key: Option<String>,
    /// Storage root key of the TPM, which need not be known
    #[arg(long, value_name = "KEY", conflicts_with_all = ["primary_key", "secondary_key"])]
    storage_root_key: Option<String>,
}

impl Tpm {
    /// Whether nothing was said.
    pub fn is_silent(&self) -> bool {
        self.endorsement_key.is_none() && self.storage_root_key.is_none()
    }

    /// Writes what was said into an attestation. With another endorsement key it is another TPM, of which
    /// nothing else is known.
    pub fn lay_over(&self, attestation: &mut Value) -> anyhow::Result<()> {
        if let Some(key) = &self.endorsement_key {
            *attestation = json!({ "type": "tpm", "tpm": { "endorsementKey": key } });
        }
        if let Some(key) = &self.storage_root_key {
            if attestation["type"] != "tpm" {
                bail!("--storage-root-key needs the --endorsement-key of the same TPM");
            }
            attestation["tpm"]["storageRootKey"] = json!(key);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn laid(endorsement: Option<&str>, storage_root: Option<&str>, on: Value) -> Option<Value> {
        let tpm = Tpm {
            endorsement_key: endorsement.map(Into::into),
            storage_root_key: storage_root.map(Into::into),
        };
        let mut attestation = on;
        tpm.lay_over(&mut attestation).ok().map(|()| attestation)
    }

    #[test]
    fn a_tpm_takes_the_place_of_keys_and_of_another_tpm() {
        let keys = json!({ "type": "symmetricKey", "symmetricKey": {} });
        let one = json!({ "type": "tpm", "tpm": { "endorsementKey": "e" } });
        let both =
            json!({ "type": "tpm", "tpm": { "endorsementKey": "e", "storageRootKey": "s" } });
        assert_eq!(laid(Some("e"), None, keys.clone()), Some(one.clone()));
        assert_eq!(laid(Some("e"), Some("s"), keys.clone()), Some(both.clone()));
        assert_eq!(laid(Some("e"), None, both.clone()), Some(one.clone()));
        assert_eq!(laid(None, Some("s"), one), Some(both));
        assert_eq!(laid(None, Some("s"), keys.clone()), None);
        assert_eq!(laid(None, None, keys.clone()), Some(keys));
    }
}
