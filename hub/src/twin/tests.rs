//! Azure's recorded writes of twins.
#![allow(clippy::unwrap_used)]
use base64::Engine as _;

use super::*;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../tests/vectors/twins.json")).unwrap()
}

/// A twin as Azure shows it.
fn read(shown: &Value) -> Twin {
    let section = |name: &str| {
        let mut values = shown["properties"][name].as_object().unwrap().clone();
        let stamps = values.remove("$metadata").unwrap();
        let version = values.remove("$version").unwrap();
        serde_json::from_value(json!({ "version": version, "values": values, "stamps": stamps }))
    };
    let etag = shown["etag"].as_str().unwrap();
    let etag = base64::engine::general_purpose::STANDARD.decode(etag);
    Twin {
        generation_id: "1".into(),
        writes: u64::from_be_bytes(etag.unwrap().try_into().unwrap()),
        version: shown["version"].as_u64().unwrap(),
        tags: shown["tags"].as_object().cloned().unwrap_or_default(),
        desired: section("desired").unwrap(),
        reported: section("reported").unwrap(),
    }
}

fn body(value: &Value) -> TwinBody {
    TwinBody::parse(&serde_json::to_vec(value).unwrap()).unwrap()
}

fn at(text: &str) -> Timestamp {
    serde_json::from_value(text.into()).unwrap()
}

fn twin() -> Twin {
    Twin::initial("1", at("2026-01-02T03:04:05.1234567Z"))
}

