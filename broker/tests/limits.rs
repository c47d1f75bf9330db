//! The front door on real sockets: TLS, clients that say nothing, and what a failed handshake tells.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod door;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use azimuth_broker::{Answer, Limits, Operation};
use door::*;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rumqttc::mqttbytes::v4::Packet;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const NAME: &str = "hub.test";

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// A certificate authority made for one test.
struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        Self::named("Test CA")
    }

    fn named(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        let name_type = rcgen::DnType::CommonName;
        params.distinguished_name.push(name_type, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self {
            certificate,
            issuer: Issuer::new(params, key),
        }
    }

    fn sign(&self, name: &str, expired: bool) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        if expired {
            params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        }
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        (vec![leaf.der().clone(), self.certificate.clone()], key)
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        Arc::new(roots)
    }
}

type Versions = &'static [&'static SupportedProtocolVersion];
const BOTH: Versions = &[&rustls::version::TLS12, &rustls::version::TLS13];
const TLS12: Versions = &[&rustls::version::TLS12];
const TLS13: Versions = &[&rustls::version::TLS13];

/// One cipher suite out of two, or all.
fn provider(suite: Option<usize>) -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    if let Some(suite) = suite {
        provider.cipher_suites = vec![provider.cipher_suites[suite]];
    }
    Arc::new(provider)
}

fn server(
    authority: &Authority,
    versions: Versions,
    suite: Option<usize>,
    expired: bool,
) -> Arc<ServerConfig> {
    let verifier = WebPkiClientVerifier::builder_with_provider(authority.roots(), provider(None))
        .allow_unauthenticated()
        .build()
        .unwrap();
    let (chain, key) = authority.sign(NAME, expired);
    let config = ServerConfig::builder_with_provider(provider(suite))
        .with_protocol_versions(versions)
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .unwrap();
    Arc::new(config)
}

fn client(
    roots: Arc<RootCertStore>,
    versions: Versions,
    suite: Option<usize>,
    identity: Option<Identity>,
) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(provider(suite))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match identity {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
    })
}

async fn tls_dial(
    address: SocketAddr,
    config: Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(NAME).unwrap();
    TlsConnector::from(config).connect(name, stream).await
}

#[tokio::test]
async fn clients_that_say_nothing_or_half_a_connect_keep_nobody_out_and_are_closed() {
    let authority = Authority::new();
    let limits = Limits {
        handshake_time: Duration::from_secs(5),
        connect_time: Duration::from_secs(5),
        handshakes: 4,
        ..Limits::default()
    };
    let house = House::with(
        Service::default(),
        limits,
        server(&authority, BOTH, None, false),
        1,
    )
    .await;
    let address = house.door.mqtt()[0];
    let config = client(authority.roots(), BOTH, None, None);
    let (mut silent, mut halted) = (Vec::new(), Vec::new());
    for n in 0..200 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        if n % 2 == 0 {
            // The beginning of a ClientHello.
            stream.write_all(&[0x16, 3, 1, 2, 0, 1]).await.unwrap();
        }
        silent.push(stream);
    }
    for _ in 0..200 {
        let mut stream = tls_dial(address, config.clone()).await.unwrap();
        stream
            .write_all(&bytes_of(&Packet::Connect(connect("half")))[..7])
            .await
            .unwrap();
        halted.push(stream);
    }
    // Before the first of them is given up, and after.
    for round in 0..2 {
        let mut clients = Vec::new();
        for n in 0..100 {
            let mut client = Client::new(tls_dial(address, config.clone()).await.unwrap());
            client.connect(connect(&format!("dev-{round}-{n}"))).await;
            clients.push(client);
        }
        assert_eq!(house.presence.count(), 100, "all that asked came in");
        if round == 0 {
            let given_up = house.ledger.since(0).len();
            assert_eq!(
                given_up, 0,
                "nobody had to wait until the silent ones were gone"
            );
        }
        for client in &mut clients {
            client.ping().await;
            client.send(&Packet::Disconnect).await;
            assert_eq!(client.next().await, None);
        }
        for stream in &mut silent {
            assert_eq!(stream.read(&mut [0; 8]).await.unwrap_or(0), 0);
        }
        for stream in &mut halted {
            assert_eq!(stream.read(&mut [0; 8]).await.unwrap_or(0), 0);
        }
    }
    let records = house.ledger.since(0);
    let of = |kind: &str| {
        records
            .iter()
            .filter(|record| record.refusal.kind == kind)
            .collect::<Vec<_>>()
    };
    let (handshakes, connects) = (of("handshake-timeout"), of("connect-timeout"));
    assert_eq!(
        (handshakes.len(), connects.len(), records.len()),
        (200, 200, 400)
    );
    assert_eq!(
        handshakes[0].refusal.sentence,
        "no whole TLS handshake came within 5 s; is the client speaking TLS on this port?"
    );
    assert_eq!(
        connects[0].refusal.sentence,
        "no whole CONNECT came in time"
    );
}

