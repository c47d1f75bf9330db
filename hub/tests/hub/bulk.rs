//! Many identities in one request.

use axum::http::Method;
use serde_json::{Value, json};

use crate::desk::{Desk, KEY, OTHER_KEY, Reply, VERSION, hello, vectors};

async fn post(desk: &Desk, body: &Value) -> Reply {
    let path = format!("/devices{VERSION}");
    desk.ask(Method::POST, &path, None, &body.to_string()).await
}

async fn twin(desk: &Desk, device: &str) -> Value {
    let path = format!("/twins/{device}{VERSION}");
    desk.ask(Method::GET, &path, None, "").await.json().await
}

async fn good(desk: &Desk, body: Value) {
    let reply = post(desk, &body).await;
    assert_eq!(reply.status, 200, "{body}");
    let result = reply.json().await;
    assert_eq!(
        result,
        json!({ "isSuccessful": true, "errors": [], "warnings": [] })
    );
}

#[tokio::test]
async fn bulk_requests_do_what_azures_do() {
    let vectors = vectors(include_str!("../vectors/twins.json"));
    for case in vectors["bulk"]["cases"].as_array().unwrap() {
        let desk = Desk::new();
        for device in case["existing"].as_array().unwrap() {
            desk.make(device.as_str().unwrap()).await;
        }
        let many = case["bodyCount"].as_u64().map(|count| {
            let ids = (0..count).map(|number| json!({ "id": format!("d{number}") }));
            Value::Array(ids.collect())
        });
        let reply = post(&desk, many.as_ref().unwrap_or(&case["body"])).await;
        let name = &case["name"];
        assert_eq!(u64::from(reply.status), case["status"], "{name}");
        if let Some(code) = case["errorCode"].as_str() {
            assert_eq!(reply.header("iothub-errorcode"), code, "{name}");
        } else {
            let mut result = reply.json().await;
            for error in result["errors"].as_array_mut().unwrap() {
                assert!(error["errorStatus"].as_str().unwrap().len() > 5);
                error["errorStatus"] = "<text>".into();
            }
            assert_eq!(result, case["result"], "{name}");
        }
        let path = format!("/devices{VERSION}");
        let left = desk.ask(Method::GET, &path, None, "").await.json().await;
        let left = left.as_array().unwrap().iter();
        let left: Vec<_> = left.map(|device| device["deviceId"].clone()).collect();
        assert_eq!(Value::Array(left), case["after"], "{name}");
        let refused = usize::from(case["status"] == 400);
        assert_eq!(desk.ledger.since(0).len(), refused, "{name}");
    }
}

