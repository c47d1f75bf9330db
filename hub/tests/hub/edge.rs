//! Edge devices: their scopes, the devices behind them, and the two modules they are made with.

use axum::http::Method;
use azimuth_storage::{Change, Expect, Key};
use serde_json::{Value, json};

use crate::desk::{Desk, VERSION, hello};

async fn put(desk: &Desk, device: &str, if_match: Option<&str>, body: Value) -> (u16, Value) {
    let path = format!("/devices/{device}{VERSION}");
    let reply = desk
        .ask(Method::PUT, &path, if_match, &body.to_string())
        .await;
    (reply.status, reply.json().await)
}

async fn made(desk: &Desk, device: &str, body: Value) -> Value {
    let (status, made) = put(desk, device, None, body).await;
    assert_eq!(status, 200, "{made}");
    made
}

async fn changed(desk: &Desk, device: &str, body: Value) -> Value {
    let (status, changed) = put(desk, device, Some("*"), body).await;
    assert_eq!(status, 200, "{changed}");
    changed
}

async fn modules(desk: &Desk, device: &str) -> Vec<Value> {
    let listed = desk.get(&format!("/devices/{device}/modules")).await;
    let listed = listed.json().await;
    listed.as_array().unwrap().clone()
}

fn edge() -> Value {
    json!({ "capabilities": { "iotEdge": true } })
}

#[tokio::test]
async fn an_edge_device_gets_a_scope_and_two_modules() {
    let desk = Desk::new();
    let mut body = edge();
    body["deviceScope"] = json!("ms-azure-iot-edge://other-1");
    let e = made(&desk, "e", body).await;
    let scope = e["deviceScope"].as_str().unwrap();
    let ticks = scope.strip_prefix("ms-azure-iot-edge://e-").unwrap();
    assert!(ticks.bytes().all(|byte| byte.is_ascii_digit()), "{scope}");
    assert_eq!(e["parentScopes"], Value::Null);
    let twin = desk.get("/twins/e").await.json().await;
    assert_eq!(twin["deviceScope"], e["deviceScope"]);
    assert_eq!(twin["capabilities"]["iotEdge"], true);

    let system = modules(&desk, "e").await;
    let ids: Vec<_> = system.iter().map(|module| &module["moduleId"]).collect();
    assert_eq!(ids, ["$edgeAgent", "$edgeHub"]);
    for module in &system {
        assert_eq!(module["managedBy"], "iotEdge");
        assert_eq!(module["authentication"]["type"], "none");
    }
    assert_eq!(desk.get("/devices/e/modules/%24edgeHub").await.status, 200);
    let refusal = desk.connect(hello("e/$edgeHub")).await.err().unwrap();
    assert!(refusal.sentence.contains("neither keys nor a thumbprint"));
    // Its twin is a back end's to write, the identity is nobody's.
    let twin = format!("/twins/e/modules/$edgeHub{VERSION}");
    assert_eq!(desk.ask(Method::PATCH, &twin, None, "{}").await.status, 200);
    let path = format!("/devices/e/modules/$edgeAgent{VERSION}");
    for method in [Method::PUT, Method::DELETE] {
        let reply = desk.ask(method, &path, Some("*"), "{}").await;
        let code = reply.header("iothub-errorcode");
        assert_eq!(
            (reply.status, code),
            (401, "SystemModuleModifyUnauthorizedAccess")
        );
    }
    let gone = desk
        .ask(
            Method::DELETE,
            &format!("/devices/e{VERSION}"),
            Some("*"),
            "",
        )
        .await;
    assert_eq!(gone.status, 204);
    assert_eq!(desk.get("/twins/e/modules/$edgeHub").await.status, 404);
}

#[tokio::test]
async fn a_scope_is_echoed_or_the_write_is_refused() {
    let desk = Desk::new();
    let e = made(&desk, "e", edge()).await;
    for scope in [Value::Null, json!(""), json!("ms-azure-iot-edge://e-1")] {
        let mut body = edge();
        body["deviceScope"] = scope;
        let (status, told) = put(&desk, "e", Some("*"), body).await;
        assert_eq!(status, 400);
        assert_eq!(
            told["Message"],
            "ErrorCode:ArgumentInvalid;Device scope is immutable"
        );
    }
    let mut body = edge();
    body["deviceScope"] = e["deviceScope"].clone();
    let kept = changed(&desk, "e", body).await;
    assert_eq!(kept["deviceScope"], e["deviceScope"]);
}

