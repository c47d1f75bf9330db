//! Certificates of somebody else's hierarchy, for trying X.509 out: roots, intermediates, device leaves, and
//! the proof that one holds a root's key.
//!
//! Nothing here is ours or is kept: what is made is handed out, and an issuer is what was made before, or by
//! OpenSSL. May not enter: files.

use std::fmt;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
};
use rustls::pki_types::CertificateDer;

use crate::chain::check_validity;
use crate::leaf::{KeyKind, random_serial, set_validity};
use crate::validity::{DAY, Validity};
use crate::{Certificate, Error, Leaf, VerificationCode};

/// What a new certificate is to be like.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    pub common_name: &'a str,
    pub key: KeyKind,
    /// From `now` on, at most to its issuer's end; 0: it is over already.
    pub days: u32,
    pub now: SystemTime,
}

/// A certificate authority with its key, which signs what is asked of it.
pub struct Signer {
    certificate: Certificate,
    /// This authority and those above it, without the root, as a device sends them behind its leaf.
    chain_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Signer {
    /// An authority out of its certificate, its key and what stands above it, as they were handed out.
    pub fn read(
        certificate_pem: &str,
        key_pem: &str,
        chain_pem: &str,
        now: SystemTime,
    ) -> Result<Self, Error> {
        let certificate = Certificate::read_first(certificate_pem.as_bytes())?;
        let key = KeyPair::from_pem(key_pem).map_err(|_| Error::UnreadableKey)?;
        if certificate.public_key() != key.der_bytes() {
            return Err(Error::OtherKey);
        }
        check_validity(&certificate, now).map_err(Error::Issuer)?;
        let der = CertificateDer::from(certificate.der());
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(Error::Issue)?;
        Ok(Self {
            certificate,
            chain_pem: chain_pem.to_owned(),
            issuer,
        })
    }

    /// The authority that was just made by [`root`] or [`intermediate`](Self::intermediate).
    pub fn of(made: &Made, now: SystemTime) -> Result<Self, Error> {
        Self::read(&made.certificate_pem, &made.key_pem, &made.chain_pem, now)
    }

    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// An authority below this one; `path_length` more may stand between it and a leaf.
    pub fn intermediate(&self, wish: Wish<'_>, path_length: Option<u8>) -> Result<Made, Error> {
        let mut params = authority(wish, path_length)?;
        params.use_authority_key_identifier_extension = true;
        self.sign(params, wish, true)
    }

    /// A device's certificate, whose common name is its registration id.
    pub fn leaf(&self, wish: Wish<'_>) -> Result<Made, Error> {
        self.sign(end(wish)?, wish, true)
    }

    /// The proof that whoever signs holds this authority's key.
    pub fn proof(
        &self,
        code: &VerificationCode,
        key: KeyKind,
        now: SystemTime,
    ) -> Result<Made, Error> {
        let wish = Wish {
            common_name: code.as_str(),
            key,
            days: PROOF_DAYS,
            now,
        };
        self.sign(end(wish)?, wish, false)
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        wish: Wish<'_>,
        with_chain: bool,
    ) -> Result<Made, Error> {
        let ends = self.certificate.validity().not_after;
        set_validity(&mut params, life(wish, Some(ends)));
        let key = wish.key.generate()?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(Error::Issue)?;
        let certificate_pem = certificate.pem();
        let chain_pem = match with_chain {
            true => format!("{certificate_pem}{}", self.chain_pem),
            false => certificate_pem.clone(),
        };
        Ok(Made {
            certificate_pem,
            chain_pem,
            key_pem: key.serialize_pem(),
        })
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Signer").field(&self.certificate).finish()
    }
}

/// A certificate with its private key.
#[derive(Clone)]
pub struct Made {
    pub certificate_pem: String,
    /// The certificate and the authorities above it, without the root; of a root: nothing.
    pub chain_pem: String,
    /// PKCS #8.
    pub key_pem: String,
}

impl Made {
    pub fn certificate(&self) -> Result<Certificate, Error> {
        Certificate::read_first(self.certificate_pem.as_bytes())
    }

    /// The certificates to send in a handshake, and their key.
    pub fn into_leaf(self) -> Leaf {
        Leaf {
            chain_pem: self.chain_pem,
            key_pem: self.key_pem,
        }
    }
}

impl fmt::Debug for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Made")
            .field("certificate_pem", &self.certificate_pem)
            .field("key_pem", &"hidden")
            .finish_non_exhaustive()
    }
}

/// An authority that signed itself.
pub fn root(wish: Wish<'_>) -> Result<Made, Error> {
    let mut params = authority(wish, None)?;
    set_validity(&mut params, life(wish, None));
    self_signed(&params, wish.key, false)
}

/// A device's certificate that signed itself: for individual enrollments.
pub fn self_signed_leaf(wish: Wish<'_>) -> Result<Made, Error> {
    let mut params = end(wish)?;
    params.use_authority_key_identifier_extension = false;
    set_validity(&mut params, life(wish, None));
    self_signed(&params, wish.key, true)
}

fn self_signed(params: &CertificateParams, key: KeyKind, with_chain: bool) -> Result<Made, Error> {
    let key = key.generate()?;
    let certificate = params.self_signed(&key).map_err(Error::Issue)?;
    let certificate_pem = certificate.pem();
    let chain_pem = match with_chain {
        true => certificate_pem.clone(),
        false => String::new(),
    };
    Ok(Made {
        chain_pem,
        certificate_pem,
        key_pem: key.serialize_pem(),
    })
}

fn named(wish: Wish<'_>) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, wish.common_name);
    params.serial_number = Some(random_serial()?);
    Ok(params)
}

fn authority(wish: Wish<'_>, path_length: Option<u8>) -> Result<CertificateParams, Error> {
    let mut params = named(wish)?;
    let constraints = path_length.map_or(BasicConstraints::Unconstrained, |length| {
        BasicConstraints::Constrained(length)
    });
    params.is_ca = IsCa::Ca(constraints);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn end(wish: Wish<'_>) -> Result<CertificateParams, Error> {
    let mut params = named(wish)?;
    params.use_authority_key_identifier_extension = true;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

fn life(wish: Wish<'_>, at_most: Option<SystemTime>) -> Validity {
    let life: Duration = DAY.saturating_mul(wish.days);
    let mut span = Validity::starting(wish.now, life, at_most);
    if wish.days == 0 {
        // The last second of a life belongs to it.
        span.not_after -= Duration::from_secs(1);
    }
    span
}

/// A proof is needed once.
const PROOF_DAYS: u32 = 7;
