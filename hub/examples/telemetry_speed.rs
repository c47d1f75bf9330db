//! How long a hub takes to turn one PUBLISH of telemetry into an envelope: `cargo run --release --example telemetry_speed`.
#![allow(clippy::unwrap_used)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use azimuth_broker::{Backend, Hello, Ledger, Peer, Publish, QoS, Secret};
use azimuth_clock::{Clock, SystemClock};
use azimuth_hub::auth::Rules;
use azimuth_hub::ca_certificates::CaCertificates;
use azimuth_hub::device::DeviceDoor;
use azimuth_hub::policies::Policies;
use azimuth_hub::registry::Registry;
use azimuth_wire::Identity;
use azimuth_wire::etag::IfMatch;
use azimuth_wire::registry::IdentityBody;
use azimuth_wire::{sas, time};

const HOST: &str = "hub1.azure-devices.net";
const ROUNDS: u32 = 1_000_000;

fn main() {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let store = azimuth_storage::memory();
    let registry = Arc::new(Registry::open("hub1", store.clone(), clock.clone()).unwrap());
    let device = Identity::device("contoso-simdevice-east".parse().unwrap());
    let body = IdentityBody::parse(b"{}").unwrap();
    runtime
        .block_on(registry.put(&device, &IfMatch::Absent, body))
        .unwrap();
    let door = DeviceDoor {
        rules: Arc::new(Rules {
            host_names: vec![HOST.into()],
            policies: Policies::published("hub1"),
            clock_skew: Duration::from_secs(300),
        }),
        registry,
        ca_certificates: Arc::new(CaCertificates::open(store).unwrap()),
        ledger: Arc::new(Ledger::new("hub1")),
        clock: clock.clone(),
        meter: None,
        partitions: 4,
        sas_grace: Duration::from_secs(300),
        longest_silence: Duration::from_secs(1767),
    };
    let policies = Policies::published("hub1");
    let key = &policies.policy("device").unwrap().keys.primary_key;
    let expiry = time::unix_seconds(clock.utc()) + 3600;
    let hello = Hello {
        client_id: device.to_string(),
        user_name: Some(format!("{HOST}/{device}/?api-version=2021-04-12")),
        password: Some(Secret(sas::sign(HOST, key, expiry, Some("device")))),
        clean_session: true,
        will: None,
        peer: Arc::new(Peer {
            remote: "127.0.0.1:50000".parse().unwrap(),
            local: "127.0.0.11:8883".parse().unwrap(),
            server_name: None,
            certificates: Vec::new(),
        }),
    };
    let begun = clock.now();
    for _ in 0..ROUNDS / 100 {
        let admitted = runtime.block_on(door.authenticate(hello.clone()));
        black_box(admitted.unwrap());
    }
    report("CONNECT judged", clock.now() - begun, ROUNDS / 100);
    let who = runtime
        .block_on(door.authenticate(hello))
        .unwrap()
        .principal;
    let payload = bytes::Bytes::from(vec![b'x'; 200]);
    for (name, bag) in [
        ("200 bytes", ""),
        (
            "200 bytes, 3 properties",
            "%24.ct=application%2Fjson&%24.ce=utf-8&level=high",
        ),
    ] {
        let topic = format!("devices/{device}/messages/events/{bag}");
        let publish = Publish {
            topic: &topic,
            payload: &payload,
            qos: QoS::AtLeastOnce,
            retain: false,
            duplicate: false,
            will: false,
        };
        let begun = clock.now();
        for _ in 0..ROUNDS {
            black_box(door.publish(&who, black_box(publish)).unwrap());
        }
        report(name, clock.now() - begun, ROUNDS);
    }
}

fn report(what: &str, took: Duration, rounds: u32) {
    println!("{what}: {} ns each", took.as_nanos() / u128::from(rounds));
}