#[tokio::test]
async fn a_failed_handshake_leaves_a_record_of_why() {
    let (ours, earlier) = (Authority::new(), Authority::new());
    let theirs = Authority::named("Another CA");
    let trusting = |versions, suite, identity| client(ours.roots(), versions, suite, identity);
    let healthy = || server(&ours, BOTH, None, false);
    let rows = [
        (
            "another CA",
            healthy(),
            client(theirs.roots(), TLS13, None, None),
            "untrusted-server",
            "the client does not trust this simulator's CA",
        ),
        (
            "another CA, TLS 1.2",
            healthy(),
            client(theirs.roots(), TLS12, None, None),
            "untrusted-server",
            "the client does not trust this simulator's CA",
        ),
        (
            "a CA of the same name with another key",
            healthy(),
            client(earlier.roots(), BOTH, None, None),
            "untrusted-server",
            "the client does not trust this simulator's CA (perhaps one made earlier)",
        ),
        (
            "expired",
            server(&ours, BOTH, None, true),
            trusting(BOTH, None, None),
            "client-alert",
            "the client ended the handshake: CertificateExpired",
        ),
        (
            "TLS 1.2 only",
            server(&ours, TLS13, None, false),
            trusting(TLS12, None, None),
            "tls-version",
            "the client cannot speak TLS 1.2 or 1.3 as needed",
        ),
        (
            "no suite",
            server(&ours, TLS13, Some(0), false),
            trusting(TLS13, Some(1), None),
            "no-common-cipher",
            "the client offers no cipher suite or key exchange in common",
        ),
        (
            "a client certificate of another CA",
            healthy(),
            trusting(TLS12, None, Some(theirs.sign("dev", false))),
            "handshake",
            "the TLS handshake failed: invalid peer certificate",
        ),
    ];
    for (what, server, client, kind, sentence) in rows {
        let house = House::with(Service::default(), Limits::default(), server, 1).await;
        let address = house.door.mqtt()[0];
        if let Ok(mut stream) = tls_dial(address, client).await {
            let _ = stream.read(&mut [0; 8]).await;
        }
        let record = house.refusal(0).await;
        assert_eq!(
            (record.refusal.kind, record.operation),
            (kind, Operation::Handshake),
            "{what}"
        );
        assert!(
            record.refusal.sentence.starts_with(sentence),
            "{what}: {}",
            record.refusal.sentence
        );
        assert!(matches!(record.refusal.answer, Answer::Alert(_)), "{what}");
    }
}

#[tokio::test]
async fn mqtt_without_tls_is_told_so() {
    let authority = Authority::new();
    let house = House::with(
        Service::default(),
        Limits::default(),
        server(&authority, BOTH, None, false),
        1,
    )
    .await;
    for said in [
        bytes_of(&Packet::Connect(connect("dev"))),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    ] {
        let before = house.ledger.since(0).len();
        let mut stream = TcpStream::connect(house.door.mqtt()[0]).await.unwrap();
        stream.write_all(&said).await.unwrap();
        let mut seen = Vec::new();
        let _ = stream.read_to_end(&mut seen).await;
        let record = house.refusal(before as u64).await;
        assert_eq!(record.refusal.kind, "not-tls");
        assert_eq!(
            record.refusal.sentence,
            "the client does not speak TLS on this port; MQTT without TLS is not served, as in Azure"
        );
    }
}

#[tokio::test]
async fn a_crowd_is_refused_and_its_place_comes_back() {
    let authority = Authority::new();
    let limits = Limits {
        connections: 1,
        ..Limits::default()
    };
    let house = House::with(
        Service::default(),
        limits,
        server(&authority, BOTH, None, false),
        1,
    )
    .await;
    let address = house.door.mqtt()[0];
    let config = client(authority.roots(), BOTH, None, None);
    for round in 0..2 {
        let mut first = Client::new(tls_dial(address, config.clone()).await.unwrap());
        first.connect(connect("dev")).await;
        assert!(tls_dial(address, config.clone()).await.is_err());
        let record = house.refusal(round).await;
        assert_eq!(record.refusal.kind, "too-many-connections");
        assert_eq!(record.refusal.sentence, "1 connections are open already");
        first.send(&Packet::Disconnect).await;
        assert_eq!(first.next().await, None);
        drop(first);
        while house.presence.count() > 0 {
            tokio::task::yield_now().await;
        }
        // The stream is shut before its place is given back.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_service_sees_the_name_and_the_certificates_of_a_client_in_both_versions_of_tls() {
    let authority = Authority::new();
    for versions in [TLS12, TLS13] {
        let house = House::with(
            Service::default(),
            Limits::default(),
            server(&authority, BOTH, None, false),
            1,
        )
        .await;
        let identity = authority.sign("dev", false);
        let chain: Vec<Vec<u8>> = identity
            .0
            .iter()
            .map(|certificate| certificate.to_vec())
            .collect();
        let config = client(authority.roots(), versions, None, Some(identity));
        let stream = tls_dial(house.door.mqtt()[0], config).await.unwrap();
        assert_eq!(
            stream.get_ref().1.protocol_version(),
            Some(versions[0].version)
        );
        let local = stream.get_ref().0.local_addr().unwrap();
        let mut client = Client::new(stream);
        client.connect(connect("dev")).await;
        client.ping().await;
        let peer = house.service.hellos.lock()[0].peer.clone();
        assert_eq!(peer.server_name.as_deref(), Some(NAME));
        assert_eq!(peer.certificates, chain);
        assert_eq!((peer.remote, peer.local), (local, house.door.mqtt()[0]));
        house.door.close().await;
        assert_eq!(client.next().await, None);
    }
}
