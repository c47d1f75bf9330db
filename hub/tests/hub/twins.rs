//! Twins through the hub's two doors.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::Method;
use azimuth_broker::{Backend, Inward, Line, Outbound};
use azimuth_hub::device::Principal;
use azimuth_storage::{Change, Committed, Expect, Key, Store};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::desk::{Desk, HOST, Reply, VERSION, hello, publish};
use crate::layer::{Layer, Over};

async fn twin(desk: &Desk, device: &str) -> Value {
    ask(desk, Method::GET, device, None, "").await.json().await
}

async fn ask(desk: &Desk, method: Method, device: &str, etag: Option<&str>, body: &str) -> Reply {
    let path = format!("/twins/{device}{VERSION}");
    desk.ask(method, &path, etag, body).await
}

fn has(desk: &Desk, room: &'static str, name: &str) -> bool {
    desk.store.get(&Key::new(room, name)).unwrap().is_some()
}

#[tokio::test]
async fn a_new_identity_has_azures_first_twin() {
    let desk = Desk::new();
    let device = desk.make("d").await;
    let twin = twin(&desk, "d").await;
    let section = json!({ "$metadata": { "$lastUpdated": "2023-11-14T22:13:20Z" }, "$version": 1 });
    assert_eq!(
        twin,
        json!({ "deviceId": "d", "etag": "AAAAAAAAAAE=", "deviceEtag": device["etag"],
            "status": "enabled", "statusUpdateTime": "0001-01-01T00:00:00Z",
            "connectionState": "Disconnected", "lastActivityTime": "0001-01-01T00:00:00Z",
            "cloudToDeviceMessageCount": 0, "authenticationType": "sas",
            "x509Thumbprint": { "primaryThumbprint": null, "secondaryThumbprint": null },
            "modelId": "", "version": 2, "capabilities": { "iotEdge": false },
            "properties": { "desired": section, "reported": section } })
    );
}

#[tokio::test]
async fn a_twin_mirrors_its_identity_and_moves_with_it() {
    let desk = Desk::new();
    let (_, _) = desk.on_the_line("d").await;
    assert_eq!(twin(&desk, "d").await["connectionState"], "Connected");
    let print = "a".repeat(40);
    let body = json!({ "status": "disabled", "statusReason": "why", "capabilities": { "iotEdge": true },
        "authentication": { "type": "selfSigned", "x509Thumbprint": { "primaryThumbprint": print } } });
    let path = format!("/devices/d{VERSION}");
    let body = body.to_string();
    let device = desk.ask(Method::PUT, &path, Some("*"), &body).await;
    let device = device.json().await;
    let twin = twin(&desk, "d").await;
    for (member, expected) in [
        ("deviceEtag", &device["etag"]),
        ("status", &json!("disabled")),
        ("statusReason", &json!("why")),
        ("statusUpdateTime", &device["statusUpdatedTime"]),
        ("authenticationType", &json!("selfSigned")),
        ("capabilities", &json!({ "iotEdge": true })),
        ("etag", &json!("AAAAAAAAAAE=")),
    ] {
        assert_eq!(&twin[member], expected, "{member}");
    }
    assert_eq!(twin["x509Thumbprint"]["primaryThumbprint"], print);
}

#[tokio::test]
async fn preconditions_of_twins_are_azures() {
    let desk = Desk::new();
    desk.make("d").await;
    let patch = r#"{"tags":{"a":1}}"#;
    for (etag, status) in [
        (None, 200),
        (Some("*"), 200),
        (Some("\"*\""), 200),
        (Some("\"AAAAAAAAAAQ=\""), 200),
        (Some("AAAAAAAAAAU="), 200),
        (Some("\"AAAAAAAAAAU=\""), 412),
    ] {
        let reply = ask(&desk, Method::PATCH, "d", etag, patch).await;
        assert_eq!(reply.status, status, "{etag:?}");
        if status == 412 {
            assert_eq!(reply.header("iothub-errorcode"), "PreconditionFailed");
            let body = reply.json().await;
            assert_eq!(
                body["Message"],
                "ErrorCode:PreconditionFailed;ETag mismatch for device ID 'd'"
            );
        }
    }
    for method in [Method::GET, Method::PATCH, Method::PUT] {
        let reply = ask(&desk, method, "nobody", None, "{}").await;
        assert_eq!(reply.header("iothub-errorcode"), "DeviceNotFound");
    }
    for body in [
        "[]",
        r#"{"tags":{"a b":1}}"#,
        r#"{"properties":{"desired":7}}"#,
    ] {
        let reply = ask(&desk, Method::PATCH, "d", None, body).await;
        let code = reply.header("iothub-errorcode").to_owned();
        assert_eq!((reply.status, code.as_str()), (400, "ArgumentInvalid"));
    }
    let record = desk.ledger.since(0).pop().unwrap().refusal;
    assert!(
        record.sentence.contains("`desired` must be an object"),
        "{}",
        record.sentence
    );
}

