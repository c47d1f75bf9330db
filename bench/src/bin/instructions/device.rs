//! A device over a stream in memory. It prepares its packets beforehand, so that it costs little itself.

use anyhow::{bail, ensure};
use azimuth_broker::{Backend, FrontDoor, Peer};
use azimuth_wire::{SymmetricKey, sas};
use bytes::BytesMut;
use rumqttc::mqttbytes::v4::{
    Connect, ConnectReturnCode, Disconnect, Packet, PubAck, Publish, Subscribe,
};
use rumqttc::mqttbytes::{Error, QoS};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::house::{HUB, SCOPE, group_key};

/// Later than any run, and the same in every one: 2100-01-01.
const EXPIRY: u64 = 4_102_444_800;
const STREAM_BYTES: usize = 64 << 10;

/// The id of a device.
pub fn id(number: u32) -> String {
    format!("device-{number:04}")
}

/// The CONNECT of a device of the hub.
pub fn connect_to_hub(number: u32, key: &SymmetricKey) -> anyhow::Result<BytesMut> {
    let id = id(number);
    let token = sas::sign(&format!("{HUB}/devices/{id}"), key, EXPIRY, None);
    let user = format!("{HUB}/{id}/?api-version=2021-04-12");
    connect(&id, user, token)
}

/// The CONNECT of a member of the enrollment group.
pub fn connect_to_dps(number: u32) -> anyhow::Result<BytesMut> {
    let id = id(number);
    let name = format!("{SCOPE}/registrations/{id}");
    let token = sas::sign(
        &name,
        &group_key().derive(&id),
        EXPIRY,
        Some("registration"),
    );
    connect(&id, format!("{name}/api-version=2019-03-31"), token)
}

fn connect(id: &str, user: String, token: String) -> anyhow::Result<BytesMut> {
    let mut connect = Connect::new(id);
    connect.keep_alive = 240;
    connect.set_login(user, token);
    let mut bytes = BytesMut::new();
    connect.write(&mut bytes)?;
    Ok(bytes)
}

pub fn subscribe(filter: &str) -> anyhow::Result<BytesMut> {
    let mut subscribe = Subscribe::new(filter, QoS::AtLeastOnce);
    subscribe.pkid = 1;
    let mut bytes = BytesMut::new();
    subscribe.write(&mut bytes)?;
    Ok(bytes)
}

/// A PUBLISH at QoS 1.
pub fn publish(topic: &str, packet: u16, body: &[u8]) -> anyhow::Result<BytesMut> {
    let mut publish = Publish::new(topic, QoS::AtLeastOnce, body);
    publish.pkid = packet;
    let mut bytes = BytesMut::new();
    publish.write(&mut bytes)?;
    Ok(bytes)
}

/// A device on its line.
pub struct Device {
    stream: DuplexStream,
    inbox: BytesMut,
}

impl Device {
    /// Enters with a CONNECT and is let in.
    pub async fn enter(door: &FrontDoor<impl Backend>, connect: &[u8]) -> anyhow::Result<Self> {
        let (near, far) = tokio::io::duplex(STREAM_BYTES);
        door.enter(
            far,
            Peer {
                remote: ([127, 0, 0, 1], 50_000).into(),
                local: ([127, 0, 0, 1], 8883).into(),
                server_name: Some(HUB.into()),
                certificates: Vec::new(),
            },
        );
        let mut device = Self {
            stream: near,
            inbox: BytesMut::new(),
        };
        device.send(connect).await?;
        match device.next().await? {
            Packet::ConnAck(ack) if ack.code == ConnectReturnCode::Success => Ok(device),
            other => bail!("CONNECT was answered with {other:?}"),
        }
    }

    pub async fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(self.stream.write_all(bytes).await?)
    }

    pub async fn next(&mut self) -> anyhow::Result<Packet> {
        loop {
            match Packet::read(&mut self.inbox, STREAM_BYTES) {
                Ok(packet) => return Ok(packet),
                Err(Error::InsufficientBytes(_)) => {}
                Err(error) => return Err(error.into()),
            }
            let count = self.stream.read_buf(&mut self.inbox).await?;
            ensure!(count > 0, "the connection was closed");
        }
    }

    pub async fn acknowledged(&mut self, packet: u16) -> anyhow::Result<()> {
        let answer = self.next().await?;
        ensure!(
            answer == Packet::PubAck(PubAck::new(packet)),
            "PUBLISH {packet} was answered with {answer:?}"
        );
        Ok(())
    }

    /// Publishes, and waits for the acknowledgement and the answer, which it acknowledges.
    pub async fn ask(&mut self, topic: &str, packet: u16) -> anyhow::Result<Publish> {
        self.send(&publish(topic, packet, b"")?).await?;
        self.acknowledged(packet).await?;
        let Packet::Publish(answer) = self.next().await? else {
            bail!("no answer to {topic}");
        };
        let mut bytes = BytesMut::new();
        PubAck::new(answer.pkid).write(&mut bytes)?;
        self.send(&bytes).await?;
        Ok(answer)
    }

    /// DISCONNECT; returns when the other side has closed the line.
    pub async fn leave(mut self) -> anyhow::Result<()> {
        let mut bytes = BytesMut::new();
        Disconnect.write(&mut bytes)?;
        self.send(&bytes).await?;
        let left = self.stream.read_buf(&mut self.inbox).await?;
        ensure!(left == 0, "something came after DISCONNECT");
        Ok(())
    }
}
