//! CA certificates of a hub and of a Device Provisioning Service as JSON, in the shape of Azure's management API.
//!
//! Shapes only. What may not enter: reading certificates, who proved what.

use serde::{Deserialize, Serialize};

/// What a client sends: `certificate` and `isVerified` at the top, or inside `properties` as newer
/// api-versions have them.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CaCertificateBody {
    #[serde(default)]
    certificate: Option<String>,
    #[serde(default)]
    is_verified: Option<bool>,
    #[serde(default)]
    properties: Option<Box<CaCertificateBody>>,
}

impl CaCertificateBody {
    /// PEM, or base64 of PEM or DER; empty where there is none.
    pub fn certificate(&self) -> &str {
        let inner = self.properties.as_ref().map(|inner| inner.certificate());
        self.certificate.as_deref().or(inner).unwrap_or_default()
    }

    /// Its owner says that possession needs no proof.
    pub fn is_verified(&self) -> bool {
        let inner = self.properties.as_ref().map(|inner| inner.is_verified());
        self.is_verified.or(inner).unwrap_or_default()
    }
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CaCertificate {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub etag: String,
    pub properties: CaCertificateProperties,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CaCertificateProperties {
    pub subject: String,
    /// As RFC 1123 writes times.
    pub expiry: String,
    /// SHA-1.
    pub thumbprint: String,
    pub is_verified: bool,
    /// As RFC 1123 writes times, as `updated` is.
    pub created: String,
    pub updated: String,
    /// Null, as Azure answers it.
    pub certificate: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verification_code: Option<String>,
}

/// The value of `type` in a DPS.
pub const CA_CERTIFICATE_OF_DPS: &str = "Microsoft.Devices/provisioningServices/Certificates";
/// The value of `type` in a hub.
pub const CA_CERTIFICATE_OF_HUB: &str = "Microsoft.Devices/IotHubs/Certificates";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn members_are_read_at_the_top_and_inside_properties() {
        for (text, certificate, verified) in [
            (r#"{"certificate":"abc"}"#, "abc", false),
            (r#"{"certificate":"abc","isVerified":true}"#, "abc", true),
            (
                r#"{"properties":{"certificate":"abc","isVerified":true}}"#,
                "abc",
                true,
            ),
            (r#"{"properties":null,"certificate":null}"#, "", false),
            ("{}", "", false),
        ] {
            let body: CaCertificateBody = serde_json::from_str(text).unwrap();
            assert_eq!(
                (body.certificate(), body.is_verified()),
                (certificate, verified)
            );
        }
    }
}
