//! Identifiers, etags and error numbers, held against Azure's own.

#![allow(clippy::unwrap_used)]

use azimuth_wire::{
    DeviceId, EnrollmentGroupId, ErrorCode, IdScope, ModuleId, RegistrationId, etag,
};
use serde_json::Value;

fn identifiers() -> Value {
    serde_json::from_str(include_str!("vectors/identifiers.json")).unwrap()
}

fn rows(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[test]
fn device_and_module_ids_are_checked() {
    for row in rows(&identifiers()["hub"]) {
        let valid = row["valid"].as_bool().unwrap();
        let id = text(&row["id"]);
        assert_eq!(id.parse::<DeviceId>().is_ok(), valid, "{id}");
        assert_eq!(id.parse::<ModuleId>().is_ok(), valid, "{id}");
    }
    let json = serde_json::from_str::<DeviceId>("\"a b\"").unwrap_err();
    assert!(json.to_string().starts_with("`a b` is not a valid id"));
}

#[test]
fn registration_ids_are_checked_and_compared_without_regard_to_case() {
    let vectors = identifiers();
    for id in rows(&vectors["registrationValid"]) {
        assert!(text(id).parse::<RegistrationId>().is_ok(), "{id}");
        assert!(text(id).parse::<EnrollmentGroupId>().is_ok(), "{id}");
    }
    for id in rows(&vectors["registrationInvalid"]) {
        assert!(text(id).parse::<RegistrationId>().is_err(), "{id}");
    }
    let (upper, lower): (RegistrationId, RegistrationId) =
        ("Dev.001".parse().unwrap(), "dev.001".parse().unwrap());
    assert_eq!(upper, lower);
    assert_eq!(
        (upper.as_str(), upper.folded()),
        ("Dev.001", "dev.001".into())
    );
    assert!(std::collections::HashSet::from([upper]).contains(&lower));
    for scope in rows(&vectors["idScopes"]) {
        let parsed: IdScope = text(scope).parse().unwrap();
        assert_eq!(parsed, text(scope).to_lowercase().parse().unwrap());
    }
    for scope in ["", "0ne 1", "0ne/1", &"0".repeat(33)] {
        assert!(scope.parse::<IdScope>().is_err(), "{scope}");
    }
}

#[test]
fn etags_are_those_azure_makes() {
    let vectors = identifiers();
    for row in rows(&vectors["identityEtags"]) {
        let counter = row["counter"].as_u64().unwrap();
        assert_eq!(etag::of_counter(counter), text(&row["etag"]));
        assert_eq!(etag::of_counter(counter + 1), text(&row["nextEtag"]));
        assert_eq!(
            etag::IfMatch::parse(row["header"].as_str()),
            etag::IfMatch::Etag(text(&row["etag"]).into())
        );
    }
    let example = &vectors["dpsEtag"];
    let guid = text(&example["text"]).trim_matches('"');
    assert_eq!(etag::of_guid(guid), text(&example["base64"]));
}

#[test]
fn error_numbers_have_azures_names_and_statuses() {
    let vectors: Value = serde_json::from_str(include_str!("vectors/error_codes.json")).unwrap();
    for code in ErrorCode::ALL {
        let known = rows(&vectors["codes"])
            .iter()
            .find(|row| row["code"] == code.number())
            .unwrap_or_else(|| panic!("{code:?} is no number of Azure's"));
        assert_eq!(code.name(), text(&known["name"]));
        assert_eq!(u64::from(code.status()), known["http"].as_u64().unwrap());
    }
}
