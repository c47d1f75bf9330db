//! TLS handshakes in memory between our servers and our clients.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::sync::Arc;
use std::time::SystemTime;

use azimuth_certs::{
    Authority, Certificate, KeyChoice, KeyKind, ServerIdentity, ServerNames, client_config,
    client_config_with_certificate, without_resumption,
};
use common::{Folder, openssl};
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, RootCertStore, ServerConfig,
    ServerConnection, SupportedProtocolVersion,
};

#[test]
fn every_version_key_and_name_shakes_hands() {
    let site = Site::new();
    for version in [TLS12, TLS13] {
        for (choice, algorithm) in [
            (KeyChoice::Auto, EC),
            (KeyChoice::Ecdsa, EC),
            (KeyChoice::Rsa, RSA),
        ] {
            for name in ["hub.example", "a.devices.example", "127.0.0.11", "::1"] {
                let server = site.identity.rustls_config(choice, false).unwrap();
                let client = only(
                    &site,
                    client_config(Some(site.authority.certificate_pem())),
                    version,
                );
                let (client, server) = shake(client, server, name).unwrap();
                let what = format!("{version:?} {choice:?} {name}");
                assert_eq!(server.protocol_version(), Some(version), "{what}");
                assert_eq!(server.peer_certificates(), None, "{what}");
                let shown = &client.peer_certificates().unwrap()[0];
                assert_eq!(algorithm_of(shown), algorithm, "{what}");
            }
        }
    }
}

#[test]
fn a_client_that_cannot_check_ecdsa_is_shown_the_rsa_key() {
    let site = Site::new();
    for version in [TLS12, TLS13] {
        let server = site.identity.rustls_config(KeyChoice::Auto, false).unwrap();
        let client = rsa_only_client(&site, version);
        let (client, _) = shake(client, server, "hub.example").unwrap();
        let shown = &client.peer_certificates().unwrap()[0];
        assert_eq!(algorithm_of(shown), RSA, "{version:?}");
    }
}

#[test]
fn a_name_that_is_not_in_the_certificate_is_refused_by_the_client() {
    let site = Site::new();
    let server = site.identity.rustls_config(KeyChoice::Auto, false).unwrap();
    let client = client_config(Some(site.authority.certificate_pem())).unwrap();
    assert!(shake(client, server, "other.example").is_err());
}

#[test]
fn any_client_certificate_comes_through_and_is_handed_on() {
    let site = Site::new();
    for (what, chain, key) in site.client_certificates() {
        for version in [TLS12, TLS13] {
            let server = site.identity.rustls_config(KeyChoice::Auto, false).unwrap();
            let roots = Some(site.authority.certificate_pem());
            let client = only(
                &site,
                client_config_with_certificate(roots, &chain, &key),
                version,
            );
            let (_, server) = shake(client, server, "hub.example")
                .unwrap_or_else(|e| panic!("{what} {version:?}: {e}"));
            let leaf = Certificate::read_first(chain.as_bytes()).unwrap();
            let shown = server.peer_certificates().unwrap();
            assert_eq!(shown[0].as_ref(), leaf.der(), "{what} {version:?}");
        }
    }
}

#[test]
fn a_client_certificate_without_its_key_ends_the_handshake() {
    let site = Site::new();
    let mut rows = site.client_certificates();
    rows.retain(|(what, _, _)| what.ends_with("P-256"));
    let other = site
        .authority
        .issue_client("thief", KeyKind::P256, real_now())
        .unwrap();
    for (what, chain, _) in rows {
        for version in [TLS12, TLS13] {
            let server = site.identity.rustls_config(KeyChoice::Auto, false).unwrap();
            let roots = Some(site.authority.certificate_pem());
            let client = only(
                &site,
                client_config_with_certificate(roots, &chain, &other.key_pem),
                version,
            );
            let error = shake(client, server, "hub.example").err();
            let expected = rustls::Error::from(rustls::CertificateError::BadSignature);
            assert_eq!(error, Some(expected), "{what} {version:?}");
        }
    }
}

#[test]
fn a_second_handshake_is_short_only_where_resumption_is_on() {
    let site = Site::new();
    for version in [TLS12, TLS13] {
        for (server_side, client_side, kind) in [
            (true, true, HandshakeKind::Resumed),
            (false, true, HandshakeKind::Full),
            (true, false, HandshakeKind::Full),
        ] {
            let server = site
                .identity
                .rustls_config(KeyChoice::Auto, server_side)
                .unwrap();
            let server = Arc::new(server);
            let roots = Some(site.authority.certificate_pem());
            let mut client = only(&site, client_config(roots), version);
            if !client_side {
                client = without_resumption(client);
            }
            let client = Arc::new(client);
            shake_shared(&client, &server, "hub.example").unwrap();
            let (_, second) = shake_shared(&client, &server, "hub.example").unwrap();
            let what = format!("{version:?} server {server_side} client {client_side}");
            assert_eq!(second.handshake_kind(), Some(kind), "{what}");
        }
    }
}

#[test]
fn a_client_without_roots_is_told_what_to_do() {
    let error = client_config(None).unwrap_err();
    assert!(
        error.to_string().contains("certificate authority"),
        "{error}"
    );
}

struct Site {
    folder: Folder,
    authority: Authority,
    identity: ServerIdentity,
}

