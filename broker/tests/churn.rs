//! Devices come and go, each with names, topics and request ids that never repeat: nothing of them stays.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod door;

use std::sync::Arc;
use std::time::Duration;

use azimuth_broker::Limits;
use door::*;
use rumqttc::mqttbytes::QoS as WireQoS;
use rumqttc::mqttbytes::v4::{Packet, PubAck};

const DEVICES: usize = 19_000;
const AT_ONCE: usize = 500;
/// What memory may have grown by after 19,000 devices, beyond its level after the first round.
const MARGIN_KIB: u64 = 4 * 1024;

async fn live(house: &House, n: usize) {
    let name = format!("device-{n}");
    let mut client = house.dial();
    client.connect(connect(&name)).await;
    client.subscribe(&[("answer/#", WireQoS::AtMostOnce)]).await;
    let topic = format!("devices/{name}/messages/events/run={n}&stamp={}", n * 7919);
    client
        .send(&publish(
            &topic,
            WireQoS::AtLeastOnce,
            1,
            format!("reading {n}"),
        ))
        .await;
    assert_eq!(client.next().await, Some(Packet::PubAck(PubAck::new(1))));
    client
        .send(&publish(
            &format!("ask/?$rid={n}"),
            WireQoS::AtMostOnce,
            0,
            "",
        ))
        .await;
    assert_eq!(client.message().await.0, format!("answer/?$rid={n}"));
    if n.is_multiple_of(2) {
        client.send(&Packet::Disconnect).await;
        assert_eq!(client.next().await, None);
    }
}

async fn round(house: &Arc<House>, devices: std::ops::Range<usize>) {
    let mut tasks = tokio::task::JoinSet::new();
    for n in devices {
        let house = house.clone();
        tasks.spawn(async move { live(&house, n).await });
    }
    tasks.join_all().await;
    while house.presence.count() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn nothing_stays_of_devices_that_are_gone() {
    let service = Service {
        quiet: true,
        ..Service::default()
    };
    let house = Arc::new(House::with(service, Limits::default(), tls(), 0).await);
    let alive = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    round(&house, 0..1).await;
    let (first, tasks) = (house.door.figures(), alive());
    // The allocator and the router's log find their level.
    round(&house, 1..1 + AT_ONCE).await;
    round(&house, 1 + AT_ONCE..1 + 2 * AT_ONCE).await;
    let level = resident();
    let start = std::time::Instant::now();
    for begin in (1001..1001 + DEVICES).step_by(AT_ONCE) {
        round(&house, begin..begin + AT_ONCE).await;
    }
    let (last, end) = (house.door.figures(), resident());
    println!(
        "{DEVICES} devices in {:.1} s; router: {first:?}, then {last:?}; resident {level} KiB, then {end} KiB; tasks {tasks}, then {}",
        start.elapsed().as_secs_f64(),
        alive(),
    );
    assert_eq!(
        (last.links, last.filters, last.topics),
        (first.links, first.filters, first.topics)
    );
    assert_eq!(house.presence.count(), 0);
    assert_eq!(house.store.stored(), 1001 + DEVICES as u64);
    tokio::time::timeout(Duration::from_secs(5), async {
        while alive() > tasks {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("each connection's task ends");
    assert!(
        end < level + MARGIN_KIB,
        "memory grew from {level} to {end} KiB"
    );
}
