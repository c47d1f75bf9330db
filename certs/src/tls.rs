//! rustls set up for our servers and our own clients: TLS 1.2 and 1.3, one provider, no surprises.
//!
//! TLS 1.2 must stay: Python's Azure SDK speaks nothing else. May not enter: sockets, timeouts, ALPN (the
//! caller knows what it speaks).

use std::sync::Arc;

use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, ServerSessionMemoryCache,
};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};

use crate::any_client::AnyClientCertificate;
use crate::{Certificate, Error};

/// Which of its two keys a server shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyChoice {
    /// P-256 where the client can check ECDSA signatures (a handshake costs a fraction), else RSA.
    #[default]
    Auto,
    Ecdsa,
    /// What Azure shows.
    Rsa,
}

/// A server that offers `keys` in order of preference and asks for, but never demands, a client certificate.
///
/// With `resumption` a client may shorten its next handshake (TLS 1.2 session or ticket, one TLS 1.3
/// ticket); without it every handshake is a full one.
pub(crate) fn server_config(
    keys: Vec<Arc<CertifiedKey>>,
    resumption: bool,
) -> Result<ServerConfig, Error> {
    let provider = Arc::new(default_provider());
    let verifier = AnyClientCertificate::new(&provider);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(VERSIONS)
        .map_err(Error::Tls)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(FirstFitting { keys }));
    if resumption {
        config.ticketer = Ticketer::new().map_err(Error::Tls)?;
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS_KEPT);
        config.send_tls13_tickets = 1;
    } else {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}

/// Reads a certificate chain and its key, and checks that they belong together.
pub(crate) fn certified_key(chain_pem: &str, key_pem: &str) -> Result<Arc<CertifiedKey>, Error> {
    let (chain, key) = chain_and_key(chain_pem, key_pem)?;
    let key = CertifiedKey::from_der(chain, key, &default_provider()).map_err(Error::Tls)?;
    Ok(Arc::new(key))
}

/// A client that trusts `roots_pem` and nothing else, and shows no certificate.
///
/// The system's store is never consulted: without roots this fails with a sentence. The client resumes
/// sessions; see [`without_resumption`].
pub fn client_config(roots_pem: Option<&str>) -> Result<ClientConfig, Error> {
    Ok(client_builder(roots_pem)?.with_no_client_auth())
}

/// As [`client_config`], and trusts whom the system trusts besides: for servers that are not ours.
///
/// A system without a list, such as an empty container, adds nothing.
pub fn client_config_with_system_roots(roots_pem: &str) -> Result<ClientConfig, Error> {
    let mut roots = roots(roots_pem)?;
    let system = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(system.certs);
    Ok(trusting(roots)?.with_no_client_auth())
}

/// As [`client_config`], with a certificate to show when the server asks.
pub fn client_config_with_certificate(
    roots_pem: Option<&str>,
    chain_pem: &str,
    key_pem: &str,
) -> Result<ClientConfig, Error> {
    let key = certified_key_for_client(chain_pem, key_pem)?;
    Ok(client_builder(roots_pem)?.with_client_cert_resolver(key))
}

/// The same client with a full handshake every time, as a storm of new devices would do.
pub fn without_resumption(mut config: ClientConfig) -> ClientConfig {
    config.resumption = Resumption::disabled();
    config
}

type ClientBuilder = rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>;

fn client_builder(roots_pem: Option<&str>) -> Result<ClientBuilder, Error> {
    trusting(roots(roots_pem.ok_or(Error::NoRoots)?)?)
}

fn roots(roots_pem: &str) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for root in Certificate::read_all(roots_pem.as_bytes())? {
        let der = CertificateDer::from(root.der()).into_owned();
        roots.add(der).map_err(Error::Tls)?;
    }
    Ok(roots)
}

fn trusting(roots: RootCertStore) -> Result<ClientBuilder, Error> {
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(VERSIONS)
        .map_err(Error::Tls)?;
    Ok(builder.with_root_certificates(roots))
}

/// A certificate with its chain and its key, for a client to show: the key must be that of the certificate.
pub fn client_certificate(
    chain_pem: &str,
    key_pem: &str,
) -> Result<Arc<dyn ResolvesClientCert>, Error> {
    let leaf = Certificate::read_first(chain_pem.as_bytes())?;
    let (_, key) = chain_and_key(chain_pem, key_pem)?;
    let key = default_provider()
        .key_provider
        .load_private_key(key)
        .map_err(Error::Tls)?;
    if !key
        .public_key()
        .is_some_and(|public| leaf.holds(public.as_ref()))
    {
        return Err(Error::OtherKey);
    }
    Ok(certified_key_for_client(chain_pem, key_pem)?)
}

/// Built by hand: rustls' builder parses the certificate and so refuses version 1.
fn certified_key_for_client(
    chain_pem: &str,
    key_pem: &str,
) -> Result<Arc<rustls::sign::SingleCertAndKey>, Error> {
    let (chain, key) = chain_and_key(chain_pem, key_pem)?;
    let provider: CryptoProvider = default_provider();
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(Error::Tls)?;
    Ok(Arc::new(CertifiedKey::new(chain, key).into()))
}

fn chain_and_key(
    chain_pem: &str,
    key_pem: &str,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
    let chain = Certificate::read_all(chain_pem.as_bytes())?;
    let chain = chain
        .iter()
        .map(|one| CertificateDer::from(one.der()).into_owned());
    let key =
        PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|_| Error::UnreadableKey)?;
    Ok((chain.collect(), key))
}

/// Shows the first key that can make a signature the client understands.
///
/// Under TLS 1.2 rustls has already struck out the schemes that no common cipher suite allows.
#[derive(Debug)]
struct FirstFitting {
    keys: Vec<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for FirstFitting {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let schemes = hello.signature_schemes();
        let fits = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(schemes).is_some();
        self.keys.iter().find(fits).cloned()
    }
}

const VERSIONS: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
/// TLS 1.2 sessions kept in memory for clients that do not take tickets.
const SESSIONS_KEPT: usize = 4096;
