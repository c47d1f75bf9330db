//! The operations that are counted, each carried out one after the other, never two at a time.

use std::time::Duration;

use anyhow::{bail, ensure};
use azimuth_wire::topic::dps::{RESPONSES, RequestTopic};
use bytes::BytesMut;
use clap::ValueEnum;
use serde_json::Value;

use crate::device::{self, Device};
use crate::house::{House, device_key};

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Operation {
    /// A message of 200 bytes at QoS 1, stored and acknowledged before the next
    Telemetry,
    /// One of 64 messages that come in one piece
    TelemetryBurst,
    /// From CONNECT with a device's token to CONNACK, and out again
    Connect,
    /// A new device at the DPS, from CONNECT to `assigned`, identity in the hub included
    Registration,
}

impl Operation {
    pub const ALL: [Self; 4] = [
        Self::Telemetry,
        Self::TelemetryBurst,
        Self::Connect,
        Self::Registration,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Telemetry => "telemetry",
            Self::TelemetryBurst => "telemetry-burst",
            Self::Connect => "connect",
            Self::Registration => "registration",
        }
    }

    /// How often it is carried out in the short run and in the long one.
    pub fn times(self) -> (u32, u32) {
        match self {
            Self::Telemetry => (50, 550),
            Self::TelemetryBurst => (640, 6400),
            Self::Connect => (20, 220),
            Self::Registration => (5, MOST_REGISTRATIONS),
        }
    }

    pub fn carry_out(self, times: u32) -> anyhow::Result<()> {
        // The folder goes last, when nothing runs any more that writes into it.
        let house = House::new()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let work = async {
            match self {
                Self::Telemetry => telemetry(&house, times, 1).await,
                Self::TelemetryBurst => telemetry(&house, times, BURST).await,
                Self::Connect => connect(&house, times).await,
                Self::Registration => registration(&house, times).await,
            }
        };
        runtime.block_on(async { tokio::time::timeout(LONGEST_RUN, work).await })?
    }
}

const BURST: u16 = 64;
const CONNECTING: u32 = 16;
const MOST_REGISTRATIONS: u32 = 45;
const LONGEST_RUN: Duration = Duration::from_secs(120);

async fn telemetry(house: &House, times: u32, at_once: u16) -> anyhow::Result<()> {
    let hub = house.hub(1).await?;
    let mut device = Device::enter(&hub, &device::connect_to_hub(0, &device_key())?).await?;
    let topic = format!("devices/{}/messages/events/level=high", device::id(0));
    let mut burst = BytesMut::new();
    for packet in 1..=at_once {
        burst.extend_from_slice(&device::publish(&topic, packet, &[b'x'; 200])?);
    }
    for _ in 0..times / u32::from(at_once) {
        device.send(&burst).await?;
        for packet in 1..=at_once {
            device.acknowledged(packet).await?;
        }
    }
    hub.close().await;
    Ok(())
}

async fn connect(house: &House, times: u32) -> anyhow::Result<()> {
    let hub = house.hub(CONNECTING).await?;
    let key = device_key();
    let hellos = (0..CONNECTING).map(|number| device::connect_to_hub(number, &key));
    let hellos = hellos.collect::<Result<Vec<_>, _>>()?;
    for hello in hellos.iter().cycle().take(times as usize) {
        Device::enter(&hub, hello).await?.leave().await?;
    }
    hub.close().await;
    Ok(())
}

async fn registration(house: &House, times: u32) -> anyhow::Result<()> {
    // As many as the longest run has, so that preparing them costs the same in every run.
    let hellos = (0..MOST_REGISTRATIONS).map(device::connect_to_dps);
    let hellos = hellos.collect::<Result<Vec<_>, _>>()?;
    ensure!(
        times as usize <= hellos.len(),
        "at most {MOST_REGISTRATIONS}"
    );
    let trust = house.trust()?;
    let hub = house.linked_hub(&trust).await?;
    let dps = house.dps(&hub, &trust).await?;
    let subscribe = device::subscribe(RESPONSES)?;
    for hello in &hellos[..times as usize] {
        let mut device = Device::enter(&dps, hello).await?;
        device.send(&subscribe).await?;
        device.next().await?;
        register(&mut device).await?;
        device.leave().await?;
    }
    dps.close().await;
    hub.close().await;
    Ok(())
}

/// Registers, waits long enough for the assignment, and polls its result.
async fn register(device: &mut Device) -> anyhow::Result<()> {
    let topic = RequestTopic::Register { request_id: "1" }.to_string();
    let taken: Value = serde_json::from_slice(&device.ask(&topic, 2).await?.payload)?;
    let Some(operation_id) = taken["operationId"].as_str() else {
        bail!("not registered: {taken}");
    };
    let topic = RequestTopic::OperationStatus {
        request_id: "2",
        operation_id,
    };
    let topic = topic.to_string();
    for packet in 3..100 {
        // A poll too early would be counted.
        tokio::time::sleep(UNTIL_ASSIGNED).await;
        let answer: Value = serde_json::from_slice(&device.ask(&topic, packet).await?.payload)?;
        match answer["status"].as_str() {
            Some("assigned") => return Ok(()),
            Some("assigning") => {}
            _ => bail!("not assigned: {answer}"),
        }
    }
    bail!("never assigned")
}

/// Enough for an assignment under valgrind, but for the first, which makes the connection to the hub.
const UNTIL_ASSIGNED: Duration = Duration::from_millis(250);
