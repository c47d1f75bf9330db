#![allow(clippy::unwrap_used)]
use std::time::{Duration, UNIX_EPOCH};

use super::*;

fn identity(module: Option<&str>) -> Identity {
    Identity {
        device: "d1".parse().unwrap(),
        module: module.map(|module| module.parse().unwrap()),
    }
}

/// Source, application properties in order, and body of what is said.
fn said(happening: Happening, module: Option<&str>) -> (String, Vec<String>, Value) {
    let identity = identity(module);
    let now = UNIX_EPOCH + Duration::from_nanos(1_502_665_200_123_456_700);
    let notification = Notification {
        hub: "hub1",
        identity: &identity,
        happening,
        at: now.into(),
        number: Numbers::begin(now, None).next(),
    };
    let body = match happening {
        Happening::Created | Happening::Deleted => {
            lifecycle(&identity, &Twin::initial("7", now.into())).unwrap()
        }
        Happening::Connected | Happening::Disconnected => notification.state(),
    };
    let bytes = notification.envelope(&body);
    let event = Event::decode(&bytes).unwrap();
    assert_eq!((event.device_id, event.module_id), ("d1", module));
    let system = ["content-type", "content-encoding", "user-id"]
        .map(|name| event.system.value(name).unwrap());
    assert_eq!(system, ["application/json", "utf-8", "hub1"]);
    let correlation = event.system.value("correlation-id").unwrap();
    assert!((11..=16).contains(&correlation.len()), "{correlation}");
    let properties = event.application.iter();
    let properties = properties.map(|(name, value)| format!("{name}={}", value.unwrap()));
    (
        event.source.to_owned(),
        properties.collect(),
        serde_json::from_slice(event.body).unwrap(),
    )
}

#[test]
fn the_tables_of_the_sources_hold() {
    const AT: &str = "operationTimestamp=2017-08-13T23:00:00.1234567Z";
    for (happening, module, source, operation, schema) in [
        (
            Happening::Created,
            None,
            "deviceLifecycleEvents",
            "createDeviceIdentity",
            "deviceLifecycleNotification",
        ),
        (
            Happening::Deleted,
            None,
            "deviceLifecycleEvents",
            "deleteDeviceIdentity",
            "deviceLifecycleNotification",
        ),
        (
            Happening::Created,
            Some("m1"),
            "moduleLifecycleEvents",
            "createModuleIdentity",
            "moduleLifecycleNotification",
        ),
        (
            Happening::Deleted,
            Some("m1"),
            "moduleLifecycleEvents",
            "deleteModuleIdentity",
            "moduleLifecycleNotification",
        ),
        (
            Happening::Connected,
            None,
            "deviceConnectionStateEvents",
            "deviceConnected",
            "deviceConnectionStateNotification",
        ),
        (
            Happening::Disconnected,
            None,
            "deviceConnectionStateEvents",
            "deviceDisconnected",
            "deviceConnectionStateNotification",
        ),
        (
            Happening::Connected,
            Some("m1"),
            "deviceConnectionStateEvents",
            "moduleConnected",
            "deviceConnectionStateNotification",
        ),
        (
            Happening::Disconnected,
            Some("m1"),
            "deviceConnectionStateEvents",
            "moduleDisconnected",
            "deviceConnectionStateNotification",
        ),
    ] {
        let (found, properties, _) = said(happening, module);
        assert_eq!(found, source);
        let (operation, schema) = (
            format!("opType={operation}"),
            format!("iothub-message-schema={schema}"),
        );
        let mut expected = vec!["hubName=hub1", "deviceId=d1"];
        expected.extend(module.map(|_| "moduleId=m1"));
        expected.extend([AT, &operation, &schema]);
        assert_eq!(properties, expected);
    }
}

#[test]
fn a_lifecycle_tells_the_twin_and_a_connection_its_sequence_number() {
    let section =
        json!({ "$metadata": { "$lastUpdated": "2017-08-13T23:00:00.1234567Z" }, "$version": 1 });
    let twin = |begin: Value| {
        let mut twin = begin;
        twin["etag"] = "AAAAAAAAAAE=".into();
        twin["version"] = 2.into();
        twin["properties"] = json!({ "desired": section, "reported": section });
        twin
    };
    assert_eq!(
        said(Happening::Created, None).2,
        twin(json!({ "deviceId": "d1" }))
    );
    let module = json!({ "deviceId": "d1", "moduleId": "m1" });
    assert_eq!(said(Happening::Deleted, Some("m1")).2, twin(module));
    let number = said(Happening::Connected, None).2;
    assert_eq!(number["sequenceNumber"].as_str().unwrap().len(), 64);
    assert_eq!(number.as_object().unwrap().len(), 1);
}
