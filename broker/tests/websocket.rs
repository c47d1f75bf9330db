//! MQTT in a WebSocket is the MQTT of a TLS stream, and what is no such WebSocket is told why.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod door;

use std::sync::Arc;
use std::time::Duration;

use azimuth_broker::{CloseReason, Limits, Operation};
use door::secure::{NAME, dial, pair};
use door::*;
use futures_util::{SinkExt, StreamExt};
use rumqttc::mqttbytes::QoS as WireQoS;
use rumqttc::mqttbytes::v4::{Packet, PubAck};
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::Message;

const LEAST: WireQoS = WireQoS::AtLeastOnce;
const ANYWHERE: &str = "127.0.0.1:0";

type Socket = WebSocketStream<TlsStream<TcpStream>>;

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

    async fn stream(&self) -> TlsStream<TcpStream> {
        dial(ANYWHERE, self.house.door.https()[0], self.tls.clone()).await
    }

    async fn socket(&self) -> Socket {
        let address = format!("wss://{NAME}/$iothub/websocket");
        let mut request = address.into_client_request().unwrap();
        let headers = request.headers_mut();
        headers.insert("sec-websocket-protocol", "MQTT".parse().unwrap());
        let stream = self.stream().await;
        let (socket, answer) = tokio_tungstenite::client_async(request, stream)
            .await
            .unwrap();
        assert_eq!(answer.headers()["sec-websocket-protocol"], "MQTT");
        socket
    }

    /// A client whose bytes travel in frames of at most so many.
    async fn client(&self, frame: usize) -> Client<DuplexStream> {
        let (near, far) = tokio::io::duplex(64 << 10);
        tokio::spawn(carry(self.socket().await, far, frame));
        Client::new(near)
    }

    async fn device(&self, name: &str) -> Client<DuplexStream> {
        let mut client = self.client(usize::MAX).await;
        client.connect(connect(name)).await;
        client
    }
}

/// Carries bytes both ways until either side ends.
async fn carry(mut socket: Socket, stream: DuplexStream, frame: usize) {
    let (mut read, mut write) = tokio::io::split(stream);
    let mut buffer = vec![0; frame.min(4096)];
    loop {
        tokio::select! {
            count = read.read(&mut buffer) => {
                let count = count.unwrap();
                if count == 0 {
                    return;
                }
                let bytes = buffer[..count].to_vec();
                if socket.send(Message::Binary(bytes.into())).await.is_err() {
                    return;
                }
            }
            message = socket.next() => match message {
                Some(Ok(Message::Binary(bytes))) => write.write_all(&bytes).await.unwrap(),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            }
        }
    }
}

