//! User names at a hub and at a DPS, and the topics of a DPS, as Azure's clients write them.

#![allow(clippy::unwrap_used)]

use azimuth_wire::topic::dps::{RESPONSES, RequestTopic, ResponseTopic};
use azimuth_wire::user_name::{DpsUserName, HubUserName, InvalidUserName};
use serde_json::Value;

fn dps() -> Value {
    serde_json::from_str(include_str!("vectors/dps_mqtt.json")).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[test]
fn every_user_name_of_a_hub_is_read_or_refused() {
    let vectors: Value = serde_json::from_str(include_str!("vectors/hub_user_names.json")).unwrap();
    for row in vectors["userNames"].as_array().unwrap() {
        let expect = &row["expect"];
        let parsed = HubUserName::parse(text(&row["username"]), text(&row["clientId"]));
        if expect["accept"] == true {
            let name = parsed.unwrap();
            let module = name.identity.module.as_ref().map(|id| id.as_str());
            let version = name.api_version.map(|version| version.to_string());
            assert_eq!(name.host, text(&expect["host"]), "{row}");
            assert_eq!(
                name.identity.device.as_str(),
                text(&expect["deviceId"]),
                "{row}"
            );
            assert_eq!(module, expect["moduleId"].as_str(), "{row}");
            assert_eq!(version.as_deref(), expect["apiVersion"].as_str(), "{row}");
            assert_eq!(
                name.client_type.as_deref(),
                expect["deviceClientType"].as_str(),
                "{row}"
            );
            assert_eq!(
                name.model_id.as_deref(),
                expect["modelId"].as_str(),
                "{row}"
            );
            continue;
        }
        let as_named = match (text(&expect["reason"]), parsed) {
            // Which host a hub has, the hub knows.
            ("host is not this hub", Ok(name)) => name.host == "other.azure-devices.net",
            ("device id missing" | "host missing", Err(error)) => {
                matches!(error, InvalidUserName::Shape(_))
            }
            ("no user name", Err(error)) => error == InvalidUserName::Missing,
            (reason, Err(error)) => {
                assert!(reason.starts_with("client id"), "{row}");
                matches!(error, InvalidUserName::ClientId { .. })
            }
            (_, Ok(_)) => false,
        };
        assert!(as_named, "{row}");
    }
}

#[test]
fn odd_user_names_of_a_hub_are_refused_in_plain_words() {
    for (name, client_id, sentence) in [
        (
            "h/dev1/mod1/x/?api-version=2021-04-12",
            "dev1",
            "the user name `h/dev1/mod1/x/?api-version=2021-04-12` does not name a host and a device; a hub expects `{host}/{device id}/?api-version=2021-04-12`",
        ),
        (
            "/dev1/?api-version=2021-04-12",
            "dev1",
            "the user name `/dev1/?api-version=2021-04-12` does not name a host and a device; a hub expects `{host}/{device id}/?api-version=2021-04-12`",
        ),
        (
            "h/dev1/?api-version=soon",
            "dev1",
            "`soon` is not an api-version: YYYY-MM-DD or YYYY-MM-DD-preview",
        ),
        (
            "h/d v/?api-version=2021-04-12",
            "d v",
            "`d v` is not a valid id: 1 to 128 characters from A-Z a-z 0-9 - : . + % _ # * ? ! ( ) , = @ $ ' ;",
        ),
        (
            "h/dev1/mod1/?api-version=2021-04-12",
            "dev1",
            "the client id `dev1` is not `dev1/mod1`, which the user name announces",
        ),
    ] {
        let refusal = HubUserName::parse(name, client_id).unwrap_err();
        assert_eq!(refusal.to_string(), sentence);
    }
}

#[test]
fn older_user_names_may_begin_with_any_parameter() {
    let name = "h/dev1/mod1/DeviceClientType=x%2Fy&api-version=2020-09-30&model-id=dtmi%3Aa%3B1";
    let name = HubUserName::parse(name, "dev1/mod1").unwrap();
    assert_eq!(name.client_type.as_deref(), Some("x/y"));
    assert_eq!(name.model_id.as_deref(), Some("dtmi:a;1"));
    assert_eq!(name.api_version.unwrap().to_string(), "2020-09-30");
}

#[test]
fn every_user_name_of_a_dps_is_read() {
    for row in dps()["connect"].as_array().unwrap() {
        let name = DpsUserName::parse(text(&row["username"]), text(&row["clientId"])).unwrap();
        let parsed = &row["parsed"];
        assert_eq!(name.id_scope.as_str(), text(&parsed["idScope"]), "{row}");
        assert_eq!(
            name.registration_id.as_str(),
            text(&parsed["registrationId"]),
            "{row}"
        );
        assert_eq!(name.api_version.to_string(), text(&parsed["apiVersion"]));
        assert_eq!(
            name.client_version.as_deref(),
            parsed["clientVersion"].as_str(),
            "{row}"
        );
    }
}

#[test]
fn a_dps_decodes_the_registration_id_and_ignores_its_case() {
    let name = "0ne00ABCDEF/registrations/Dev%3A1/?x=y&api-version=2019-03-31";
    let name = DpsUserName::parse(name, "dev:1").unwrap();
    assert_eq!(name.registration_id.as_str(), "Dev:1");
    for (name, client_id) in [
        ("", "dev1"),
        ("0ne/registrations/dev1", "dev1"),
        ("0ne/registrations/dev1/ClientVersion=1", "dev1"),
        ("0ne/registrations/dev1/api-version=1", "dev1"),
        ("0ne/registrations/dev1/api-version=2019-03-31", "dev2"),
        ("0ne/Registrations/dev1/api-version=2019-03-31", "dev1"),
        ("0n-/registrations/dev1/api-version=2019-03-31", "dev1"),
        ("0ne/registrations/dev1./api-version=2019-03-31", "dev1."),
        ("0ne/registrations/dev%2F1/api-version=2019-03-31", "dev/1"),
    ] {
        assert!(DpsUserName::parse(name, client_id).is_err(), "{name}");
    }
}

#[test]
fn every_request_to_a_dps_is_read_and_written() {
    let vectors = dps();
    let request = &vectors["request"];
    for name in ["register", "status"] {
        let topic = text(&request[name]);
        assert_eq!(RequestTopic::parse(topic).unwrap().to_string(), topic);
    }
    let operation = "5.316aac5bdc130deb.b1e02da8-c3a0-4ff2-a121-7ea7a6b7f550";
    let register = |request_id| RequestTopic::Register { request_id };
    let status = RequestTopic::OperationStatus {
        request_id: "2",
        operation_id: operation,
    };
    let tolerated = request["tolerated"].as_array().unwrap();
    let read: Vec<_> = tolerated
        .iter()
        .map(|topic| RequestTopic::parse(text(topic)).unwrap())
        .collect();
    assert_eq!(read, [register("1"), register(""), status.clone(), status]);
    for topic in [
        "",
        "$dps/registrations/",
        "$dps/registrations/PUT/iotdps-register",
        "$dps/registrations/put/iotdps-register/?$rid=1",
        "$dps/registrations/res/200/?$rid=1",
        "devices/dev1/messages/events/",
    ] {
        assert!(RequestTopic::parse(topic).is_err(), "{topic}");
    }
    assert_eq!(text(&vectors["subscribe"]), RESPONSES);
}

#[test]
fn every_answer_of_a_dps_is_read_and_written() {
    let vectors = dps();
    let rid = "4f1d5dd0-9f0e-4d4c-9f0e-5b0d0a6e7f11";
    for (name, status, request_id, retry_after) in [
        ("assigning", 202, rid, Some(3)),
        ("done", 200, rid, None),
        ("unauthorized", 401, rid, None),
        ("notFound", 404, rid, None),
        ("throttled", 429, rid, Some(5)),
        ("emptyRid", 202, "", Some(3)),
    ] {
        let topic = text(&vectors["response"][name]);
        let answer = ResponseTopic {
            status,
            request_id,
            retry_after,
        };
        assert_eq!(answer.to_string(), topic);
        assert_eq!(ResponseTopic::parse(topic), Some(answer));
    }
    assert_eq!(vectors["response"].as_object().unwrap().len(), 6);
}
