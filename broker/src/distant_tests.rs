#![allow(clippy::unwrap_used)]
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt, DuplexStream};
use tokio::time::Instant;

use super::*;

const DELAY: Duration = Duration::from_millis(68);

/// The near end, the peer, and the way between them.
fn pair(capacity: usize) -> (Distant<impl AsyncRead + Unpin>, DuplexStream, Carrier) {
    let (near, peer) = tokio::io::duplex(capacity);
    let (read, write) = tokio::io::split(near);
    let (near, carried) = Distant::new(read, write, DELAY);
    (near, peer, tokio::spawn(carried))
}

type Carrier = tokio::task::JoinHandle<()>;

#[tokio::test(start_paused = true)]
async fn a_question_and_its_answer_take_one_delay() {
    let (mut near, mut peer, _carrier) = pair(1024);
    let start = Instant::now();
    for round in 1..=3 {
        peer.write_all(b"question").await.unwrap();
        near.read_exact(&mut [0; 8]).await.unwrap();
        assert_eq!(
            start.elapsed(),
            DELAY * (round - 1),
            "a question is not delayed"
        );
        near.write_all(b"answer").await.unwrap();
        near.flush().await.unwrap();
        assert_eq!(
            start.elapsed(),
            DELAY * (round - 1),
            "the asked one does not wait"
        );
        peer.read_exact(&mut [0; 6]).await.unwrap();
        assert_eq!(start.elapsed(), DELAY * round);
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_takes_its_round_trips_and_tickets_cost_none() {
    for (version, round_trips) in [(&TLS13, 1), (&TLS12, 2)] {
        let certified = rcgen::generate_simple_self_signed(["hub.test".to_owned()]).unwrap();
        let certificate = certified.cert.der().clone();
        let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let server = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        assert!(server.send_tls13_tickets > 0);
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate).unwrap();
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();

        let (near, peer, _carrier) = pair(64 << 10);
        let start = Instant::now();
        let serve = async {
            let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
            let mut stream = acceptor.accept(near).await.unwrap();
            stream.read_exact(&mut [0; 8]).await.unwrap();
            stream.write_all(b"answer").await.unwrap();
            stream.flush().await.unwrap();
            stream
        };
        let ask = async {
            let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
            let name = ServerName::try_from("hub.test").unwrap();
            let mut stream = connector.connect(name, peer).await.unwrap();
            assert_eq!(start.elapsed(), DELAY * round_trips);
            stream.write_all(b"question").await.unwrap();
            stream.read_exact(&mut [0; 6]).await.unwrap();
            assert_eq!(start.elapsed(), DELAY * (round_trips + 1));
        };
        let _kept = tokio::join!(serve, ask);
    }
}

#[tokio::test(start_paused = true)]
async fn everything_arrives_in_order_though_the_way_is_full() {
    const BYTES: usize = 3 * ROOM + 7;
    let (mut near, mut peer, carrier) = pair(1000);
    let sent: Vec<u8> = (0..BYTES).map(|n| (n % 251) as u8).collect();
    let start = Instant::now();
    let writer = async {
        near.write_all(&sent).await.unwrap();
        assert!(
            start.elapsed() >= DELAY * 3,
            "the fourth part waits for the third"
        );
        near.shutdown().await.unwrap();
    };
    let mut received = Vec::new();
    let (received_bytes, ()) = tokio::join!(peer.read_to_end(&mut received), writer);
    assert_eq!(received_bytes.unwrap(), BYTES);
    assert!(received == sent);
    assert_eq!(
        start.elapsed(),
        DELAY * 4,
        "the end goes with the fourth part"
    );
    carrier.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_full_way_is_pending() {
    let (mut near, _peer, _carrier) = pair(1000);
    assert_eq!(near.write(&vec![0; ROOM + 1]).await.unwrap(), ROOM);
    let more = tokio::time::timeout(DELAY / 2, near.write(b"more"));
    assert!(more.await.is_err(), "no room before anything arrived");
}

#[tokio::test(start_paused = true)]
async fn what_was_written_arrives_after_shutdown_and_after_drop() {
    for shut in [true, false] {
        let (mut near, mut peer, carrier) = pair(1024);
        let start = Instant::now();
        near.write_all(b"last words").await.unwrap();
        let kept = if shut {
            near.shutdown().await.unwrap();
            let error = near.write(b"more").await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
            Some(near)
        } else {
            drop(near);
            None
        };
        let mut received = Vec::new();
        peer.read_to_end(&mut received).await.unwrap();
        assert_eq!(
            (received.as_slice(), start.elapsed()),
            (&b"last words"[..], DELAY)
        );
        carrier.await.unwrap();
        drop(kept);
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_gone_ends_the_way_and_is_told() {
    let (mut near, peer, carrier) = pair(1024);
    near.write_all(b"words").await.unwrap();
    drop(peer);
    carrier.await.unwrap();
    let error = near.write(b"more").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    assert!(near.flush().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_is_left_after_a_while() {
    let (mut near, _peer, carrier) = pair(10);
    near.write_all(&[0; 1000]).await.unwrap();
    let start = Instant::now();
    drop(near);
    carrier.await.unwrap();
    assert_eq!(start.elapsed(), DELAY + PATIENCE);
}
