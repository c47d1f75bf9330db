//! A hub as it runs: real sockets, a real data folder, rumqttc's packets as the device's.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use azimuth_clock::{Clock, SystemClock};
use azimuth_hub::event::{Event, From, Log, LogConfig};
use azimuth_hub::{Hub, HubConfig, PolicyKeySource, RunningHub};
use azimuth_wire::{sas, time};
use bytes::BytesMut;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Connect, Publish};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

const HOST: &str = "hub1.azure-devices.net";
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let name = format!("azimuth-whole-hub-{}", uuid::Uuid::new_v4());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn config(folder: &Path) -> (HubConfig, String) {
    let now = SystemClock.utc();
    let authority = azimuth_certs::Authority::load_or_create(&folder.join("ca"), now).unwrap();
    let names = azimuth_certs::ServerNames::parse([HOST, "127.0.0.1"]).unwrap();
    let identity =
        azimuth_certs::ServerIdentity::load_or_issue(&folder.join("tls"), &authority, &names, now)
            .unwrap();
    let tls = identity
        .rustls_config(azimuth_certs::KeyChoice::Auto, false)
        .unwrap();
    let hub = HubConfig {
        mqtt: vec!["127.0.0.1:0".parse().unwrap()],
        https: vec!["127.0.0.1:0".parse().unwrap()],
        ..HubConfig::new(
            "hub1",
            vec![HOST.into(), "127.0.0.1".into()],
            "eastus",
            folder.join("hub1"),
            Arc::new(tls),
        )
    };
    (hub, authority.certificate_pem().to_owned())
}

async fn secure(address: SocketAddr, ca: &str) -> TlsStream<TcpStream> {
    let tls = azimuth_certs::client_config(Some(ca)).unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
    connector
        .connect(HOST.try_into().unwrap(), stream)
        .await
        .unwrap()
}

/// A whole HTTPS exchange.
async fn ask(hub: &RunningHub, ca: &str, method: &str, path: &str, body: &str) -> String {
    exchange(hub, ca, method, path, "", body).await
}

