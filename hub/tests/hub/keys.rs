//! New keys for many identities in one request.

use axum::http::Method;
use serde_json::{Value, json};

use crate::desk::{Desk, KEY, OTHER_KEY, Reply, VERSION, hello};

async fn regenerate(desk: &Desk, body: Value) -> Reply {
    let path = format!("/devices/keys/regenerate{VERSION}");
    desk.ask(Method::POST, &path, None, &body.to_string()).await
}

async fn keys(desk: &Desk, path: &str) -> Value {
    let read = desk.get(path).await.json().await;
    read["authentication"]["symmetricKey"].clone()
}

#[tokio::test]
async fn one_key_or_both_are_made_anew() {
    let desk = Desk::new();
    let before = desk.make("d").await;
    desk.make_module("d", "m").await;
    for (which, item, path, kept) in [
        (
            "primaryKey",
            json!({ "id": "d" }),
            "/devices/d",
            Some("secondaryKey"),
        ),
        (
            "SecondaryKey",
            json!({ "id": "d", "moduleId": "m" }),
            "/devices/d/modules/m",
            Some("primaryKey"),
        ),
        ("both", json!({ "id": "d" }), "/devices/d", None),
    ] {
        let had = keys(&desk, path).await;
        let reply = regenerate(&desk, json!({ "policyKey": which, "devices": [item] })).await;
        assert_eq!(reply.status, 200, "{which}");
        let result = reply.json().await;
        assert_eq!(result["errors"], json!([]));
        let rotated = &result["rotatedKeys"][0];
        assert_eq!(
            (&rotated["id"], &rotated["moduleId"]),
            (&item["id"], &item["moduleId"])
        );
        let has = keys(&desk, path).await;
        for key in ["primaryKey", "secondaryKey"] {
            assert_eq!(rotated[key], has[key]);
            assert_eq!(has[key] == had[key], kept == Some(key), "{which} {key}");
        }
    }
    assert_ne!(desk.read("d").await["etag"], before["etag"]);
    let refusal = desk.connect(hello("d")).await.err().unwrap();
    assert_eq!(refusal.kind, "wrong-key");
}

#[tokio::test]
async fn who_gets_no_new_keys_is_named_and_the_others_get_theirs() {
    let desk = Desk::new();
    desk.make("d").await;
    let path = |id: &str| format!("/devices/{id}{VERSION}");
    let certificates = r#"{"authentication":{"type":"certificateAuthority"}}"#;
    desk.ask(Method::PUT, &path("x"), None, certificates).await;
    let edge = r#"{"capabilities":{"iotEdge":true}}"#;
    desk.ask(Method::PUT, &path("e"), None, edge).await;
    let wrong = json!([{ "id": "x" }, { "id": "no" }, { "id": "d", "moduleId": "no" }, { "id": "a b" }, {}, 7,
        { "id": "e", "moduleId": "$edgeHub" }]);
    let none = regenerate(&desk, json!({ "policyKey": "both", "devices": wrong })).await;
    assert_eq!(none.status, 400);
    let code = none.header("iothub-errorcode");
    assert_eq!(code, "BulkRegenerateDeviceKeyOperationFailure");
    let result = none.json().await;
    assert_eq!(
        (&result["rotatedKeys"], &result["policyKey"]),
        (&json!([]), &json!("both"))
    );
    let errors = result["errors"].as_array().unwrap();
    let codes: Vec<_> = errors
        .iter()
        .map(|error| error["errorCode"].as_u64().unwrap())
        .collect();
    // Those that cannot be read come in their place.
    assert_eq!(
        codes,
        [
            400_004, 404_001, 404_010, 400_004, 400_004, 400_004, 401_100
        ]
    );

    let some = json!({ "policyKey": "both", "devices": [{ "id": "no" }, { "id": "d" }] });
    let some = regenerate(&desk, some).await;
    assert_eq!(some.status, 207);
    let result = some.json().await;
    assert_eq!(result["rotatedKeys"][0]["id"], "d");
    assert_eq!(result["errors"][0]["id"], "no");
    let records = desk.ledger.since(0);
    assert_eq!(records.len(), 2);
    let shown = format!("{records:?}");
    let key = result["rotatedKeys"][0]["primaryKey"].as_str().unwrap();
    assert!(!shown.contains(key) && !shown.contains(KEY) && !shown.contains(OTHER_KEY));
}

#[tokio::test]
async fn a_request_that_asks_for_nothing_sensible_is_refused_whole() {
    let desk = Desk::new();
    desk.make("d").await;
    let many: Vec<_> = (0..101)
        .map(|number| json!({ "id": format!("d{number}") }))
        .collect();
    for (body, code) in [
        (json!({ "devices": [{ "id": "d" }] }), "InvalidPolicyKey"),
        (
            json!({ "policyKey": "all", "devices": [{ "id": "d" }] }),
            "InvalidPolicyKey",
        ),
        (json!({ "policyKey": "both" }), "ArgumentInvalid"),
        (
            json!({ "policyKey": "both", "devices": [] }),
            "ArgumentInvalid",
        ),
        (
            json!({ "policyKey": "both", "devices": many }),
            "ArgumentInvalid",
        ),
        (
            json!({ "policyKey": "both", "devices": [{ "id": "d" }, { "id": "d" }] }),
            "DeviceDefinedMultipleTimes",
        ),
        (json!("{"), "ArgumentInvalid"),
    ] {
        let reply = regenerate(&desk, body.clone()).await;
        assert_eq!(
            (reply.status, reply.header("iothub-errorcode")),
            (400, code),
            "{body}"
        );
    }
    assert_eq!(keys(&desk, "/devices/d").await["primaryKey"], KEY);
}
