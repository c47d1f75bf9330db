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
        Ok(Self {
            ecdsa: wanted.load_or_issue(folder, "server-p256", KeyKind::P256)?,
            rsa: wanted.load_or_issue(folder, "server-rsa", KeyKind::Rsa2048)?,
            names,
        })
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
    ) -> Result<Arc<CertifiedKey>, Error> {
        let files = PairFiles::new(folder, stem);
        if let Some(ready) = self.usable(&files.read()?, kind) {
            return Ok(ready);
        }
        let _lock = lock(folder)?;
        // Another process may have made it while this one waited.
        let found = files.read()?;
        if let Some(ready) = self.usable(&found, kind) {
            return Ok(ready);
        }
        let key = match kept_key(&found, kind) {
            Some(key) => key,
            None => kind.generate()?,
        };
        let leaf = self.authority.sign_server(self.names, &key, self.now)?;
        files.write(&leaf.chain_pem, &leaf.key_pem)?;
        certified_key(&leaf.chain_pem, &leaf.key_pem)
    }

    fn usable(&self, found: &Found, kind: KeyKind) -> Option<Arc<CertifiedKey>> {
        let Found::Both(pair) = found else {
            return None;
        };
        let leaf = Certificate::read_first(pair.certificate_pem.as_bytes()).ok()?;
        let authority = self.authority.certificate();
        let key = kept_key(found, kind)?;
        let fits = key.der_bytes() == leaf.public_key()
            && leaf.names_as_issuer(authority)
            && leaf.is_signed_by(authority)
            && !leaf.validity().is_due(self.now)
            && names_of(&leaf).as_ref() == Some(self.names);
        if !fits {
            return None;
        }
        certified_key(&pair.certificate_pem, &pair.key_pem).ok()
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