async fn exchange(
    hub: &RunningHub,
    ca: &str,
    method: &str,
    path: &str,
    header: &str,
    body: &str,
) -> String {
    let string = hub.connection_string("iothubowner", HOST).unwrap();
    let key = string
        .rsplit_once("SharedAccessKey=")
        .unwrap()
        .1
        .parse()
        .unwrap();
    let expiry = time::unix_seconds(SystemClock.utc()) + 60;
    let token = sas::sign(HOST, &key, expiry, Some("iothubowner"));
    let mut stream = secure(hub.https()[0], ca).await;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: {token}\r\nConnection: close\r\n\
         {header}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

async fn make(hub: &RunningHub, ca: &str) {
    let body = format!(
        r#"{{"authentication":{{"symmetricKey":{{"primaryKey":"{KEY}","secondaryKey":"{KEY}"}}}}}}"#
    );
    let made = ask(
        hub,
        ca,
        "PUT",
        "/devices/dev1?api-version=2021-04-12",
        &body,
    )
    .await;
    assert!(made.starts_with("HTTP/1.1 200"), "{made}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_acknowledged_once_stored_and_a_disabled_device_is_thrown_off() {
    let scratch = Scratch::new();
    let (config, ca) = config(&scratch.0);
    let folder = config.folder.clone();
    let hub = Hub::start(config, Arc::new(SystemClock)).unwrap();
    make(&hub, &ca).await;

    let expiry = time::unix_seconds(SystemClock.utc()) + 60;
    let token = sas::sign(
        &format!("{HOST}/devices/dev1"),
        &KEY.parse().unwrap(),
        expiry,
        None,
    );
    let mut device = secure(hub.mqtt()[0], &ca).await;
    let mut connect = Connect::new("dev1");
    connect.set_login(format!("{HOST}/dev1/?api-version=2021-04-12"), token);
    let mut publish = Publish::new(
        "devices/dev1/messages/events/a=b",
        QoS::AtLeastOnce,
        "hello",
    );
    publish.pkid = 7;
    let mut packets = BytesMut::new();
    connect.write(&mut packets).unwrap();
    publish.write(&mut packets).unwrap();
    device.write_all(&packets).await.unwrap();
    let mut answers = [0; 8];
    device.read_exact(&mut answers).await.unwrap();
    // CONNACK 0, then PUBACK 7.
    assert_eq!(answers, [0x20, 2, 0, 0, 0x40, 2, 0, 7]);
    let row = hub.rows(5).remove(0);
    assert_eq!(
        (
            row.device.as_str(),
            row.connection_state.as_str(),
            row.messages
        ),
        ("dev1", "Connected", 1)
    );
    let lines = ask(&hub, &ca, "GET", "/azimuth/events?deviceId=dev1", "").await;
    assert!(
        lines.contains(r#""properties":{"a":"b"},"body":"hello""#),
        "{lines}"
    );

    let disabled = r#"{"status":"disabled"}"#;
    let path = "/devices/dev1?api-version=2021-04-12";
    // Without If-Match it is a create, and refused.
    let refused = ask(&hub, &ca, "PUT", path, disabled).await;
    assert!(refused.starts_with("HTTP/1.1 409"), "{refused}");
    let updated = exchange(&hub, &ca, "PUT", path, "If-Match: *\r\n", disabled).await;
    assert!(updated.starts_with("HTTP/1.1 200"), "{updated}");
    assert_eq!(
        device.read(&mut answers).await.unwrap_or(0),
        0,
        "the line is not closed"
    );
    let refusals = ask(&hub, &ca, "GET", "/azimuth/refusals", "").await;
    for kind in ["device-exists", "removed"] {
        assert!(
            refusals.contains(&format!(r#""kind":"{kind}""#)),
            "{refusals}"
        );
    }

    // A follower does not hold the hub up when it stops, and the device's end is written down.
    let follower = ask(
        &hub,
        &ca,
        "GET",
        "/azimuth/events?from=latest&follow=true",
        "",
    );
    let follower = tokio::time::timeout(Duration::from_millis(200), follower).await;
    assert!(follower.is_err());
    tokio::task::spawn_blocking(move || hub.stop())
        .await
        .unwrap();
    let (_, log, cuts) = Log::open(
        &folder.join("events"),
        LogConfig::default(),
        SystemClock.utc(),
    )
    .unwrap();
    assert!(cuts.is_empty());
    let mut reader = log
        .reader(log.partition_of("dev1"), From::Earliest)
        .unwrap();
    let batch = reader.next_batch(1 << 20).unwrap();
    let record = batch.records().next().unwrap();
    assert_eq!(Event::decode(record.envelope).unwrap().body, b"hello");
    let store = azimuth_storage::open(&folder.join("registry.redb")).unwrap();
    let live = store
        .get(&azimuth_storage::Key::new("live", "dev1"))
        .unwrap()
        .unwrap();
    assert!(
        String::from_utf8(live.body)
            .unwrap()
            .contains("Disconnected")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn identities_and_kept_keys_survive_a_restart() {
    let scratch = Scratch::new();
    let (base, ca) = config(&scratch.0);
    let config = HubConfig {
        keys: PolicyKeySource::Kept,
        ..base
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let path = "/devices/dev1?api-version=2021-04-12";
    let hub = Hub::start(config.clone(), clock.clone()).unwrap();
    make(&hub, &ca).await;
    let (string, before) = (
        hub.connection_string("service", HOST),
        ask(&hub, &ca, "GET", path, "").await,
    );
    tokio::task::spawn_blocking(move || hub.stop())
        .await
        .unwrap();
    let hub = Hub::start(config, clock).unwrap();
    assert_eq!(hub.connection_string("service", HOST), string);
    let after = ask(&hub, &ca, "GET", path, "").await;
    let body = |answer: &str| answer.split_once("\r\n\r\n").unwrap().1.to_owned();
    assert_eq!(body(&before), body(&after));
}

#[test]
fn what_cannot_be_served_is_refused_in_a_sentence_and_left_untouched() {
    let scratch = Scratch::new();
    let (base, _) = config(&scratch.0);
    let start = |config: &HubConfig| {
        let started = Hub::start(config.clone(), Arc::new(SystemClock));
        started.err().expect("this hub must not start").to_string()
    };
    let exposed = HubConfig {
        mqtt: vec!["0.0.0.0:0".parse().unwrap()],
        ..base.clone()
    };
    assert_eq!(
        start(&exposed),
        "published keys are known to everybody and serve on loopback only, but this hub is to listen on 0.0.0.0: \
         choose generated keys, or a loopback address"
    );
    let mut many = base.clone();
    many.event_log.partitions = 200;
    assert!(start(&many).contains("200 partitions"));

    std::fs::create_dir_all(&base.folder).unwrap();
    let file = base.folder.join("registry.redb");
    std::fs::write(&file, "not a store").unwrap();
    let mut chain = String::new();
    let error = Hub::start(base.clone(), Arc::new(SystemClock))
        .err()
        .unwrap();
    let mut next: Option<&dyn std::error::Error> = Some(&error);
    while let Some(error) = next {
        chain.push_str(&format!("{error}\n"));
        next = error.source();
    }
    assert!(chain.contains("is not a store of Azimuth"), "{chain}");
    assert_eq!(std::fs::read(&file).unwrap(), b"not a store");
    assert!(!base.folder.join("events").exists());

    std::fs::remove_file(&file).unwrap();
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = HubConfig {
        mqtt: vec![held.local_addr().unwrap()],
        ..base
    };
    assert_eq!(start(&taken), "the front door did not open");
}
