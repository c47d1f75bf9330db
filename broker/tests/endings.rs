//! How connections end, and how much waits for a device that does not read or acknowledge.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod door;

use std::sync::Arc;
use std::time::Duration;

use azimuth_broker::{CloseReason, Operation};
use door::*;
use rumqttc::mqttbytes::QoS as WireQoS;
use rumqttc::mqttbytes::v4::{LastWill, Packet, PubAck};

const ONCE: WireQoS = WireQoS::AtMostOnce;
const LEAST: WireQoS = WireQoS::AtLeastOnce;

#[tokio::test]
async fn a_will_is_published_once_at_every_end_but_disconnect() {
    let ends: [(&str, CloseReason); 5] = [
        ("goodbye", CloseReason::Goodbye),
        ("lost", CloseReason::Lost),
        ("removed", CloseReason::Removed("the device was deleted")),
        ("taken over", CloseReason::TakenOver),
        ("shutdown", CloseReason::Shutdown),
    ];
    for (end, reason) in ends {
        let house = House::new().await;
        let mut asked = connect("dev");
        asked.last_will = Some(LastWill::new("last", "words", LEAST, true));
        let (mut client, _) = house.connect_as(asked).await;
        let owner = azimuth_broker::Owner::new("dev");
        let mut second = None;
        let (service, presence, ledger, store) = (
            house.service.clone(),
            house.presence.clone(),
            house.ledger.clone(),
            house.store.clone(),
        );
        match &reason {
            CloseReason::Goodbye => client.send(&Packet::Disconnect).await,
            CloseReason::Lost => drop(std::mem::replace(&mut client, house.dial())),
            CloseReason::Removed(_) => assert!(presence.close(&owner, reason.clone())),
            CloseReason::TakenOver => second = Some(house.connect("dev").await),
            _ => {}
        }
        if reason == CloseReason::Lost {
            while presence.count() > 0 {
                tokio::task::yield_now().await;
            }
        } else if reason != CloseReason::Shutdown {
            assert_eq!(client.next().await, None, "{end}: a bare close");
        }
        let expected = usize::from(reason != CloseReason::Goodbye);
        house.door.close().await;
        let events = service.events();
        let wills = events
            .iter()
            .filter(|event| matches!(event, Event::Will(..)))
            .count();
        assert_eq!(wills, expected, "{end}: {events:?}");
        assert!(
            events.contains(&Event::Left("dev".into(), reason.clone())),
            "{end}: {events:?}"
        );
        assert_eq!(store.stored(), u64::try_from(expected).unwrap(), "{end}");
        assert_eq!(presence.count(), 0, "{end}");
        let records = ledger.since(0);
        let kinds: Vec<_> = records
            .iter()
            .map(|record| (record.refusal.kind, record.refusal.sentence.as_str()))
            .collect();
        match reason {
            CloseReason::Removed(why) => assert_eq!(kinds, [("removed", why)]),
            CloseReason::TakenOver => {
                assert_eq!(kinds.len(), 1);
                assert_eq!(kinds[0].0, "taken-over");
                assert!(
                    kinds[0]
                        .1
                        .starts_with("the same identity connected again (400027"),
                    "{}",
                    kinds[0].1
                );
            }
            _ => assert_eq!(kinds, []),
        }
        drop(second);
    }
}

