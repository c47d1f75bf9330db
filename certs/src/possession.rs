//! Proof of possession: the owner of an authority signs a certificate whose common name is a code of ours.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use crate::chain::check_validity;
use crate::thumbprint::upper_hex;
use crate::{Certificate, Error, Refusal};

/// 48 upper-case hexadecimal digits, to be signed once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerificationCode(String);

impl VerificationCode {
    pub fn generate() -> Result<Self, Error> {
        let mut bytes = [0; 24];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Error::Random)?;
        Ok(Self::from_random(bytes))
    }

    /// For callers that hold their own generator.
    pub fn from_random(bytes: [u8; 24]) -> Self {
        Self(upper_hex(&bytes))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VerificationCode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match hex && text.len() == 48 {
            true => Ok(Self(text.to_ascii_uppercase())),
            false => Err(Error::BadVerificationCode),
        }
    }
}

impl fmt::Display for VerificationCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `proof` shows that whoever sent it holds the key of `authority`: signed by it, named after `code`,
/// valid at `now`.
pub fn check_possession(
    authority: &Certificate,
    code: &VerificationCode,
    proof: &Certificate,
    now: SystemTime,
) -> Result<(), Refusal> {
    let info = proof.info();
    if !proof.names_as_issuer(authority) {
        return Err(Refusal::IssuerUnknown {
            subject: info.subject_name,
            issuer: info.issuer_name,
        });
    }
    if !proof.is_signed_by(authority) {
        return Err(Refusal::WrongSignature {
            subject: info.subject_name,
            issuer: info.issuer_name,
        });
    }
    let found = proof.common_name().unwrap_or_default();
    if !found.eq_ignore_ascii_case(code.as_str()) {
        return Err(Refusal::WrongCommonName {
            expected: code.to_string(),
            found: found.to_owned(),
        });
    }
    check_validity(proof, now)
}