#[tokio::test]
async fn a_device_is_put_behind_an_edge_device_and_taken_away() {
    let desk = Desk::new();
    let scope = made(&desk, "e", edge()).await["deviceScope"].clone();
    let leaf = made(&desk, "leaf", json!({ "deviceScope": scope })).await;
    assert_eq!(leaf["deviceScope"], scope);
    assert_eq!(leaf["parentScopes"], json!([scope]));
    let twin = desk.get("/twins/leaf").await.json().await;
    assert_eq!(twin["parentScopes"], json!([scope]));
    // `parentScopes` alone attach nothing.
    let alone = changed(&desk, "leaf", json!({ "parentScopes": [scope] })).await;
    assert_eq!(
        (&alone["deviceScope"], &alone["parentScopes"]),
        (&Value::Null, &Value::Null)
    );
    for wrong in [
        "ms-azure-iot-edge://e-1",
        "ms-azure-iot-edge://no-2",
        "e",
        "ms-azure-iot-edge://leaf-1",
    ] {
        let (status, told) = put(&desk, "leaf", Some("*"), json!({ "deviceScope": wrong })).await;
        let message = told["Message"].as_str().unwrap();
        assert_eq!(status, 400);
        assert!(
            message.starts_with("ErrorCode:InvalidDeviceScope;"),
            "{message}"
        );
    }
    // What stands may be echoed, also where the parent is no more.
    changed(&desk, "leaf", json!({ "deviceScope": scope })).await;
    desk.ask(
        Method::DELETE,
        &format!("/devices/e{VERSION}"),
        Some("*"),
        "",
    )
    .await;
    let orphan = changed(&desk, "leaf", json!({ "deviceScope": scope })).await;
    assert_eq!(orphan["deviceScope"], scope);
}

#[tokio::test]
async fn an_edge_device_has_an_edge_device_as_parent() {
    let desk = Desk::new();
    let top = made(&desk, "top", edge()).await["deviceScope"].clone();
    let mut body = edge();
    body["parentScopes"] = json!([top]);
    let low = made(&desk, "low", body.clone()).await;
    assert_eq!(low["parentScopes"], json!([top]));
    assert_ne!(low["deviceScope"], top);
    body["deviceScope"] = low["deviceScope"].clone();
    body["parentScopes"] = json!([]);
    let detached = changed(&desk, "low", body.clone()).await;
    assert_eq!(detached["parentScopes"], Value::Null);
    for wrong in [json!([low["deviceScope"]]), json!(["x"]), json!([top, top])] {
        body["parentScopes"] = wrong;
        let (status, told) = put(&desk, "low", Some("*"), body.clone()).await;
        assert_eq!(status, 400, "{told}");
    }
}

#[tokio::test]
async fn the_edge_capability_comes_and_goes_with_scope_and_modules() {
    let desk = Desk::new();
    let parent = made(&desk, "parent", edge()).await["deviceScope"].clone();
    made(&desk, "d", json!({ "deviceScope": parent })).await;
    desk.make_module("d", "mine").await;
    let mut body = edge();
    body["deviceScope"] = parent.clone();
    assert_eq!(put(&desk, "d", Some("*"), body.clone()).await.0, 400);
    body["deviceScope"] = json!("");
    body["parentScopes"] = json!([parent]);
    let edge = changed(&desk, "d", body).await;
    assert_ne!(edge["deviceScope"], parent);
    assert_eq!(edge["parentScopes"], json!([parent]));
    assert_eq!(modules(&desk, "d").await.len(), 3);

    let leaf = changed(&desk, "d", json!({ "deviceScope": edge["deviceScope"] })).await;
    assert_eq!(
        (&leaf["deviceScope"], &leaf["parentScopes"]),
        (&Value::Null, &Value::Null)
    );
    let left = modules(&desk, "d").await;
    assert_eq!((left.len(), &left[0]["moduleId"]), (1, &json!("mine")));
    assert_eq!(desk.get("/twins/d/modules/$edgeAgent").await.status, 404);
}

#[tokio::test]
async fn a_module_that_an_edge_device_finds_there_keeps_nobody_trying() {
    let desk = Desk::new();
    desk.make("d").await;
    made(&desk, "e", edge()).await;
    let left = Key::new("module", "e/$edgeAgent");
    let left = desk.store.get(&left).unwrap().unwrap();
    let stray = Change::put(
        Key::new("module", "d/$edgeAgent"),
        Expect::Absent,
        left.body,
    );
    desk.store.commit(vec![stray]).await.unwrap();
    changed(&desk, "d", edge()).await;
    let found = modules(&desk, "d").await;
    let ids: Vec<_> = found.iter().map(|module| &module["moduleId"]).collect();
    assert_eq!(ids, ["$edgeAgent", "$edgeHub"]);
    assert_eq!(found[0]["deviceId"], "d");
}
