//! A store that stops or fails while a fleet goes on publishing: nothing is lost in silence, and memory
//! stays bounded.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod door;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use azimuth_broker::{CloseReason, Limits};
use door::*;
use rumqttc::mqttbytes::QoS as WireQoS;
use rumqttc::mqttbytes::v4::Packet;

/// 5,000 messages a second for a minute, over this many devices.
const OFFERED: u64 = 300_000;
const DEVICES: u64 = 50;
const PAYLOAD: usize = 200;

/// Publishes its share as fast as it is let, reads PUBACKs as they come.
async fn device(
    client: Client<tokio::io::DuplexStream>,
    offered: Arc<AtomicU64>,
    acknowledged: Arc<AtomicU64>,
) {
    let share = OFFERED / DEVICES;
    let (reader, writer) = tokio::io::split(client.stream);
    let (mut reader, mut writer) = (
        Client::new(tokio::io::join(reader, tokio::io::sink())),
        writer,
    );
    let send = async {
        use tokio::io::AsyncWriteExt;
        for n in 0..share {
            let id = u16::try_from(n % 65_535).unwrap() + 1;
            let mut payload = n.to_be_bytes().to_vec();
            payload.resize(PAYLOAD, 0);
            let packet = bytes_of(&publish("t", WireQoS::AtLeastOnce, id, payload));
            writer.write_all(&packet).await.unwrap();
            offered.fetch_add(1, Ordering::Relaxed);
        }
    };
    let receive = async {
        for n in 0..share {
            let expected = u16::try_from(n % 65_535).unwrap() + 1;
            match reader.next().await {
                Some(Packet::PubAck(ack)) => assert_eq!(ack.pkid, expected),
                other => panic!("no PUBACK but {other:?}"),
            }
            acknowledged.fetch_add(1, Ordering::Relaxed);
        }
    };
    tokio::join!(send, receive);
}

#[tokio::test]
async fn what_is_offered_while_the_store_stands_still_is_stored_once_it_goes_on() {
    let limits = Limits {
        router_bytes: 256 << 10,
        ..Limits::default()
    };
    let (limit, packet) = (limits.router_bytes, limits.packet_bytes);
    let service = Service {
        quiet: true,
        ..Service::default()
    };
    let house = House::with(service, limits, tls(), 0).await;
    house.store.state.lock().keep = true;
    house.store.stop();
    let (offered, acknowledged) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let before = resident();
    let mut devices = tokio::task::JoinSet::new();
    for n in 0..DEVICES {
        let client = house.connect(&format!("dev{n}")).await;
        devices.spawn(device(client, offered.clone(), acknowledged.clone()));
    }
    // The store stands still until no device is let in any further.
    let mut still = (0, 0);
    while still.1 < 1000 {
        tokio::task::yield_now().await;
        let now = offered.load(Ordering::Relaxed);
        still = if now == still.0 {
            (now, still.1 + 1)
        } else {
            (now, 0)
        };
        assert!(house.door.figures().bytes_under_way <= limit + packet);
        assert_eq!(acknowledged.load(Ordering::Relaxed), 0, "nothing is stored");
    }
    let stopped = (
        offered.load(Ordering::Relaxed),
        resident(),
        house.door.figures(),
    );
    assert!(stopped.0 < OFFERED, "back-pressure reaches the devices");
    assert!(stopped.2.bytes_under_way >= limit, "the stop was felt");
    house.store.go_on();
    let watch = async {
        while let Some(done) = devices.join_next().await {
            done.unwrap();
        }
    };
    tokio::pin!(watch);
    let mut most = 0;
    loop {
        tokio::select! {
            biased;
            () = &mut watch => break,
            () = tokio::task::yield_now() => {
                // Acknowledged is looked at first: what is stored meanwhile only helps.
                let heard = acknowledged.load(Ordering::Relaxed);
                assert!(heard <= house.store.stored(), "acknowledged means stored");
                most = most.max(house.door.figures().bytes_under_way);
            }
        }
    }
    assert!(most <= limit + packet, "{most} bytes were under way");
    let (heard, stored) = (acknowledged.load(Ordering::Relaxed), house.store.stored());
    println!(
        "offered {OFFERED}, let in while stopped {}, acknowledged {heard}, stored {stored}; under way at most {most} bytes of {limit}; \
         resident {before} KiB before, {} KiB stopped, {} KiB after (with {} KiB of envelopes kept by the test); batches {}",
        stopped.0,
        stopped.1,
        resident(),
        OFFERED * (PAYLOAD as u64 + 40) / 1024,
        house.door.figures().batches,
    );
    assert_eq!((heard, stored), (OFFERED, OFFERED));
    assert!(
        stopped.1 < before + 64 * 1024,
        "memory is bounded while stopped"
    );
    let mut next: HashMap<Vec<u8>, u64> = HashMap::new();
    for envelope in &house.store.state.lock().envelopes {
        let name = envelope.split(|byte| *byte == 0).next().unwrap();
        let at = name.len() + 1;
        let number = u64::from_be_bytes(envelope[at..at + 8].try_into().unwrap());
        let due = next.entry(name.to_vec()).or_default();
        assert_eq!(number, *due, "once and in order");
        *due += 1;
    }
    assert!(next.values().all(|due| *due == OFFERED / DEVICES));
}

