//! A hub that keeps to what a tier allows, and tells each kind of client in its way.

use std::time::Duration;

use axum::http::Method;
use azimuth_broker::{Answer, Backend, Hello, Inward};
use azimuth_hub::{Plan, Tier};
use serde_json::Value;

use crate::desk::{Desk, VERSION, hello, publish};

fn desk(tier: Tier) -> Desk {
    Desk::planned(azimuth_storage::memory(), Plan::new(tier, 1))
}

impl Desk {
    async fn status(&self, method: Method, path: &str) -> u16 {
        self.ask(method, path, None, "{}").await.status
    }
}

#[tokio::test(start_paused = true)]
async fn requests_beyond_the_rate_wait_and_then_are_refused() {
    let desk = desk(Tier::S1);
    let path = format!("/devices{VERSION}");
    for number in 0..116_u64 {
        let turn = tokio::time::Instant::now();
        assert_eq!(desk.status(Method::GET, &path).await, 200);
        // A hundred at once; those behind wait 0.6 s, 1.2 s and so on.
        let wait = Duration::from_millis(600 * number.saturating_sub(99));
        let beyond = turn.elapsed().checked_sub(wait).unwrap();
        assert!(beyond < Duration::from_millis(10), "{number}: {beyond:?}");
    }
    let refused = desk.ask(Method::GET, &path, None, "").await;
    assert_eq!(refused.status, 429);
    assert_eq!(
        refused.header("iothub-errorcode"),
        "ThrottlingBacklogTimeout"
    );
    assert_eq!(
        (refused.header("connection"), refused.header("retry-after")),
        ("close", "11")
    );
    let body = refused.json().await;
    assert_eq!(
        body["Message"],
        "ErrorCode:ThrottlingBacklogTimeout;The request has been throttled. Wait 11 seconds and try again. \
         Operation type: IdentityRegistry"
    );
    // What is of this simulator has no rate.
    assert_eq!(desk.status(Method::GET, "/azimuth/refusals").await, 200);
    desk.clock.advance(Duration::from_secs(1));
    assert_eq!(desk.status(Method::GET, &path).await, 200);
    let kinds = desk.ledger.since(0);
    assert_eq!((kinds.len(), kinds[0].refusal.kind), (1, "throttled"));
}

#[tokio::test(start_paused = true)]
async fn queries_have_a_rate_of_their_own() {
    let desk = desk(Tier::S1);
    let path = format!("/devices/query{VERSION}");
    let query = r#"{"query":"SELECT * FROM devices"}"#;
    let mut answers = Vec::new();
    for _ in 0..24 {
        answers.push(desk.ask(Method::POST, &path, None, query).await.status);
    }
    // 20 a minute: one each 3 s, and three can wait 10 s.
    assert_eq!((answers[..23].to_vec(), answers[23]), (vec![200; 23], 429));
    assert_eq!(
        desk.status(Method::GET, &format!("/devices{VERSION}"))
            .await,
        200
    );
}

#[tokio::test]
async fn telemetry_beyond_the_rate_or_the_day_ends_the_connection() {
    let desk = desk(Tier::F1);
    let (dev, _line) = desk.on_the_line("dev").await;
    let body = bytes::Bytes::from(vec![b'x'; 500]);
    let send = |topic: &str| desk.door.publish(&dev, publish(topic, &body));
    let topic = "devices/dev/messages/events/";
    for _ in 0..6000 {
        assert!(matches!(send(topic), Ok(Inward::Store { .. })));
    }
    let refused = send(topic).unwrap_err();
    assert_eq!(
        (refused.kind, &refused.answer),
        ("throttled", &Answer::Close)
    );
    assert!(
        refused.sentence.contains("allows 6000 a minute of D2CSend"),
        "{}",
        refused.sentence
    );
    desk.clock.advance(Duration::from_secs(60));
    // Properties count: each message has two blocks of 512 bytes.
    for _ in 0..1000 {
        assert!(send("devices/dev/messages/events/abc=defghijklm").is_ok());
    }
    let refused = send(topic).unwrap_err();
    assert_eq!(
        (refused.kind, refused.answer),
        ("quota-exceeded", Answer::Close)
    );
    desk.clock.advance(Duration::from_secs(24 * 3600));
    assert!(send(topic).is_ok());
}

#[tokio::test]
async fn connections_beyond_the_rate_get_no_connack() {
    let desk = desk(Tier::S1);
    desk.make("dev").await;
    for _ in 0..6000 {
        let nobody = Hello {
            user_name: None,
            ..hello("dev")
        };
        assert_eq!(desk.connect(nobody).await.err().unwrap().kind, "user-name");
    }
    let refused = desk.connect(hello("dev")).await.err().unwrap();
    assert_eq!((refused.kind, refused.answer), ("throttled", Answer::Close));
}

