//! A front door in memory: a service that does as it is told, a consumer that can be stopped, an MQTT
//! client over a duplex stream.
#![allow(dead_code, clippy::unwrap_used, clippy::disallowed_methods)]

pub mod secure;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use azimuth_broker::*;
use azimuth_clock::Clock;
use bytes::BytesMut;
use parking_lot::{Condvar, Mutex};
use rumqttc::mqttbytes::QoS as WireQoS;
use rumqttc::mqttbytes::v4::{
    ConnAck, Connect, ConnectReturnCode, LastWill, Packet, PubAck, Publish as PublishPacket,
    SubAck, Subscribe, SubscribeFilter, SubscribeReasonCode, Unsubscribe,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// The time of the test's tokio runtime, which may be paused.
pub struct TokioClock;

impl Clock for TokioClock {
    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn utc(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }
}

#[derive(Clone, Debug)]
pub struct Name(Owner);

impl Principal for Name {
    fn owner(&self) -> &Owner {
        &self.0
    }
}

/// What a service was told, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Arrived(String),
    Left(String, CloseReason),
    Published(String, String),
    Will(String, String),
}

/// A service. Client ids, topics and filters say what is to happen:
/// `refuse-N/…` CONNACK N; topic `forbidden` closes; `ask/…` is answered on `answer/…`, `panic` panics;
/// filter `forbidden` closes, `failure` is a SUBACK 0x80, `low/…` is granted QoS 0.
#[derive(Default)]
pub struct Service {
    pub events: Mutex<Vec<Event>>,
    pub lines: Mutex<HashMap<String, Line>>,
    pub hellos: Mutex<Vec<Hello>>,
    pub expires: Mutex<Option<Duration>>,
    pub gate: Mutex<Option<Arc<tokio::sync::Semaphore>>>,
    pub quiet: bool,
}

impl Service {
    fn note(&self, event: Event) {
        if !self.quiet {
            self.events.lock().push(event);
        }
    }

    pub fn line(&self, name: &str) -> Line {
        self.lines.lock().get(name).unwrap().clone()
    }

    pub fn events(&self) -> Vec<Event> {
        self.events.lock().clone()
    }
}

fn refusal(kind: &'static str, answer: Answer) -> Refusal {
    Refusal::new(kind, answer, "as the test wants it")
}

impl Backend for Service {
    type Principal = Name;

    async fn authenticate(&self, hello: Hello) -> Result<Admission<Name>, Refusal> {
        let gate = self.gate.lock().clone();
        if let Some(gate) = gate {
            gate.acquire().await.unwrap().forget();
        }
        if let Some(code) = hello.client_id.strip_prefix("refuse-") {
            return Err(refusal("refused", Answer::Connack(code.parse().unwrap())));
        }
        let expires = self.expires.lock().map(|after| TokioClock.now() + after);
        let principal = Name(Owner::new(&hello.client_id));
        if !self.quiet {
            self.hellos.lock().push(hello);
        }
        Ok(Admission {
            principal,
            expires,
            longest_silence: Duration::from_secs(1767),
            persistent_sessions: true,
        })
    }

    fn publish(&self, from: &Name, publish: Publish<'_>) -> Result<Inward, Refusal> {
        let (owner, topic) = (from.0.to_string(), publish.topic.to_owned());
        if publish.will {
            self.note(Event::Will(owner.clone(), topic.clone()));
        } else {
            self.note(Event::Published(owner.clone(), topic.clone()));
        }
        match topic.split('/').next() {
            Some("forbidden") => Err(refusal("forbidden", Answer::Close)),
            Some("panic") => panic!("the service falls over"),
            Some("ask") => Ok(Inward::Answer(Some(Outbound {
                topic: topic.replacen("ask", "answer", 1),
                payload: publish.payload.clone(),
                qos: QoS::AtLeastOnce,
            }))),
            _ => {
                let lane = topic.bytes().last().map_or(0, |byte| byte % 4);
                let lane = if topic.starts_with("lane/") { lane } else { 0 };
                let mut envelope = owner.into_bytes();
                envelope.push(0);
                envelope.extend_from_slice(publish.payload);
                Ok(Inward::Store {
                    lane: Lane(lane),
                    envelope,
                })
            }
        }
    }

    fn subscribe(&self, _: &Name, filter: &str, _: QoS) -> Result<Granted, Refusal> {
        match filter.split('/').next() {
            Some("forbidden") => Err(refusal("unknown-filter", Answer::Close)),
            Some("failure") => Ok(Granted::Failure),
            Some("low") => Ok(Granted::UpTo(QoS::AtMostOnce)),
            _ => Ok(Granted::UpTo(QoS::AtLeastOnce)),
        }
    }

    fn unsubscribe(&self, _: &Name, filter: &str) -> Result<(), Refusal> {
        if filter == "forbidden" {
            return Err(refusal("unknown-filter", Answer::Close));
        }
        Ok(())
    }

