//! The X.509 part of an attestation as JSON: certificates that are enrolled, or names of the service's own.
//!
//! Shapes only. What may not enter: reading certificates.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Exactly one member is meant to be there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct X509Attestation {
    /// Leaves, of an individual enrollment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificates: Option<X509Certificates>,
    /// Authorities, of a group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_certificates: Option<X509Certificates>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_references: Option<CaReferences>,
}

/// Either counts at all times.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct X509Certificates {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<X509CertificateWithInfo>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secondary: Option<X509CertificateWithInfo>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct X509CertificateWithInfo {
    /// PEM or base64 of the DER. In requests only; absent beside `info`: the one that is enrolled stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// In answers only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub info: Option<Value>,
}

/// Names of CA certificates of the service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaReferences {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secondary: Option<String>,
}

impl X509Certificates {
    /// The two slots with their names.
    pub fn slots(&self) -> [(&'static str, Option<&X509CertificateWithInfo>); 2] {
        [
            ("primary", self.primary.as_ref()),
            ("secondary", self.secondary.as_ref()),
        ]
    }
}

impl CaReferences {
    /// The names that are there; an empty one is none.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let both = [&self.primary, &self.secondary].into_iter().flatten();
        both.map(String::as_str).filter(|name| !name.is_empty())
    }
}
