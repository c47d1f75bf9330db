//! The body of a PUT of an identity, read as leniently as .NET reads it.
//!
//! Member names and enumerated values are matched without regard to case; unknown members are
//! ignored, and so is everything that only the hub writes.

use serde_json::Value;

use super::authentication::{CERTIFICATE_AUTHORITY, NONE, SAS, SELF_SIGNED};
use super::{InvalidThumbprint, Status, Thumbprint};
use crate::key::{InvalidKey, SymmetricKey};
use crate::members::{Members, expected};

/// What a client wants an identity to be. An update replaces everything. A module has no status, no
/// capabilities and no scopes: what a body says of them is nobody's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityBody {
    /// Both must agree with the path, where they stand in the body at all.
    pub device_id: Option<String>,
    pub module_id: Option<String>,
    pub status: Status,
    pub status_reason: Option<String>,
    pub authentication: AuthenticationBody,
    pub iot_edge: bool,
    /// Empty is another thing than absent: it says that there is to be none.
    pub device_scope: Option<String>,
    pub parent_scopes: Vec<String>,
    /// Of a module.
    pub managed_by: Option<String>,
}

/// How an identity is to prove who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthenticationBody {
    /// Without keys, the hub makes two.
    Sas(Option<(SymmetricKey, SymmetricKey)>),
    SelfSigned {
        primary: Option<Thumbprint>,
        secondary: Option<Thumbprint>,
    },
    CertificateAuthority,
    /// No device is made without a proof; for a module it means new keys.
    None,
}

/// Why a body is refused. Never repeats a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBody {
    #[error("the body is not JSON: {0}")]
    NotJson(String),
    #[error("`{member}` must be {expected}")]
    Member {
        member: &'static str,
        expected: &'static str,
    },
    #[error("Either no keys or both keys can be set")]
    OneKey,
    #[error("Invalid device key length")]
    KeyLength,
    #[error("Invalid device key: it is not base64")]
    KeyNotBase64,
    #[error(transparent)]
    Thumbprint(#[from] InvalidThumbprint),
    #[error("DeviceAuthenticationTypeIsMissing")]
    NoAuthenticationType,
    #[error("`statusReason` has {0} characters; 128 are allowed")]
    LongReason(usize),
}

impl IdentityBody {
    /// Reads a body.
    pub fn parse(json: &[u8]) -> Result<Self, InvalidBody> {
        let value: Value = serde_json::from_slice(json)
            .map_err(|error| InvalidBody::NotJson(error.to_string()))?;
        let Value::Object(members) = &value else {
            return Err(expected("the body", "an object"));
        };
        Self::of(&Members(members))
    }

    pub(super) fn of(members: &Members<'_>) -> Result<Self, InvalidBody> {
        let status_reason = members.text("statusReason")?.map(ToOwned::to_owned);
        if let Some(length) = status_reason.as_ref().map(|text| text.chars().count())
            && length > 128
        {
            return Err(InvalidBody::LongReason(length));
        }
        let capabilities = members.object("capabilities")?;
        Ok(Self {
            device_id: members.text("deviceId")?.map(ToOwned::to_owned),
            module_id: members.text("moduleId")?.map(ToOwned::to_owned),
            status: status(members.text("status")?)?,
            status_reason,
            authentication: authentication(members.object("authentication")?.as_ref())?,
            iot_edge: capabilities.map_or(Ok(false), |members| members.flag("iotEdge"))?,
            device_scope: members.text("deviceScope")?.map(ToOwned::to_owned),
            parent_scopes: members.texts("parentScopes")?,
            managed_by: members.text("managedBy")?.map(ToOwned::to_owned),
        })
    }
}

fn status(text: Option<&str>) -> Result<Status, InvalidBody> {
    match text {
        None => Ok(Status::Enabled),
        Some(text) if text.eq_ignore_ascii_case("enabled") => Ok(Status::Enabled),
        Some(text) if text.eq_ignore_ascii_case("disabled") => Ok(Status::Disabled),
        Some(_) => Err(expected("status", "`enabled` or `disabled`")),
    }
}

