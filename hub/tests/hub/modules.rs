//! Modules: identities below a device, with twins and connections of their own.

use axum::http::Method;
use azimuth_broker::{Answer, Backend, Line};
use azimuth_hub::event::Event;
use azimuth_wire::Identity as Name;
use azimuth_wire::etag::IfMatch;
use azimuth_wire::registry::IdentityBody;
use serde_json::{Value, json};

use crate::desk::{Desk, KEY, OTHER_KEY, VERSION, hello, publish, vectors};

async fn put(desk: &Desk, path: &str, if_match: Option<&str>, body: Value) -> (u16, Value) {
    let path = format!("{path}{VERSION}");
    let reply = desk
        .ask(Method::PUT, &path, if_match, &body.to_string())
        .await;
    (reply.status, reply.json().await)
}

fn named(name: &str) -> Name {
    let (device, module) = name.split_once('/').unwrap_or((name, ""));
    Name {
        device: device.parse().unwrap(),
        module: module.parse().ok(),
    }
}

/// What a refused request is told, and why by the ledger's last record.
async fn refused(desk: &Desk, method: Method, path: &str, body: &str) -> (u16, String, String) {
    let path = format!("{path}{VERSION}");
    let reply = desk.ask(method, &path, None, body).await;
    let code = reply.header("iothub-errorcode").to_owned();
    let record = desk.ledger.since(0).pop();
    let sentence = record.map(|record| record.refusal.sentence.clone());
    (reply.status, code, sentence.unwrap_or_default())
}

