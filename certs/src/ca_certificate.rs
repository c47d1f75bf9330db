//! One CA certificate that a service keeps: uploaded, challenged, verified; and what chains lead to.
//!
//! A hub and a DPS each have a list of them, with the same rules. Pure: what is there and what is asked
//! come in, what is to be kept goes out. May not enter: stores, HTTP, whom a CA lets in.

use std::time::{SystemTime, UNIX_EPOCH};

use azimuth_wire::ca_certificate::{CaCertificate, CaCertificateBody, CaCertificateProperties};
use azimuth_wire::etag::IfMatch;
use azimuth_wire::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::possession::{VerificationCode, check_possession};
use crate::validity::rfc1123_text;
use crate::{Certificate, Error, Refusal};

/// A CA certificate as chains are held against it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ca {
    pub name: String,
    pub certificate: Certificate,
    /// Only then does it let anybody in.
    pub verified: bool,
}

/// A CA certificate as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "Kept", into = "Kept")]
pub struct CaRecord {
    ca: Ca,
    created: SystemTime,
    updated: SystemTime,
    /// To be signed by the owner; none once it was.
    code: Option<VerificationCode>,
    etag: String,
}

/// What a write leaves on a record.
#[derive(Debug, Clone)]
pub struct Stamp {
    pub now: SystemTime,
    pub etag: String,
}

/// Why a CA certificate was not written.
#[derive(Debug, thiserror::Error)]
pub enum CaRefusal {
    #[error("the name of a CA certificate has 1 to 64 letters, digits, `-`, `.` and `_`")]
    Name,
    #[error("certificate must be PEM text, or base64 of PEM or DER: {0}")]
    Unreadable(#[source] Error),
    #[error("No CA certificate `{0}`.")]
    NotFound(String),
    #[error("The CA certificate `{0}` already exists.")]
    Exists(String),
    #[error("{MOST_CA_CERTIFICATES} CA certificates are here already, and no more may be")]
    TooMany,
    #[error("The etag does not match that of the record.")]
    Etag,
    #[error("no verification code was asked for; generate one first")]
    NoCode,
    #[error("possession is not proven: {0}")]
    Possession(#[source] Refusal),
}

impl CaRefusal {
    /// A stable word for the record of a refused request.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Name | Self::Unreadable(_) | Self::NoCode => "invalid-request",
            Self::Possession(_) => "possession-not-proven",
            Self::NotFound(_) => "unknown-ca-certificate",
            Self::Exists(_) => "already-exists",
            Self::TooMany => "too-many-ca-certificates",
            Self::Etag => "etag-mismatch",
        }
    }
}

impl CaRecord {
    /// A certificate taken in beside `others`, or in place of `present`; then possession has to be
    /// proven anew, unless its owner says that it need not be.
    pub fn uploaded(
        name: &str,
        present: Option<&Self>,
        others: usize,
        body: &CaCertificateBody,
        condition: &IfMatch,
        stamp: Stamp,
    ) -> Result<Self, CaRefusal> {
        check_name(name)?;
        let certificate = read(body)?;
        match (present, condition) {
            (Some(_), IfMatch::Absent) => return Err(CaRefusal::Exists(name.into())),
            (Some(present), condition) => present.meets(condition)?,
            (None, IfMatch::Etag(_)) => return Err(CaRefusal::Etag),
            (None, _) if others >= MOST_CA_CERTIFICATES => return Err(CaRefusal::TooMany),
            (None, IfMatch::Absent | IfMatch::Any) => {}
        }
        let now = stamp.now;
        Ok(Self {
            ca: Ca {
                name: name.into(),
                certificate,
                verified: body.is_verified(),
            },
            created: present.map_or(now, |present| present.created),
            updated: now,
            code: None,
            etag: stamp.etag,
        })
    }

    /// A new code for the owner to sign; an older one no longer counts.
    pub fn challenged(
        self,
        condition: &IfMatch,
        code: VerificationCode,
        stamp: Stamp,
    ) -> Result<Self, CaRefusal> {
        self.meets(condition)?;
        Ok(Self {
            code: Some(code),
            updated: stamp.now,
            etag: stamp.etag,
            ..self
        })
    }