fn authentication(members: Option<&Members<'_>>) -> Result<AuthenticationBody, InvalidBody> {
    let Some(members) = members else {
        return Ok(AuthenticationBody::Sas(None));
    };
    let thumbprints = members.object("x509Thumbprint")?;
    let thumbprint = |name| -> Result<Option<Thumbprint>, InvalidBody> {
        let text = thumbprints.as_ref().map(|members| members.filled(name));
        let text = text.transpose()?.flatten();
        Ok(text.map(str::parse).transpose()?)
    };
    let self_signed = || -> Result<AuthenticationBody, InvalidBody> {
        Ok(AuthenticationBody::SelfSigned {
            primary: thumbprint("primaryThumbprint")?,
            secondary: thumbprint("secondaryThumbprint")?,
        })
    };
    let is = |text: &str, name: &str| text.eq_ignore_ascii_case(name);
    match members.filled("type")? {
        // A thumbprint says what is meant where the type does not.
        None => match self_signed()? {
            AuthenticationBody::SelfSigned {
                primary: None,
                secondary: None,
            } => Ok(AuthenticationBody::Sas(keys(members)?)),
            with_thumbprint => Ok(with_thumbprint),
        },
        Some(kind) if is(kind, SAS) => Ok(AuthenticationBody::Sas(keys(members)?)),
        Some(kind) if is(kind, SELF_SIGNED) => self_signed(),
        Some(kind) if is(kind, CERTIFICATE_AUTHORITY) => {
            Ok(AuthenticationBody::CertificateAuthority)
        }
        Some(kind) if is(kind, NONE) => Ok(AuthenticationBody::None),
        Some(_) => Err(expected(
            "authentication.type",
            "`sas`, `selfSigned`, `certificateAuthority` or `none`",
        )),
    }
}

/// Both keys, or neither: absent, null and empty mean the same.
fn keys(members: &Members<'_>) -> Result<Option<(SymmetricKey, SymmetricKey)>, InvalidBody> {
    let Some(keys) = members.object("symmetricKey")? else {
        return Ok(None);
    };
    match (keys.filled("primaryKey")?, keys.filled("secondaryKey")?) {
        (None, None) => Ok(None),
        (Some(primary), Some(secondary)) => Ok(Some((key(primary)?, key(secondary)?))),
        _ => Err(InvalidBody::OneKey),
    }
}

fn key(text: &str) -> Result<SymmetricKey, InvalidBody> {
    text.parse().map_err(|invalid| match invalid {
        InvalidKey::NotBase64 => InvalidBody::KeyNotBase64,
        InvalidKey::Length(_) => InvalidBody::KeyLength,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(json: &str) -> Result<IdentityBody, InvalidBody> {
        IdentityBody::parse(json.as_bytes())
    }

    #[test]
    fn names_and_values_are_matched_without_regard_to_case() {
        let body = parse(
            r#"{"DEVICEID":"d","Status":"DISABLED","statusreason":"why","Authentication":{"TYPE":"SelfSigned",
            "X509Thumbprint":{"PRIMARYThumbprint":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}},"unknown":[1]}"#,
        )
        .unwrap();
        assert_eq!(body.device_id.as_deref(), Some("d"));
        assert_eq!(body.status, Status::Disabled);
        assert_eq!(body.status_reason.as_deref(), Some("why"));
        assert!(matches!(
            body.authentication,
            AuthenticationBody::SelfSigned {
                primary: Some(_),
                secondary: None
            }
        ));
    }

    #[test]
    fn a_thumbprint_without_a_type_means_self_signed_and_nothing_means_new_keys() {
        let print = r#"{"authentication":{"x509Thumbprint":{"secondaryThumbprint":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"}}}"#;
        let body = parse(print).unwrap();
        assert!(matches!(
            body.authentication,
            AuthenticationBody::SelfSigned { primary: None, .. }
        ));
        for json in [
            "{}",
            r#"{"authentication":{}}"#,
            r#"{"authentication":null}"#,
        ] {
            assert_eq!(
                parse(json).unwrap().authentication,
                AuthenticationBody::Sas(None)
            );
        }
    }

    #[test]
    fn every_refusal_says_what_is_wrong() {
        for (json, sentence) in [
            ("[]", "`the body` must be an object"),
            (
                r#"{"status":"on"}"#,
                "`status` must be `enabled` or `disabled`",
            ),
            (r#"{"status":1}"#, "`status` must be a text"),
            (
                r#"{"authentication":{"type":"password"}}"#,
                "`authentication.type` must be `sas`, `selfSigned`, `certificateAuthority` or `none`",
            ),
            (
                r#"{"authentication":1}"#,
                "`authentication` must be an object",
            ),
            (
                r#"{"capabilities":{"iotEdge":"yes"}}"#,
                "`iotEdge` must be true or false",
            ),
            (
                r#"{"parentScopes":[1]}"#,
                "`parentScopes` must be an array of texts",
            ),
        ] {
            assert_eq!(parse(json).unwrap_err().to_string(), sentence, "{json}");
        }
        assert!(matches!(parse("{").unwrap_err(), InvalidBody::NotJson(_)));
    }
}
