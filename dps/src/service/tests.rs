#![allow(clippy::unwrap_used, clippy::disallowed_methods)]
use std::time::{Duration, SystemTime};

use azimuth_broker::Regions;
use azimuth_clock::SystemClock;
use azimuth_wire::enrollment::AllocationPolicy;
use azimuth_wire::sas;
use azimuth_wire::time::unix_seconds;
use bytes::{Bytes, BytesMut};
use rumqttc::mqttbytes::v4::{
    Connect, ConnectReturnCode, Login, Packet, PubAck, Publish, Subscribe,
};
use rumqttc::mqttbytes::{Protocol, QoS};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::config::{AssignedHubForm, Pace, PolicyKeySource};
use crate::stub_hub::{SOON, StubHub, Trust};

const HOST: &str = "contoso-dps.azure-devices-provisioning.net";
const SCOPE: &str = "0ne00002193";

fn config(trust: &Trust, hubs: &[&StubHub]) -> DpsConfig {
    let group = serde_json::json!({ "enrollmentGroupId": "fleet",
        "attestation": { "type": "symmetricKey", "symmetricKey": {
            "primaryKey": group_key().reveal(), "secondaryKey": group_key().reveal() } } });
    DpsConfig {
        name: "contoso-dps".into(),
        host_names: vec![HOST.into()],
        id_scope: SCOPE.parse().unwrap(),
        folder: Some(trust.folder().join("dps")),
        mqtt: vec!["127.0.0.1:0".parse().unwrap()],
        https: vec!["127.0.0.1:0".parse().unwrap()],
        tls: trust.server(&[HOST, "127.0.0.1"]),
        keys: PolicyKeySource::Kept,
        policies: Vec::new(),
        allocation: AllocationPolicy::Hashed,
        linked_hubs: hubs.iter().map(|hub| hub.link()).collect(),
        regions: Regions::new("eastus"),
        individual_enrollments: Vec::new(),
        enrollment_groups: vec![serde_json::from_value(group).unwrap()],
        assigned_hub_form: AssignedHubForm::Auto,
        roots_pem: trust.authority.certificate_pem().into(),
        pace: Pace {
            assigning_polls: 1,
            ..Pace::default()
        },
        limits: azimuth_broker::Limits::default(),
    }
}

fn group_key() -> SymmetricKey {
    SymmetricKey::from_bytes(&[5; 64])
}

async fn start(config: DpsConfig) -> RunningDps {
    let started = tokio::task::spawn_blocking(|| Dps::start(config, Arc::new(SystemClock)));
    started.await.unwrap().unwrap()
}

async fn stop(dps: RunningDps) {
    tokio::task::spawn_blocking(|| dps.stop()).await.unwrap();
}

/// A device with nothing but a codec, so that the order of packets is seen.
struct Device {
    socket: TlsStream<TcpStream>,
    bytes: BytesMut,
}

impl Device {
    async fn connect(
        trust: &Trust,
        dps: &RunningDps,
        id: &str,
        key: &SymmetricKey,
    ) -> (Self, Packet) {
        let tls = azimuth_certs::client_config(Some(trust.authority.certificate_pem())).unwrap();
        let socket = TcpStream::connect(dps.mqtt()[0]).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
        let name = rustls::pki_types::ServerName::try_from(HOST).unwrap();
        let socket = connector.connect(name, socket).await.unwrap();
        let mut device = Self {
            socket,
            bytes: BytesMut::new(),
        };
        let expiry = unix_seconds(SystemTime::now()) + 600;
        let mut connect = Connect::new(id);
        connect.protocol = Protocol::V4;
        connect.keep_alive = 60;
        connect.clean_session = true;
        connect.login = Some(Login {
            username: format!("{SCOPE}/registrations/{id}/api-version=2019-03-31"),
            password: sas::sign(&format!("{SCOPE}/registrations/{id}"), key, expiry, None),
        });
        device
            .send(|bytes| {
                connect.write(bytes).unwrap();
            })
            .await;
        let answer = device.next().await;
        (device, answer)
    }

    async fn send(&mut self, write: impl FnOnce(&mut BytesMut)) {
        let mut bytes = BytesMut::new();
        write(&mut bytes);
        self.socket.write_all(&bytes).await.unwrap();
    }

