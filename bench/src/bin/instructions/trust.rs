//! Certificates, only where one is shown. Making one begins with aws-lc collecting entropy: a hundred million
//! instructions, never twice the same number.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use azimuth_certs::{Authority, KeyKind, ServerNames};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ResolvesServerCertUsingSni;
use rustls::{ConfigBuilder, ServerConfig, WantsVerifier};

/// An authority.
pub struct Trust {
    authority: Authority,
    now: SystemTime,
}

impl Trust {
    pub fn new(folder: &Path, now: SystemTime) -> anyhow::Result<Self> {
        let authority = Authority::load_or_create(folder, now)?;
        Ok(Self { authority, now })
    }

    pub fn roots_pem(&self) -> &str {
        self.authority.certificate_pem()
    }

    /// A server of this name, with a P-256 key alone: making an RSA key takes long under valgrind.
    pub fn server(&self, name: &str) -> anyhow::Result<Arc<ServerConfig>> {
        let names = ServerNames::parse([name])?;
        let leaf = self
            .authority
            .issue_server(&names, KeyKind::P256, self.now)?;
        let chain = CertificateDer::pem_slice_iter(leaf.chain_pem.as_bytes());
        let chain = chain.collect::<Result<_, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes())?;
        let config = config()?.with_no_client_auth();
        Ok(Arc::new(config.with_single_cert(chain, key)?))
    }
}

/// For a front door that nobody enters over TLS.
pub fn certain_of_nobody() -> anyhow::Result<Arc<ServerConfig>> {
    let nobody = Arc::new(ResolvesServerCertUsingSni::new());
    let config = config()?.with_no_client_auth();
    Ok(Arc::new(config.with_cert_resolver(nobody)))
}

fn config() -> anyhow::Result<ConfigBuilder<ServerConfig, WantsVerifier>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?)
}
