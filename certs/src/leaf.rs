//! Keys and end certificates: what an authority hands out.

use std::fmt;
use std::time::{Duration, SystemTime};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, RsaKeySize, SanType, SerialNumber,
};

use crate::Error;
use crate::validity::{DAY, Validity, unix_seconds};

/// The kind of a private key to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    P256,
    Rsa2048,
    Rsa3072,
}

impl KeyKind {
    pub(crate) fn generate(self) -> Result<KeyPair, Error> {
        let rsa = |size| KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size);
        match self {
            Self::P256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            Self::Rsa2048 => rsa(RsaKeySize::_2048),
            Self::Rsa3072 => rsa(RsaKeySize::_3072),
        }
        .map_err(Error::Issue)
    }
}

/// An end certificate with its private key.
#[derive(Clone)]
pub struct Leaf {
    /// The certificate. The authority is a root, so nothing stands between the two.
    pub chain_pem: String,
    /// PKCS #8.
    pub key_pem: String,
}

impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaf")
            .field("chain_pem", &self.chain_pem)
            .field("key_pem", &"hidden")
            .finish()
    }
}

/// What an end certificate is for.
pub(crate) enum Purpose {
    Server(Vec<SanType>),
    Client,
}

/// Signs a certificate over `key`; its life ends with its issuer's at the latest.
pub(crate) fn sign(
    issuer: &Issuer<'_, KeyPair>,
    issuer_ends: SystemTime,
    key: &KeyPair,
    common_name: &str,
    purpose: Purpose,
    now: SystemTime,
) -> Result<Leaf, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.serial_number = Some(random_serial()?);
    // Without an issuer's key identifier Python 3.13's strict mode refuses the chain.
    params.use_authority_key_identifier_extension = true;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    if key.is_compatible(&rcgen::PKCS_RSA_SHA256) {
        params.key_usages.push(KeyUsagePurpose::KeyEncipherment);
    }
    let usage = match purpose {
        Purpose::Server(names) => {
            params.subject_alt_names = names;
            ExtendedKeyUsagePurpose::ServerAuth
        }
        Purpose::Client => ExtendedKeyUsagePurpose::ClientAuth,
    };
    params.extended_key_usages = vec![usage];
    set_validity(
        &mut params,
        Validity::starting(now, LEAF_LIFE, Some(issuer_ends)),
    );
    let certificate = params.signed_by(key, issuer).map_err(Error::Issue)?;
    Ok(Leaf {
        chain_pem: certificate.pem(),
        key_pem: key.serialize_pem(),
    })
}

pub(crate) fn set_validity(params: &mut CertificateParams, validity: Validity) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let after_epoch = |time| Duration::from_secs(unix_seconds(time).unsigned_abs());
    params.not_before = epoch + after_epoch(validity.not_before);
    params.not_after = epoch + after_epoch(validity.not_after);
}

/// 127 random bits, positive and never shortened by a leading zero.
pub(crate) fn random_serial() -> Result<SerialNumber, Error> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Error::Random)?;
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

/// Apple and browsers refuse server certificates that live longer than 398 days; the hour of
/// back-dating must fit as well.
const LEAF_LIFE: Duration = DAY.saturating_mul(396);
