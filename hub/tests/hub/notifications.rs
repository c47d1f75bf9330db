//! What a hub tells of its own accord, and to whom.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use axum::http::Method;
use azimuth_broker::{Backend, CloseReason, Lane, Line, QoS};
use azimuth_clock::Clock;
use azimuth_hub::device::Principal;
use azimuth_hub::event::Event;
use azimuth_hub::notification::{Lanes, NotifierConfig, Source, Sources, Stored};
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::desk::{Desk, START, VERSION, hello, publish};

type Put = (Lane, Vec<u8>);

/// An event log that remembers what it was given.
#[derive(Clone, Default)]
struct Taken {
    envelopes: Arc<Mutex<Vec<Put>>>,
    /// It never says that it has stored anything.
    silent: bool,
}

impl Lanes for Taken {
    fn put(&self, envelopes: Vec<(Lane, Vec<u8>)>) -> Stored {
        self.envelopes.lock().extend(envelopes);
        match self.silent {
            true => Box::pin(std::future::pending()),
            false => Box::pin(std::future::ready(Ok(()))),
        }
    }
}

impl Taken {
    /// `opType` and identity of what was told, oldest first.
    fn told(&self) -> Vec<(String, String)> {
        let envelopes = self.envelopes.lock();
        let told = envelopes.iter().map(|(lane, envelope)| {
            let event = Event::decode(envelope).unwrap();
            let partition = azimuth_hub::event::partition_for(event.device_id, 4);
            assert_eq!(u16::from(lane.0), partition, "beside the telemetry");
            let operation = event.application.value("opType").unwrap().unwrap();
            let module = event.module_id.map(|module| format!("/{module}"));
            let who = event.device_id.to_owned() + &module.unwrap_or_default();
            (operation.to_owned(), who)
        });
        told.collect()
    }

    fn bodies(&self) -> Vec<Value> {
        let envelopes = self.envelopes.lock();
        let bodies = envelopes.iter().map(|(_, envelope)| {
            serde_json::from_slice(Event::decode(envelope).unwrap().body).unwrap()
        });
        bodies.collect()
    }
}

/// A hub whose event log takes everything.
fn telling(store: Arc<dyn azimuth_storage::Store>, taken: &Taken, snapshots: bool) -> Desk {
    let desk = Desk::telling(store, |_, _, _| NotifierConfig {
        hub: "hub1".into(),
        sources: Sources::from(Source::ALL),
        posts: Vec::new(),
        partitions: 4,
        snapshots,
    });
    desk.notifier.opened(Box::new(taken.clone()));
    let run = desk
        .notifier
        .clone()
        .run(String::new(), CancellationToken::new());
    tokio::spawn(run);
    desk
}

fn pairs(told: &[(&str, &str)]) -> Vec<(String, String)> {
    let told = told.iter();
    told.map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
        .collect()
}

async fn on_the_line(desk: &Desk, device: &str) -> Principal {
    let admission = desk.connect(hello(device)).await.unwrap();
    desk.door
        .arrived(&admission.principal, &Line::unconnected());
    admission.principal
}

fn send(desk: &Desk, device: &Principal, id: &str) {
    let payload = Bytes::new();
    let topic = format!("devices/{id}/messages/events/");
    desk.door
        .publish(device, publish(&topic, &payload))
        .unwrap();
}

/// What stands in a room of the store.
fn room(desk: &Desk, room: &'static str) -> usize {
    desk.store
        .scan(room, "", None, 100)
        .unwrap()
        .documents
        .len()
}

#[tokio::test]
async fn nothing_is_told_stored_or_numbered_where_nobody_asks() {
    let desk = Desk::new();
    let taken = Taken::default();
    desk.notifier.opened(Box::new(taken.clone()));
    desk.make("d").await;
    let device = on_the_line(&desk, "d").await;
    send(&desk, &device, "d");
    desk.door.left(&device, &CloseReason::Goodbye);
    assert!(taken.told().is_empty());
    for name in ["notification", "notification-outbox", "event-grid"] {
        assert_eq!(room(&desk, name), 0, "{name}");
    }
}

