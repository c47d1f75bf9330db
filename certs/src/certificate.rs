//! One readable certificate, and reading certificates from whatever people store them in.
//!
//! Version 1 and other oddities are welcome here: what a certificate may be used for is decided
//! elsewhere.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::facts::Facts;
use crate::validity::Validity;
use crate::{CertificateInfo, Error, Thumbprint};

/// A certificate whose bytes are known to be readable. Equal means equal to the byte. Cheap to clone.
#[derive(Clone)]
pub struct Certificate(Arc<Read>);

struct Read {
    der: Vec<u8>,
    facts: Facts,
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.0.der == other.0.der
    }
}

impl Eq for Certificate {}

impl Hash for Certificate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.der.hash(state);
    }
}

impl Certificate {
    pub fn from_der(der: &[u8]) -> Result<Self, Error> {
        match X509Certificate::from_der(der) {
            Ok(([], parsed)) => Ok(Self::read(der, &parsed)),
            Ok(_) | Err(_) => Err(Error::UnreadableCertificate),
        }
    }

    fn read(der: &[u8], parsed: &X509Certificate<'_>) -> Self {
        Self(Arc::new(Read {
            der: der.to_vec(),
            facts: Facts::of(parsed),
        }))
    }

    /// Every certificate in `bytes`, in order: DER one after another, PEM with any text around it,
    /// DER followed by PEM, or base64 of DER without armour, as the Azure APIs take it.
    pub fn read_all(bytes: &[u8]) -> Result<Vec<Self>, Error> {
        let mut rest = bytes;
        let mut found = Vec::new();
        while let Some((certificate, after)) = leading_der(rest) {
            found.push(certificate);
            rest = after;
        }
        let rest = rest.trim_ascii();
        if contains(rest, ARMOUR) {
            for der in CertificateDer::pem_slice_iter(rest) {
                let der = der.map_err(|_| Error::UnreadableCertificate)?;
                found.push(Self::from_der(&der)?);
            }
        } else if !rest.is_empty() {
            found.append(&mut bare_base64(rest)?);
        }
        match found.is_empty() {
            true => Err(Error::NoCertificate),
            false => Ok(found),
        }
    }

    /// The first certificate of [`read_all`](Self::read_all): where a chain stands in one field, Azure
    /// takes its leaf.
    pub fn read_first(bytes: &[u8]) -> Result<Self, Error> {
        let found = Self::read_all(bytes)?;
        found.into_iter().next().ok_or(Error::NoCertificate)
    }

    pub fn der(&self) -> &[u8] {
        &self.0.der
    }

    /// The DER in base64, one of the forms that [`read_all`](Self::read_all) takes.
    pub fn base64(&self) -> String {
        STANDARD.encode(&self.0.der)
    }

    /// The last common name of the subject, the most specific one; none if there is none or it is not text.
    pub fn common_name(&self) -> Option<&str> {
        self.0.facts.common_name.as_deref()
    }

    /// The whole subject, as .NET writes it.
    pub fn subject_name(&self) -> &str {
        &self.0.facts.subject_name
    }

    pub fn sha1(&self) -> Thumbprint {
        Thumbprint::sha1(&self.0.der)
    }

    pub fn sha256(&self) -> Thumbprint {
        Thumbprint::sha256(&self.0.der)
    }

    pub fn info(&self) -> CertificateInfo {
        CertificateInfo::of(self)
    }

    pub fn validity(&self) -> Validity {
        self.0.facts.validity
    }

    /// Basic constraints say it is an authority, and key usage, if stated, lets it sign certificates.
    pub fn is_authority(&self) -> bool {
        self.why_no_authority().is_none()
    }

    /// Which of the two rules of [`is_authority`](Self::is_authority) it breaks.
    pub fn why_no_authority(&self) -> Option<&'static str> {
        self.0.facts.why_no_authority
    }

    /// How many authorities may stand between this one and the end certificate; none means any number.
    pub fn path_length(&self) -> Option<u32> {
        self.0.facts.path_length
    }

    /// Its subject is its issuer. Says nothing about the signature.
    pub fn is_self_issued(&self) -> bool {
        self.names_as_issuer(self)
    }

    /// `issuer`'s subject is this one's issuer. Says nothing about the signature.
    pub fn names_as_issuer(&self, issuer: &Self) -> bool {
        self.0.facts.issuer == issuer.0.facts.subject
    }

    /// `issuer`'s key made this one's signature.
    pub fn is_signed_by(&self, issuer: &Self) -> bool {
        let issuer = issuer.parsed();
        let signed = self.parsed().verify_signature(Some(issuer.public_key()));
        signed.is_ok()
    }

    /// The key's bits, without its algorithm.
    pub(crate) fn public_key(&self) -> Vec<u8> {
        let parsed = self.parsed();
        parsed.public_key().subject_public_key.data.to_vec()
    }

    /// `key_info` is its SubjectPublicKeyInfo.
    pub(crate) fn holds(&self, key_info: &[u8]) -> bool {
        self.parsed().public_key().raw == key_info
    }

    pub(crate) fn parsed(&self) -> X509Certificate<'_> {
        let (_, parsed) = X509Certificate::from_der(&self.0.der).expect("checked when it was made");
        parsed
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("subject", &self.subject_name())
            .field("sha256", &self.sha256())
            .finish()
    }
}

fn leading_der(bytes: &[u8]) -> Option<(Certificate, &[u8])> {
    let bytes = bytes.trim_ascii_start();
    let (rest, parsed) = X509Certificate::from_der(bytes).ok()?;
    let der = bytes.get(..bytes.len().checked_sub(rest.len())?)?;
    Some((Certificate::read(der, &parsed), rest))
}

fn bare_base64(text: &[u8]) -> Result<Vec<Certificate>, Error> {
    let dense: Vec<u8> = text
        .iter()
        .copied()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    let der = STANDARD.decode(dense).map_err(|_| Error::NoCertificate)?;
    // Some tools encode the whole PEM text once more.
    if contains(&der, ARMOUR) {
        return Certificate::read_all(&der);
    }
    Certificate::from_der(&der).map(|one| vec![one])
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

const ARMOUR: &[u8] = b"-----BEGIN ";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn reading_arbitrary_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = Certificate::read_all(&bytes);
        }
    }
}