#[tokio::test]
async fn twin_requests_beyond_the_rate_are_answered_429() {
    let desk = desk(Tier::S1);
    let (dev, _line) = desk.on_the_line("dev").await;
    let body = bytes::Bytes::from_static(b"{}");
    let mut answers = Vec::new();
    for number in 0..3100 {
        let topic = format!("$iothub/twin/PATCH/properties/reported/?$rid={number}");
        if let Ok(Inward::Answer(Some(answer))) = desk.door.publish(&dev, publish(&topic, &body)) {
            answers.push(answer);
        }
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::ZERO).await;
    }
    let last = answers.last().unwrap();
    assert_eq!(last.topic, "$iothub/twin/res/429/?$rid=3099");
    let body: Value = serde_json::from_slice(&last.payload).unwrap();
    assert_eq!(body["errorCode"], 429_003);
}

#[tokio::test(start_paused = true)]
async fn a_service_writes_and_reads_twins_at_two_rates() {
    let desk = desk(Tier::S1);
    // Nobody has this twin: a request counts before it is looked at.
    let path = format!("/twins/nobody{VERSION}");
    for _ in 0..3500 {
        assert_eq!(desk.status(Method::PATCH, &path).await, 404);
    }
    let refused = desk.ask(Method::PATCH, &path, None, "{}").await;
    assert_eq!(refused.status, 429);
    let body = refused.json().await;
    let sentence = body["Message"].as_str().unwrap();
    assert!(sentence.ends_with("Operation type: TwinUpdate"), "{body}");
    assert_eq!(desk.status(Method::GET, &path).await, 404);
}

#[tokio::test]
async fn twin_requests_count_as_messages_of_the_day() {
    let desk = desk(Tier::F1);
    let (dev, _line) = desk.on_the_line("dev").await;
    let service = async |bytes: usize| {
        let headers = [
            ("authorization", desk.token("iothubowner")),
            ("content-length", bytes.to_string()),
        ];
        let path = format!("/twins/dev{VERSION}");
        desk.request(Method::PATCH, &path, &headers, "{}").await
    };
    let device = |bytes: usize| {
        let body = bytes::Bytes::from(format!("{{}}{}", " ".repeat(bytes - 2)));
        let topic = "$iothub/twin/PATCH/properties/reported/?$rid=1";
        let Ok(Inward::Answer(answer)) = desk.door.publish(&dev, publish(topic, &body)) else {
            panic!("a twin request is answered");
        };
        answer
    };
    // Of 8000 blocks of 512 bytes each: one, 7997, and two.
    assert_eq!(service(512).await.status, 200);
    assert_eq!(service(7997 * 512).await.status, 200);
    assert!(device(513).is_none(), "it is answered later");
    let refused = service(2).await;
    assert_eq!(
        (refused.status, refused.header("iothub-errorcode")),
        (403, "IotHubQuotaExceeded")
    );
    let body = refused.json().await;
    assert!(
        body["Message"]
            .as_str()
            .unwrap()
            .contains("current message count : '8001'"),
        "{body}"
    );
    assert_eq!(device(2).unwrap().topic, "$iothub/twin/res/403/?$rid=1");
}

#[tokio::test]
async fn a_basic_tier_has_no_twins() {
    let desk = desk(Tier::B1);
    let (dev, _line) = desk.on_the_line("dev").await;
    let refused = desk
        .ask(Method::GET, &format!("/twins/dev{VERSION}"), None, "")
        .await;
    assert_eq!(refused.status, 403);
    assert_eq!(
        refused.header("iothub-errorcode"),
        "OperationNotAvailableInCurrentTier"
    );
    let none = bytes::Bytes::new();
    let asked = desk
        .door
        .publish(&dev, publish("$iothub/twin/GET/?$rid=1", &none));
    let Ok(Inward::Answer(Some(answer))) = asked else {
        panic!("a twin request is answered");
    };
    assert_eq!(answer.topic, "$iothub/twin/res/403/?$rid=1");
    let topic = "devices/dev/messages/events/";
    assert!(matches!(
        desk.door.publish(&dev, publish(topic, &none)),
        Ok(Inward::Store { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn a_free_hub_has_500_devices() {
    let desk = desk(Tier::F1);
    for number in 0..500 {
        desk.clock.advance(Duration::from_secs(1));
        desk.make(&format!("dev-{number}")).await;
    }
    desk.clock.advance(Duration::from_secs(60));
    let path = |name: &str| format!("/devices/{name}{VERSION}");
    let refused = desk.ask(Method::PUT, &path("one-more"), None, "{}").await;
    assert_eq!(
        (refused.status, refused.header("iothub-errorcode")),
        (413, "TooManyDevices")
    );
    let body = refused.json().await;
    assert!(
        body["Message"]
            .as_str()
            .unwrap()
            .contains("Max allowed device count : '500'"),
        "{body}"
    );
    // Modules are no devices.
    desk.make_module("dev-1", "mod").await;
    assert_eq!(
        desk.ask(Method::PUT, &path("dev-1"), Some("*"), "{}")
            .await
            .status,
        200
    );
    assert_eq!(
        desk.ask(Method::DELETE, &path("dev-1"), Some("*"), "")
            .await
            .status,
        204
    );
    assert_eq!(desk.status(Method::PUT, &path("one-more")).await, 200);
}
