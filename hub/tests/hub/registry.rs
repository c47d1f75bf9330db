//! Device identities over HTTPS, against what Azure was seen to do.

use std::time::Duration;

use axum::http::Method;
use azimuth_storage::{Change, Expect, Key};
use serde_json::{Value, json};

use crate::desk::{Desk, KEY, VERSION, hello, vectors};

fn service() -> Value {
    vectors(include_str!("../vectors/service.json"))
}

#[tokio::test]
async fn bodies_are_read_checked_and_completed_as_azures() {
    for case in service()["identityBodies"].as_array().unwrap() {
        let desk = Desk::new();
        let path = format!("{}{VERSION}", case["path"].as_str().unwrap_or("/devices/d"));
        let mut before = Value::Null;
        let reply = if case["sequence"].is_array() {
            before = desk.make("d").await;
            desk.ask(Method::PUT, &path, Some("*"), r#"{"deviceId":"d"}"#)
                .await
        } else {
            desk.ask(Method::PUT, &path, None, &case["put"].to_string())
                .await
        };
        let name = &case["name"];
        assert_eq!(u64::from(reply.status), case["status"], "{name}");
        if reply.status != 200 {
            let code = case["errorCode"].as_str().unwrap_or("ArgumentInvalid");
            assert_eq!(reply.header("iothub-errorcode"), code, "{name}");
            let text = case["note"]
                .as_str()
                .and_then(|note| note.strip_prefix("text: "));
            let message = reply.json().await["Message"].as_str().unwrap().to_owned();
            let text = text.unwrap_or("");
            assert!(
                message.starts_with(&format!("ErrorCode:{code};{text}")),
                "{name} {message}"
            );
            continue;
        }
        let device = reply.json().await;
        for (member, expected) in case["expect"].as_object().into_iter().flatten() {
            check(&device, member, expected, &case["put"], &before);
        }
    }
}

fn check(device: &Value, member: &str, expected: &Value, put: &Value, before: &Value) {
    let authentication = &device["authentication"];
    match member {
        "keys" => {
            let keys = &authentication["symmetricKey"];
            match expected.as_str().unwrap().split([',', ' ']).next().unwrap() {
                "echoed" => assert_eq!(*keys, put["authentication"]["symmetricKey"]),
                "new" => assert_ne!(*keys, before["authentication"]["symmetricKey"]),
                "generated" => {
                    let (one, two) = (
                        keys["primaryKey"].as_str().unwrap(),
                        keys["secondaryKey"].as_str().unwrap(),
                    );
                    assert_eq!((one.len(), two.len()), (44, 44));
                    assert_ne!(one, two);
                }
                other => panic!("what is {other}?"),
            }
        }
        "symmetricKey" | "x509Thumbprint" => assert_eq!(authentication[member], *expected),
        path => {
            let found = path.split('.').fold(device, |value, member| &value[member]);
            assert_eq!(found, expected, "{path}");
        }
    }
}

#[tokio::test]
async fn ids_are_checked_and_paths_read_in_every_spelling() {
    let desk = Desk::new();
    for case in service()["identifiers"].as_array().unwrap() {
        let id = case["id"].as_str().unwrap();
        if id.is_empty() {
            continue;
        }
        let path = format!("/devices/{}{VERSION}", azimuth_wire::percent::encode(id));
        let reply = desk
            .ask(
                Method::PUT,
                &path,
                None,
                &json!({ "deviceId": id }).to_string(),
            )
            .await;
        let expected = if case["valid"] == true { 200 } else { 400 };
        assert_eq!(reply.status, expected, "{id}");
        if expected == 200 {
            assert_eq!(reply.json().await["deviceId"], id);
        }
    }
    desk.make("a+b").await;
    for path in [
        "/devices/a+b",
        "/devices/a%2Bb/",
        "/Devices/a+b",
        "/devices%2Fa+b",
        "//devices//a+b",
    ] {
        let reply = desk
            .ask(Method::GET, &format!("{path}{VERSION}"), None, "")
            .await;
        assert_eq!(reply.status, 200, "{path}");
    }
    for (path, status) in [("/devices/A%2Bb", 404), ("/devices/dev%201%2F%23%25", 400)] {
        let reply = desk
            .ask(Method::GET, &format!("{path}{VERSION}"), None, "")
            .await;
        assert_eq!(reply.status, status, "{path}");
    }
}

#[tokio::test]
async fn error_bodies_and_headers_are_azures() {
    let desk = Desk::new();
    let first = desk.make("dev-01").await;
    let path = format!("/devices/dev-01{VERSION}");
    let again = desk.ask(Method::PUT, &path, None, "{}").await;
    let expected = &service()["errorBodies"][0];
    assert_eq!(again.status, 409);
    for (name, value) in expected["headers"].as_object().unwrap() {
        assert_eq!(again.header(&name.to_lowercase()), value.as_str().unwrap());
    }
    assert_eq!(again.header("server"), "Microsoft-HTTPAPI/2.0");
    assert_eq!(again.header("vary"), "Origin");
    let id = again.header("x-ms-request-id").replace('-', "");
    assert_eq!(id.len(), 32);
    let body = again.json().await;
    assert_eq!(body["Message"], expected["body"]["Message"]);
    assert_eq!(
        body["ExceptionMessage"],
        format!("Tracking ID:{id}-G:0-TimeStamp:11/14/2023 22:13:20")
    );

    desk.with_etag("device", "dev-01", 343_060_357).await;
    let stale = azimuth_wire::etag::of_counter(343_060_356);
    let stale = desk
        .ask(Method::PUT, &path, Some(&format!("\"{stale}\"")), "{}")
        .await;
    assert_eq!(
        stale.json().await["Message"],
        service()["errorBodies"][1]["bodyMessage"]
    );
    assert_ne!(first["etag"], Value::Null);
}

#[tokio::test]
async fn an_update_counts_the_etag_up_and_keeps_what_only_the_hub_writes() {
    let desk = Desk::new();
    let made = desk.make("d").await;
    let path = format!("/devices/d{VERSION}");
    desk.clock.advance(Duration::from_secs(1));
    let disabled = r#"{"deviceId":"d","status":"disabled","generationId":"1","etag":"x"}"#;
    let reply = desk.ask(Method::PUT, &path, Some("*"), disabled).await;
    let etag = reply.header("etag").to_owned();
    let first = reply.json().await;
    assert_eq!(first["generationId"], made["generationId"]);
    let counter = |device: &Value| azimuth_wire::etag::counter_of(device["etag"].as_str().unwrap());
    assert_eq!(counter(&first), counter(&made).map(|counter| counter + 1));
    assert_eq!(etag, format!("\"{}\"", first["etag"].as_str().unwrap()));
    assert_eq!(made["statusUpdatedTime"], "0001-01-01T00:00:00Z");
    assert_eq!(first["statusUpdatedTime"], "2023-11-14T22:13:21Z");

    desk.clock.advance(Duration::from_secs(1));
    let second = desk
        .ask(Method::PUT, &path, Some(&etag), disabled)
        .await
        .json()
        .await;
    assert_eq!(second["statusUpdatedTime"], first["statusUpdatedTime"]);
    assert_eq!(second, desk.read("d").await);

    let deleted = desk.ask(Method::DELETE, &path, Some("*"), "").await;
    assert_eq!((deleted.status, deleted.text().await.as_str()), (204, ""));
    desk.clock.advance(Duration::from_secs(1));
    assert_ne!(desk.make("d").await["generationId"], made["generationId"]);
}

#[tokio::test]
async fn a_list_is_ordered_and_ends_at_top() {
    let desk = Desk::new();
    for id in ["b", "a", "C"] {
        desk.make(id).await;
    }
    for (query, ids) in [
        ("&top=2", "C a"),
        ("&top=0", "C a b"),
        ("&top=1001", "C a b"),
        ("&top=x", "C a b"),
        ("", "C a b"),
    ] {
        for path in ["/devices", "/devices/"] {
            let reply = desk
                .ask(Method::GET, &format!("{path}{VERSION}{query}"), None, "")
                .await;
            let list = reply.json().await;
            let found: Vec<_> = list
                .as_array()
                .unwrap()
                .iter()
                .map(|d| d["deviceId"].as_str().unwrap())
                .collect();
            assert_eq!(found.join(" "), ids, "{query}");
            assert_eq!(list[0]["authentication"]["symmetricKey"]["primaryKey"], KEY);
        }
    }
}

#[tokio::test]
async fn statistics_are_exact_also_after_a_restart() {
    let desk = Desk::new();
    for id in ["a", "b", "c"] {
        desk.make(id).await;
    }
    let put = |id: &str| format!("/devices/{id}{VERSION}");
    desk.ask(
        Method::PUT,
        &put("a"),
        Some("*"),
        r#"{"status":"disabled"}"#,
    )
    .await;
    desk.ask(Method::DELETE, &put("b"), Some("*"), "").await;
    let admission = desk.connect(hello("c")).await.unwrap();
    use azimuth_broker::Backend;
    desk.door
        .arrived(&admission.principal, &azimuth_broker::Line::unconnected());
    let service = format!("/statistics/service{VERSION}");
    let connected = desk.ask(Method::GET, &service, None, "").await.json().await;
    assert_eq!(connected, json!({"connectedDeviceCount": 1}));
    let again = Desk::over(desk.store.clone());
    for desk in [&desk, &again] {
        let path = format!("/statistics/devices{VERSION}");
        let counted = desk.ask(Method::GET, &path, None, "").await.json().await;
        assert_eq!(
            counted,
            json!({"totalDeviceCount": 2, "enabledDeviceCount": 1, "disabledDeviceCount": 1})
        );
    }
}

#[tokio::test]
async fn what_is_not_simulated_says_so_and_versions_are_asked_for() {
    let desk = Desk::new();
    let rows = [
        (
            Method::POST,
            "/devices/query",
            VERSION,
            400,
            "IotHubFormatError",
        ),
        (
            Method::POST,
            "/twins%2Fd%2Fmethods",
            VERSION,
            404,
            "FeatureNotSupported",
        ),
        (
            Method::GET,
            "/devices/d/modules/$edgeHub/devicesAndModulesInDeviceScope",
            VERSION,
            404,
            "FeatureNotSupported",
        ),
        (Method::GET, "/nothing", VERSION, 404, "GenericNotFound"),
        (
            Method::PATCH,
            "/devices/d",
            VERSION,
            405,
            "GenericMethodNotAllowed",
        ),
        (Method::GET, "/devices", "", 400, "InvalidProtocolVersion"),
        (
            Method::GET,
            "/devices",
            "?api-version=2015-01-01",
            400,
            "InvalidProtocolVersion",
        ),
        (
            Method::GET,
            "/devices",
            "?api-version=tomorrow",
            400,
            "InvalidProtocolVersion",
        ),
        (
            Method::GET,
            "/devices",
            "?top=1&api-version=2031-01-01-preview",
            200,
            "",
        ),
        (Method::PUT, "/devices/d", VERSION, 400, "IotHubFormatError"),
    ];
    for (method, path, query, status, code) in rows {
        let reply = desk
            .ask(method.clone(), &format!("{path}{query}"), None, "{")
            .await;
        assert_eq!(
            (reply.status, reply.header("iothub-errorcode")),
            (status, code),
            "{method} {path}{query}"
        );
    }
    let put = |body| desk.ask(Method::PUT, "/devices/d?api-version=2021-04-12", None, body);
    let scoped = put(r#"{"deviceScope":"ms-azure-iot-edge://e-1"}"#).await;
    assert_eq!(scoped.header("iothub-errorcode"), "InvalidDeviceScope");
    // A device brings no policy's token and is told all the same.
    let device = desk
        .request(Method::POST, "/devices/d/messages/events", &[], "")
        .await;
    assert_eq!(device.header("iothub-errorcode"), "FeatureNotSupported");
}

#[tokio::test]
async fn what_is_wrong_with_the_store_is_no_clients_fault() {
    let desk = Desk::new();
    desk.make("d").await;
    let path = format!("/devices/d{VERSION}");
    desk.store.close();
    let closed = desk.ask(Method::PUT, &path, Some("*"), "{}").await;
    assert_eq!(
        (closed.status, closed.header("iothub-errorcode")),
        (503, "ServiceUnavailable")
    );

    let desk = Desk::new();
    desk.make("d").await;
    let damaged = Change::put(Key::new("device", "d"), Expect::Present, b"{".to_vec());
    desk.store.commit(vec![damaged]).await.unwrap();
    for (method, path) in [
        (Method::GET, "/devices/d"),
        (Method::PUT, "/devices/d"),
        (Method::GET, "/devices"),
        (Method::GET, "/twins/d"),
        (Method::POST, "/devices/query"),
    ] {
        let body = r#"{"query":"SELECT * FROM devices"}"#;
        let asked = format!("{path}{VERSION}");
        let reply = desk.ask(method, &asked, None, body).await;
        assert_eq!(
            (reply.status, reply.header("iothub-errorcode")),
            (500, "ServerError"),
            "{path}"
        );
    }
    let kinds = desk.ledger.since(0).into_iter();
    assert!(kinds.map(|record| record.refusal.kind).eq(["store"; 5]));
}

#[tokio::test]
async fn of_many_writers_one_wins() {
    let desk = std::sync::Arc::new(Desk::new());
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let desk = desk.clone();
        tasks.spawn(async move {
            let path = format!("/devices/d{VERSION}");
            desk.ask(Method::PUT, &path, None, "{}").await.status
        });
    }
    let mut answers = tasks.join_all().await;
    answers.sort_unstable();
    assert_eq!(answers[0], 200);
    assert!(answers[1..].iter().all(|status| *status == 409));
    assert_eq!(desk.registry.statistics().total_device_count, 1);
}
