//! HTTPS clients that are slow or many keep nobody out and are ended.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod door;

use std::sync::Arc;
use std::time::Duration;

use azimuth_broker::Limits;
use door::secure::{dial, pair};
use door::*;
use rumqttc::mqttbytes::v4::Packet;
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

type Stream = TlsStream<TcpStream>;

struct Home {
    house: House,
    tls: Arc<ClientConfig>,
}

impl Home {
    async fn open(limits: Limits) -> Self {
        let (server, tls) = pair();
        let house = House::at(Service::default(), limits, server, (1, 1), None).await;
        Self { house, tls }
    }

    async fn stream(&self) -> Stream {
        dial("127.0.0.1:0", self.house.door.https()[0], self.tls.clone()).await
    }

    async fn device(&self, name: &str) -> Client<Stream> {
        let stream = dial("127.0.0.1:0", self.house.door.mqtt()[0], self.tls.clone()).await;
        let mut client = Client::new(stream);
        client.connect(connect(name)).await;
        client
    }

    /// A request with so many bytes of a body, of which `sent` are sent, on a line of its own.
    async fn post(&self, length: usize, sent: usize) -> Stream {
        let mut stream = self.stream().await;
        let head = format!("POST /count HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&vec![b'x'; sent]).await.unwrap();
        stream
    }

    fn kinds(&self) -> Vec<&'static str> {
        let records = self.house.ledger.since(0);
        records.iter().map(|record| record.refusal.kind).collect()
    }
}

/// All that comes until the end, or its beginning where the line stays open.
async fn answer(stream: &mut Stream) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => text.extend_from_slice(&buffer[..count]),
        }
        if text.windows(4).any(|four| four == b"\r\n\r\n") && text.starts_with(b"HTTP/1.1 200") {
            break;
        }
    }
    String::from_utf8(text).unwrap()
}

async fn ends(stream: &mut Stream) {
    while !matches!(stream.read(&mut [0; 64]).await, Ok(0) | Err(_)) {}
}

#[tokio::test]
async fn slow_heads_and_bodies_end_in_time_while_a_device_and_a_client_go_on() {
    let short = Duration::from_secs(3);
    let limits = Limits {
        connect_time: short,
        request_time: short,
        ..Limits::default()
    };
    let home = Home::open(limits).await;
    let mut device = home.device("dev").await;
    let (mut silent, mut heads, mut bodies) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..300_usize {
        match number % 3 {
            0 => silent.push(home.stream().await),
            1 => {
                let mut stream = home.stream().await;
                stream.write_all(b"GET / HTTP/1.1\r\nHo").await.unwrap();
                heads.push(stream);
            }
            _ => bodies.push(home.post(10_000, number).await),
        }
        device.ping().await;
    }
    let reply = answer(&mut home.post(3, 3).await).await;
    assert!(
        reply.ends_with("\r\n\r\n3") || reply.contains("content-length: 1"),
        "{reply}"
    );
    for stream in silent.iter_mut().chain(&mut heads) {
        ends(stream).await;
    }
    for stream in &mut bodies {
        let reply = answer(stream).await;
        assert!(
            reply.starts_with("HTTP/1.1 408 Request Timeout\r\n"),
            "{reply}"
        );
        assert!(reply.contains("connection: close"), "{reply}");
        ends(stream).await;
    }
    device.ping().await;
    assert_eq!(home.kinds(), ["request-timeout"; 300]);
    for (sentence, count) in [
        ("the body of the request was not whole within 3 s", 100),
        ("no whole head of a request came within 3 s", 200),
    ] {
        let records = home.house.ledger.since(0).into_iter();
        let told = records.filter(|record| record.refusal.sentence == sentence);
        assert_eq!(told.count(), count, "{sentence}");
    }
}

