#![allow(clippy::unwrap_used, clippy::disallowed_methods)]
use azimuth_wire::SymmetricKey;
use azimuth_wire::connection_string::ConnectionString;
use serde_json::{Value, json};

use super::*;
use crate::rest::tests::{Api, Reply};
use crate::stub_hub::StubHub;

const HOST: &str = "a-hub.azure-devices.net";
const PATH: &str = "/azimuth/linkedHubs/a-hub.azure-devices.net";

fn body(hub: &StubHub, extra: Value) -> Value {
    let link = hub.link();
    let mut body = json!({
        "connectionString": link.connection_string.reveal(), "location": "eastus",
        "dialAddress": link.dial, "httpsPort": link.https_port });
    for (name, value) in extra.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

async fn put_if_none_match(api: &Api, body: Value) -> Reply {
    let request = axum::extract::Request::builder()
        .method("PUT")
        .uri(PATH)
        .header("host", "contoso-dps.azure-devices-provisioning.net")
        .header("authorization", Api::token())
        .header("if-none-match", "*")
        .header("if-match", "*");
    let body = Body::from(body.to_string());
    Reply::read(api.raw(request.body(body).unwrap()).await).await
}

#[tokio::test]
async fn a_link_lives_from_put_to_delete_and_never_shows_its_key() {
    let api = Api::new();
    let hub = StubHub::start(&api.trust, HOST).await;
    let whole = body(&hub, json!({ "allocationWeight": 3 }));
    let put = put_if_none_match(&api, whole.clone()).await;
    assert_eq!((put.status, &put.body["warning"]), (200, &Value::Null));
    let etag = put.body["etag"].as_str().unwrap();
    let masked = format!("HostName={HOST};SharedAccessKeyName=iothubowner;SharedAccessKey=****");
    let shown = json!({
        "name": HOST, "connectionString": masked, "location": "eastus", "allocationWeight": 3,
        "applyAllocationPolicy": true, "dialAddress": whole["dialAddress"],
        "httpsPort": whole["httpsPort"], "etag": etag });
    assert_eq!(put.body, shown);
    let one = api.send("GET", PATH, None, Value::Null).await;
    assert_eq!((one.status, &one.body), (200, &shown));
    let all = api
        .send("GET", "/azimuth/LinkedHubs", None, Value::Null)
        .await;
    assert_eq!((all.status, all.body), (200, json!([shown])));
    assert_eq!(put_if_none_match(&api, whole.clone()).await.status, 409);

    let change = json!({ "allocationWeight": 7, "applyAllocationPolicy": false });
    let patched = api.send("PATCH", PATH, Some(etag), change).await;
    assert_eq!(patched.status, 200);
    assert_eq!(
        (
            &patched.body["allocationWeight"],
            &patched.body["applyAllocationPolicy"],
            &patched.body["location"]
        ),
        (&json!(7), &json!(false), &json!("eastus"))
    );
    assert_ne!(patched.body["etag"], etag);
    // What was given out goes in again: the masked string means the one there is.
    let again = api.send("PUT", PATH, Some("*"), patched.body.clone()).await;
    assert_eq!((again.status, &again.body["warning"]), (200, &Value::Null));

    assert_eq!(
        api.send("DELETE", PATH, Some(etag), Value::Null)
            .await
            .status,
        412
    );
    assert_eq!(
        api.send("DELETE", PATH, None, Value::Null).await.status,
        204
    );
    let gone = api.send("DELETE", PATH, None, Value::Null).await;
    assert_eq!((gone.status, api.last_kind()), (404, "unknown-linked-hub"));
    let none = api
        .send("GET", "/azimuth/linkedHubs", None, Value::Null)
        .await;
    assert_eq!(none.body, json!([]));
}

#[tokio::test]
async fn what_is_refused_says_why_and_shows_no_key() {
    let api = Api::new();
    let hub = StubHub::start(&api.trust, HOST).await;
    let key = hub.key.reveal().to_owned();
    let string = hub.link().connection_string.reveal();
    let other = ConnectionString::policy(HOST, "iothubowner", SymmetricKey::from_bytes(&[8; 32]));
    let good = || body(&hub, json!({}));
    for (method, path, body, status, kind, word) in [
        (
            "PUT",
            PATH,
            body(&hub, json!({ "connectionString": other.reveal() })),
            400,
            "hub-key-refused",
            "refused the key",
        ),
        (
            "PUT",
            "/azimuth/linkedHubs/b-hub.azure-devices.net",
            good(),
            400,
            "invalid-request",
            "the path names `b-hub.azure-devices.net`",
        ),
        (
            "PUT",
            PATH,
            body(&hub, json!({ "allocationWeight": 1001 })),
            400,
            "invalid-request",
            "not 1 to 1000",
        ),
        (
            "PUT",
            PATH,
            body(&hub, json!({ "weight": 2 })),
            400,
            "invalid-request",
            "unknown field `weight`",
        ),
        (
            "PUT",
            PATH,
            json!(string),
            400,
            "invalid-request",
            "belongs into the member connectionString",
        ),
        (
            "PUT",
            PATH,
            body(&hub, json!({ "allocationWeight": string })),
            400,
            "invalid-request",
            "belongs into the member connectionString",
        ),
        (
            "PUT",
            PATH,
            json!({ "location": "eastus" }),
            400,
            "invalid-request",
            "connectionString",
        ),
        (
            "PATCH",
            PATH,
            json!({}),
            404,
            "unknown-linked-hub",
            "is linked",
        ),
        (
            "GET",
            PATH,
            Value::Null,
            404,
            "unknown-linked-hub",
            "is linked",
        ),
        (
            "POST",
            PATH,
            good(),
            405,
            "method-not-allowed",
            "not allowed",
        ),
        (
            "POST",
            "/azimuth/linkedHubs",
            good(),
            405,
            "method-not-allowed",
            "not allowed",
        ),
    ] {
        let reply = api.send(method, path, None, body).await;
        let message = reply.body["message"].as_str().unwrap();
        assert_eq!(
            (reply.status, api.last_kind()),
            (status, kind),
            "{method} {path}: {message}"
        );
        assert!(message.contains(word), "{method} {path}: {message}");
        assert!(!message.contains(&key), "{message}");
        let record = &api.office.ledger.since(0).pop().unwrap().refusal;
        assert!(!format!("{record:?}").contains(&key), "{record:?}");
        assert!(api.office.hubs.live().is_empty());
    }
    let request = axum::extract::Request::builder().uri(PATH);
    let reply = Reply::read(api.raw(request.body(Body::empty()).unwrap()).await).await;
    assert_eq!((reply.status, api.last_kind()), (401, "no-credentials"));
    assert!(reply.headers.contains_key("x-ms-error-code"));
}

#[tokio::test]
async fn a_hub_that_cannot_be_reached_is_linked_with_a_warning() {
    let api = Api::new();
    let hub = StubHub::start(&api.trust, HOST).await;
    let put = api
        .send("PUT", PATH, None, body(&hub, json!({ "httpsPort": 1 })))
        .await;
    assert_eq!(put.status, 200);
    let warning = put.body["warning"].as_str().unwrap();
    assert!(
        warning.contains("cannot be reached") && warning.contains("refused"),
        "{warning}"
    );
    let one = api.send("GET", PATH, None, Value::Null).await;
    assert_eq!(one.body["warning"], Value::Null);
    let mended = json!({ "httpsPort": hub.link().https_port });
    let patched = api.send("PATCH", PATH, None, mended).await;
    assert_eq!(
        (patched.status, &patched.body["warning"]),
        (200, &Value::Null)
    );
}