#[tokio::test(start_paused = true)]
async fn a_device_that_the_store_keeps_waiting_is_not_silent() {
    let limits = Limits {
        router_bytes: 1000,
        ..Limits::default()
    };
    let house = House::limited(limits).await;
    house.store.stop();
    let mut asked = connect("dev");
    asked.keep_alive = 10;
    let (mut client, _) = house.connect_as(asked).await;
    for id in 1..=20 {
        client
            .send(&publish("t", WireQoS::AtLeastOnce, id, vec![0; 100]))
            .await;
    }
    // A minute of pings that nobody reads.
    for _ in 0..12 {
        tokio::time::sleep(Duration::from_secs(5)).await;
        client.send(&Packet::PingReq).await;
    }
    assert_eq!(house.presence.count(), 1);
    tokio::time::resume();
    house.store.go_on();
    for id in 1..=20 {
        let Some(Packet::PubAck(ack)) = client.next().await else {
            panic!("no PUBACK")
        };
        assert_eq!(ack.pkid, id);
    }
    for _ in 0..12 {
        assert_eq!(client.next().await, Some(Packet::PingResp));
    }
    client.ping().await;
}

#[tokio::test]
async fn a_store_that_fails_costs_every_sender_the_connection_and_acknowledges_nothing() {
    let house = House::new().await;
    house.store.stop();
    house.store.state.lock().failing = true;
    let mut clients = Vec::new();
    for n in 0..50 {
        let mut client = house.connect(&format!("dev{n}")).await;
        for id in 1..=10 {
            client
                .send(&publish("lane/1", WireQoS::AtLeastOnce, id, "x"))
                .await;
        }
        clients.push(client);
    }
    house.store.go_on();
    for client in &mut clients {
        assert_eq!(client.next().await, None);
    }
    let events = house.service.events();
    let failed = |event: &&Event| matches!(event, Event::Left(_, CloseReason::Refused(why)) if why.ends_with("the disk is full"));
    assert_eq!(events.iter().filter(failed).count(), 50);
    assert_eq!(house.door.figures().bytes_under_way, 0);
    assert_eq!(house.ledger.since(0).len(), 50);
}

#[tokio::test]
async fn the_wills_of_a_whole_fleet_wait_for_room() {
    let limits = Limits {
        router_bytes: 10_000,
        ..Limits::default()
    };
    let packet = 5_000;
    let house = House::limited(limits).await;
    house.store.stop();
    let mut clients = Vec::new();
    for n in 0..100 {
        let mut asked = willing(&format!("dev{n}"));
        asked.last_will.as_mut().unwrap().message = vec![0; packet].into();
        clients.push(house.connect_as(asked).await.0);
    }
    // A socket that is not read is not seen to close; a service that hangs up is heard at once.
    for n in 0..100 {
        let owner = azimuth_broker::Owner::new(&format!("dev{n}"));
        let removed = CloseReason::Removed("the device was deleted");
        assert!(house.presence.close(&owner, removed));
    }
    for _ in 0..1000 {
        tokio::task::yield_now().await;
        assert!(house.door.figures().bytes_under_way <= 10_000 + packet + 100);
    }
    house.store.go_on();
    while house.presence.count() > 0 {
        tokio::task::yield_now().await;
    }
    let store = house.store.clone();
    house.door.close().await;
    assert_eq!(store.stored(), 100);
}
