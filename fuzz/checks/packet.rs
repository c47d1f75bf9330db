//! Whatever bytes arrive: the codec ends, without a panic, in packets or in an error.

use bytes::BytesMut;
use rumqttc::mqttbytes::v4::Packet;

const MAX_PACKET_BYTES: usize = 268_435_455;

pub fn check(data: &[u8]) {
    let mut stream = BytesMut::from(data);
    while let Ok(packet) = Packet::read(&mut stream, MAX_PACKET_BYTES) {
        if let Packet::Publish(publish) = packet {
            assert!(publish.topic.len() + publish.payload.len() <= data.len());
        }
    }
}
