#![allow(clippy::unwrap_used)]
use serde_json::{Value, json};

use crate::rest::tests::{Api, examples};

fn entry(id: &str) -> Value {
    json!({ "registrationId": id, "attestation": {
        "type": "symmetricKey", "symmetricKey": { "primaryKey": "", "secondaryKey": "" } } })
}

async fn bulk(api: &Api, mode: &str, entries: Value) -> Value {
    let body = json!({ "mode": mode, "enrollments": entries });
    let reply = api.send("POST", "/enrollments", None, body).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    reply.body
}

fn codes(result: &Value) -> Vec<(String, u64)> {
    let errors = result["errors"].as_array().unwrap().iter();
    errors
        .map(|error| {
            assert!(!error["errorStatus"].as_str().unwrap().is_empty());
            let id = error["registrationId"].as_str().unwrap();
            (id.to_owned(), error["errorCode"].as_u64().unwrap())
        })
        .collect()
}

#[tokio::test]
async fn the_published_example_creates() {
    let api = Api::new();
    let example = &examples()["bulk"];
    let reply = api
        .send("POST", "/enrollments/", None, example["body"].clone())
        .await;
    assert_eq!((reply.status, &reply.body), (200, &example["response"]));
    let made = api.send("GET", "/enrollments/b1", None, Value::Null).await;
    assert_eq!(made.status, 200);
}

#[tokio::test]
async fn each_entry_is_taken_or_refused_by_itself() {
    let api = Api::new();
    let three = json!([entry("a"), entry("b"), entry("c")]);
    assert_eq!(
        bulk(&api, "create", three).await,
        json!({ "isSuccessful": true, "errors": [] })
    );

    let mut unknown_hub = entry("e");
    unknown_hub["iotHubs"] = json!(["elsewhere.net"]);
    let mixed =
        json!([entry("d"), entry("A"), unknown_hub, entry("n o"), { "registrationId": "f" }]);
    let result = bulk(&api, "Create", mixed).await;
    assert_eq!(result["isSuccessful"], false);
    let expected = [
        ("A", 409_001),
        ("e", 400_004),
        ("n o", 400_004),
        ("f", 400_004),
    ];
    assert_eq!(codes(&result), expected.map(|(id, code)| (id.into(), code)));
    assert_eq!(api.office.ledger.since(0).len(), 4);
    let made = api.send("GET", "/enrollments/d", None, Value::Null).await;
    assert_eq!(made.status, 200);

    let etag = made.body["etag"].clone();
    let with = |id: &str, etag: Value| {
        let mut entry = entry(id);
        entry["etag"] = etag;
        entry
    };
    let conditional = json!([
        with("d", etag),
        with("a", json!("b2xk")),
        entry("b"),
        with("new", json!("*"))
    ]);
    let result = bulk(&api, "updateIfMatchEtag", conditional).await;
    assert_eq!(
        codes(&result),
        [("a".into(), 412_001), ("b".into(), 400_004)]
    );

    let result = bulk(
        &api,
        "update",
        json!([with("a", json!("b2xk")), entry("newer")]),
    )
    .await;
    assert_eq!(result["isSuccessful"], true);

    let gone = json!([{ "registrationId": "a" }, { "registrationId": "missing" }, entry("b")]);
    let result = bulk(&api, "delete", gone).await;
    assert_eq!(codes(&result), [("missing".into(), 404_201)]);
    for (id, status) in [
        ("a", 404),
        ("b", 404),
        ("c", 200),
        ("new", 200),
        ("newer", 200),
    ] {
        let path = format!("/enrollments/{id}");
        let found = api.send("GET", &path, None, Value::Null).await;
        assert_eq!(found.status, status, "{id}");
    }
}

#[tokio::test]
async fn groups_are_named_by_their_own_member() {
    let api = Api::new();
    let group = json!({ "enrollmentGroupId": "g:1", "attestation": {
        "type": "symmetricKey", "symmetricKey": {} } });
    let body = json!({ "mode": "create", "enrollmentGroups": [group, group] });
    let reply = api.send("POST", "/enrollmentGroups", None, body).await;
    let error = &reply.body["errors"][0];
    assert_eq!(
        (&error["enrollmentGroupId"], &error["errorCode"]),
        (&json!("g:1"), &json!(409_001))
    );
}

#[tokio::test]
async fn a_call_that_cannot_be_understood_is_refused_whole() {
    let api = Api::new();
    let many = |count: usize| {
        let entries = (0..count).map(|at| entry(&format!("m{at}")));
        entries.collect::<Vec<_>>()
    };
    for body in [
        json!({}),
        json!({ "mode": "create" }),
        json!({ "mode": "create", "enrollments": [] }),
        json!({ "mode": "create", "enrollments": entry("a") }),
        json!({ "mode": "create", "enrollments": many(11) }),
        json!({ "mode": "create", "enrollments": [entry("a"), {}] }),
        json!({ "mode": "replace", "enrollments": many(1) }),
        json!({ "enrollments": many(1) }),
        json!({ "mode": "create", "enrollmentGroups": many(1) }),
        json!([]),
    ] {
        let reply = api.send("POST", "/enrollments", None, body.clone()).await;
        assert_eq!(reply.status, 400, "{body}");
    }
    assert!(
        api.office
            .enrollments
            .individual(&"m0".parse().unwrap())
            .unwrap()
            .is_none()
    );
    let ten = json!({ "mode": "create", "enrollments": many(10) });
    let reply = api.send("POST", "/enrollments", None, ten).await;
    assert_eq!(reply.body["isSuccessful"], true);
}

#[tokio::test]
async fn of_entries_of_one_id_the_last_stays() {
    let api = Api::new();
    let named = |at: usize| {
        let mut one = entry("same");
        one["deviceId"] = json!(format!("device-{at}"));
        one
    };
    let body = json!({ "mode": "update", "enrollments": (0..10).map(named).collect::<Vec<_>>() });
    let reply = api.send("POST", "/enrollments", None, body).await;
    assert_eq!(reply.body["isSuccessful"], true, "{}", reply.body);
    let found = api
        .send("GET", "/enrollments/same", None, Value::Null)
        .await;
    assert_eq!(found.body["deviceId"], "device-9");
}