#[tokio::test]
async fn many_https_connections_leave_room_for_devices() {
    let limits = Limits {
        https_connections: 3,
        connections: 5,
        ..Limits::default()
    };
    let home = Home::open(limits).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(home.stream().await);
    }
    let mut refused = TcpStream::connect(home.house.door.https()[0])
        .await
        .unwrap();
    assert_eq!(refused.read(&mut [0; 8]).await.unwrap_or(0), 0);
    let record = home.house.refusal(0).await;
    assert_eq!(
        record.refusal.sentence,
        "3 HTTPS connections are open already"
    );
    drop(refused);
    // The place of the one that was refused is given back a little later.
    let mut device = home.device("dev").await;
    device.ping().await;
    held.pop();
    while home.post(1, 1).await.read(&mut [0; 8]).await.unwrap_or(0) == 0 {}
}

#[tokio::test]
async fn large_bodies_share_their_memory_and_small_ones_go_on() {
    let limits = Limits {
        body_bytes: 100_000,
        ..Limits::default()
    };
    let home = Home::open(limits).await;
    let _first = home.post(100_000, 90_000).await;
    let mut second = home.post(100_000, 99_999).await;
    // One of the two: which came first is not known.
    let mut small = home.post(5, 5).await;
    assert!(answer(&mut small).await.starts_with("HTTP/1.1 200"));
    let record = home.house.refusal(0).await;
    assert_eq!(record.refusal.kind, "too-many-large-requests");
    drop(_first);
    let _ = second.shutdown().await;
}

#[tokio::test]
async fn who_says_nothing_after_a_client_hello_keeps_nobody_waiting() {
    let limits = Limits {
        handshakes: 2,
        handshake_time: Duration::from_secs(60),
        ..Limits::default()
    };
    let home = Home::open(limits).await;
    let address = home.house.door.mqtt()[0];
    let mut stalled = Vec::new();
    for _ in 0..20 {
        let name = door::secure::NAME.try_into().unwrap();
        let mut tls = rustls::ClientConnection::new(home.tls.clone(), name).unwrap();
        let mut hello = Vec::new();
        tls.write_tls(&mut hello).unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&hello).await.unwrap();
        // The answer is the proof that it had its turn, or waits for one.
        stalled.push(stream);
    }
    let mut device = home.device("dev").await;
    device.ping().await;
    assert_eq!(home.kinds(), [""; 0], "nobody was given up meanwhile");
    device.send(&Packet::Disconnect).await;
    drop(stalled);
}

#[tokio::test]
async fn a_handshake_waits_for_its_turn() {
    let limits = Limits {
        handshakes: 0,
        handshake_time: Duration::from_millis(200),
        ..Limits::default()
    };
    let home = Home::open(limits).await;
    let name = door::secure::NAME.try_into().unwrap();
    let mut tls = rustls::ClientConnection::new(home.tls.clone(), name).unwrap();
    let mut hello = Vec::new();
    tls.write_tls(&mut hello).unwrap();
    let address = home.house.door.mqtt()[0];
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&hello).await.unwrap();
    // There is none: not a byte of an answer is made.
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap_or(0), 0);
    assert_eq!(
        home.house.refusal(0).await.refusal.kind,
        "handshake-timeout"
    );
}

#[test]
fn a_hubs_own_limits_leave_room_for_devices() {
    let limits = Limits::default();
    assert!(limits.https_connections < limits.connections);
    assert_eq!(
        (limits.connect_time, limits.request_time),
        (Duration::from_secs(30), Duration::from_secs(30))
    );
}

#[tokio::test]
async fn sockets_leave_descriptors_for_files() {
    let limits = Limits {
        descriptors: 0,
        ..Limits::default()
    };
    let home = Home::open(limits).await;
    let mut refused = TcpStream::connect(home.house.door.mqtt()[0]).await.unwrap();
    assert_eq!(refused.read(&mut [0; 8]).await.unwrap_or(0), 0);
    let record = home.house.refusal(0).await;
    assert!(
        record
            .refusal
            .sentence
            .contains("raise the limit of open files")
    );
}
