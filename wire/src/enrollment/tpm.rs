//! The keys of a TPM: in enrollments, and in what a device sends to register.
//!
//! Texts as they came; what is in them is not read here.

use serde::{Deserialize, Serialize};

use super::empty_text_is_none;

/// Both keys are base64 of a `TPM2B_PUBLIC`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TpmAttestation {
    pub endorsement_key: String,
    /// An enrollment may do without.
    #[serde(
        default,
        deserialize_with = "empty_text_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub storage_root_key: Option<String>,
}
