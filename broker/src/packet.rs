//! MQTT 3.1.1 packets from bytes: rumqttc's codec, and what MQTT demands that it does not check.
//!
//! What may not enter: what a packet means in a session.

use bytes::{Buf, BytesMut};
use rumqttc::mqttbytes::v4::Packet;
use rumqttc::mqttbytes::{self, QoS};

/// Why bytes are not a packet. MQTT knows one answer: the connection is closed [MQTT-4.8.0-1].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("the flags {flags:#06b} are reserved for packet type {kind} [MQTT-2.2.2-2]")]
    Flags { kind: u8, flags: u8 },
    #[error("the packet announces {announced} bytes; at most {limit} are taken")]
    TooLarge { announced: usize, limit: usize },
    #[error("the protocol is not MQTT 3.1.1: {0}")]
    Protocol(String),
    #[error(
        "the CONNECT flags {0:#010b} contradict each other [MQTT-3.1.2-3], [MQTT-3.1.2-11] to [MQTT-3.1.2-22]"
    )]
    ConnectFlags(u8),
    #[error("{0} bytes follow the end of the packet's fields")]
    Trailing(usize),
    #[error("the topic name `{0}` holds a wildcard, a null character or nothing [MQTT-3.3.2-2]")]
    TopicName(String),
    #[error("DUP is set on a QoS 0 PUBLISH [MQTT-3.3.1-2]")]
    DuplicateAtQosZero,
    #[error("the packet identifier is 0 [MQTT-2.3.1-1]")]
    PacketId,
    #[error("the packet is malformed: {0}")]
    Codec(String),
}

/// Takes the next whole packet off the front of `bytes`; `None` until more have come.
pub fn decode(bytes: &mut BytesMut, limit: usize) -> Result<Option<Packet>, Malformed> {
    let Some(&first) = bytes.first() else {
        return Ok(None);
    };
    check_flags(first)?;
    let header = match mqttbytes::check(bytes.iter(), limit) {
        Ok(header) => header,
        Err(mqttbytes::Error::InsufficientBytes(_)) => return Ok(None),
        Err(mqttbytes::Error::PayloadSizeLimitExceeded(announced)) => {
            return Err(Malformed::TooLarge { announced, limit });
        }
        Err(other) => return Err(Malformed::Codec(other.to_string())),
    };
    let length = header.frame_length();
    let connect = first >> 4 == 1;
    if connect {
        check_connect(&bytes[..length])?;
    }
    let packet = match Packet::read(bytes, limit) {
        Ok(packet) => packet,
        Err(mqttbytes::Error::InvalidProtocol) => {
            return Err(Malformed::Protocol("unknown protocol name".into()));
        }
        Err(mqttbytes::Error::InvalidProtocolLevel(level)) => {
            return Err(Malformed::Protocol(format!("protocol level {level}")));
        }
        Err(other) => return Err(Malformed::Codec(other.to_string())),
    };
    check_packet(&packet, length)?;
    if bytes.is_empty() {
        // An idle connection holds no buffer.
        *bytes = BytesMut::new();
    }
    Ok(Some(packet))
}

/// Bits 3 to 0 of the first byte are fixed for all but PUBLISH.
fn check_flags(first: u8) -> Result<(), Malformed> {
    let (kind, flags) = (first >> 4, first & 0x0f);
    let expected = match kind {
        3 => return Ok(()),
        6 | 8 | 10 => 0b0010,
        _ => 0,
    };
    if flags == expected {
        Ok(())
    } else {
        Err(Malformed::Flags { kind, flags })
    }
}

/// Protocol name, level and connect flags, before the codec guesses at the rest.
fn check_connect(frame: &[u8]) -> Result<(), Malformed> {
    let mut rest = frame;
    rest.advance(1);
    while rest.has_remaining() && rest.get_u8() & 0x80 != 0 {}
    let length = rest
        .try_get_u16()
        .map_err(|_| Malformed::Codec("the CONNECT is empty".into()))?;
    let Some((name, after)) = rest.split_at_checked(usize::from(length)) else {
        return Err(Malformed::Codec(
            "the protocol name runs past the packet".into(),
        ));
    };
    let [level, flags, ..] = *after else {
        return Err(Malformed::Codec("the CONNECT ends early".into()));
    };
    if name != b"MQTT" {
        let name: String = String::from_utf8_lossy(name).chars().take(20).collect();
        return Err(Malformed::Protocol(format!("protocol name `{name}`")));
    }
    if level != 4 {
        return Err(Malformed::Protocol(format!("protocol level {level}")));
    }
    let bit = |n: u8| flags >> n & 1 == 1;
    let (reserved, will, will_qos, will_retain) = (bit(0), bit(2), flags >> 3 & 3, bit(5));
    let (password, user_name) = (bit(6), bit(7));
    let consistent = !reserved
        && will_qos != 3
        && (will || (will_qos == 0 && !will_retain))
        && (user_name || !password);
    if consistent {
        Ok(())
    } else {
        Err(Malformed::ConnectFlags(flags))
    }
}

fn check_packet(packet: &Packet, length: usize) -> Result<(), Malformed> {
    match packet {
        Packet::Publish(publish) => {
            let topic = &publish.topic;
            if topic.is_empty() || topic.contains(['+', '#', '\0']) {
                return Err(Malformed::TopicName(topic.chars().take(200).collect()));
            }
            if publish.dup && publish.qos == QoS::AtMostOnce {
                return Err(Malformed::DuplicateAtQosZero);
            }
            return Ok(());
        }
        Packet::Subscribe(subscribe) if subscribe.pkid == 0 => return Err(Malformed::PacketId),
        Packet::Unsubscribe(unsubscribe) if unsubscribe.pkid == 0 => {
            return Err(Malformed::PacketId);
        }
        Packet::Unsubscribe(unsubscribe) if unsubscribe.topics.is_empty() => {
            return Err(Malformed::Codec(
                "an UNSUBSCRIBE without a filter [MQTT-3.10.3-2]".into(),
            ));
        }
        // A user name without a password decodes to an empty one, so its size is not comparable.
        Packet::Connect(_) | Packet::Subscribe(_) | Packet::Unsubscribe(_) => return Ok(()),
        _ => {}
    }
    match length.checked_sub(packet.size()) {
        Some(0) => Ok(()),
        Some(more) => Err(Malformed::Trailing(more)),
        None => Err(Malformed::Codec("the packet ends early".into())),
    }
}