    fn arrived(&self, who: &Name, line: &Line) {
        self.note(Event::Arrived(who.0.to_string()));
        if !self.quiet {
            self.lines.lock().insert(who.0.to_string(), line.clone());
        }
    }

    fn left(&self, who: &Name, reason: &CloseReason) {
        self.note(Event::Left(who.0.to_string(), reason.clone()));
    }
}

/// What the store holds, and whether it works.
#[derive(Default)]
pub struct Store {
    pub state: Mutex<StoreState>,
    change: Condvar,
}

#[derive(Default)]
pub struct StoreState {
    pub stopped: bool,
    pub failing: bool,
    pub stored: u64,
    pub keep: bool,
    pub envelopes: Vec<Vec<u8>>,
}

impl Store {
    pub fn stop(&self) {
        self.state.lock().stopped = true;
    }

    pub fn go_on(&self) {
        self.state.lock().stopped = false;
        self.change.notify_all();
    }

    pub fn stored(&self) -> u64 {
        self.state.lock().stored
    }
}

pub struct StoreHand(pub Arc<Store>);

impl Consumer for StoreHand {
    fn consume(&mut self, _: Lane, envelopes: Envelopes<'_>) -> Result<(), String> {
        let mut state = self.0.state.lock();
        while state.stopped {
            self.0.change.wait(&mut state);
        }
        if state.failing {
            return Err("the disk is full".into());
        }
        for envelope in envelopes {
            state.stored += 1;
            if state.keep {
                state.envelopes.push(envelope.to_vec());
            }
        }
        Ok(())
    }
}

/// An open front door.
pub struct House {
    pub door: FrontDoor<Service>,
    pub service: Arc<Service>,
    pub store: Arc<Store>,
    pub presence: Arc<Presence>,
    pub ledger: Arc<Ledger>,
}

pub fn tls() -> Arc<rustls::ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::server::ResolvesServerCertUsingSni::new()));
    Arc::new(config)
}

/// `/count` says how many bytes a request had.
fn http() -> axum::Router {
    let count = axum::routing::post(|body: axum::body::Body| async {
        let bytes = axum::body::to_bytes(body, usize::MAX).await;
        bytes.map_or_else(|error| error.to_string(), |bytes| bytes.len().to_string())
    });
    axum::Router::new().route("/count", count)
}

pub fn local(ports: usize) -> Vec<SocketAddr> {
    vec!["127.0.0.1:0".parse().unwrap(); ports]
}

impl House {
    pub async fn new() -> Self {
        Self::with(Service::default(), Limits::default(), tls(), 0).await
    }

    pub async fn limited(limits: Limits) -> Self {
        Self::with(Service::default(), limits, tls(), 0).await
    }

    pub async fn with(
        service: Service,
        limits: Limits,
        tls: Arc<rustls::ServerConfig>,
        ports: usize,
    ) -> Self {
        Self::at(service, limits, tls, (ports, 0), None).await
    }

    /// With so many ports for MQTT and for HTTPS, and clients as far away as they are.
    pub async fn at(
        service: Service,
        limits: Limits,
        tls: Arc<rustls::ServerConfig>,
        (mqtt, https): (usize, usize),
        delay: Option<RegionalDelay>,
    ) -> Self {
        let (service, store) = (Arc::new(service), Arc::new(Store::default()));
        let (presence, ledger) = (Arc::new(Presence::new()), Arc::new(Ledger::new("test")));
        let config = FrontDoorConfig {
            service: "test".into(),
            tls,
            mqtt: local(mqtt),
            https: local(https),
            websocket: &["/$iothub/websocket"],
            lanes: 4,
            delay,
            limits,
        };
        let behind = Behind {
            backend: service.clone(),
            consumer: Box::new(StoreHand(store.clone())),
            http: http(),
            presence: presence.clone(),
            ledger: ledger.clone(),
            clock: Arc::new(TokioClock),
        };
        Self {
            door: FrontDoor::open(config, behind).await.unwrap(),
            service,
            store,
            presence,
            ledger,
        }
    }

    /// A client whose stream holds `capacity` bytes each way.
    pub fn dial_through(&self, capacity: usize) -> Client<DuplexStream> {
        let (near, far) = tokio::io::duplex(capacity);
        let address = "127.0.0.1:1".parse().unwrap();
        let peer = Peer {
            remote: address,
            local: address,
            server_name: None,
            certificates: Vec::new(),
        };
        self.door.enter(far, peer);
        Client::new(near)
    }

    pub fn dial(&self) -> Client<DuplexStream> {
        self.dial_through(64 << 10)
    }

    pub async fn connect(&self, name: &str) -> Client<DuplexStream> {
        self.connect_as(connect(name)).await.0
    }

