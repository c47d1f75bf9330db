//! The identity one service shows on the wire: a P-256 and an RSA certificate for the same names, kept
//! in a folder.
//!
//! Unlike the authority these may be replaced at any time, since clients trust the authority and not them: they
//! are made anew when the names change, the authority changed, less than a third of their
//! life is left, or they cannot be read. Keys that can be read are kept.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rcgen::{KeyPair, PublicKeyData};
use rustls::ServerConfig;
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;

use crate::certificate::Certificate;
use crate::leaf::KeyKind;
use crate::names::ServerNames;
use crate::pair::{Found, PairFiles, lock};
use crate::tls::{KeyChoice, certified_key, server_config};
use crate::{Authority, Error};

/// What a TLS server of ours shows.
pub struct ServerIdentity {
    names: ServerNames,
    ecdsa: Arc<CertifiedKey>,
    rsa: Arc<CertifiedKey>,
    renewed: Option<Renewal>,
}

/// Why a certificate was made anew, what concerns clients most last.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Renewal {
    /// There was no whole pair of certificate and key.
    Missing,
    /// The pair could not be read, or its parts did not belong together.
    Unreadable,
    /// Less than a third of its life was left, or its life had not begun.
    NearExpiry,
    NamesChanged,
    /// It was signed by an authority of this name: clients that trust that one do not trust ours.
    AnotherAuthority {
        issuer: String,
    },
}

impl ServerIdentity {
    /// Loads `server-p256.pem`, `server-rsa.pem` and their `.key` files from `folder`; makes those that are
    /// missing or do not serve `names` under `authority` at `now`.
    ///
    /// A new RSA key takes a while (tens to hundreds of milliseconds), once.
    pub fn load_or_issue(
        folder: &Path,
        authority: &Authority,
        names: &ServerNames,
        now: SystemTime,
    ) -> Result<Self, Error> {
        let names = names.normalised()?;
        if names.is_empty() {
            return Err(Error::NoNames);
        }
        let wanted = Wanted {
            authority,
            names: &names,
            now,
        };
        let (ecdsa, ecdsa_renewed) = wanted.load_or_issue(folder, "server-p256", KeyKind::P256)?;
        let (rsa, rsa_renewed) = wanted.load_or_issue(folder, "server-rsa", KeyKind::Rsa2048)?;
        Ok(Self {
            ecdsa,
            rsa,
            renewed: ecdsa_renewed.max(rsa_renewed),
            names,
        })
    }

    /// Why certificates were made, if any were; of two reasons the one that concerns clients more.
    pub fn renewed(&self) -> Option<&Renewal> {
        self.renewed.as_ref()
    }

    pub fn names(&self) -> &ServerNames {
        &self.names
    }

    /// TLS 1.2 and 1.3, a client certificate asked for and optional, ALPN left empty.
    pub fn rustls_config(
        &self,
        choice: KeyChoice,
        resumption: bool,
    ) -> Result<ServerConfig, Error> {
        let keys = match choice {
            KeyChoice::Auto => vec![self.ecdsa.clone(), self.rsa.clone()],
            KeyChoice::Ecdsa => vec![self.ecdsa.clone()],
            KeyChoice::Rsa => vec![self.rsa.clone()],
        };
        server_config(keys, resumption)
    }
}

impl fmt::Debug for ServerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerIdentity")
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

struct Wanted<'a> {
    authority: &'a Authority,
    names: &'a ServerNames,
    now: SystemTime,
}

impl Wanted<'_> {
    fn load_or_issue(
        &self,
        folder: &Path,
        stem: &str,
        kind: KeyKind,
    ) -> Result<(Arc<CertifiedKey>, Option<Renewal>), Error> {
        let files = PairFiles::new(folder, stem);
        if let Ok(ready) = self.usable(&files.read()?, kind) {
            return Ok((ready, None));
        }
        let _lock = lock(folder)?;
        // Another process may have made it while this one waited.
        let found = files.read()?;
        let why = match self.usable(&found, kind) {
            Ok(ready) => return Ok((ready, None)),
            Err(why) => why,
        };
        let key = match kept_key(&found, kind) {
            Some(key) => key,
            None => kind.generate()?,
        };
        let leaf = self.authority.sign_server(self.names, &key, self.now)?;
        files.write(&leaf.chain_pem, &leaf.key_pem)?;
        let ready = certified_key(&leaf.chain_pem, &leaf.key_pem)?;
        Ok((ready, Some(why)))
    }

    fn usable(&self, found: &Found, kind: KeyKind) -> Result<Arc<CertifiedKey>, Renewal> {
        let Found::Both(pair) = found else {
            return Err(Renewal::Missing);
        };
        let leaf = Certificate::read_first(pair.certificate_pem.as_bytes())
            .map_err(|_| Renewal::Unreadable)?;
        let key = kept_key(found, kind).ok_or(Renewal::Unreadable)?;
        if key.der_bytes() != leaf.public_key() {
            return Err(Renewal::Unreadable);
        }
        let authority = self.authority.certificate();
        if !leaf.names_as_issuer(authority) || !leaf.is_signed_by(authority) {
            let issuer = leaf.info().issuer_name;
            return Err(Renewal::AnotherAuthority { issuer });
        }
        if names_of(&leaf).as_ref() != Some(self.names) {
            return Err(Renewal::NamesChanged);
        }
        if leaf.validity().is_due(self.now) {
            return Err(Renewal::NearExpiry);
        }
        certified_key(&pair.certificate_pem, &pair.key_pem).map_err(|_| Renewal::Unreadable)
    }
}

fn kept_key(found: &Found, kind: KeyKind) -> Option<KeyPair> {
    let key_pem = match found {
        Found::Both(pair) => &pair.key_pem,
        Found::Key(key_pem) => key_pem,
        Found::Nothing | Found::Certificate => return None,
    };
    let key = KeyPair::from_pem(key_pem).ok()?;
    let algorithm = match kind {
        KeyKind::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
        KeyKind::Rsa2048 | KeyKind::Rsa3072 => &rcgen::PKCS_RSA_SHA256,
    };
    key.is_compatible(algorithm).then_some(key)
}

fn names_of(leaf: &Certificate) -> Option<ServerNames> {
    let parsed = leaf.parsed();
    let alternatives = parsed.subject_alternative_name().ok()??;
    let mut names = ServerNames::default();
    for name in &alternatives.value.general_names {
        match name {
            GeneralName::DNSName(name) => names.dns.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => names.ips.push(address(bytes)?),
            _ => return None,
        }
    }
    names.normalised().ok()
}

fn address(bytes: &[u8]) -> Option<std::net::IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(four.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(Into::into)
}