#[tokio::test]
async fn identities_that_come_and_go_are_told_in_order_and_once() {
    let taken = Taken::default();
    let desk = telling(azimuth_storage::memory(), &taken, false);
    desk.make("d").await;
    assert_eq!(
        taken.told(),
        pairs(&[("createDeviceIdentity", "d")]),
        "before the answer"
    );
    let path = format!("/devices/d{VERSION}");
    // An update is not told.
    let updated = desk
        .ask(Method::PUT, &path, Some("*"), r#"{"status":"disabled"}"#)
        .await;
    assert_eq!(updated.status, 200);
    let tags = desk
        .ask(
            Method::PATCH,
            &format!("/twins/d{VERSION}"),
            None,
            r#"{"tags":{"a":1}}"#,
        )
        .await;
    assert_eq!(tags.status, 200);
    assert_eq!(
        desk.ask(Method::DELETE, &path, Some("*"), "").await.status,
        204
    );
    let bulk =
        r#"[{"id":"b1","importMode":"create","tags":{"b":2}},{"id":"b2","importMode":"create"}]"#;
    let path = format!("/devices{VERSION}");
    assert_eq!(desk.ask(Method::POST, &path, None, bulk).await.status, 200);
    let path = format!("/devices/b1{VERSION}");
    assert_eq!(desk.ask(Method::PUT, &path, None, "{}").await.status, 409);
    let made = "createDeviceIdentity";
    let expected = [
        (made, "d"),
        ("deleteDeviceIdentity", "d"),
        (made, "b1"),
        (made, "b2"),
    ];
    assert_eq!(taken.told(), pairs(&expected));
    let bodies = taken.bodies();
    assert_eq!(bodies[0]["etag"], "AAAAAAAAAAE=");
    assert_eq!(bodies[0]["version"], 2);
    assert!(bodies[0].get("tags").is_none());
    assert_eq!(
        bodies[1]["tags"],
        serde_json::json!({ "a": 1 }),
        "the last twin"
    );
    while room(&desk, "notification-outbox") > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_the_log_did_not_get_is_told_after_a_kill() {
    let lost = Taken {
        silent: true,
        ..Taken::default()
    };
    let desk = telling(azimuth_storage::memory(), &lost, false);
    desk.make("d1").await;
    assert_eq!(room(&desk, "notification-outbox"), 1);
    let taken = Taken::default();
    let again = telling(desk.store.clone(), &taken, false);
    while room(&again, "notification-outbox") > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(taken.told(), pairs(&[("createDeviceIdentity", "d1")]));
}

#[tokio::test]
async fn a_connection_is_told_from_its_first_telemetry_or_wish_for_messages_on() {
    let taken = Taken::default();
    let desk = telling(azimuth_storage::memory(), &taken, false);
    desk.make("d").await;
    let nothing_more = || taken.told().len() - 1;
    let quiet = on_the_line(&desk, "d").await;
    desk.door
        .subscribe(&quiet, "$iothub/twin/res/#", QoS::AtMostOnce)
        .unwrap();
    let (topic, payload) = ("$iothub/twin/GET/?$rid=1", Bytes::new());
    desk.door.publish(&quiet, publish(topic, &payload)).unwrap();
    desk.door.left(&quiet, &CloseReason::Lost);
    assert_eq!(nothing_more(), 0, "it only read its twin");

    let talks = on_the_line(&desk, "d").await;
    assert_eq!(nothing_more(), 0);
    send(&desk, &talks, "d");
    send(&desk, &talks, "d");
    // Of a takeover the old connection ends first.
    desk.door.left(&talks, &CloseReason::TakenOver);
    let listens = on_the_line(&desk, "d").await;
    let filter = "devices/d/messages/devicebound/#";
    desk.door
        .subscribe(&listens, filter, QoS::AtLeastOnce)
        .unwrap();
    desk.door.left(&listens, &CloseReason::Goodbye);
    let comes_back = on_the_line(&desk, "d").await;
    desk.door.restored(&comes_back, filter);
    desk.door.left(&comes_back, &CloseReason::Shutdown);
    let dies = on_the_line(&desk, "d").await;
    let topic = "devices/d/messages/events/";
    let mut will = publish(topic, &payload);
    will.will = true;
    desk.door.publish(&dies, will).unwrap();
    desk.door.left(&dies, &CloseReason::Lost);
    let both = [("deviceConnected", "d"), ("deviceDisconnected", "d")];
    assert_eq!(taken.told()[1..], pairs(&both.repeat(3)));

    let numbers: Vec<_> = taken.bodies()[1..]
        .iter()
        .map(|body| body["sequenceNumber"].as_str().unwrap().to_owned())
        .collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    // And over a restart, though this clock stands still.
    let later = Taken::default();
    let again = telling(desk.store.clone(), &later, false);
    let device = on_the_line(&again, "d").await;
    send(&again, &device, "d");
    let next = later.bodies()[0]["sequenceNumber"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(next > *numbers.last().unwrap());
}

#[tokio::test]
async fn a_faithful_hub_tells_connections_once_a_minute() {
    let taken = Taken::default();
    let desk = telling(azimuth_storage::memory(), &taken, true);
    desk.make("d").await;
    let look = |seconds: u64| {
        let now = UNIX_EPOCH + Duration::from_secs(START + seconds);
        desk.notifier.look(now);
        taken.told().split_off(1)
    };
    for _ in 0..3 {
        let device = on_the_line(&desk, "d").await;
        send(&desk, &device, "d");
        desk.door.left(&device, &CloseReason::Goodbye);
    }
    assert!(look(60).is_empty(), "it is as it was a minute ago");
    let device = on_the_line(&desk, "d").await;
    send(&desk, &device, "d");
    assert!(look(61).is_empty());
    assert_eq!(look(121), pairs(&[("deviceConnected", "d")]));
    desk.door.left(&device, &CloseReason::Shutdown);
    let all = [("deviceConnected", "d"), ("deviceDisconnected", "d")];
    assert_eq!(look(122), pairs(&all), "there is no later look");
    assert_eq!(desk.clock.utc(), UNIX_EPOCH + Duration::from_secs(START));
}

#[tokio::test]
async fn a_faithful_hub_tells_of_a_lost_device_when_it_shows_it_no_more() {
    let taken = Taken::default();
    let mut desk = telling(azimuth_storage::memory(), &taken, true);
    desk.door.lost_after = Duration::from_secs(300);
    desk.make("d").await;
    let look = |seconds: u64| {
        let now = UNIX_EPOCH + Duration::from_secs(START + seconds);
        desk.notifier.look(now);
        taken.told().split_off(1)
    };
    let device = on_the_line(&desk, "d").await;
    send(&desk, &device, "d");
    assert_eq!(look(60), pairs(&[("deviceConnected", "d")]));
    desk.door.left(&device, &CloseReason::Lost);
    assert_eq!(look(299).len(), 1);
    let all = [("deviceConnected", "d"), ("deviceDisconnected", "d")];
    assert_eq!(look(360), pairs(&all));
}

#[tokio::test]
async fn a_faithful_hub_shows_a_lost_device_for_five_minutes() {
    let mut desk = Desk::new();
    desk.door.lost_after = Duration::from_secs(300);
    let state = async |desk: &Desk| {
        let device = desk.read("d").await;
        let path = format!("/statistics/service{VERSION}");
        let counted = desk.ask(Method::GET, &path, None, "");
        let counted = counted.await.json().await["connectedDeviceCount"].clone();
        let text = |name: &str| device[name].as_str().unwrap().to_owned();
        let changed = text("connectionStateUpdatedTime");
        (
            text("connectionState"),
            changed,
            text("lastActivityTime"),
            counted,
        )
    };
    let row = |state: &str, changed: &str, activity: &str, counted: u64| {
        let at = |time: &str| format!("2023-11-14T22:{time}Z");
        (
            state.to_owned(),
            at(changed),
            at(activity),
            Value::from(counted),
        )
    };
    let (device, _) = desk.on_the_line("d").await;
    for reason in [
        CloseReason::Goodbye,
        CloseReason::Removed("deleted"),
        CloseReason::TakenOver,
    ] {
        desk.door.left(&device, &reason);
        assert_eq!(
            state(&desk).await,
            row("Disconnected", "13:20", "13:20", 0),
            "{reason:?}"
        );
        desk.door.arrived(&device, &Line::unconnected());
    }
    desk.door.left(&device, &CloseReason::Lost);
    desk.clock.advance(Duration::from_secs(299));
    assert_eq!(state(&desk).await, row("Connected", "13:20", "13:20", 1));
    desk.clock.advance(Duration::from_secs(100));
    assert_eq!(state(&desk).await, row("Disconnected", "18:20", "13:20", 0));

    // Who comes back in time was never away.
    let device = on_the_line(&desk, "d").await;
    desk.door.left(&device, &CloseReason::KeepAlive);
    desk.clock.advance(Duration::from_secs(200));
    let device = on_the_line(&desk, "d").await;
    desk.clock.advance(Duration::from_secs(200));
    assert_eq!(state(&desk).await, row("Connected", "23:19", "23:19", 1));
    // Who is deleted is not counted until then.
    desk.door.left(&device, &CloseReason::Lost);
    assert_eq!(desk.registry.service_statistics().connected_device_count, 1);
    desk.ask(
        Method::DELETE,
        &format!("/devices/d{VERSION}"),
        Some("*"),
        "",
    )
    .await;
    assert_eq!(desk.registry.service_statistics().connected_device_count, 0);
}

#[tokio::test]
async fn modules_and_the_two_of_an_edge_device_are_told_as_modules() {
    let taken = Taken::default();
    let desk = telling(azimuth_storage::memory(), &taken, false);
    let body = r#"{"deviceId":"e","capabilities":{"iotEdge":true}}"#;
    let path = format!("/devices/e{VERSION}");
    assert_eq!(desk.ask(Method::PUT, &path, None, body).await.status, 200);
    let module = r#"{"deviceId":"e","moduleId":"m"}"#;
    let of_module = format!("/devices/e/modules/m{VERSION}");
    assert_eq!(
        desk.ask(Method::PUT, &of_module, None, module).await.status,
        200
    );
    assert_eq!(
        desk.ask(Method::DELETE, &path, Some("*"), "").await.status,
        204
    );
    let told = taken.told();
    let (made, gone) = ("createModuleIdentity", "deleteModuleIdentity");
    assert_eq!(
        told[..4],
        pairs(&[
            ("createDeviceIdentity", "e"),
            (made, "e/$edgeAgent"),
            (made, "e/$edgeHub"),
            (made, "e/m")
        ])
    );
    assert_eq!(told[4], pairs(&[("deleteDeviceIdentity", "e")])[0]);
    let with_it: Vec<_> = told[5..]
        .iter()
        .map(|(operation, _)| operation.as_str())
        .collect();
    assert_eq!(with_it, [gone; 3]);
    assert_eq!(taken.bodies()[3]["moduleId"], "m");
}