#[tokio::test]
async fn a_module_is_made_read_changed_listed_and_removed() {
    let desk = Desk::new();
    desk.make("d").await;
    let path = "/devices/d/modules/m";
    let (status, made) = put(
        &desk,
        path,
        None,
        json!({ "moduleId": "m", "managedBy": "me" }),
    )
    .await;
    assert_eq!(status, 200);
    let keys = &made["authentication"]["symmetricKey"];
    assert_eq!(keys["primaryKey"].as_str().unwrap().len(), 44);
    let members: Vec<_> = made.as_object().unwrap().keys().cloned().collect();
    for member in ["status", "statusReason", "capabilities", "deviceScope"] {
        assert!(!members.contains(&member.to_owned()), "{member}");
    }
    assert_eq!(
        (&made["deviceId"], &made["moduleId"], &made["managedBy"]),
        (&json!("d"), &json!("m"), &json!("me"))
    );
    let got = desk.get(path).await;
    assert_eq!(got.header("etag"), "", "no module was seen to have one");
    assert_eq!(got.json().await, made);

    // An update replaces everything; what it does not say of keys and of a manager is no more.
    let (_, changed) = put(&desk, path, Some("*"), json!({ "deviceId": "d" })).await;
    assert_eq!(changed["managedBy"], Value::Null);
    assert_eq!(changed["generationId"], made["generationId"]);
    assert_ne!(changed["authentication"], made["authentication"]);
    assert_ne!(changed["etag"], made["etag"]);

    desk.make_module("d", "a").await;
    desk.make("d-2").await;
    desk.make_module("d-2", "z").await;
    let listed = desk.get("/devices/d/modules").await.json().await;
    let listed = listed.as_array().unwrap().iter();
    let ids: Vec<_> = listed.map(|module| module["moduleId"].clone()).collect();
    assert_eq!(ids, ["a", "m"]);
    assert_eq!(desk.registry.statistics().total_device_count, 2);

    let gone = desk
        .ask(Method::DELETE, &format!("{path}{VERSION}"), Some("*"), "")
        .await;
    assert_eq!(gone.status, 204);
    assert_eq!(
        desk.get(path).await.header("iothub-errorcode"),
        "ModuleNotFound"
    );
    assert_eq!(desk.get("/devices/d").await.status, 200);
    let left = desk.get("/devices/d/modules").await.json().await;
    assert_eq!(left.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_module_proves_itself_in_each_of_azures_ways() {
    let desk = Desk::new();
    desk.make("d").await;
    let print = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    for (module, authentication, kind) in [
        ("sas", json!({ "type": "sas" }), "sas"),
        ("none", json!({ "type": "none" }), "sas"),
        (
            "x509",
            json!({ "type": "selfSigned", "x509Thumbprint": { "primaryThumbprint": print } }),
            "selfSigned",
        ),
        (
            "ca",
            json!({ "type": "certificateAuthority" }),
            "certificateAuthority",
        ),
    ] {
        let path = format!("/devices/d/modules/{module}");
        let body = json!({ "authentication": authentication });
        let (status, made) = put(&desk, &path, None, body).await;
        assert_eq!(
            (status, &made["authentication"]["type"]),
            (200, &json!(kind))
        );
        let keys = &made["authentication"]["symmetricKey"]["primaryKey"];
        assert_eq!(keys.is_string(), kind == "sas", "{module}");
    }
}

#[tokio::test]
async fn a_second_module_of_a_name_is_refused_in_the_second_envelope() {
    let desk = Desk::new();
    desk.make("dev-01").await;
    desk.make_module("dev-01", "mod-a").await;
    let service = vectors(include_str!("../vectors/service.json"));
    let cases = service["errorBodies"].as_array().unwrap();
    let expected = cases
        .iter()
        .find(|case| case["name"] == "module-409-second-envelope");
    let expected = expected.unwrap();
    let path = format!("/devices/dev-01/modules/mod-a{VERSION}");
    let reply = desk.ask(Method::PUT, &path, None, "{}").await;
    assert_eq!(u64::from(reply.status), expected["status"]);
    let name = &expected["headers"]["iothub-errorcode"];
    assert_eq!(reply.header("iothub-errorcode"), name.as_str().unwrap());
    let id = reply.header("x-ms-request-id").replace('-', "");
    let body = reply.json().await;
    for member in ["errorCode", "message", "info"] {
        assert_eq!(body[member], expected["body"][member]);
    }
    assert_eq!(
        body["trackingId"],
        format!("{id}-G:0-TimeStamp:11/14/2023 22:13:20")
    );
    assert_eq!(body["timestampUtc"], "2023-11-14T22:13:20Z");
    assert_eq!(body.as_object().unwrap().len(), 5);
}

#[tokio::test]
async fn a_device_has_fifty_modules_at_most() {
    let desk = Desk::new();
    desk.make("d").await;
    for number in 0..50 {
        desk.make_module("d", &format!("m{number}")).await;
    }
    let one_more = "/devices/d/modules/m50";
    let (status, code, _) = refused(&desk, Method::PUT, one_more, "{}").await;
    assert_eq!((status, code.as_str()), (413, "TooManyModulesOnDevice"));
    let path = format!("/devices/d/modules/m7{VERSION}");
    assert_eq!(
        desk.ask(Method::DELETE, &path, Some("*"), "").await.status,
        204
    );
    assert_eq!(put(&desk, one_more, None, json!({})).await.0, 200);
    let listed = desk.get("/devices/d/modules").await.json().await;
    assert_eq!(listed.as_array().unwrap().len(), 50);
}

#[tokio::test]
async fn reserved_names_and_ids_that_are_none_are_refused() {
    let desk = Desk::new();
    desk.make("d").await;
    for (module, body) in [
        ("$mine", "{}"),
        ("$edgeHub", "{}"),
        ("a%20b", "{}"),
        ("m", r#"{"moduleId":"other"}"#),
        ("m", r#"{"deviceId":"other"}"#),
        ("m", r#"{"managedBy":7}"#),
    ] {
        let path = format!("/devices/d/modules/{module}");
        let (status, code, _) = refused(&desk, Method::PUT, &path, body).await;
        assert_eq!(
            (status, code.as_str()),
            (400, "ArgumentInvalid"),
            "{module}"
        );
    }
    let cases = vectors(include_str!("../vectors/service.json"));
    for case in cases["identifiers"].as_array().unwrap() {
        let id = case["id"].as_str().unwrap();
        if id.is_empty() || id.starts_with('$') {
            continue;
        }
        let path = format!("/devices/d/modules/{}", azimuth_wire::percent::encode(id));
        let expected = if case["valid"] == true { 200 } else { 400 };
        assert_eq!(put(&desk, &path, None, json!({})).await.0, expected, "{id}");
    }
}

#[tokio::test]
async fn nobody_reaches_the_modules_of_a_device_that_is_missing_or_disabled() {
    let desk = Desk::new();
    desk.make("off").await;
    desk.make_module("off", "m").await;
    put(
        &desk,
        "/devices/off",
        Some("*"),
        json!({ "status": "disabled" }),
    )
    .await;
    for (device, why) in [("off", "`off` is disabled"), ("no", "`no` does not exist")] {
        for (method, path) in [
            (Method::GET, format!("/devices/{device}/modules")),
            (Method::GET, format!("/devices/{device}/modules/m")),
            (Method::PUT, format!("/devices/{device}/modules/n")),
            (Method::DELETE, format!("/devices/{device}/modules/m")),
        ] {
            let (status, code, sentence) = refused(&desk, method, &path, "{}").await;
            assert_eq!((status, code.as_str()), (401, "IotHubUnauthorizedAccess"));
            assert!(sentence.contains(why), "{sentence}");
        }
    }
    assert_eq!(desk.get("/twins/off/modules/m").await.status, 200);
    for path in ["/twins/no/modules/m", "/twins/off/modules/n"] {
        let reply = desk.get(path).await;
        assert_eq!(reply.header("iothub-errorcode"), "DeviceNotFound");
    }
}

#[tokio::test]
async fn a_module_has_a_twin_of_its_own() {
    let desk = Desk::new();
    let device = desk.make("d").await;
    let module = desk.make_module("d", "m").await;
    let path = format!("/twins/d/modules/m{VERSION}");
    let first = desk.get("/twins/d/modules/m").await.json().await;
    assert_eq!(first["moduleId"], "m");
    assert_eq!(first["deviceEtag"], module["etag"]);
    assert_ne!(first["deviceEtag"], device["etag"]);
    assert_eq!(
        (&first["version"], &first["etag"]),
        (&json!(2), &json!("AAAAAAAAAAE="))
    );
    assert_eq!(first["capabilities"], Value::Null);
    let stamp = &first["properties"]["desired"]["$metadata"]["$lastUpdated"];
    assert_eq!(stamp, "0001-01-01T00:00:00Z");

    let patch = json!({ "tags": { "a": 1 }, "properties": { "desired": { "x": 1 } } }).to_string();
    let patched = desk
        .ask(Method::PATCH, &path, None, &patch)
        .await
        .json()
        .await;
    assert_eq!(
        (&patched["tags"]["a"], &patched["version"]),
        (&json!(1), &json!(3))
    );
    let replaced = desk.ask(Method::PUT, &path, None, "{}").await.json().await;
    assert_eq!(replaced["tags"], Value::Null);
    assert_eq!(replaced["properties"]["desired"]["$version"], 3);
    let beside = desk.get("/twins/d").await.json().await;
    assert_eq!(
        (&beside["version"], &beside["moduleId"]),
        (&json!(2), &Value::Null)
    );
    // And sees its own.
    let own = |name: &str, identity: &Value| {
        let generation_id = identity["generationId"].as_str().unwrap();
        let twin = desk.registry.own_twin(&named(name), generation_id);
        twin.unwrap()["desired"]["$version"].clone()
    };
    assert_eq!(
        (own("d/m", &module), own("d", &device)),
        (json!(3), json!(1))
    );
}

#[tokio::test]
async fn a_write_says_who_has_to_leave_the_line() {
    let desk = Desk::new();
    desk.make("d").await;
    for module in ["m", "n"] {
        desk.make_module("d", module).await;
    }
    let names = |names: &[Name]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let device = named("d");
    let write = async |body: &str| {
        let body = IdentityBody::parse(body.as_bytes()).unwrap();
        let written = desk.registry.put(&device, &IfMatch::Any, body).await;
        names(&written.unwrap().shut_out)
    };
    assert_eq!(write("{}").await, [""; 0]);
    assert_eq!(write(r#"{"status":"disabled"}"#).await, ["d", "d/m", "d/n"]);
    let module = named("d/n");
    let gone = desk.registry.delete(&module, &IfMatch::Any).await.unwrap();
    assert_eq!(names(&gone), ["d/n"]);
    let gone = desk.registry.delete(&device, &IfMatch::Any).await.unwrap();
    assert_eq!(names(&gone), ["d", "d/m"]);
}

#[tokio::test]
async fn a_device_and_its_module_are_on_the_line_side_by_side() {
    let desk = Desk::new();
    let (device, _) = desk.on_the_line("d").await;
    let made = desk.make_module("d", "m").await;
    let module = desk.connect(hello("d/m")).await.unwrap().principal;
    let line = Line::unconnected();
    desk.door.arrived(&module, &line);
    assert!(line.closing().is_none());
    let state = |one: Value| one["connectionState"].clone();
    assert_eq!(state(desk.read("d").await), "Connected");
    assert_eq!(state(desk.read("d/modules/m").await), "Connected");
    // A module is no device.
    assert_eq!(desk.registry.service_statistics().connected_device_count, 1);

    let body = bytes::Bytes::from_static(b"hot");
    let own = "devices/d/modules/m/messages/events/";
    let stored = desk.door.publish(&module, publish(own, &body)).unwrap();
    let azimuth_broker::Inward::Store { envelope, .. } = stored else {
        panic!("telemetry is stored");
    };
    let event = Event::decode(&envelope).unwrap();
    assert_eq!((event.device_id, event.module_id), ("d", Some("m")));
    assert_eq!(event.generation_id, made["generationId"]);
    assert_eq!(
        event.auth_method,
        r#"{"scope":"module","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}"#
    );
    // Neither speaks or hears for the other.
    for (who, topic) in [(&module, "devices/d/messages/events/"), (&device, own)] {
        assert!(
            desk.door.publish(who, publish(topic, &body)).is_err(),
            "{topic}"
        );
    }
    for (who, filter) in [
        (&module, "devices/d/messages/devicebound/#"),
        (&device, "devices/d/modules/m/messages/devicebound/#"),
        (&device, "devices/d/modules/m/inputs/#"),
    ] {
        let granted = desk
            .door
            .subscribe(who, filter, azimuth_broker::QoS::AtMostOnce);
        assert!(granted.is_err(), "{filter}");
    }
    let own = "devices/d/modules/m/messages/devicebound/#";
    let told = desk.door.unsubscribe(&module, "devices/d/#").err().unwrap();
    assert!(told.sentence.contains(own), "{}", told.sentence);
    for filter in [own, "devices/d/modules/m/#", "devices/d/modules/m/inputs/#"] {
        let granted = desk
            .door
            .subscribe(&module, filter, azimuth_broker::QoS::AtMostOnce);
        assert!(granted.is_ok(), "{filter}");
    }
}

#[tokio::test]
async fn who_may_not_sign_in_as_a_module_is_told_why() {
    let desk = Desk::new();
    desk.make("d").await;
    desk.make_module("d", "m").await;
    let with_key_of_device = azimuth_broker::Hello {
        password: hello("d").password,
        ..hello("d/m")
    };
    let path = "/devices/d/modules/m";
    let same_keys = desk.connect(with_key_of_device).await;
    assert!(
        same_keys.is_ok(),
        "its own key may sign for what is above it"
    );
    put(&desk, path, Some("*"), json!({})).await;
    for (name, kind, part) in [
        ("d/m", "wrong-key", "neither key of module `d/m`"),
        ("d/n", "unknown-module", "the device `d` has no module `n`"),
        ("e/m", "unknown-device", "no device `e`"),
    ] {
        let refusal = desk.connect(hello(name)).await.err().unwrap();
        assert_eq!(
            (refusal.kind, refusal.answer.clone()),
            (kind, Answer::Connack(5))
        );
        assert!(refusal.sentence.contains(part), "{}", refusal.sentence);
    }
    let keys = json!({ "symmetricKey": { "primaryKey": KEY, "secondaryKey": OTHER_KEY } });
    put(&desk, path, Some("*"), json!({ "authentication": keys })).await;
    put(
        &desk,
        "/devices/d",
        Some("*"),
        json!({ "status": "disabled" }),
    )
    .await;
    let refusal = desk.connect(hello("d/m")).await.err().unwrap();
    assert_eq!(refusal.kind, "disabled-device");
}

#[tokio::test]
async fn who_was_shut_out_while_it_connected_does_not_stay() {
    let desk = Desk::new();
    for (device, path, method, body) in [
        ("a", "/devices/a", Method::PUT, r#"{"status":"disabled"}"#),
        ("b", "/devices/b", Method::DELETE, ""),
        ("c", "/devices/c/modules/m", Method::DELETE, ""),
    ] {
        desk.make(device).await;
        desk.make_module(device, "m").await;
        let name = format!("{device}/m");
        let module = desk.connect(hello(&name)).await.unwrap().principal;
        let reply = desk
            .ask(method, &format!("{path}{VERSION}"), Some("*"), body)
            .await;
        assert!(reply.status < 300);
        if device == "c" {
            // One of the name that was made since is another.
            desk.clock.advance(std::time::Duration::from_secs(1));
            desk.make_module("c", "m").await;
        }
        let line = Line::unconnected();
        desk.door.arrived(&module, &line);
        assert!(line.closing().is_some(), "{name}");
    }
}

#[tokio::test]
async fn a_device_takes_its_modules_and_all_twins_with_it() {
    let desk = Desk::new();
    for device in ["d", "d-1"] {
        desk.make(device).await;
        desk.make_module(device, "m").await;
        desk.make_module(device, "n").await;
        for twin in [device.to_owned(), format!("{device}/modules/m")] {
            let path = format!("/twins/{twin}{VERSION}");
            desk.ask(Method::PATCH, &path, None, r#"{"tags":{"a":1}}"#)
                .await;
        }
    }
    let rooms = ["device", "module", "twin", "module-twin", "modules-of"];
    let names = || {
        let keys = rooms.iter().flat_map(|room| {
            let page = desk.store.scan(room, "", None, 100).unwrap();
            page.documents.into_iter().map(|(key, _)| key.to_string())
        });
        keys.collect::<Vec<_>>()
    };
    assert_eq!(names().len(), 12);
    let path = format!("/devices/d{VERSION}");
    assert_eq!(
        desk.ask(Method::DELETE, &path, Some("*"), "").await.status,
        204
    );
    let left = [
        "device/d-1",
        "module/d-1/m",
        "module/d-1/n",
        "twin/d-1",
        "module-twin/d-1/m",
        "modules-of/d-1",
    ];
    assert_eq!(names(), left);
    // A later device of the name begins with none.
    desk.make("d").await;
    assert_eq!(desk.get("/devices/d/modules").await.json().await, json!([]));
}

#[tokio::test]
async fn modules_are_written_in_bulk_after_their_devices() {
    let desk = Desk::new();
    let path = format!("/devices{VERSION}");
    let body = json!([
        { "id": "d", "importMode": "create", "status": "disabled" },
        { "id": "d", "moduleId": "m", "importMode": "create", "tags": { "a": 1 } },
        { "id": "e", "moduleId": "m", "importMode": "create" },
        { "id": "d", "moduleId": "n", "importMode": "update" },
    ]);
    let reply = desk.ask(Method::POST, &path, None, &body.to_string()).await;
    let told = reply.json().await;
    let errors = told["errors"].as_array().unwrap().iter();
    let errors: Vec<_> = errors
        .map(|error| (&error["deviceId"], &error["moduleId"], &error["errorCode"]))
        .collect();
    assert_eq!(
        errors,
        [
            (&json!("e"), &json!("m"), &json!(404_001)),
            (&json!("d"), &json!("n"), &json!(404_010))
        ]
    );
    let twin = desk.get("/twins/d/modules/m").await.json().await;
    assert_eq!(twin["tags"]["a"], 1);
    let twice = json!([{ "id": "d", "moduleId": "m" }, { "id": "d", "moduleId": "m" }]);
    let twice = desk
        .ask(Method::POST, &path, None, &twice.to_string())
        .await;
    assert_eq!(
        twice.header("iothub-errorcode"),
        "DeviceDefinedMultipleTimes"
    );
}