#[test]
fn writes_leave_what_azures_leave() {
    let vectors = vectors();
    let cases = vectors["twinMerge"]["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 29);
    for case in cases {
        let name = &case["name"];
        let (before, after) = (read(&case["before"]), read(&case["after"]));
        let now = at(case["now"].as_str().unwrap());
        let written = match case["operation"].as_str().unwrap() {
            "PATCH /twins/{id}" => before.patched(&body(&case["body"]), now).unwrap(),
            "PUT /twins/{id}" => before.replaced(&body(&case["body"]), now).unwrap(),
            "DEVICE PATCH reported" => {
                let patch = case["body"].as_object().unwrap();
                let twin = before.reported(patch, None, now).unwrap();
                Some(Written {
                    twin,
                    desired: None,
                })
            }
            other => panic!("what is {other}?"),
        };
        let left = written.map_or(before, |written| written.twin);
        assert_eq!(left, after, "{name}");
        assert_eq!(left.etag(), case["after"]["etag"], "{name}");
        let shown = &case["after"]["properties"];
        assert_eq!(left.desired.for_service().unwrap(), shown["desired"]);
        assert_eq!(left.reported.for_service().unwrap(), shown["reported"]);
    }
}

#[test]
fn a_twin_that_nobody_wrote_is_azures_first() {
    let twin = twin();
    let recorded = read(&vectors()["twinMerge"]["cases"][0]["before"]);
    assert_eq!(twin, recorded);
}

#[test]
fn a_device_is_told_the_patch_with_its_nulls_and_a_replaced_section_whole() {
    let now = at("2026-01-02T03:05:00Z");
    let told = |written: Option<Written>| written.unwrap().desired.unwrap();
    let first = twin()
        .patched(
            &body(&json!({ "properties": { "desired": { "a": 1, "b": { "c": 2 } } } })),
            now,
        )
        .unwrap();
    let patch = json!({ "properties": { "desired": { "a": null, "$version": 9 } } });
    let twin = first.unwrap().twin;
    let change = told(twin.patched(&body(&patch), now).unwrap());
    assert_eq!(change.version, 3);
    assert_eq!(change.payload, json!({ "a": null, "$version": 3 }));
    let change = told(twin.replaced(&body(&json!({ "tags": {} })), now).unwrap());
    assert_eq!(change.payload, json!({ "$version": 3 }));
    let all = json!({ "properties": { "desired": null } });
    let change = told(twin.patched(&body(&all), now).unwrap());
    assert_eq!(
        change.payload,
        json!({ "a": null, "b": null, "$version": 3 })
    );
    let tags = twin.patched(&body(&json!({ "tags": { "a": 1 } })), now);
    assert_eq!(tags.unwrap().unwrap().desired, None);
}

#[test]
fn what_azure_refuses_is_refused() {
    let vectors = vectors();
    let cases = vectors["twinValidation"]["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 17);
    for case in cases {
        let written = twin().patched(&body(&case["body"]), Timestamp::NEVER);
        let code = written.err().map(|error| error.code().name());
        assert_eq!(code, case["errorCode"].as_str(), "{}", case["name"]);
    }
    for wrong in [
        json!([]),
        json!({ "tags": [1] }),
        json!({ "properties": 1 }),
    ] {
        assert!(TwinBody::parse(wrong.to_string().as_bytes()).is_err());
    }
}

#[test]
fn devices_patch_by_the_same_rules() {
    let vectors = vectors();
    let now = at("2026-01-02T03:05:00Z");
    for case in vectors["deviceTwinMerge"].as_array().unwrap() {
        let values = |name: &str| case[name].as_object().unwrap().clone();
        let before = twin().reported(&values("current"), None, now).unwrap();
        let after = before.reported(&values("patch"), None, now).unwrap();
        assert_eq!(after.reported.values, values("result"), "{case}");
        assert_eq!(after.reported.version, 3);
        assert_eq!(after.etag(), twin().etag());
    }
}

/// Two of the device side's rows disagree with what was recorded of services: of a key, `#` was refused
/// and an empty one taken. One rule serves both sides.
#[test]
fn limits_are_azures() {
    for case in vectors()["deviceTwinLimits"].as_array().unwrap() {
        let number = |name: &str| case[name].as_u64().map(|number| number as usize);
        let nested =
            |depth: usize| (1..depth).fold(json!({ "k": 1 }), |value, _| json!({ "k": value }));
        let value = if let Some(key) = case["key"].as_str() {
            json!({ key: 1 })
        } else if let Some(bytes) = number("keyBytes") {
            json!({ "k".repeat(bytes): 1 })
        } else if let Some(bytes) = number("stringBytes") {
            json!({ "s": "x".repeat(bytes) })
        } else if let Some(depth) = number("depth") {
            nested(depth)
        } else if case["json"].is_null() {
            json!({ "n": case["value"] })
        } else {
            case["json"].clone()
        };
        let taken = match value.as_object() {
            Some(patch) => twin().reported(patch, None, Timestamp::NEVER).is_ok(),
            None => false,
        };
        let expected = match case["key"].as_str() {
            Some("a-b_c#d") => false,
            Some("") => true,
            _ => case["ok"] == true,
        };
        assert_eq!(taken, expected, "{case}");
    }
}

#[test]
fn sizes_are_counted_as_azure_counts_them() {
    for case in vectors()["twinSize"]["cases"].as_array().unwrap() {
        let size = azimuth_wire::twin::size(&case["value"]);
        assert_eq!(size as u64, case["sizeBytes"], "{case}");
    }
    let limits = vectors()["twinSize"]["limits"].clone();
    for (section, name) in [
        (Kind::Tags, "tags"),
        (Kind::Desired, "desired"),
        (Kind::Reported, "reported"),
    ] {
        assert_eq!(section.limit() as u64, limits[name]);
        let full = section.limit() / 16 - 1;
        let values: Map<String, Value> = (0..full)
            .map(|number| (format!("{number:08}"), 1.into()))
            .collect();
        section.check_size(&values).unwrap();
        let mut more = values;
        more.insert("k".repeat(9), "8 and 16".into());
        let error = section.check_size(&more).unwrap_err().to_string();
        assert!(error.contains("bytes; "), "{error}");
    }
}

/// The size is that of the section after the write, not of the patch.
#[test]
fn a_section_grows_to_its_limit_and_no_further() {
    let patch = |key: String| {
        json!({ key: "x".repeat(4000) })
            .as_object()
            .unwrap()
            .clone()
    };
    let mut twin = twin();
    for number in 0..8 {
        twin = twin
            .reported(&patch(format!("k{number}")), None, Timestamp::NEVER)
            .unwrap();
    }
    let refused = twin.reported(&patch("k8".into()), None, Timestamp::NEVER);
    let refused = refused.unwrap_err();
    assert_eq!(refused.kind(), "twin-size");
    assert!(
        refused.to_string().contains("32768 are allowed"),
        "{refused}"
    );
    twin.reported(&patch("k7".into()), None, Timestamp::NEVER)
        .unwrap();
}

#[test]
fn what_a_device_reports_may_depend_on_the_version() {
    let patch = json!({ "a": 1 }).as_object().unwrap().clone();
    assert!(twin().reported(&patch, Some(1), Timestamp::NEVER).is_ok());
    let error = twin().reported(&patch, Some(2), Timestamp::NEVER);
    assert_eq!(error.unwrap_err().code().number(), 412_001);
}

#[test]
fn a_twin_in_bulk_starts_at_one_and_one_that_is_brought_along_goes_on() {
    let first = body(&json!({ "properties": { "desired": { "a": { "b": 1, "c": null } } } }));
    let made = twin().with_content(&first).unwrap();
    let never = "0001-01-01T00:00:00Z";
    let stamp = json!({ "$lastUpdated": never, "$lastUpdatedVersion": 1 });
    let mut stamps = stamp.clone();
    stamps["a"] = stamp.clone();
    stamps["a"]["b"] = stamp;
    assert_eq!(
        made.desired.for_service().unwrap(),
        json!({ "a": { "b": 1 }, "$version": 1, "$metadata": stamps })
    );
    assert_eq!((made.version, made.etag()), (2, twin().etag()));

    let lived = read(&vectors()["twinMerge"]["cases"][3]["after"]);
    let reported = json!({ "fw": { "v": "1" }, "on": [1] });
    let now = at("2026-02-02T02:02:02Z");
    let lived = lived
        .reported(reported.as_object().unwrap(), None, now)
        .unwrap();
    let exported = json!({ "tags": { "t": 1 }, "properties": {
        "desired": lived.desired.for_service().unwrap(),
        "reported": lived.reported.for_service().unwrap() } });
    let moved = twin().with_content(&body(&exported)).unwrap();
    assert_eq!(
        (&moved.desired, &moved.reported),
        (&lived.desired, &lived.reported)
    );
    assert_eq!(moved.reported.version, 2);

    // Stamps that do not fit are not taken, and none is missing.
    let odd = json!({ "properties": { "desired": { "a": 1, "o": { "p": 2 }, "$version": 7,
        "$metadata": { "$lastUpdated": 5, "a": "x", "gone": {}, "o": { "$lastUpdated": never } } } } });
    let made = twin().with_content(&body(&odd)).unwrap();
    let shown = made.desired.for_service().unwrap();
    assert_eq!(shown["$metadata"]["a"]["$lastUpdatedVersion"], 7);
    assert_eq!(shown["$metadata"]["o"]["p"]["$lastUpdatedVersion"], 7);
    assert_eq!(shown["$metadata"]["gone"], Value::Null);
}

#[test]
fn etags_count_writes() {
    for case in vectors()["etags"]["twin"]["cases"].as_array().unwrap() {
        let mut twin = twin();
        twin.writes = case["counter"].as_u64().unwrap();
        assert_eq!(twin.etag(), case["etag"]);
        let good = IfMatch::Etag(twin.etag());
        assert!(twin.check_etag(&good, "d").is_ok());
        let stale = twin.check_etag(&IfMatch::Etag("AAAAAAAAAAA=".into()), "d");
        assert_eq!(
            stale.unwrap_err().to_string(),
            "ETag mismatch for device ID 'd'"
        );
    }
}