    async fn next(&mut self) -> Packet {
        let reading = async {
            loop {
                if let Ok(packet) = Packet::read(&mut self.bytes, 1 << 20) {
                    return packet;
                }
                assert_ne!(
                    self.socket.read_buf(&mut self.bytes).await.unwrap(),
                    0,
                    "closed"
                );
            }
        };
        tokio::time::timeout(SOON, reading).await.unwrap()
    }

    async fn subscribe(&mut self) {
        let mut subscribe = Subscribe::new("$dps/registrations/res/#", QoS::AtLeastOnce);
        subscribe.pkid = 1;
        self.send(|bytes| {
            subscribe.write(bytes).unwrap();
        })
        .await;
        assert!(matches!(self.next().await, Packet::SubAck(_)));
    }

    /// Publishes with QoS 1; the acknowledgement must come before the answer.
    async fn ask(&mut self, topic: &str) -> (String, Value) {
        let mut publish = Publish::new(topic, QoS::AtLeastOnce, Vec::new());
        publish.pkid = 9;
        self.send(|bytes| {
            publish.write(bytes).unwrap();
        })
        .await;
        assert!(matches!(
            self.next().await,
            Packet::PubAck(PubAck { pkid: 9 })
        ));
        let Packet::Publish(answer) = self.next().await else {
            panic!("no answer")
        };
        let ack = PubAck::new(answer.pkid);
        self.send(|bytes| {
            ack.write(bytes).unwrap();
        })
        .await;
        (
            answer.topic,
            serde_json::from_slice(&answer.payload).unwrap(),
        )
    }

    async fn register(&mut self) -> String {
        let (topic, body) = self
            .ask("$dps/registrations/PUT/iotdps-register/?$rid=1")
            .await;
        assert_eq!(topic, "$dps/registrations/res/202/?$rid=1&retry-after=3");
        body["operationId"].as_str().unwrap().to_owned()
    }

    async fn poll(&mut self, operation: &str) -> (String, Value) {
        let topic = format!(
            "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=2&operationId={operation}"
        );
        self.ask(&topic).await
    }