#[tokio::test]
async fn a_twin_lives_and_dies_with_its_identity() {
    let desk = Desk::new();
    desk.make("d").await;
    assert!(!has(&desk, "twin", "d"));
    let reply = ask(&desk, Method::PUT, "d", None, r#"{"tags":{"a":1}}"#).await;
    assert_eq!(reply.json().await["version"], 3);
    assert!(has(&desk, "twin", "d"));
    // Whoever opens the same store sees it.
    let again = Desk::over(desk.store.clone());
    assert_eq!(twin(&again, "d").await["tags"], json!({ "a": 1 }));
    let path = format!("/devices/d{VERSION}");
    let gone = desk.ask(Method::DELETE, &path, Some("*"), "").await;
    assert_eq!(gone.status, 204);
    assert!(!has(&desk, "twin", "d"));
    desk.clock.advance(Duration::from_secs(1));
    desk.make("d").await;
    let fresh = twin(&desk, "d").await;
    assert_eq!(
        (&fresh["tags"], &fresh["version"]),
        (&Value::Null, &json!(2))
    );
}

#[tokio::test]
async fn an_identity_from_before_there_were_twins_has_one_as_old_as_itself() {
    let desk = Desk::new();
    desk.make("d").await;
    let key = Key::new("device", "d");
    let stored = desk.store.get(&key).unwrap().unwrap();
    let mut identity: Value = serde_json::from_slice(&stored.body).unwrap();
    for (generation_id, since) in [
        ("637612875240648717", "2021-07-07T20:45:24.0648717Z"),
        ("not a number", "0001-01-01T00:00:00Z"),
    ] {
        identity["generationId"] = generation_id.into();
        let body = serde_json::to_vec(&identity).unwrap();
        let change = Change::put(key.clone(), Expect::Present, body);
        desk.store.commit(vec![change]).await.unwrap();
        let twin = twin(&desk, "d").await;
        let metadata = &twin["properties"]["desired"]["$metadata"];
        assert_eq!(metadata["$lastUpdated"], since);
    }
}

/// A store in which somebody else is faster, once.
struct Overtaken {
    inner: Arc<dyn Store>,
    by: Mutex<Vec<Change>>,
}

impl Layer for Overtaken {
    fn below(&self) -> &Arc<dyn Store> {
        &self.inner
    }

    fn commit(&self, changes: Vec<Change>) -> Committed {
        let before = self
            .inner
            .commit(std::mem::take(&mut self.by.lock().unwrap()));
        let inner = self.inner.clone();
        Box::pin(async move {
            before.await?;
            inner.commit(changes).await
        })
    }
}

#[tokio::test]
async fn a_twin_is_not_written_once_its_identity_is_gone() {
    let store = Arc::new(Over(Overtaken {
        inner: azimuth_storage::memory(),
        by: Mutex::default(),
    }));
    let desk = Desk::over(store.clone());
    let speaker = Speaker::new(&desk).await;
    let gone = || vec![Change::delete(Key::new("device", "d"), Expect::Present)];
    *store.0.by.lock().unwrap() = gone();
    let reply = ask(&desk, Method::PATCH, "d", None, r#"{"tags":{"a":1}}"#).await;
    assert_eq!(reply.header("iothub-errorcode"), "DeviceNotFound");
    assert!(!has(&desk, "twin", "d"));
    desk.make("d").await;
    *store.0.by.lock().unwrap() = gone();
    let answer = speaker.asked(&desk, REPORTED, r#"{"a":1}"#).await;
    assert_eq!(answer.topic, "$iothub/twin/res/404/?$rid=r");
    assert!(!has(&desk, "twin", "d"));
}

/// A device on the line that can be spoken to.
struct Speaker {
    device: Principal,
    line: Line,
}

impl Speaker {
    async fn new(desk: &Desk) -> Self {
        let (device, line) = desk.on_the_line("d").await;
        Self { device, line }
    }

    fn say(&self, desk: &Desk, topic: &str, payload: &str) -> Option<Outbound> {
        let payload = Bytes::copy_from_slice(payload.as_bytes());
        let meant = desk.door.publish(&self.device, publish(topic, &payload));
        let Ok(Inward::Answer(answer)) = meant else {
            panic!("a twin request is answered");
        };
        answer
    }

    async fn heard(&self, count: usize) -> Vec<Outbound> {
        let mut heard = Vec::new();
        for _ in 0..10_000 {
            tokio::task::yield_now().await;
            heard.extend(self.line.take_outbound());
            if heard.len() >= count {
                return heard;
            }
        }
        panic!("only {heard:?} was heard");
    }

    async fn asked(&self, desk: &Desk, topic: &str, payload: &str) -> Outbound {
        assert!(self.say(desk, topic, payload).is_none());
        self.heard(1).await.remove(0)
    }
}

const REPORTED: &str = "$iothub/twin/PATCH/properties/reported/?$rid=r";

fn json_of(message: &Outbound) -> Value {
    serde_json::from_slice(&message.payload).unwrap()
}

#[tokio::test]
async fn a_device_reads_its_twin_and_reports() {
    let desk = Desk::new();
    let speaker = Speaker::new(&desk).await;
    let set = r#"{"tags":{"secret":1},"properties":{"desired":{"a":1}}}"#;
    ask(&desk, Method::PATCH, "d", None, set).await;
    let answer = speaker
        .asked(&desk, "$iothub/twin/GET/?$rid=a-1", " ")
        .await;
    assert_eq!(answer.topic, "$iothub/twin/res/200/?$rid=a-1");
    assert_eq!(
        json_of(&answer),
        json!({ "desired": { "a": 1, "$version": 2 }, "reported": { "$version": 1 } })
    );
    let patch = r#"{"fw":{"v":"1"},"gone":null,"$version":9}"#;
    let answer = speaker.asked(&desk, REPORTED, patch).await;
    assert_eq!(answer.topic, "$iothub/twin/res/204/?$rid=r&$version=2");
    assert!(answer.payload.is_empty());
    let twin = twin(&desk, "d").await;
    assert_eq!(twin["properties"]["reported"]["fw"], json!({ "v": "1" }));
    assert_eq!(
        (&twin["version"], &twin["etag"]),
        (&json!(4), &json!("AAAAAAAAAAI="))
    );
    assert!(desk.ledger.since(0).is_empty());
}

#[tokio::test]
async fn what_a_device_may_not_report_is_told_with_a_body_and_recorded() {
    let desk = Desk::new();
    let speaker = Speaker::new(&desk).await;
    let big =
        json!({ "a": "x".repeat(4000), "b": (0..9).map(|_| "x".repeat(4000)).collect::<Vec<_>>() });
    for (topic, payload, status, code, kind) in [
        (REPORTED, "{", 400, 400_004, "invalid-argument"),
        (REPORTED, "[1]", 400, 400_004, "invalid-argument"),
        (REPORTED, r#"{"a.b":1}"#, 400, 400_004, "invalid-twin"),
        (REPORTED, r#"{"a":[null]}"#, 400, 400_004, "invalid-twin"),
        (REPORTED, &big.to_string(), 413, 413_001, "twin-size"),
        (
            "$iothub/twin/PATCH/properties/reported/?$rid=r&$version=7",
            "{}",
            412,
            412_001,
            "stale-reported-version",
        ),
    ] {
        let answer = speaker.asked(&desk, topic, payload).await;
        assert_eq!(answer.topic, format!("$iothub/twin/res/{status}/?$rid=r"));
        let body = json_of(&answer);
        assert_eq!(body["errorCode"], code, "{payload}");
        assert!(body["message"].is_string() && body["trackingId"].is_string());
        let record = desk.ledger.since(0).pop().unwrap();
        assert_eq!(
            (record.who.as_deref(), record.refusal.kind),
            (Some("d"), kind)
        );
    }
    assert_eq!(twin(&desk, "d").await["version"], 2);
}

#[tokio::test]
async fn a_session_of_the_first_generation_has_no_twin() {
    let desk = Desk::new();
    desk.make("d").await;
    let mut old = hello("d");
    old.user_name = Some(format!("{HOST}/d"));
    let device = desk.connect(old).await.unwrap().principal;
    let line = Line::unconnected();
    desk.door.arrived(&device, &line);
    let speaker = Speaker { device, line };
    for topic in [
        "$iothub/twin/GET/?$rid=a-1",
        "$iothub/twin/PATCH/properties/reported/?$rid=a-1",
    ] {
        let answer = speaker.say(&desk, topic, "{}").unwrap();
        assert_eq!(answer.topic, "$iothub/twin/res/400/?$rid=a-1");
        assert_eq!(json_of(&answer)["errorCode"], 400_003);
    }
    let record = desk.ledger.since(0).pop().unwrap();
    assert_eq!(
        (record.who.as_deref(), record.refusal.kind),
        (Some("d"), "twin")
    );
}

#[tokio::test]
async fn requests_of_a_connection_are_answered_in_order_and_a_flood_is_slowed() {
    let desk = Desk::new();
    let speaker = Speaker::new(&desk).await;
    let mut slowed = Vec::new();
    for number in 0..40 {
        let topic = format!("$iothub/twin/PATCH/properties/reported/?$rid={number}");
        slowed.extend(speaker.say(&desk, &topic, &format!(r#"{{"n":{number}}}"#)));
    }
    // One is under way and 32 wait behind it.
    assert_eq!(slowed.len(), 7);
    assert_eq!(slowed[0].topic, "$iothub/twin/res/429/?$rid=33");
    assert_eq!(json_of(&slowed[0])["errorCode"], 429_001);
    let heard = speaker.heard(33).await;
    for (number, answer) in heard.iter().enumerate() {
        let version = number + 2;
        let topic = format!("$iothub/twin/res/204/?$rid={number}&$version={version}");
        assert_eq!(answer.topic, topic);
    }
    assert_eq!(twin(&desk, "d").await["properties"]["reported"]["n"], 32);
    let answer = speaker.asked(&desk, "$iothub/twin/GET/?$rid=1", "").await;
    assert_eq!(json_of(&answer)["reported"]["n"], 32);
}

#[tokio::test]
async fn a_device_of_an_earlier_generation_neither_reads_nor_writes() {
    let desk = Desk::new();
    let speaker = Speaker::new(&desk).await;
    let path = format!("/devices/d{VERSION}");
    desk.ask(Method::DELETE, &path, Some("*"), "").await;
    desk.clock.advance(Duration::from_secs(1));
    desk.make("d").await;
    for (topic, payload) in [(REPORTED, r#"{"a":1}"#), ("$iothub/twin/GET/?$rid=r", "")] {
        let answer = speaker.asked(&desk, topic, payload).await;
        assert_eq!(answer.topic, "$iothub/twin/res/404/?$rid=r");
        assert_eq!(json_of(&answer)["errorCode"], 404_001);
    }
    assert_eq!(twin(&desk, "d").await["version"], 2);
}

#[tokio::test]
async fn services_and_the_device_write_at_once_and_nothing_is_lost() {
    let desk = Arc::new(Desk::new());
    let speaker = Speaker::new(&desk).await;
    let patches = (0..20).map(|number| {
        let desk = desk.clone();
        tokio::spawn(async move {
            let body = format!(r#"{{"properties":{{"desired":{{"k{number}":1}}}}}}"#);
            assert_eq!(
                ask(&desk, Method::PATCH, "d", None, &body).await.status,
                200
            );
        })
    });
    let patches: Vec<_> = patches.collect();
    for number in 0..20 {
        let topic = format!("$iothub/twin/PATCH/properties/reported/?$rid={number}");
        assert!(
            speaker
                .say(&desk, &topic, &format!(r#"{{"k{number}":1}}"#))
                .is_none()
        );
    }
    for patch in patches {
        patch.await.unwrap();
    }
    speaker.heard(20).await;
    let twin = twin(&desk, "d").await;
    assert_eq!(twin["version"], 42);
    for section in ["desired", "reported"] {
        assert_eq!(twin["properties"][section]["$version"], 21);
        assert_eq!(twin["properties"][section].as_object().unwrap().len(), 22);
    }
}
