//! Topics and property bags of a hub, as Azure's clients write and read them.

#![allow(clippy::unwrap_used)]

use azimuth_wire::Identity;
use azimuth_wire::message::{PropertyBag, encode_bag, system_property};
use azimuth_wire::topic::hub::{DeviceTopic, HubTopic, Interests, InvalidTopic};
use serde_json::{Value, json};

fn topics() -> Value {
    serde_json::from_str(include_str!("vectors/hub_topics.json")).unwrap()
}

fn bags() -> Value {
    serde_json::from_str(include_str!("vectors/property_bags.json")).unwrap()
}

fn rows(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn identity(value: &Value) -> Identity {
    Identity {
        device: text(&value["deviceId"]).parse().unwrap(),
        module: value["moduleId"].as_str().map(|id| id.parse().unwrap()),
    }
}

fn pairs(value: &Value) -> Vec<(&str, Option<&str>)> {
    rows(value)
        .iter()
        .map(|pair| (text(&pair[0]), pair[1].as_str()))
        .collect()
}

/// Says in the words of the vectors what was understood.
fn meaning(topic: &str, identity: &Identity) -> Value {
    let topic = match DeviceTopic::parse(topic, identity) {
        Ok(topic) => topic,
        Err(InvalidTopic::RequestId) => return json!({"kind": "error"}),
        Err(_) => return json!({"kind": "disconnect"}),
    };
    match topic {
        DeviceTopic::Telemetry(PropertyBag(properties)) => {
            let mut said = json!({"kind": "telemetry", "properties": []});
            for (name, value) in properties {
                match system_property(&name) {
                    Some("iothub-outputname") => said["outputName"] = json!(value),
                    Some(system) => said["system"][system] = json!(value),
                    None => {
                        let properties = said["properties"].as_array_mut().unwrap();
                        properties.push(json!([name, value]));
                    }
                }
            }
            said
        }
        DeviceTopic::TwinGet { request_id } => json!({"kind": "twinGet", "rid": request_id}),
        DeviceTopic::TwinPatchReported {
            request_id,
            if_version: None,
        } => json!({"kind": "twinPatchReported", "rid": request_id}),
        DeviceTopic::TwinPatchReported {
            request_id,
            if_version,
        } => json!({"kind": "twinPatchReported", "rid": request_id, "ifVersion": if_version}),
        // Only the hub knows which request ids are waiting.
        DeviceTopic::MethodResponse {
            request_id: "unknown",
            ..
        } => json!({"kind": "ignored"}),
        DeviceTopic::MethodResponse { status, request_id } => {
            json!({"kind": "methodResponse", "status": status, "rid": request_id})
        }
    }
}

#[test]
fn every_topic_a_device_publishes_to_is_understood_or_refused() {
    for row in rows(&topics()["publish"]) {
        let identity = identity(&row["identity"]);
        assert_eq!(
            meaning(text(&row["topic"]), &identity),
            row["expect"],
            "{row}"
        );
    }
}

#[test]
fn odd_topics_are_refused_for_their_reason() {
    let dev1 = identity(&json!({"deviceId": "dev1"}));
    let mod1 = identity(&json!({"deviceId": "dev1", "moduleId": "mod1"}));
    for (topic, sentence) in [
        (
            "devices/dev1/messages/eventsx",
            "`devices/dev1/messages/eventsx` is not a topic that `dev1` may publish to; telemetry goes to `devices/dev1/messages/events/`",
        ),
        (
            "devices/dev1/messages/events/a=b/c",
            "the property bag of the topic is not valid: a `/` inside the bag; write it as %2F",
        ),
        (
            "$iothub/twin/GET",
            "the topic has no request id: it must end in `/?$rid=<request id>`",
        ),
        (
            "$iothub/twin/PATCH/properties/reported/?$rid=1&$version=-1",
            "`-1` is not a version number",
        ),
        (
            "$iothub/twin/PATCH/properties/reported/?$rid=1&$version=18446744073709551616",
            "`18446744073709551616` is not a version number",
        ),
        (
            "$iothub/methods/res/2147483648/?$rid=1",
            "`2147483648` is not a method status: an integer of 32 bits",
        ),
    ] {
        let refusal = DeviceTopic::parse(topic, &dev1).unwrap_err().to_string();
        assert_eq!(refusal, sentence);
    }
    for topic in [
        "",
        "$",
        "$iothub",
        "$iothub/",
        "$iothub/twin",
        "$iothub/twin/get/?$rid=1",
        "$iothub/methods/res/200/x/?$rid=1",
        "$iothub/methods/POST/reboot/?$rid=1",
        "devices/dev1",
        "devices/dev10/messages/events/",
        "devices/dev1/modules/mod1/messages/events/",
    ] {
        assert!(
            matches!(
                DeviceTopic::parse(topic, &dev1),
                Err(InvalidTopic::Unknown { .. })
            ),
            "{topic}"
        );
    }
    for topic in [
        "devices/dev1/modules/mod10/messages/events/",
        "devices/dev1/modules/mod/messages/events/",
    ] {
        assert!(DeviceTopic::parse(topic, &mod1).is_err(), "{topic}");
    }
    let long = format!("devices/{}", "é".repeat(60_000));
    let refusal = DeviceTopic::parse(&long, &dev1).unwrap_err();
    assert!(refusal.to_string().len() < 1000);
}

#[test]
fn a_request_id_may_hold_anything_but_an_ampersand() {
    let dev1 = identity(&json!({"deviceId": "dev1"}));
    for id in ["a/b", "a?b", "a/?b", "é", "%2F", "="] {
        let topic = DeviceTopic::TwinGet { request_id: id };
        assert_eq!(DeviceTopic::parse(&topic.text(&dev1), &dev1), Ok(topic));
    }
}

#[test]
fn every_filter_a_device_subscribes_to_is_understood_or_refused() {
    let none = Interests {
        cloud_to_device: false,
        twin_responses: false,
        desired: false,
        methods: false,
        inputs: false,
    };
    let twin = Interests {
        twin_responses: true,
        desired: true,
        ..none
    };
    for row in rows(&topics()["subscribe"]) {
        let identity = identity(&row["identity"]);
        let filter = text(&row["filter"]);
        let module_inputs = Interests {
            inputs: true,
            // `devices/{id}/modules/{mid}/#` covers what is sent to the module, too.
            cloud_to_device: !filter.ends_with("inputs/#"),
            ..none
        };
        let expected = match text(&row["expect"]["kind"]) {
            "c2d" => Some(Interests {
                cloud_to_device: true,
                ..none
            }),
            "twinResponses" => Some(Interests {
                twin_responses: true,
                ..none
            }),
            "twinDesired" => Some(Interests {
                desired: true,
                ..none
            }),
            "methods" => Some(Interests {
                methods: true,
                ..none
            }),
            "moduleInputs" => Some(module_inputs),
            "twinAndMethods" => Some(Interests {
                methods: true,
                ..twin
            }),
            "all" => Some(Interests {
                cloud_to_device: true,
                methods: true,
                ..twin
            }),
            "disconnect" => None,
            unknown => panic!("{unknown}"),
        };
        assert_eq!(Interests::parse(filter, &identity), expected, "{row}");
    }
}

#[test]
fn filters_of_others_and_single_level_wildcards_are_refused() {
    let dev1 = identity(&json!({"deviceId": "dev1"}));
    let mod1 = identity(&json!({"deviceId": "dev1", "moduleId": "mod1"}));
    for (filter, identity) in [
        ("", &dev1),
        ("+", &dev1),
        ("devices/#", &dev1),
        ("devices/+/messages/devicebound/#", &dev1),
        ("devices/dev10/#", &dev1),
        ("devices/dev1/modules/mod1/#", &dev1),
        ("devices/dev1/inputs/#", &dev1),
        ("devices/dev1/messages/devicebound/#", &mod1),
        ("devices/dev1/modules/mod10/#", &mod1),
        ("$iothub/twin/res", &dev1),
        ("$iothub/+/res/#", &dev1),
        ("$dps/registrations/res/#", &dev1),
    ] {
        assert_eq!(Interests::parse(filter, identity), None, "{filter}");
    }
}

#[test]
fn what_a_hub_says_is_written_and_read_back_as_azure_writes_it() {
    for row in rows(&topics()["hubPublish"]) {
        let identity = match row["deviceId"].as_str() {
            Some(_) => identity(row),
            None => identity(&json!({"deviceId": "dev1"})),
        };
        let rid = row["rid"].as_str().unwrap_or_default();
        let version = row["version"].as_u64();
        let bag = match &row["properties"] {
            Value::Null => String::new(),
            properties => encode_bag(pairs(properties)),
        };
        let topic = match text(&row["kind"]) {
            "twinResponse" => HubTopic::TwinResponse {
                status: row["status"].as_u64().unwrap().try_into().unwrap(),
                request_id: rid,
                version,
            },
            "desiredPatch" => HubTopic::DesiredPatch {
                version: version.unwrap(),
            },
            "methodRequest" => HubTopic::Method {
                name: text(&row["method"]),
                request_id: rid,
            },
            "moduleInput" => HubTopic::ModuleInput {
                identity: &identity,
                input: text(&row["input"]),
                bag: &bag,
            },
            unknown => panic!("{unknown}"),
        };
        assert_eq!(topic.to_string(), text(&row["topic"]));
        assert_eq!(
            HubTopic::parse(text(&row["topic"]), &identity),
            Some(topic),
            "{row}"
        );
    }
}

#[test]
fn cloud_to_device_messages_carry_their_properties_in_the_topic() {
    for row in rows(&topics()["cloudToDevice"]) {
        let identity = identity(row);
        let topic = text(&row["topic"]);
        let Some(HubTopic::CloudToDevice { bag, .. }) = HubTopic::parse(topic, &identity) else {
            panic!("{topic}");
        };
        let PropertyBag(properties) = PropertyBag::parse(bag).unwrap();
        let again = encode_bag(properties.iter().map(|(n, v)| (n.as_ref(), v.as_deref())));
        let written = HubTopic::CloudToDevice {
            identity: &identity,
            bag: &again,
        };
        assert_eq!(written.to_string(), topic);

        let mut system = json!({});
        let mut application = Vec::new();
        for (name, value) in &properties {
            match name.strip_prefix("$.").or(name.strip_prefix("iothub-")) {
                Some(short) => {
                    assert!(system_property(name).is_some(), "{name}");
                    system[short] = json!(value);
                }
                None => application.push(json!([name, value])),
            }
        }
        assert_eq!(system, row["system"], "{row}");
        assert_eq!(json!(application), row["application"], "{row}");
    }
}

#[test]
fn every_bag_is_read_as_recommended() {
    for row in rows(&bags()["decode"]) {
        let parsed = PropertyBag::parse(text(&row["bag"]));
        let expect = &row["expect"];
        let Some(sentence) = expect["error"].as_str() else {
            let PropertyBag(properties) = parsed.unwrap();
            let properties: Vec<_> = properties.iter().map(|pair| json!(pair)).collect();
            assert_eq!(json!(properties), expect["properties"], "{row}");
            continue;
        };
        let ours = match sentence {
            "second '=' in one pair" => "a second `=` in one pair; write it as %3D",
            "'=' where a name must start" => "a pair begins with `=`; a name must stand before it",
            "'&' where a name must start" | "ends after a separator" => {
                "an empty pair: `&` at the start, at the end or doubled"
            }
            "extra topic segment" => "a `/` inside the bag; write it as %2F",
            unknown => panic!("{unknown}"),
        };
        assert_eq!(parsed.unwrap_err().to_string(), ours, "{row}");
    }
}

#[test]
fn every_bag_is_written_with_upper_case_escapes() {
    for row in rows(&bags()["encode"]) {
        let properties = pairs(&row["properties"]);
        assert_eq!(encode_bag(properties), text(&row["bag"]), "{row}");
    }
}