    /// Polls until the registration is over; how many polls were told to wait.
    async fn result(&mut self, operation: &str) -> (u32, Value) {
        for waits in 0..2000 {
            let (topic, body) = self.poll(operation).await;
            if topic == "$dps/registrations/res/200/?$rid=2" {
                return (waits, body["registrationState"].clone());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("never assigned");
    }
}

#[tokio::test]
async fn a_device_is_provisioned_and_its_record_outlives_the_process() {
    let trust = Trust::new();
    let hub = StubHub::start(&trust, "a-hub.azure-devices.net").await;
    let dps = start(config(&trust, &[&hub])).await;
    let key = group_key().derive("dev-1");
    let (mut device, connack) = Device::connect(&trust, &dps, "dev-1", &key).await;
    assert!(
        matches!(connack, Packet::ConnAck(ack) if ack.code == ConnectReturnCode::Success && !ack.session_present)
    );
    device.subscribe().await;
    let operation = device.register().await;
    let (waits, state) = device.result(&operation).await;
    assert!(waits >= 1);
    assert_eq!(
        (&state["status"], &state["assignedHub"]),
        (&"assigned".into(), &"a-hub.azure-devices.net".into())
    );
    assert!(hub.has("dev-1"));
    let kept = dps.connection_string().clone();
    stop(dps).await;

    let dps = start(config(&trust, &[&hub])).await;
    assert_eq!(dps.connection_string(), &kept);
    let (mut device, _) = Device::connect(&trust, &dps, "dev-1", &key).await;
    device.subscribe().await;
    let (waits, again) = device.result(&operation).await;
    assert_eq!((waits, again), (0, state.clone()));
    let shown = record(&trust, &dps, "dev-1").await;
    assert_eq!(shown["etag"], state["etag"]);
    stop(dps).await;
}

#[tokio::test]
async fn a_wrong_key_is_let_in_and_told_so_at_register() {
    let trust = Trust::new();
    let dps = start(config(&trust, &[])).await;
    let (mut device, connack) = Device::connect(&trust, &dps, "dev-1", &group_key()).await;
    assert!(matches!(connack, Packet::ConnAck(ack) if ack.code == ConnectReturnCode::Success));
    device.subscribe().await;
    let (topic, body) = device
        .ask("$dps/registrations/PUT/iotdps-register/?$rid=1")
        .await;
    assert_eq!(topic, "$dps/registrations/res/401/?$rid=1");
    assert_eq!(body["errorCode"], 401_002);
    stop(dps).await;
}

/// The registration as a back end sees it.
async fn record(trust: &Trust, dps: &RunningDps, id: &str) -> Value {
    let path = format!("/registrations/{id}?api-version=2021-10-01");
    let (status, body) = call(trust, dps, "GET", &path, Value::Null).await;
    assert_eq!(status, 200);
    body
}

/// A request with the connection string that was handed out.
async fn call(
    trust: &Trust,
    dps: &RunningDps,
    method: &str,
    path: &str,
    body: Value,
) -> (u16, Value) {
    let tls = azimuth_certs::client_config(Some(trust.authority.certificate_pem())).unwrap();
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy();
    let client = client.resolve(HOST, dps.https()[0]).build().unwrap();
    let string = dps.connection_string();
    let expiry = unix_seconds(SystemTime::now()) + 600;
    let token = sas::sign(
        HOST,
        string.key.as_ref().unwrap(),
        expiry,
        string.key_name.as_deref(),
    );
    let url = format!("https://{HOST}:{}{path}", dps.https()[0].port());
    let answer = client
        .request(method.parse().unwrap(), url)
        .header("authorization", token)
        .body(body.to_string())
        .send()
        .await
        .unwrap();
    let status = answer.status().as_u16();
    let body: Bytes = answer.bytes().await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

#[tokio::test]
async fn hubs_are_linked_and_unlinked_while_it_runs_and_stay_so() {
    let trust = Trust::new();
    let a = StubHub::start(&trust, "a-hub.azure-devices.net").await;
    let b = StubHub::start(&trust, "b-hub.azure-devices.net").await;
    let dps = start(config(&trust, &[&a])).await;
    let list = "/azimuth/linkedHubs";
    let (of_a, of_b) = (format!("{list}/{}", a.host), format!("{list}/{}", b.host));
    let enrollment = serde_json::json!({ "registrationId": "dev-1", "iotHubs": [b.host],
        "attestation": { "type": "symmetricKey", "symmetricKey": {
            "primaryKey": group_key().reveal(), "secondaryKey": group_key().reveal() } } });
    let enroll = "/enrollments/dev-1?api-version=2021-10-01";
    let (status, refused) = call(&trust, &dps, "PUT", enroll, enrollment.clone()).await;
    assert_eq!(status, 400, "{refused}");

    let link = b.link();
    let body = serde_json::json!({
        "connectionString": link.connection_string.reveal(), "location": "westus",
        "dialAddress": link.dial, "advertisedAddress": "10.1.2.3", "httpsPort": link.https_port });
    let (status, answer) = call(&trust, &dps, "PUT", &of_b, body).await;
    assert_eq!((status, &answer["warning"]), (200, &Value::Null));
    // The rules of enrollments know it at once.
    let (status, _) = call(&trust, &dps, "PUT", enroll, enrollment).await;
    assert_eq!(status, 200);
    let (status, _) = call(&trust, &dps, "DELETE", &of_a, Value::Null).await;
    assert_eq!(status, 204);
    stop(dps).await;

    let dps = start(config(&trust, &[&a])).await;
    let (_, linked) = call(&trust, &dps, "GET", list, Value::Null).await;
    let names: Vec<_> = linked.as_array().unwrap().iter().collect();
    assert_eq!(names.len(), 1, "{linked}");
    assert_eq!(
        (&names[0]["name"], &names[0]["location"]),
        (&b.host.clone().into(), &"westus".into())
    );
    let (mut device, _) = Device::connect(&trust, &dps, "dev-1", &group_key()).await;
    device.subscribe().await;
    let operation = device.register().await;
    let (_, state) = device.result(&operation).await;
    assert_eq!(state["assignedHub"], b.host);
    assert!(b.has("dev-1") && !a.has("dev-1"));
    stop(dps).await;
}

#[test]
fn a_start_that_cannot_succeed_says_why() {
    let trust = Trust::new();
    let mut bad = config(&trust, &[]);
    bad.enrollment_groups[0].iot_hubs = Some(vec!["nowhere.net".into()]);
    let error = Dps::start(bad, Arc::new(SystemClock)).unwrap_err();
    assert!(
        error.to_string().contains("`fleet`") && error.to_string().contains("nowhere.net"),
        "{error}"
    );
}
