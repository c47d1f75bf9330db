//! Messages up, and the live state that they move.

use std::time::Duration;

use axum::http::Method;
use azimuth_broker::{Backend, CloseReason, Hello, Inward, Line, Publish, Secret};
use azimuth_hub::event::Event;
use azimuth_wire::sas;
use bytes::Bytes;
use serde_json::Value;

use crate::desk::{Desk, HOST, START, VERSION, hello, publish};

#[tokio::test]
async fn telemetry_becomes_an_event_with_azures_stamps() {
    let desk = Desk::new();
    let generation = desk.make("dev-1").await["generationId"].clone();
    let by_device = hello("dev-1");
    let policies = azimuth_hub::policies::Policies::published("hub1");
    let owner = &policies.policy("iothubowner").unwrap().keys.primary_key;
    let by_policy = Hello {
        password: Some(Secret(sas::sign(
            HOST,
            owner,
            START + 60,
            Some("iothubowner"),
        ))),
        user_name: Some(format!(
            "{HOST}/dev-1/?api-version=2021-04-12&model-id=dtmi%3Aa%3B1"
        )),
        ..hello("dev-1")
    };
    for (hello, scope, model) in [
        (by_device, "device", None),
        (by_policy, "hub", Some("dtmi:a;1")),
    ] {
        let admission = desk.connect(hello).await.unwrap();
        let payload = Bytes::from_static(b"\xff body");
        let sent = Publish {
            retain: true,
            ..publish("devices/dev-1/messages/events/%24.mid=7&a=b&c", &payload)
        };
        let Ok(Inward::Store { lane, envelope }) = desk.door.publish(&admission.principal, sent)
        else {
            panic!("telemetry is stored");
        };
        assert_eq!(
            u16::from(lane.0),
            azimuth_hub::event::partition_for("dev-1", 4)
        );
        let event = Event::decode(&envelope).unwrap();
        assert_eq!(
            (event.device_id, event.module_id, event.source),
            ("dev-1", None, "Telemetry")
        );
        assert_eq!(generation, event.generation_id);
        let stamp = format!(
            r#"{{"scope":"{scope}","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}}"#
        );
        assert_eq!(event.auth_method, stamp);
        assert_eq!(event.system.value("message-id"), Some("7"));
        assert_eq!(event.system.value("dt-dataschema"), model);
        let properties: Vec<_> = event.application.iter().collect();
        assert_eq!(
            properties,
            [("a", Some("b")), ("c", None), ("mqtt-retain", Some("true"))]
        );
        assert_eq!(event.body, b"\xff body");
    }
}

#[tokio::test]
async fn live_state_follows_the_line_and_survives_a_restart() {
    let desk = Desk::new();
    let (device, _) = desk.on_the_line("d").await;
    let state = |device: &Value| {
        let text = |member: &str| device[member].as_str().unwrap().to_owned();
        (
            text("connectionState"),
            text("connectionStateUpdatedTime"),
            text("lastActivityTime"),
        )
    };
    let row = |state: &str, changed: &str, activity: &str| {
        let time = |seconds: &str| format!("2023-11-14T22:13:{seconds}Z");
        (state.to_owned(), time(changed), time(activity))
    };
    assert_eq!(state(&desk.read("d").await), row("Connected", "20", "20"));
    desk.clock.advance(Duration::from_secs(5));
    let payload = Bytes::new();
    desk.door
        .publish(&device, publish("devices/d/messages/events/", &payload))
        .unwrap();
    assert_eq!(state(&desk.read("d").await), row("Connected", "20", "25"));
    let rows = desk.registry.live().rows(10);
    assert_eq!(
        (
            rows[0].device.as_str(),
            rows[0].connection_state.as_str(),
            rows[0].messages
        ),
        ("d", "Connected", 1)
    );

    // Killed while the device is connected: found disconnected since the next start.
    desk.registry.live().write_down();
    let again = Desk::over(desk.store.clone());
    assert_eq!(state(&again.read("d").await).0, "Disconnected");
    assert_eq!(state(&again.read("d").await).2, "2023-11-14T22:13:25Z");
    assert!(again.registry.live().rows(10).is_empty());

    desk.clock.advance(Duration::from_secs(5));
    desk.door.left(&device, &CloseReason::Lost);
    assert_eq!(
        state(&desk.read("d").await),
        row("Disconnected", "30", "30")
    );
    assert_eq!(desk.registry.live().connected(), 0);
    desk.registry.live().write_down();
    let again = Desk::over(desk.store.clone());
    assert_eq!(
        state(&again.read("d").await),
        row("Disconnected", "30", "30")
    );
}

#[tokio::test]
async fn a_device_made_anew_knows_nothing_of_the_old_one() {
    let desk = Desk::new();
    let (device, _) = desk.on_the_line("d").await;
    desk.registry.live().write_down();
    let path = format!("/devices/d{VERSION}");
    assert_eq!(
        desk.ask(Method::DELETE, &path, Some("*"), "").await.status,
        204
    );
    desk.clock.advance(Duration::from_secs(1));
    let made = desk.make("d").await;
    desk.door.left(&device, &CloseReason::Removed("deleted"));
    desk.registry.live().write_down();
    assert_eq!(desk.read("d").await, made);
    assert_eq!(made["lastActivityTime"], "0001-01-01T00:00:00Z");
    assert_eq!(Desk::over(desk.store.clone()).read("d").await, made);
}

#[tokio::test]
async fn a_device_that_was_removed_while_it_connected_does_not_stay() {
    for (method, body) in [
        (Method::DELETE, ""),
        (Method::PUT, r#"{"status":"disabled"}"#),
    ] {
        let desk = Desk::new();
        desk.make("d").await;
        let admission = desk.connect(hello("d")).await.unwrap();
        desk.ask(method, &format!("/devices/d{VERSION}"), Some("*"), body)
            .await;
        let line = Line::unconnected();
        desk.door.arrived(&admission.principal, &line);
        assert!(matches!(line.closing(), Some(CloseReason::Removed(_))));
    }
}

#[tokio::test]
async fn a_connection_ends_its_grace_after_its_token() {
    let desk = Desk::new();
    desk.make("d").await;
    use azimuth_clock::Clock;
    let admission = desk.connect(hello("d")).await.unwrap();
    assert_eq!(
        admission.expires,
        Some(desk.clock.now() + Duration::from_secs(3900))
    );
    assert_eq!(admission.longest_silence, Duration::from_secs(1767));
    assert!(admission.persistent_sessions);
}

#[tokio::test]
async fn an_answer_to_a_method_that_nobody_called_is_dropped() {
    let desk = Desk::new();
    let (device, _) = desk.on_the_line("d").await;
    let payload = Bytes::from_static(b" ");
    let late = publish("$iothub/methods/res/200/?$rid=1", &payload);
    assert!(matches!(
        desk.door.publish(&device, late),
        Ok(Inward::Answer(None))
    ));
}

#[tokio::test]
async fn a_principal_is_small_and_shared() {
    let desk = Desk::new();
    let (device, _) = desk.on_the_line("d").await;
    assert_eq!(std::mem::size_of_val(&device), std::mem::size_of::<usize>());
}
