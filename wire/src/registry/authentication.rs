//! How an identity proves who it is, as JSON: keys, thumbprints, or a certificate of a CA.
//!
//! May not enter: comparing a key or a certificate with what a client shows.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::key::SymmetricKey;

/// How a device or module proves who it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "AuthenticationJson", into = "AuthenticationJson")]
pub enum Authentication {
    /// Both keys are valid at all times.
    Sas {
        primary: SymmetricKey,
        secondary: SymmetricKey,
    },
    SelfSigned {
        primary: Option<Thumbprint>,
        secondary: Option<Thumbprint>,
    },
    CertificateAuthority,
    /// Not at all: the system modules of an edge device, until its runtime gives them keys.
    None,
}

impl Authentication {
    /// As it stands in `type`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sas { .. } => SAS,
            Self::SelfSigned { .. } => SELF_SIGNED,
            Self::CertificateAuthority => CERTIFICATE_AUTHORITY,
            Self::None => NONE,
        }
    }
}

pub(super) const SAS: &str = "sas";
pub(super) const SELF_SIGNED: &str = "selfSigned";
pub(super) const CERTIFICATE_AUTHORITY: &str = "certificateAuthority";
pub(super) const NONE: &str = "none";

/// A certificate's hash: 40 (SHA-1) or 64 (SHA-256) hex digits, kept in the case they came in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Thumbprint(Box<str>);

/// Azure's word for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("StringIsNotThumbprint")]
pub struct InvalidThumbprint;

impl Thumbprint {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Thumbprint {
    type Err = InvalidThumbprint;

    fn from_str(text: &str) -> Result<Self, InvalidThumbprint> {
        let hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if hex && matches!(text.len(), 40 | 64) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidThumbprint)
        }
    }
}

impl TryFrom<String> for Thumbprint {
    type Error = InvalidThumbprint;

    fn try_from(text: String) -> Result<Self, InvalidThumbprint> {
        text.parse()
    }
}

impl From<Thumbprint> for String {
    fn from(thumbprint: Thumbprint) -> String {
        thumbprint.0.into()
    }
}

impl fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuthenticationJson {
    #[serde(default)]
    symmetric_key: KeysJson,
    #[serde(default)]
    x509_thumbprint: ThumbprintsJson,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeysJson {
    primary_key: Option<SymmetricKey>,
    secondary_key: Option<SymmetricKey>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ThumbprintsJson {
    primary_thumbprint: Option<Thumbprint>,
    secondary_thumbprint: Option<Thumbprint>,
}

impl From<Authentication> for AuthenticationJson {
    fn from(authentication: Authentication) -> Self {
        let kind = authentication.kind().to_owned();
        let (mut symmetric_key, mut x509_thumbprint) = Default::default();
        match authentication {
            Authentication::Sas { primary, secondary } => {
                symmetric_key = KeysJson {
                    primary_key: Some(primary),
                    secondary_key: Some(secondary),
                };
            }
            Authentication::SelfSigned { primary, secondary } => {
                x509_thumbprint = ThumbprintsJson {
                    primary_thumbprint: primary,
                    secondary_thumbprint: secondary,
                };
            }
            Authentication::CertificateAuthority | Authentication::None => {}
        }
        Self {
            symmetric_key,
            x509_thumbprint,
            kind,
        }
    }
}

impl TryFrom<AuthenticationJson> for Authentication {
    type Error = String;

    fn try_from(json: AuthenticationJson) -> Result<Self, String> {
        match json.kind.as_str() {
            SAS => {
                let keys = json.symmetric_key;
                match (keys.primary_key, keys.secondary_key) {
                    (Some(primary), Some(secondary)) => Ok(Self::Sas { primary, secondary }),
                    _ => Err("an identity of type sas without its two keys".into()),
                }
            }
            SELF_SIGNED => Ok(Self::SelfSigned {
                primary: json.x509_thumbprint.primary_thumbprint,
                secondary: json.x509_thumbprint.secondary_thumbprint,
            }),
            CERTIFICATE_AUTHORITY => Ok(Self::CertificateAuthority),
            NONE => Ok(Self::None),
            other => Err(format!("`{other}` is not an authentication type")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn thumbprints_are_forty_or_sixty_four_hex_digits() {
        let digits = |count: usize| "aF".repeat(count / 2);
        for (text, valid) in [
            (digits(40), true),
            (digits(64), true),
            (digits(38), false),
            (format!("{}g", "a".repeat(39)), false),
            (String::new(), false),
        ] {
            let parsed = text.parse::<Thumbprint>();
            assert_eq!(parsed.is_ok(), valid, "{text}");
            assert!(parsed.is_err() || parsed.unwrap().as_str() == text);
        }
    }
}
