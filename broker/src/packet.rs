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
    #[error("a text holds a null character [MQTT-1.5.3-2]")]
    Null,
    #[error("a SUBSCRIBE asks for a QoS with reserved bits set [MQTT-3-8.3-4]")]
    SubscribeFlags,
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
    let frame = bytes.get(..length).unwrap_or_default();
    match first >> 4 {
        1 => check_connect(frame)?,
        8 => check_subscribe(frame)?,
        _ => {}
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

/// What follows the fixed header.
fn body(mut frame: &[u8]) -> &[u8] {
    frame.advance(frame.len().min(1));
    while frame.has_remaining() && frame.get_u8() & 0x80 != 0 {}
    frame
}

/// Takes a field that its length precedes.
fn field<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let length = rest.try_get_u16().ok().map(usize::from);
    let (field, after) = length
        .and_then(|length| rest.split_at_checked(length))
        .ok_or_else(|| Malformed::Codec("a field runs past the packet".into()))?;
    *rest = after;
    Ok(field)
}

/// Protocol name, level, connect flags and the fields these announce, before the codec guesses at them.
fn check_connect(frame: &[u8]) -> Result<(), Malformed> {
    let mut rest = body(frame);
    let name = field(&mut rest)?;
    let [level, ref after @ ..] = *rest else {
        return Err(Malformed::Codec("the CONNECT ends early".into()));
    };
    if name != b"MQTT" {
        let name: String = String::from_utf8_lossy(name).chars().take(20).collect();
        return Err(Malformed::Protocol(format!("protocol name `{name}`")));
    }
    if level != 4 {
        return Err(Malformed::Protocol(format!("protocol level {level}")));
    }
    let [flags, _, _, ref fields @ ..] = *after else {
        return Err(Malformed::Codec("the CONNECT ends early".into()));
    };
    let bit = |n: u8| flags >> n & 1 == 1;
    let (reserved, will, will_qos, will_retain) = (bit(0), bit(2), flags >> 3 & 3, bit(5));
    let (password, user_name) = (bit(6), bit(7));
    let consistent = !reserved
        && will_qos != 3
        && (will || (will_qos == 0 && !will_retain))
        && (user_name || !password);
    if !consistent {
        return Err(Malformed::ConnectFlags(flags));
    }
    check_fields(fields, [true, will, will, user_name, password])
}

/// Client id, will topic, will message, user name and password, as far as they are present; a text
/// holds no null character.
fn check_fields(mut rest: &[u8], present: [bool; 5]) -> Result<(), Malformed> {
    const TEXTS: [bool; 5] = [true, true, false, true, false];
    for (_, text) in present.into_iter().zip(TEXTS).filter(|(here, _)| *here) {
        if field(&mut rest)?.contains(&0) && text {
            return Err(Malformed::Null);
        }
    }
    match rest.len() {
        0 => Ok(()),
        more => Err(Malformed::Trailing(more)),
    }
}

/// The codec reads two of the eight bits of a requested QoS.
fn check_subscribe(frame: &[u8]) -> Result<(), Malformed> {
    let mut rest = body(frame);
    if rest.try_get_u16().is_err() {
        return Err(Malformed::Codec("the SUBSCRIBE ends early".into()));
    }
    while rest.has_remaining() {
        field(&mut rest)?;
        match rest.try_get_u8() {
            Ok(0..=2) => {}
            Ok(_) => return Err(Malformed::SubscribeFlags),
            Err(_) => return Err(Malformed::Codec("the SUBSCRIBE ends early".into())),
        }
    }
    Ok(())
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
        // These were measured field by field.
        Packet::Connect(_) | Packet::Subscribe(_) | Packet::Unsubscribe(_) => return Ok(()),
        _ => {}
    }
    match length.checked_sub(packet.size()) {
        Some(0) => Ok(()),
        Some(more) => Err(Malformed::Trailing(more)),
        None => Err(Malformed::Codec("the packet ends early".into())),
    }
}