#[tokio::test]
async fn an_identity_is_made_with_its_twin_and_one_that_cannot_be_is_not_made() {
    let desk = Desk::new();
    let keys = json!({ "symmetricKey": { "primaryKey": KEY, "secondaryKey": OTHER_KEY } });
    good(&desk, json!([{ "ID": "d", "importMode": "CREATE", "authentication": keys,
        "tags": { "floor": 3 }, "properties": { "desired": { "a": 1 }, "reported": { "r": 1, "$version": 5 } } }]))
    .await;
    let made = twin(&desk, "d").await;
    assert_eq!(
        (&made["tags"]["floor"], &made["version"]),
        (&json!(3), &json!(2))
    );
    assert_eq!(made["properties"]["desired"]["$version"], 1);
    assert_eq!(made["properties"]["reported"]["$version"], 5);
    assert!(desk.connect(hello("d")).await.is_ok());

    let reply = post(
        &desk,
        &json!([{ "id": "e", "tags": { "a b": 1 } }, { "id": "f", "tags": 1 },
        { "id": "g h" }, { "id": "i", "moduleId": "m" }, 7, { "id": "j", "importMode": "guess" },
        { "id": "k" }]),
    )
    .await;
    assert_eq!(reply.status, 400);
    assert_eq!(
        reply.header("iothub-errorcode"),
        "BulkRegistryOperationFailure"
    );
    let result = reply.json().await;
    let errors = result["errors"].as_array().unwrap();
    let told: Vec<_> = errors
        .iter()
        .map(|error| {
            (
                error["deviceId"].as_str().unwrap(),
                error["errorCode"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("e", 400_004),
            ("f", 400_004),
            ("g h", 400_004),
            ("i", 404_001),
            ("", 400_004),
            ("j", 400_004)
        ]
    );
    assert_eq!(errors[3]["moduleId"], "m");
    assert_eq!(desk.registry.statistics().total_device_count, 2);
    let record = desk.ledger.since(0).pop().unwrap().refusal;
    assert_eq!(record.kind, "bulk");
    assert!(
        record
            .sentence
            .starts_with("6 of the devices were not written: `e`: `tags.a b`: a key may not"),
        "{}",
        record.sentence
    );
}

#[tokio::test]
async fn an_update_replaces_the_sections_it_names_and_leaves_the_others() {
    let desk = Desk::new();
    good(
        &desk,
        json!([{ "id": "d", "tags": { "a": 1 },
        "properties": { "desired": { "x": 1 }, "reported": { "r": 1 } } }]),
    )
    .await;
    let before = twin(&desk, "d").await;
    good(&desk, json!([{ "id": "d", "status": "disabled" }])).await;
    let after = twin(&desk, "d").await;
    assert_eq!(after["status"], "disabled");
    for member in ["tags", "properties", "version", "etag"] {
        assert_eq!(after[member], before[member]);
    }
    good(
        &desk,
        json!([{ "id": "d", "importMode": "update",
        "properties": { "desired": { "y": 2, "$version": 40 } } }]),
    )
    .await;
    let after = twin(&desk, "d").await;
    assert_eq!(after["status"], "enabled");
    assert_eq!(
        (&after["tags"], &after["version"]),
        (&json!({ "a": 1 }), &json!(3))
    );
    let desired = &after["properties"]["desired"];
    assert_eq!(
        (&desired["x"], &desired["y"], &desired["$version"]),
        (&Value::Null, &json!(2), &json!(2))
    );
    assert_eq!(
        after["properties"]["reported"],
        before["properties"]["reported"]
    );
}

#[tokio::test]
async fn twins_are_merged_on_condition_and_identities_stay_as_they_are() {
    let desk = Desk::new();
    desk.make("d").await;
    let item = |mode: &str, etag: &str, tag: &str| {
        json!([{ "id": "d", "importMode": mode, "twinETag": etag, "tags": { tag: 1 },
            "properties": { "reported": { "no": 1 } }, "status": "disabled" }])
    };
    good(&desk, item("updateTwin", "", "a")).await;
    good(&desk, item("updateTwinIfMatchETag", "AAAAAAAAAAI=", "b")).await;
    let stale = post(&desk, &item("updateTwinIfMatchETag", "AAAAAAAAAAI=", "c")).await;
    assert_eq!(stale.json().await["errors"][0]["errorCode"], 412_001);
    let twin = twin(&desk, "d").await;
    assert_eq!(twin["tags"], json!({ "a": 1, "b": 1 }));
    assert_eq!(
        (&twin["status"], &twin["properties"]["reported"]["no"]),
        (&json!("enabled"), &Value::Null)
    );
    let missing = post(
        &desk,
        &json!([{ "id": "e", "importMode": "updateTwin", "tags": {} }]),
    )
    .await;
    assert_eq!(missing.json().await["errors"][0]["errorCode"], 404_001);
}

#[tokio::test]
async fn conditions_on_identities_are_those_of_the_mode() {
    let desk = Desk::new();
    let etag = desk.make("d").await["etag"].clone();
    for (mode, tag, code) in [
        ("updateIfMatchETag", json!("MQ=="), Some(412_001)),
        ("createOrUpdateIfMatchETag", json!("MQ=="), Some(412_001)),
        ("deleteIfMatchETag", json!("MQ=="), Some(412_001)),
        ("create", Value::Null, Some(409_001)),
        ("createOrUpdateIfMatchETag", etag, None),
        ("updateIfMatchETag", json!("*"), None),
        ("delete", Value::Null, None),
        ("deleteIfMatchETag", Value::Null, Some(404_001)),
        ("delete", Value::Null, Some(404_001)),
        ("updateIfMatchETag", json!("MQ=="), Some(404_001)),
        ("createOrUpdateIfMatchETag", json!("MQ=="), None),
    ] {
        let reply = post(
            &desk,
            &json!([{ "id": "d", "importMode": mode, "eTag": tag }]),
        )
        .await;
        let result = reply.json().await;
        let told = result["errors"][0]["errorCode"].as_u64();
        assert_eq!(told, code, "{mode} {tag}");
    }
}

#[tokio::test]
async fn a_hundred_are_written_and_whoever_is_disabled_or_deleted_leaves_the_line() {
    let desk = Desk::new();
    let ids = (0..100).map(|number| json!({ "id": format!("d{number}"), "tags": { "n": number } }));
    good(&desk, Value::Array(ids.collect())).await;
    assert_eq!(desk.registry.statistics().total_device_count, 100);
    assert_eq!(twin(&desk, "d99").await["tags"]["n"], 99);
}
