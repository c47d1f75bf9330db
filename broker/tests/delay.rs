//! Regions on real sockets: a client of another region waits by the table, one of the same does not.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod door;

use std::sync::Arc;
use std::time::{Duration, Instant};

use azimuth_broker::{Limits, RegionalDelay, Regions};
use door::secure::{dial, pair};
use door::*;
use rumqttc::mqttbytes::QoS as WireQoS;
use rumqttc::mqttbytes::v4::{Packet, PubAck};
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Far beyond what any of it takes without a delay.
const ROUND_TRIP: Duration = Duration::from_millis(700);

const EAST: &str = "127.0.1.7:0";
const WEST: &str = "127.0.2.7:0";

/// How long a connection took to CONNACK, and a message to its PUBACK.
async fn device(house: &House, from: &str, config: Arc<ClientConfig>) -> (Duration, Duration) {
    let start = Instant::now();
    let mut client = Client::new(dial(from, house.door.mqtt()[0], config).await);
    client.connect(connect(from)).await;
    let connected = start.elapsed();
    client
        .send(&publish("up", WireQoS::AtLeastOnce, 1, "hello"))
        .await;
    assert_eq!(client.next().await, Some(Packet::PubAck(PubAck::new(1))));
    (connected, start.elapsed() - connected)
}

/// How long a request took from nothing to its answer.
async fn back_end(house: &House, from: &str, config: Arc<ClientConfig>) -> Duration {
    let start = Instant::now();
    let mut stream = dial(from, house.door.https()[0], config).await;
    let request = b"GET / HTTP/1.1\r\nhost: hub.test\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    start.elapsed()
}

#[tokio::test]
async fn a_client_of_another_region_waits_by_the_table_and_others_do_not() {
    let regions = Regions::new("westus")
        .with_network("127.0.1.0/24".parse().unwrap(), "eastus")
        .with_latency("eastus", "westus", ROUND_TRIP.as_millis() as u32);
    let delay = Some(RegionalDelay::new("westus", regions));
    for (delay, from, delayed) in [
        (delay.clone(), EAST, true),
        (delay, WEST, false),
        (None, EAST, false),
    ] {
        let (server, client) = pair();
        let what = format!("{from}, {delay:?}");
        let house = House::at(Service::default(), Limits::default(), server, (1, 1), delay).await;
        let ((connected, acknowledged), answered) = tokio::join!(
            device(&house, from, client.clone()),
            back_end(&house, from, client)
        );
        // One round trip of TLS 1.3, one of CONNECT or of the request.
        for (took, round_trips) in [(connected, 2), (acknowledged, 1), (answered, 2)] {
            let least = ROUND_TRIP * round_trips;
            assert_eq!(took >= least, delayed, "{what}: {took:?}, {least:?}");
        }
        house.door.close().await;
    }
}