    pub async fn connect_as(&self, connect: Connect) -> (Client<DuplexStream>, bool) {
        let mut client = self.dial();
        let present = client.connect(connect).await;
        (client, present)
    }

    /// The newest refusal, once there is one after `number`.
    pub async fn refusal(&self, number: u64) -> Record {
        self.ledger.wait(number).await;
        self.ledger.since(number).remove(0)
    }
}

pub fn connect(name: &str) -> Connect {
    let mut connect = Connect::new(name);
    connect.keep_alive = 0;
    connect
}

pub fn kept(name: &str) -> Connect {
    let mut connect = connect(name);
    connect.clean_session = false;
    connect
}

pub fn willing(name: &str) -> Connect {
    let mut connect = connect(name);
    connect.last_will = Some(LastWill::new("last", "words", WireQoS::AtLeastOnce, false));
    connect
}

pub fn message(topic: &str, payload: &str) -> Outbound {
    Outbound {
        topic: topic.into(),
        payload: payload.to_owned().into(),
        qos: QoS::AtLeastOnce,
    }
}

/// An MQTT client that does nothing by itself.
pub struct Client<S> {
    pub stream: S,
    inbound: BytesMut,
}

impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin> Client<S> {
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            inbound: BytesMut::new(),
        }
    }

    pub async fn send(&mut self, packet: &Packet) {
        self.raw(&bytes_of(packet)).await;
    }

    pub async fn raw(&mut self, bytes: &[u8]) {
        // The other side may have hung up: what it says is looked at, not what it takes.
        let _ = self.stream.write_all(bytes).await;
        let _ = self.stream.flush().await;
    }

    /// Makes room for so much at the next read.
    pub fn gulp(&mut self, bytes: usize) {
        self.inbound.reserve(bytes);
    }

    /// The next packet; `None` when the connection is closed.
    pub async fn next(&mut self) -> Option<Packet> {
        loop {
            if let Ok(packet) = Packet::read(&mut self.inbound, 1 << 20) {
                return Some(packet);
            }
            if self.stream.read_buf(&mut self.inbound).await.unwrap_or(0) == 0 {
                assert!(self.inbound.is_empty(), "half a packet: {:?}", self.inbound);
                return None;
            }
        }
    }

    /// Whether a stored session is present.
    pub async fn connect(&mut self, connect: Connect) -> bool {
        self.send(&Packet::Connect(connect)).await;
        let Some(Packet::ConnAck(ack)) = self.next().await else {
            panic!("no CONNACK")
        };
        assert_eq!(ack.code, ConnectReturnCode::Success);
        ack.session_present
    }

    pub async fn subscribe(&mut self, filters: &[(&str, WireQoS)]) -> Vec<SubscribeReasonCode> {
        self.send(&subscribe(9, filters)).await;
        let Some(Packet::SubAck(SubAck {
            pkid: 9,
            return_codes,
        })) = self.next().await
        else {
            panic!("no SUBACK")
        };
        return_codes
    }

    pub async fn ping(&mut self) {
        self.send(&Packet::PingReq).await;
        assert_eq!(self.next().await, Some(Packet::PingResp));
    }

    pub async fn acknowledge(&mut self, packet: u16) {
        self.send(&Packet::PubAck(PubAck::new(packet))).await;
    }

    /// A PUBLISH to the device: topic, packet id, DUP.
    pub async fn message(&mut self) -> (String, u16, bool) {
        match self.next().await {
            Some(Packet::Publish(publish)) => (publish.topic, publish.pkid, publish.dup),
            other => panic!("no PUBLISH but {other:?}"),
        }
    }
}

pub fn publish(topic: &str, qos: WireQoS, pkid: u16, payload: impl Into<Vec<u8>>) -> Packet {
    let mut publish = PublishPacket::new(topic, qos, payload);
    publish.pkid = pkid;
    Packet::Publish(publish)
}

pub fn subscribe(pkid: u16, filters: &[(&str, WireQoS)]) -> Packet {
    let filters = filters
        .iter()
        .map(|(path, qos)| SubscribeFilter::new((*path).into(), *qos));
    let mut subscribe = Subscribe::new_many(filters);
    subscribe.pkid = pkid;
    Packet::Subscribe(subscribe)
}

pub fn unsubscribe(pkid: u16, filter: &str) -> Packet {
    let mut unsubscribe = Unsubscribe::new(filter);
    unsubscribe.pkid = pkid;
    Packet::Unsubscribe(unsubscribe)
}

pub fn bytes_of(packet: &Packet) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    packet.write(&mut bytes, usize::MAX).unwrap();
    bytes.to_vec()
}

pub fn accepted(present: bool) -> Option<Packet> {
    Some(Packet::ConnAck(ConnAck::new(
        ConnectReturnCode::Success,
        present,
    )))
}

/// Resident memory of this process in KiB.
pub fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