/// The code of the close frame that comes next, past everything else.
async fn farewell(socket: &mut Socket) -> Option<u16> {
    loop {
        match socket.next().await? {
            Ok(Message::Close(frame)) => return frame.map(|frame| frame.code.into()),
            Ok(_) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn where_frames_end_means_nothing() {
    for frame in [1, 3, usize::MAX] {
        let home = Home::open(Limits::default()).await;
        let mut client = home.client(frame).await;
        client.connect(connect("dev")).await;
        client.subscribe(&[("answer/#", LEAST)]).await;
        // Two packets in one frame, or each in many.
        let mut two = bytes_of(&publish("up", LEAST, 1, "x".repeat(5000)));
        two.extend(bytes_of(&publish("ask/me", LEAST, 2, "hello")));
        client.raw(&two).await;
        let mut seen = Vec::new();
        while seen.len() < 3 {
            seen.push(match client.next().await.unwrap() {
                Packet::PubAck(PubAck { pkid }) => format!("acknowledged {pkid}"),
                Packet::Publish(publish) => publish.topic,
                other => panic!("{other:?}"),
            });
        }
        seen.sort();
        assert_eq!(seen, ["acknowledged 1", "acknowledged 2", "answer/me"]);
        client.ping().await;
        assert_eq!(home.house.store.stored(), 1);
        let hello = home.house.service.hellos.lock()[0].clone();
        assert_eq!(hello.peer.server_name.as_deref(), Some(NAME));
        assert_eq!(hello.peer.certificates.len(), 1);
        assert_eq!(hello.peer.local, home.house.door.https()[0]);
        home.house.door.close().await;
        assert_eq!(client.next().await, None);
    }
}

#[tokio::test]
async fn a_websocket_and_a_tls_connection_take_over_from_each_other() {
    let home = Home::open(Limits::default()).await;
    let mut inside = home.device("dev").await;
    let stream = dial(ANYWHERE, home.house.door.mqtt()[0], home.tls.clone()).await;
    let mut plain = Client::new(stream);
    plain.connect(connect("dev")).await;
    assert_eq!(inside.next().await, None);
    let mut again = home.device("dev").await;
    assert_eq!(plain.next().await, None);
    again.ping().await;
    let dev = || "dev".to_owned();
    let taken = || Event::Left(dev(), CloseReason::TakenOver);
    let arrived = || Event::Arrived(dev());
    let expected = [arrived(), taken(), arrived(), taken(), arrived()];
    assert_eq!(home.house.service.events(), expected);
    assert_eq!(home.house.presence.count(), 1);
}

#[tokio::test]
async fn what_is_no_binary_frame_ends_the_connection_and_is_explained() {
    let limit = Limits::default().packet_bytes;
    let rows = [
        (Message::text("hello"), 1003, "text-frame"),
        (Message::binary(vec![0; limit + 1]), 1009, "oversize"),
    ];
    for (frame, code, kind) in rows {
        // Before CONNECT and after.
        for connected in [false, true] {
            let home = Home::open(Limits::default()).await;
            let mut socket = home.socket().await;
            if connected {
                let hello = bytes_of(&Packet::Connect(willing("dev")));
                socket.send(Message::binary(hello)).await.unwrap();
                assert!(matches!(socket.next().await, Some(Ok(Message::Binary(_)))));
            }
            // An oversized frame is refused by its length: the rest of it may find no reader.
            let _ = socket.send(frame.clone()).await;
            let record = home.house.refusal(0).await;
            assert_eq!(record.refusal.kind, kind);
            assert_eq!(record.operation, Operation::Connection);
            if kind == "text-frame" {
                assert_eq!(farewell(&mut socket).await, Some(code), "{kind}");
            }
            if connected {
                let events = home.house.service.events();
                assert!(events.contains(&Event::Will("dev".into(), "last".into())));
            }
        }
    }
}

#[tokio::test]
async fn pings_are_answered_and_a_close_is_returned() {
    let home = Home::open(Limits::default()).await;
    let mut socket = home.socket().await;
    socket
        .send(Message::Ping("are you there".into()))
        .await
        .unwrap();
    let pong = socket.next().await.unwrap().unwrap();
    assert_eq!(pong, Message::Pong("are you there".into()));
    let hello = bytes_of(&Packet::Connect(willing("dev")));
    socket.send(Message::binary(hello)).await.unwrap();
    let _ = socket.next().await.unwrap().unwrap();
    socket.send(Message::Close(None)).await.unwrap();
    assert_eq!(farewell(&mut socket).await, None);
    assert!(socket.next().await.is_none());
    while home.house.presence.count() > 0 {
        tokio::task::yield_now().await;
    }
    let events = home.house.service.events();
    assert!(events.contains(&Event::Left("dev".into(), CloseReason::Lost)));
    assert!(events.contains(&Event::Will("dev".into(), "last".into())));
    assert_eq!(home.house.ledger.since(0).len(), 0);
}

#[tokio::test]
async fn limits_hold_in_a_websocket() {
    let limits = Limits {
        connections: 1,
        connect_time: Duration::from_millis(300),
        ..Limits::default()
    };
    let home = Home::open(limits).await;
    let mut silent = home.socket().await;
    // The place of the one that is open is taken.
    let address = home.house.door.https()[0];
    let mut crowd = TcpStream::connect(address).await.unwrap();
    assert_eq!(crowd.read(&mut [0; 1]).await.unwrap_or(0), 0);
    assert_eq!(
        home.house.refusal(0).await.refusal.kind,
        "too-many-connections"
    );
    assert_eq!(home.house.refusal(1).await.refusal.kind, "connect-timeout");
    assert_eq!(farewell(&mut silent).await, None);
    drop(silent);
    // And is free again.
    let events = loop {
        let mut next = TcpStream::connect(address).await.unwrap();
        let refused = home.house.ledger.since(0).len();
        next.shutdown().await.unwrap();
        let _ = next.read(&mut [0; 1]).await;
        if home.house.ledger.since(0).len() == refused {
            break home.house.service.events();
        }
    };
    assert_eq!(events, []);
}

#[tokio::test]
async fn a_request_for_another_websocket_is_refused_and_the_connection_goes_on() {
    let home = Home::open(Limits::default()).await;
    let mut stream = home.stream().await;
    let upgrade = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
        sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let rows = [
        ("/$iothub/websocket", "", "426", "no-upgrade"),
        ("/elsewhere", upgrade, "404", "wrong-websocket-path"),
        ("/$iothub/websocket", upgrade, "400", "wrong-sub-protocol"),
    ];
    for (number, (path, headers, status, kind)) in (0..).zip(rows) {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {NAME}\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let record = home.house.refusal(number).await;
        assert_eq!(record.refusal.kind, kind);
        assert_eq!(record.operation, Operation::Request);
        let mut answer = String::new();
        while !answer.ends_with(&record.refusal.sentence) {
            let mut byte = [0; 1];
            stream.read_exact(&mut byte).await.unwrap();
            answer.push(byte[0].into());
        }
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
    }
}