    /// Holds the owner's proof against the last code.
    pub fn verified(
        mut self,
        condition: &IfMatch,
        proof: &CaCertificateBody,
        stamp: Stamp,
    ) -> Result<Self, CaRefusal> {
        let proof = read(proof)?;
        self.meets(condition)?;
        let code = self.code.take().ok_or(CaRefusal::NoCode)?;
        check_possession(&self.ca.certificate, &code, &proof, stamp.now)
            .map_err(CaRefusal::Possession)?;
        self.ca.verified = true;
        self.updated = stamp.now;
        self.etag = stamp.etag;
        Ok(self)
    }

    /// Whether a write may follow on what is here.
    pub fn meets(&self, condition: &IfMatch) -> Result<(), CaRefusal> {
        match condition {
            IfMatch::Etag(etag) if *etag != self.etag => Err(CaRefusal::Etag),
            _ => Ok(()),
        }
    }

    pub fn ca(&self) -> &Ca {
        &self.ca
    }

    /// As Azure's management API shows it; `kind` is what it calls such a resource.
    pub fn shown(&self, kind: &'static str) -> CaCertificate {
        let certificate = &self.ca.certificate;
        let name = certificate.common_name();
        CaCertificate {
            name: self.ca.name.clone(),
            kind,
            etag: self.etag.clone(),
            properties: CaCertificateProperties {
                subject: name.unwrap_or(certificate.subject_name()).into(),
                expiry: rfc1123_text(certificate.validity().not_after),
                thumbprint: certificate.sha1().to_string(),
                is_verified: self.ca.verified,
                created: rfc1123_text(self.created),
                updated: rfc1123_text(self.updated),
                certificate: None,
                verification_code: self.code.as_ref().map(ToString::to_string),
            },
        }
    }
}

/// What may stand between a leaf and an anchor: what the device sent (leaf first), what else is at
/// hand, and the certificates that the service keeps.
pub fn helpers<'a>(
    sent: &'a [Certificate],
    beside: &[&'a Certificate],
    cas: &'a [Ca],
) -> Vec<&'a Certificate> {
    let kept = cas.iter().map(|ca| &ca.certificate);
    let mut helpers: Vec<&Certificate> = Vec::new();
    // Twice the same would be climbed twice.
    for one in sent
        .iter()
        .skip(1)
        .chain(beside.iter().copied())
        .chain(kept)
    {
        if !helpers.contains(&one) {
            helpers.push(one);
        }
    }
    helpers
}

fn read(body: &CaCertificateBody) -> Result<Certificate, CaRefusal> {
    Certificate::read_first(body.certificate().as_bytes()).map_err(CaRefusal::Unreadable)
}

fn check_name(name: &str) -> Result<(), CaRefusal> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let good = !name.is_empty() && name.len() <= MOST_NAME_BYTES && name.bytes().all(allowed);
    good.then_some(()).ok_or(CaRefusal::Name)
}

/// As it stands in a store.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    name: String,
    /// Base64 of the DER.
    certificate: String,
    verified: bool,
    created: Timestamp,
    updated: Timestamp,
    verification_code: Option<String>,
    etag: String,
}

impl From<CaRecord> for Kept {
    fn from(record: CaRecord) -> Self {
        Self {
            name: record.ca.name,
            certificate: record.ca.certificate.base64(),
            verified: record.ca.verified,
            created: record.created.into(),
            updated: record.updated.into(),
            verification_code: record.code.map(|code| code.to_string()),
            etag: record.etag,
        }
    }
}

impl TryFrom<Kept> for CaRecord {
    type Error = Error;

    fn try_from(kept: Kept) -> Result<Self, Error> {
        Ok(Self {
            ca: Ca {
                name: kept.name,
                certificate: Certificate::read_first(kept.certificate.as_bytes())?,
                verified: kept.verified,
            },
            created: kept.created.get().unwrap_or(UNIX_EPOCH),
            updated: kept.updated.get().unwrap_or(UNIX_EPOCH),
            code: kept
                .verification_code
                .map(|code| code.parse())
                .transpose()?,
            etag: kept.etag,
        })
    }
}

/// In one service, as in Azure.
pub const MOST_CA_CERTIFICATES: usize = 25;
const MOST_NAME_BYTES: usize = 64;

#[cfg(test)]
mod tests;
