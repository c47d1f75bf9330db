//! Shared access signatures: parse, sign, verify at a given time.
//!
//! The text that was signed is the `sr` text exactly as it stands in the token, a line feed and the
//! `se` digits; clients encode `sr` in seven ways and each signs its own (Azure: control access
//! with SAS). What a resource gives access to is decided by whoever asks; the comparison by
//! whole segments lives here.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::key::SymmetricKey;
use crate::percent;

/// Seconds a token is still taken after its expiry: Azure's allowance for a clock that is off.
pub const CLOCK_SKEW_SECONDS: u64 = 300;

/// A token as it was sent. `Debug` hides the signature.
#[derive(Clone, PartialEq, Eq)]
pub struct SasToken {
    resource: String,
    signature: Vec<u8>,
    expiry_text: String,
    expiry: u64,
    key_name: Option<String>,
}

/// Why a text is not a token. Never repeats the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("the token does not begin with `SharedAccessSignature `")]
    Scheme,
    #[error("the token has no `{0}` field")]
    Missing(&'static str),
    #[error("the token has the `{0}` field twice")]
    Repeated(&'static str),
    #[error("`sig` is not base64 once percent-decoded")]
    Signature,
    #[error("`se` is not a number of seconds since 1970")]
    Expiry,
}

/// Which of two keys signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signer {
    Primary,
    Secondary,
}

impl SasToken {
    /// Reads a token: fields in any order, unknown ones ignored, a repeated one refused.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        const SCHEME: &str = "SharedAccessSignature ";
        let (scheme, fields) = text
            .split_at_checked(SCHEME.len())
            .ok_or(Malformed::Scheme)?;
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            return Err(Malformed::Scheme);
        }
        let (mut sr, mut sig, mut se, mut skn) = (None, None, None, None);
        for part in fields.trim().split('&') {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let (slot, name) = match name {
                "sr" => (&mut sr, "sr"),
                "sig" => (&mut sig, "sig"),
                "se" => (&mut se, "se"),
                "skn" => (&mut skn, "skn"),
                _ => continue,
            };
            if slot.replace(value).is_some() {
                return Err(Malformed::Repeated(name));
            }
        }
        let resource = sr.ok_or(Malformed::Missing("sr"))?;
        let signature = percent::decode(sig.ok_or(Malformed::Missing("sig"))?);
        let expiry_text = se.ok_or(Malformed::Missing("se"))?;
        if expiry_text.is_empty() || !expiry_text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Malformed::Expiry);
        }
        Ok(Self {
            resource: resource.into(),
            signature: STANDARD
                .decode(signature.as_bytes())
                .map_err(|_| Malformed::Signature)?,
            expiry: expiry_text.parse().map_err(|_| Malformed::Expiry)?,
            expiry_text: expiry_text.into(),
            key_name: skn
                .filter(|name| !name.is_empty())
                .map(|name| percent::decode(name).into_owned()),
        })
    }

    /// The policy that signed; `None` when `skn` is absent or empty.
    pub fn key_name(&self) -> Option<&str> {
        self.key_name.as_deref()
    }

    /// `sr` as it was sent.
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// Seconds since 1970.
    pub fn expiry(&self) -> u64 {
        self.expiry
    }

    /// The text under the signature: safe to show, it holds no secret.
    pub fn string_to_sign(&self) -> String {
        format!("{}\n{}", self.resource, self.expiry_text)
    }

    /// Whether `key` signed this token.
    pub fn signed_by(&self, key: &SymmetricKey) -> bool {
        key.verify(self.string_to_sign().as_bytes(), &self.signature)
    }

    /// Which of an identity's or policy's keys signed, if any.
    pub fn signer(&self, primary: &SymmetricKey, secondary: &SymmetricKey) -> Option<Signer> {
        let text = self.string_to_sign();
        if primary.verify(text.as_bytes(), &self.signature) {
            return Some(Signer::Primary);
        }
        secondary
            .verify(text.as_bytes(), &self.signature)
            .then_some(Signer::Secondary)
    }

    /// Whether the token is past its expiry and the allowance, at `now` seconds since 1970.
    pub fn expired(&self, now: u64, allowance: u64) -> bool {
        self.expiry.saturating_add(allowance) <= now
    }

    /// Whether `sr`, percent-decoded zero, one or two times, is `resource` or a whole-segment
    /// prefix of it. A scheme before it is cut; the first segment, the host, compares without regard to
    /// case.
    ///
    /// Not decoded to a fixpoint: an id may itself contain `%`.
    pub fn covers(&self, resource: &str) -> bool {
        let mut text = Cow::Borrowed(self.resource.as_str());
        for _ in 0..3 {
            if is_prefix(strip_scheme(&text), resource) {
                return true;
            }
            text = Cow::Owned(percent::decode(&text).into_owned());
        }
        false
    }

    /// Whether `sr`, percent-decoded once, equals `resource` without regard to case: the rule of DPS
    /// device tokens. Registration ids hold no `%`, so a raw `sr` passes as well.
    pub fn names(&self, resource: &str) -> bool {
        percent::decode(&self.resource).eq_ignore_ascii_case(resource)
    }
}

/// A token as our own clients send it: `sr` percent-encoded, fields in the order sr, sig, se, skn.
pub fn sign(resource: &str, key: &SymmetricKey, expiry: u64, key_name: Option<&str>) -> String {
    let resource = percent::encode(resource);
    let signature = STANDARD.encode(key.sign(format!("{resource}\n{expiry}").as_bytes()));
    let mut token = format!(
        "SharedAccessSignature sr={resource}&sig={}&se={expiry}",
        percent::encode(&signature)
    );
    if let Some(name) = key_name {
        token.push_str("&skn=");
        token.push_str(&percent::encode(name));
    }
    token
}

fn strip_scheme(resource: &str) -> &str {
    resource
        .split_once("://")
        .map_or(resource, |(_, rest)| rest)
}

fn is_prefix(prefix: &str, resource: &str) -> bool {
    let mut wanted = resource.split('/');
    let mut given = prefix.trim_end_matches('/').split('/');
    let same_host = match (given.next(), wanted.next()) {
        (Some(host), Some(other)) => host.eq_ignore_ascii_case(other),
        _ => false,
    };
    if !same_host {
        return false;
    }
    while let Some(segment) = given.next() {
        let Some(other) = wanted.next() else {
            return given.next().is_none() && is_api_version_of(segment, resource);
        };
        if segment != other {
            return false;
        }
    }
    true
}

/// Old tools append the api-version to the resource they sign. Below a collection the same text
/// would be the id of one of its members, so there it opens nothing.
fn is_api_version_of(segment: &str, resource: &str) -> bool {
    const NAME: &str = "api-version=";
    let collection = resource.ends_with("/devices") || resource.ends_with("/modules");
    let named = segment
        .get(..NAME.len())
        .is_some_and(|name| name.eq_ignore_ascii_case(NAME));
    named && !collection
}

impl fmt::Debug for SasToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SasToken")
            .field("resource", &self.resource)
            .field("expiry", &self.expiry)
            .field("key_name", &self.key_name)
            .finish_non_exhaustive()
    }
}
