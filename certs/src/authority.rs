//! Our own root certificate authority: made once, kept in a folder, the same after every restart.
//!
//! Clients are told to trust it, so it is never replaced behind anyone's back: what is damaged,
//! incomplete or expired is refused with a sentence and left as it is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData,
};
use rustls::pki_types::CertificateDer;

use crate::certificate::Certificate;
use crate::leaf::{KeyKind, Leaf, Purpose, random_serial, set_validity, sign};
use crate::names::ServerNames;
use crate::pair::{Found, Pair, PairFiles, lock};
use crate::validity::{DAY, Validity, from_unix_seconds, utc_text};
use crate::{Error, Thumbprint};

/// The authority that signs every server certificate of this installation. Its key is P-256.
pub struct Authority {
    certificate: Certificate,
    pem: String,
    path: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Loads `ca.pem` and `ca.key` from `folder`, or makes them when neither is there.
    ///
    /// Fails, changing nothing, on a pair that is incomplete, unreadable, not belonging together,
    /// not an authority, or not valid at `now`. Several processes may call this at once.
    pub fn load_or_create(folder: &Path, now: SystemTime) -> Result<Self, Error> {
        let files = PairFiles::new(folder, "ca");
        // A complete pair needs no lock, so a read-only folder will do.
        if let Found::Both(pair) = files.read()? {
            return Self::from_pair(&files, pair, now);
        }
        let _lock = lock(folder)?;
        match files.read()? {
            Found::Both(pair) => Self::from_pair(&files, pair, now),
            Found::Nothing => Self::create(&files, now),
            Found::Key(key_pem) => Self::finish_creation(&files, key_pem, now),
            Found::Certificate => Err(Error::HalfPair {
                present: files.certificate,
                missing: files.key,
            }),
        }
    }

    pub fn certificate_pem(&self) -> &str {
        &self.pem
    }

    pub fn certificate_der(&self) -> &[u8] {
        self.certificate.der()
    }

    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Of `ca.pem`.
    pub fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// A certificate for a TLS server, valid for 13 months.
    ///
    /// An RSA one is signed with this authority's P-256 key as well: a client needs ECDSA to check
    /// the chain, though not for the handshake.
    pub fn issue_server(
        &self,
        names: &ServerNames,
        key: KeyKind,
        now: SystemTime,
    ) -> Result<Leaf, Error> {
        self.sign_server(names, &key.generate()?, now)
    }

    /// A certificate for a TLS client, such as a device whose id is `common_name`.
    pub fn issue_client(
        &self,
        common_name: &str,
        key: KeyKind,
        now: SystemTime,
    ) -> Result<Leaf, Error> {
        let key = key.generate()?;
        sign(
            &self.issuer,
            self.ends(),
            &key,
            common_name,
            Purpose::Client,
            now,
        )
    }

    pub(crate) fn sign_server(
        &self,
        names: &ServerNames,
        key: &KeyPair,
        now: SystemTime,
    ) -> Result<Leaf, Error> {
        let names = names.normalised()?;
        if names.is_empty() {
            return Err(Error::NoNames);
        }
        let purpose = Purpose::Server(names.subject_alternatives()?);
        let common_name = names.common_name();
        sign(&self.issuer, self.ends(), key, &common_name, purpose, now)
    }

    fn ends(&self) -> SystemTime {
        self.certificate.validity().not_after
    }

    fn create(files: &PairFiles, now: SystemTime) -> Result<Self, Error> {
        let key = KeyKind::P256.generate()?;
        let pair = Pair {
            certificate_pem: self_signed(&key, now)?,
            key_pem: key.serialize_pem(),
        };
        files.write(&pair.certificate_pem, &pair.key_pem)?;
        Self::from_pair(files, pair, now)
    }

    /// A power cut between the two renames leaves the key in place and the certificate beside it.
    fn finish_creation(files: &PairFiles, key_pem: String, now: SystemTime) -> Result<Self, Error> {
        let Some(certificate_pem) = files.left_over_certificate()? else {
            return Err(Error::HalfPair {
                present: files.key.clone(),
                missing: files.certificate.clone(),
            });
        };
        let pair = Pair {
            certificate_pem,
            key_pem,
        };
        let authority = Self::from_pair(files, pair, now)?;
        files.finish_left_over()?;
        Ok(authority)
    }

    fn from_pair(files: &PairFiles, pair: Pair, now: SystemTime) -> Result<Self, Error> {
        let path = &files.certificate;
        let certificate = only_certificate(&pair.certificate_pem)
            .ok_or_else(|| Error::DamagedCertificate { path: path.clone() })?;
        let key = KeyPair::from_pem(&pair.key_pem).map_err(|_| Error::DamagedKey {
            path: files.key.clone(),
        })?;
        if certificate.public_key() != key.der_bytes() {
            return Err(Error::MismatchedPair {
                certificate: path.clone(),
                key: files.key.clone(),
            });
        }
        if !certificate.is_authority() {
            return Err(Error::NotAnAuthority { path: path.clone() });
        }
        check_validity(path, certificate.validity(), now)?;
        let der = CertificateDer::from(certificate.der());
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(Error::Issue)?;
        Ok(Self {
            pem: pair.certificate_pem,
            path: path.clone(),
            issuer,
            certificate,
        })
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("path", &self.path)
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

fn only_certificate(pem: &str) -> Option<Certificate> {
    let mut found = Certificate::read_all(pem.as_bytes()).ok()?;
    let first = found.pop()?;
    found.is_empty().then_some(first)
}

fn check_validity(path: &Path, validity: Validity, now: SystemTime) -> Result<(), Error> {
    if validity.contains(now) {
        return Ok(());
    }
    let path = path.to_owned();
    let now_text = utc_text(now);
    Err(if now < validity.not_before {
        Error::AuthorityNotYetValid {
            path,
            not_before: utc_text(validity.not_before),
            now: now_text,
        }
    } else {
        Error::AuthorityExpired {
            path,
            not_after: utc_text(validity.not_after),
            now: now_text,
        }
    })
}

fn self_signed(key: &KeyPair, now: SystemTime) -> Result<String, Error> {
    // Two authorities of the same name in one trust store are hard to tell apart.
    let mark: String = Thumbprint::sha256(key.der_bytes())
        .to_string()
        .chars()
        .take(8)
        .collect();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let name = format!("Azimuth local authority {mark}");
    params
        .distinguished_name
        .push(DnType::OrganizationName, "Azimuth");
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(random_serial()?);
    params.use_authority_key_identifier_extension = true;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, authority_life(now));
    let certificate = params.self_signed(key).map_err(Error::Issue)?;
    Ok(certificate.pem())
}

/// 20 years, but not into 2050: there the encoding of times changes, which small stacks get wrong.
/// A clock already set near or past that year has to live with the new encoding.
fn authority_life(now: SystemTime) -> Validity {
    let limit = from_unix_seconds(END_OF_2049);
    let limit = (now + 2 * YEAR < limit).then_some(limit);
    Validity::starting(now, 20 * YEAR, limit)
}

const YEAR: Duration = DAY.saturating_mul(365);
/// 2049-12-31T23:59:59Z.
const END_OF_2049: i64 = 2_524_607_999;