impl Site {
    fn new() -> Self {
        let folder = Folder::new();
        let authority = Authority::load_or_create(&folder, real_now()).unwrap();
        let names = ["hub.example", "*.devices.example", "127.0.0.11", "::1"];
        let names = ServerNames::parse(names).unwrap();
        let identity =
            ServerIdentity::load_or_issue(&folder, &authority, &names, real_now()).unwrap();
        Self {
            folder,
            authority,
            identity,
        }
    }

    fn verifier(&self, provider: &Arc<CryptoProvider>) -> Arc<WebPkiServerVerifier> {
        let mut roots = RootCertStore::empty();
        roots
            .add(self.authority.certificate_der().to_vec().into())
            .unwrap();
        let builder = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone());
        builder.build().unwrap()
    }

    /// What, chain, key.
    fn client_certificates(&self) -> Vec<(String, String, String)> {
        let ours = self
            .authority
            .issue_client("dev1", KeyKind::P256, real_now())
            .unwrap();
        let mut rows = vec![("ours P-256".to_owned(), ours.chain_pem, ours.key_pem)];
        for (kind, new_key) in [
            (
                "P-256",
                "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out k",
            ),
            (
                "P-384",
                "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out k",
            ),
            (
                "RSA",
                "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out k",
            ),
        ] {
            let run = |line: &str| openssl(&self.folder, line);
            if run(new_key).is_none() {
                eprintln!("openssl is not installed: only our own client certificate is tried");
                break;
            }
            let read = |file| std::fs::read_to_string(self.folder.join(file)).unwrap();
            run("req -new -x509 -key k -subj /CN=dev1 -days 9 -out v3").unwrap();
            rows.push((format!("self-signed {kind}"), read("v3"), read("k")));
            run("req -new -key k -subj /CN=dev1 -out r").unwrap();
            run("x509 -req -in r -signkey k -days 9 -out v1").unwrap();
            let version = Certificate::read_first(read("v1").as_bytes())
                .unwrap()
                .info()
                .version;
            assert_eq!(version, 1);
            rows.push((format!("version 1 {kind}"), read("v1"), read("k")));
        }
        rows
    }
}

type Shaken = (ClientConnection, ServerConnection);

fn shake(client: ClientConfig, server: ServerConfig, name: &str) -> Result<Shaken, rustls::Error> {
    shake_shared(&Arc::new(client), &Arc::new(server), name)
}

fn shake_shared(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
    name: &str,
) -> Result<Shaken, rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(client.clone(), name).unwrap();
    let mut server = ServerConnection::new(server.clone()).unwrap();
    while client.wants_write() || server.wants_write() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        feed(&wire, |bytes| server.read_tls(bytes));
        server.process_new_packets()?;
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        feed(&wire, |bytes| client.read_tls(bytes));
        client.process_new_packets()?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok((client, server))
}

fn feed(mut wire: &[u8], mut read: impl FnMut(&mut &[u8]) -> std::io::Result<usize>) {
    while !wire.is_empty() {
        read(&mut wire).unwrap();
    }
}

/// The same client, speaking one version only: rustls takes versions when building, not after.
fn only(
    site: &Site,
    config: Result<ClientConfig, azimuth_certs::Error>,
    version: ProtocolVersion,
) -> ClientConfig {
    let config = config.unwrap();
    let verifier = site.verifier(config.crypto_provider());
    let builder = ClientConfig::builder_with_provider(config.crypto_provider().clone());
    let builder = builder.with_protocol_versions(versions(version)).unwrap();
    let builder = builder
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut one = builder.with_no_client_auth();
    one.client_auth_cert_resolver = config.client_auth_cert_resolver;
    one.resumption = config.resumption;
    one
}

fn rsa_only_client(site: &Site, version: ProtocolVersion) -> ClientConfig {
    let mut config = client_config(Some(site.authority.certificate_pem())).unwrap();
    let mut provider = (**config.crypto_provider()).clone();
    let rsa = provider
        .signature_verification_algorithms
        .mapping
        .iter()
        .copied();
    let rsa = rsa.filter(|(scheme, _)| format!("{scheme:?}").starts_with("RSA"));
    provider.signature_verification_algorithms.mapping = rsa.collect::<Vec<_>>().leak();
    let verifier = site.verifier(&Arc::new(provider));
    let builder = ClientConfig::builder_with_provider(config.crypto_provider().clone());
    let builder = builder.with_protocol_versions(versions(version)).unwrap();
    config = builder
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config
}

fn versions(version: ProtocolVersion) -> &'static [&'static SupportedProtocolVersion] {
    const TWO: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];
    const THREE: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];
    if version == TLS12 { TWO } else { THREE }
}

fn algorithm_of(der: &[u8]) -> &'static str {
    let rsa = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
    match der.windows(rsa.len()).any(|window| window == rsa) {
        true => RSA,
        false => EC,
    }
}

/// rustls' client judges the server's certificate by the machine's clock.
fn real_now() -> SystemTime {
    SystemTime::now()
}

const EC: &str = "EC";
const RSA: &str = "RSA";
const TLS12: ProtocolVersion = ProtocolVersion::TLSv1_2;
const TLS13: ProtocolVersion = ProtocolVersion::TLSv1_3;