#[tokio::test]
async fn the_old_connection_has_left_before_the_new_one_arrives() {
    let house = House::new().await;
    let (mut old, _) = house.connect_as(willing("dev")).await;
    let mut new = house.connect("dev").await;
    assert_eq!(old.next().await, None);
    new.ping().await;
    let arrived = || Event::Arrived("dev".into());
    assert_eq!(
        house.service.events(),
        [
            arrived(),
            Event::Will("dev".into(), "last".into()),
            Event::Left("dev".into(), CloseReason::TakenOver),
            arrived()
        ]
    );
    assert_eq!(house.presence.count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_connections_of_one_identity_one_is_left_and_each_arrival_has_its_departure() {
    let house = Arc::new(House::new().await);
    for _ in 0..20 {
        let mut dialled = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let house = house.clone();
            dialled.spawn(async move {
                let mut client = house.dial();
                client.send(&Packet::Connect(kept("dev"))).await;
                let accepted = matches!(client.next().await, Some(Packet::ConnAck(_)));
                (client, accepted)
            });
        }
        let clients = dialled.join_all().await;
        assert!(
            clients.iter().all(|(_, accepted)| *accepted),
            "each is let in for a moment"
        );
    }
    while house.presence.count() > 0 {
        tokio::task::yield_now().await;
    }
    let mut here = false;
    for event in house.service.events() {
        match event {
            Event::Arrived(_) => assert!(!std::mem::replace(&mut here, true), "two at once"),
            Event::Left(..) => assert!(std::mem::replace(&mut here, false), "left twice"),
            other => panic!("{other:?}"),
        }
    }
    assert!(!here);
}

#[tokio::test]
async fn a_device_that_acknowledges_nothing_gets_a_window_and_the_rest_waits_up_to_a_bound() {
    let house = House::new().await;
    let mut client = house.connect("dev").await;
    client.subscribe(&[("#", LEAST)]).await;
    let line = house.service.line("dev");
    for n in 0..16 {
        line.deliver(message("t", "x")).unwrap();
        assert_eq!(client.message().await.1, n + 1);
    }
    for _ in 0..256 {
        line.deliver(message("t", "x")).unwrap();
    }
    assert!(
        line.deliver(message("t", "x")).is_err(),
        "the mailbox is full"
    );
    client.ping().await;
    client.acknowledge(3).await;
    assert_eq!(client.message().await.1, 17);
    client.ping().await;
    for n in 4..=16 {
        client.acknowledge(n).await;
        assert_eq!(client.message().await.1, n + 14);
    }
}

#[tokio::test]
async fn answers_wait_for_acknowledgements_and_a_device_that_never_gives_any_is_closed() {
    let house = House::new().await;
    let mut client = house.connect("dev").await;
    client.subscribe(&[("answer/#", LEAST)]).await;
    for n in 0..16 + 256 + 1 {
        client.send(&publish("ask/x", ONCE, 0, "x")).await;
        if n < 16 {
            assert_eq!(client.message().await.1, n + 1);
        } else if n < 16 + 256 {
            client.ping().await;
        }
    }
    assert_eq!(client.next().await, None);
    let record = house.refusal(0).await;
    assert_eq!(record.refusal.kind, "unacknowledged-answers");
    assert!(
        record
            .refusal
            .sentence
            .starts_with("the device asks on and acknowledges none of the answers")
    );
}

#[tokio::test]
async fn a_reader_that_was_slow_gets_everything_once_it_reads() {
    for capacity in [1 << 10, 256 << 10] {
        read_late(capacity).await;
    }
}

/// With a stream of few bytes the door writes in many small steps, with one of many in few big ones.
async fn read_late(capacity: usize) {
    let house = House::new().await;
    let mut client = house.dial_through(capacity);
    client.connect(connect("dev")).await;
    client.subscribe(&[("t", ONCE)]).await;
    let line = house.service.line("dev");
    let payload = "x".repeat(10_000);
    for n in 0..200 {
        line.deliver(message("t", &format!("{n} {payload}")))
            .unwrap();
        tokio::task::yield_now().await;
    }
    for n in 0..200 {
        client.gulp(capacity);
        let Some(Packet::Publish(publish)) = client.next().await else {
            panic!("no PUBLISH")
        };
        let text = String::from_utf8(publish.payload.to_vec()).unwrap();
        assert!(text.starts_with(&format!("{n} ")), "in order");
    }
    client.ping().await;
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_never_reads_is_closed_as_silent_and_holds_a_bounded_amount() {
    let house = House::new().await;
    let mut client = house.dial_through(1 << 10);
    let mut asked = connect("dev");
    asked.keep_alive = 60;
    client.connect(asked).await;
    client.subscribe(&[("t", ONCE)]).await;
    let line = house.service.line("dev");
    let mut taken = 0;
    while line.deliver(message("t", &"x".repeat(1000))).is_ok() {
        taken += 1;
        tokio::task::yield_now().await;
    }
    assert!(taken < 256 + 80, "{taken} kB");
    // It may go on sending as much as it likes.
    let (_, mut writer) = tokio::io::split(client.stream);
    let pings = tokio::spawn(async move {
        loop {
            use tokio::io::AsyncWriteExt;
            if writer.write_all(&bytes_of(&Packet::PingReq)).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    while house.presence.count() > 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(
        house.service.events().last(),
        Some(&Event::Left("dev".into(), CloseReason::KeepAlive))
    );
    pings.abort();
}

#[tokio::test]
async fn a_connection_that_falls_over_gives_its_place_up() {
    let house = House::new().await;
    let mut client = house.connect("dev").await;
    client.send(&publish("panic", LEAST, 1, "x")).await;
    assert_eq!(client.next().await, None);
    let mut client = house.connect("dev").await;
    client.ping().await;
    assert_eq!(house.presence.count(), 1);
}

#[tokio::test]
async fn a_device_that_is_removed_leaves_no_session_behind() {
    let house = House::new().await;
    let owner = azimuth_broker::Owner::new("dev");
    let (mut client, _) = house.connect_as(kept("dev")).await;
    house
        .presence
        .forget(&owner, CloseReason::Removed("the device was deleted"));
    assert_eq!(client.next().await, None);
    assert!(!house.connect_as(kept("dev")).await.1);
}

#[tokio::test]
async fn a_front_door_that_closes_ends_every_connection_whatever_it_is_doing() {
    let house = House::new().await;
    let mut silent = house.dial();
    let mut open = house.connect("dev").await;
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    *house.service.gate.lock() = Some(gate.clone());
    let mut judged = house.dial();
    judged.send(&Packet::Connect(connect("late"))).await;
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    let service = house.service.clone();
    let closing = tokio::spawn(house.door.close());
    assert_eq!(silent.next().await, None);
    assert_eq!(open.next().await, None);
    gate.add_permits(1);
    assert_eq!(judged.next().await, accepted(false));
    assert_eq!(judged.next().await, None);
    closing.await.unwrap();
    for name in ["dev", "late"] {
        assert!(
            service
                .events()
                .contains(&Event::Left(name.into(), CloseReason::Shutdown))
        );
    }
}

#[tokio::test]
async fn messages_that_could_not_be_stored_cost_their_senders_the_connection_unacknowledged() {
    let house = House::new().await;
    house.store.state.lock().failing = true;
    let mut client = house.connect("dev").await;
    let mut other = house.connect("other").await;
    client.send(&publish("t", LEAST, 1, "x")).await;
    assert_eq!(client.next().await, None);
    let record = house.refusal(0).await;
    assert_eq!(
        (record.refusal.kind, record.operation),
        ("not-stored", Operation::Publish)
    );
    assert_eq!(
        record.refusal.sentence,
        "the message could not be stored: the disk is full"
    );
    other.ping().await;
    house.store.state.lock().failing = false;
    other.send(&publish("t", LEAST, 1, "x")).await;
    assert_eq!(other.next().await, Some(Packet::PubAck(PubAck::new(1))));
}
