//! MQTT 3.1.1, and how IoT Hub bends it, seen from the wire of an open front door.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod door;

use std::sync::Arc;
use std::time::Duration;

use azimuth_broker::{Answer, CloseReason, Operation, QoS};
use door::*;
use rumqttc::mqttbytes::QoS as WireQoS;
use rumqttc::mqttbytes::v4::{LastWill, Packet, PubAck, SubAck, SubscribeReasonCode, UnsubAck};

const ONCE: WireQoS = WireQoS::AtMostOnce;
const LEAST: WireQoS = WireQoS::AtLeastOnce;
const TWICE: WireQoS = WireQoS::ExactlyOnce;

/// Clause, bytes sent, kind of the refusal, bytes that come back, how the sentence begins.
type Row = (&'static str, Vec<u8>, &'static str, Vec<u8>, &'static str);

/// A CONNECT written by hand: protocol name, level, flags, and what follows the keep-alive.
fn raw_connect(name: &[u8], level: u8, flags: u8, fields: &[u8]) -> Vec<u8> {
    let mut body = vec![0, u8::try_from(name.len()).unwrap()];
    body.extend_from_slice(name);
    body.extend_from_slice(&[level, flags, 0, 60]);
    body.extend_from_slice(fields);
    let mut packet = vec![0x10, u8::try_from(body.len()).unwrap()];
    packet.extend(body);
    packet
}

#[tokio::test]
async fn a_first_packet_that_is_no_good_connect_is_refused_by_its_clause() {
    let id = [0, 1, b'd'];
    let rows: Vec<Row> = vec![
        (
            "3.1.0-1",
            vec![0xc0, 0],
            "not-connect",
            vec![],
            "the first packet was not a CONNECT [MQTT-3.1.0-1]",
        ),
        (
            "3.1.2-1",
            raw_connect(b"MQTX", 4, 2, &id),
            "protocol-version",
            vec![0x20, 2, 0, 1],
            "the protocol is not MQTT 3.1.1: protocol name `MQTX`",
        ),
        (
            "3.1.2-1, MQTT 3.1",
            raw_connect(b"MQIsdp", 3, 2, &id),
            "protocol-version",
            vec![0x20, 2, 0, 1],
            "the protocol is not MQTT 3.1.1: protocol name `MQIsdp`",
        ),
        (
            "3.1.2-2, MQTT 5",
            raw_connect(b"MQTT", 5, 2, &id),
            "protocol-version",
            vec![0x20, 2, 0, 1],
            "the protocol is not MQTT 3.1.1: protocol level 5",
        ),
        (
            "3.1.2-3, reserved flag",
            raw_connect(b"MQTT", 4, 3, &id),
            "malformed-packet",
            vec![],
            "the CONNECT flags 0b00000011 contradict each other [MQTT-3.1.2-3], [MQTT-3.1.2-11] to [MQTT-3.1.2-22]",
        ),
        (
            "3.1.2-13, will QoS without will",
            raw_connect(b"MQTT", 4, 0b1010, &id),
            "malformed-packet",
            vec![],
            "the CONNECT flags 0b00001010 contradict each other",
        ),
        (
            "3.1.2-14, will QoS 3",
            raw_connect(b"MQTT", 4, 0b1_1110, &id),
            "malformed-packet",
            vec![],
            "the CONNECT flags 0b00011110 contradict each other",
        ),
        (
            "3.1.2-15, will retain without will",
            raw_connect(b"MQTT", 4, 0b10_0010, &id),
            "malformed-packet",
            vec![],
            "the CONNECT flags 0b00100010 contradict each other",
        ),
        (
            "3.1.2-22, password without user name",
            raw_connect(b"MQTT", 4, 0b100_0010, &id),
            "malformed-packet",
            vec![],
            "the CONNECT flags 0b01000010 contradict each other",
        ),
        (
            "2.2.2-2, reserved bits",
            vec![0x11, 0],
            "malformed-packet",
            vec![],
            "the flags 0b0001 are reserved for packet type 1 [MQTT-2.2.2-2]",
        ),
        (
            "1.5.3-2, null in client id",
            raw_connect(b"MQTT", 4, 2, &[0, 1, 0]),
            "malformed-packet",
            vec![],
            "a text holds a null character [MQTT-1.5.3-2]",
        ),
        (
            "bytes after the last field",
            raw_connect(b"MQTT", 4, 2, &[0, 1, b'd', 9]),
            "malformed-packet",
            vec![],
            "1 bytes follow the end of the packet's fields",
        ),
        (
            "a client id that runs past the packet",
            raw_connect(b"MQTT", 4, 2, &[0, 9, b'd']),
            "malformed-packet",
            vec![],
            "the packet is malformed: a field runs past the packet",
        ),
        (
            "remaining length of five bytes",
            vec![0x10, 0xff, 0xff, 0xff, 0xff, 1],
            "malformed-packet",
            vec![],
            "the packet is malformed: ",
        ),
        (
            "too large",
            vec![0x10, 0xff, 0xff, 0xff, 0x7f],
            "oversize",
            vec![],
            "the packet announces 268435455 bytes; at most 327695 are taken",
        ),
    ];
    for (clause, bytes, kind, answer, sentence) in rows {
        let house = House::new().await;
        let mut client = house.dial();
        client.raw(&bytes).await;
        let mut seen = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut client.stream, &mut seen)
            .await
            .unwrap();
        assert_eq!(seen, answer, "{clause}");
        let record = house.refusal(0).await;
        assert_eq!(record.refusal.kind, kind, "{clause}");
        assert!(
            record.refusal.sentence.starts_with(sentence),
            "{clause}: {}",
            record.refusal.sentence
        );
        assert_eq!(record.operation, Operation::Connect, "{clause}");
        assert_eq!(house.service.events(), [], "{clause}");
    }
}

#[tokio::test]
async fn a_refusal_of_the_service_travels_in_the_connack() {
    for code in 1..=5 {
        let house = House::new().await;
        let mut client = house.dial();
        // What follows in the same write is discarded.
        let mut bytes = bytes_of(&Packet::Connect(connect(&format!("refuse-{code}"))));
        bytes.extend(bytes_of(&subscribe(1, &[("a", ONCE)])));
        client.raw(&bytes).await;
        let mut seen = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut client.stream, &mut seen)
            .await
            .unwrap();
        assert_eq!(seen, [0x20, 2, 0, code]);
        let record = house.refusal(0).await;
        assert_eq!(record.who.unwrap(), format!("refuse-{code}"));
        assert_eq!(house.presence.count(), 0);
    }
}

#[tokio::test]
async fn packets_sent_with_the_connect_wait_for_the_connack_and_keep_their_order() {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let house = House::new().await;
    *house.service.gate.lock() = Some(gate.clone());
    let mut client = house.dial();
    let mut bytes = bytes_of(&Packet::Connect(connect("dev")));
    bytes.extend(bytes_of(&subscribe(1, &[("answer/#", ONCE)])));
    bytes.extend(bytes_of(&publish("ask/1", ONCE, 0, "x")));
    bytes.extend(bytes_of(&Packet::PingReq));
    client.raw(&bytes).await;
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    gate.add_permits(1);
    assert_eq!(
        client.next().await,
        accepted(false),
        "nothing but CONNACK comes first"
    );
    let granted = SubAck::new(1, vec![SubscribeReasonCode::Success(ONCE)]);
    assert_eq!(client.next().await, Some(Packet::SubAck(granted)));
    assert_eq!(client.message().await.0, "answer/1");
    assert_eq!(client.next().await, Some(Packet::PingResp));
}

#[tokio::test]
async fn rules_broken_after_the_connack_cost_the_connection_and_publish_the_will() {
    let mut flags = bytes_of(&subscribe(1, &[("a", ONCE)]));
    let reserved_qos = {
        let mut bytes = flags.clone();
        *bytes.last_mut().unwrap() = 0b100;
        bytes
    };
    flags[0] = 0x80;
    let mut duplicate = bytes_of(&publish("t", ONCE, 0, "x"));
    duplicate[0] |= 0b1000;
    let filters: Vec<String> = (0..51).map(|n| format!("f/{n}")).collect();
    let many: Vec<(&str, WireQoS)> = filters
        .iter()
        .map(|filter| (filter.as_str(), ONCE))
        .collect();
    let rows: Vec<(&str, Vec<u8>, &str, &str)> = vec![
        (
            "3.1.0-2",
            bytes_of(&Packet::Connect(connect("dev"))),
            "second-connect",
            "a second CONNECT came on one connection",
        ),
        (
            "3.8.1-1",
            flags,
            "malformed-packet",
            "the flags 0b0000 are reserved for packet type 8",
        ),
        (
            "3.8.3-4",
            reserved_qos,
            "malformed-packet",
            "a SUBSCRIBE asks for a QoS with reserved bits set",
        ),
        (
            "2.3.1-1, SUBSCRIBE",
            bytes_of(&subscribe(0, &[("a", ONCE)])),
            "malformed-packet",
            "the packet identifier is 0",
        ),
        (
            "2.3.1-1, UNSUBSCRIBE",
            bytes_of(&unsubscribe(0, "a")),
            "malformed-packet",
            "the packet identifier is 0",
        ),
        (
            "2.3.1-1, PUBLISH",
            vec![0x32, 5, 0, 1, b't', 0, 0],
            "malformed-packet",
            "the packet is malformed: ",
        ),
        (
            "3.3.1-4, QoS 3",
            vec![0x36, 5, 0, 1, b't', 0, 1],
            "malformed-packet",
            "the packet is malformed: ",
        ),
        (
            "3.3.1-2",
            duplicate,
            "malformed-packet",
            "DUP is set on a QoS 0 PUBLISH",
        ),
        (
            "3.3.2-2, +",
            bytes_of(&publish("a/+", ONCE, 0, "")),
            "malformed-packet",
            "the topic name `a/+` holds a wildcard",
        ),
        (
            "3.3.2-2, #",
            bytes_of(&publish("#", LEAST, 1, "")),
            "malformed-packet",
            "the topic name `#` holds a wildcard",
        ),
        (
            "4.7.3-1, empty topic",
            bytes_of(&publish("", ONCE, 0, "")),
            "malformed-packet",
            "the topic name `` holds a wildcard",
        ),
        (
            "1.5.3-1, not UTF-8",
            vec![0x30, 3, 0, 1, 0xff],
            "malformed-packet",
            "the packet is malformed: ",
        ),
        (
            "QoS 2",
            bytes_of(&publish("t", TWICE, 1, "x")),
            "qos-2",
            "QoS 2 is not supported by IoT Hub",
        ),
        (
            "PUBREL",
            vec![0x62, 2, 0, 1],
            "qos-2",
            "QoS 2 is not supported by IoT Hub",
        ),
        (
            "CONNACK from a client",
            vec![0x20, 2, 0, 0],
            "server-packet",
            "a client sent a packet that only a server may send",
        ),
        (
            "PINGRESP from a client",
            vec![0xd0, 0],
            "server-packet",
            "a client sent a packet that only a server may send",
        ),
        (
            "4.7.1-2",
            bytes_of(&subscribe(1, &[("a/#/b", ONCE)])),
            "malformed-filter",
            "a topic filter is malformed: `#` stands alone",
        ),
        (
            "4.7.1-3",
            bytes_of(&subscribe(1, &[("a+", ONCE)])),
            "malformed-filter",
            "a topic filter is malformed: `+` fills",
        ),
        (
            "4.7.3-1",
            bytes_of(&subscribe(1, &[("", ONCE)])),
            "malformed-filter",
            "a topic filter is malformed: a topic filter has at least one",
        ),
        (
            "UNSUBSCRIBE of a bad filter",
            bytes_of(&unsubscribe(1, "a#")),
            "malformed-filter",
            "a topic filter is malformed",
        ),
        (
            "3.8.3-3",
            vec![0x82, 2, 0, 1],
            "malformed-packet",
            "the packet is malformed: ",
        ),
        (
            "3.10.3-2",
            vec![0xa2, 2, 0, 1],
            "malformed-packet",
            "the packet is malformed: an UNSUBSCRIBE without a filter",
        ),
        (
            "PINGREQ with a body",
            vec![0xc0, 1, 0],
            "malformed-packet",
            "1 bytes follow the end",
        ),
        (
            "packet type 15",
            vec![0xf0, 0],
            "malformed-packet",
            "the packet is malformed: ",
        ),
        (
            "packet type 0",
            vec![0x00, 0],
            "malformed-packet",
            "the packet is malformed: ",
        ),
        (
            "a filter the service does not know",
            bytes_of(&subscribe(1, &[("forbidden", ONCE)])),
            "unknown-filter",
            "as the test wants it",
        ),
        (
            "UNSUBSCRIBE of such",
            bytes_of(&unsubscribe(1, "forbidden")),
            "unknown-filter",
            "as the test wants it",
        ),
        (
            "a topic the service does not know",
            bytes_of(&publish("forbidden", LEAST, 1, "x")),
            "forbidden",
            "as the test wants it",
        ),
        (
            "too large",
            vec![0x32, 0xff, 0xff, 0x7f],
            "oversize",
            "the packet announces 2097151 bytes; at most 327695 are taken",
        ),
        (
            "51 subscriptions",
            bytes_of(&subscribe(1, &many)),
            "too-many-subscriptions",
            "a session holds at most 50 subscriptions",
        ),
    ];
    for (clause, bytes, kind, sentence) in rows {
        let house = House::new().await;
        let (mut client, _) = house.connect_as(willing("dev")).await;
        client.raw(&bytes).await;
        assert_eq!(client.next().await, None, "{clause}: a bare close");
        let record = house.refusal(0).await;
        assert_eq!(record.refusal.kind, kind, "{clause}");
        assert!(
            record.refusal.sentence.starts_with(sentence),
            "{clause}: {}",
            record.refusal.sentence
        );
        assert_eq!(record.refusal.answer, Answer::Close, "{clause}");
        assert_eq!(record.who.as_deref(), Some("dev"), "{clause}");
        let events = house.service.events();
        let wills = events
            .iter()
            .filter(|event| matches!(event, Event::Will(..)))
            .count();
        assert_eq!(wills, 1, "{clause}: {events:?}");
        assert!(
            matches!(events.last(), Some(Event::Left(_, CloseReason::Refused(_)))),
            "{clause}: {events:?}"
        );
    }
}

#[tokio::test]
async fn a_suback_answers_each_filter_with_its_own_code() {
    let house = House::new().await;
    let mut client = house.connect("dev").await;
    let codes = client
        .subscribe(&[
            ("a", ONCE),
            ("b", LEAST),
            ("c", TWICE),
            ("failure", LEAST),
            ("low/x", LEAST),
        ])
        .await;
    let success = SubscribeReasonCode::Success;
    assert_eq!(
        codes,
        [
            success(ONCE),
            success(LEAST),
            success(LEAST),
            SubscribeReasonCode::Failure,
            success(ONCE)
        ]
    );
    // [MQTT-3.8.4-3]: the same filter again replaces.
    assert_eq!(client.subscribe(&[("b", ONCE)]).await, [success(ONCE)]);
    house
        .service
        .line("dev")
        .deliver(message("failure", "no"))
        .unwrap();
    house
        .service
        .line("dev")
        .deliver(message("b", "yes"))
        .unwrap();
    assert_eq!(client.message().await, ("b".into(), 0, false));
}

#[tokio::test]
async fn messages_stop_with_the_unsuback() {
    let house = House::new().await;
    let mut client = house.connect("dev").await;
    client.subscribe(&[("a", LEAST), ("b", LEAST)]).await;
    client.send(&unsubscribe(5, "a")).await;
    assert_eq!(
        client.next().await,
        Some(Packet::UnsubAck(UnsubAck::new(5)))
    );
    client.send(&unsubscribe(6, "never-subscribed")).await;
    assert_eq!(
        client.next().await,
        Some(Packet::UnsubAck(UnsubAck::new(6)))
    );
    for topic in ["a", "b"] {
        house
            .service
            .line("dev")
            .deliver(message(topic, "x"))
            .unwrap();
    }
    assert_eq!(client.message().await, ("b".into(), 1, false));
}

#[tokio::test]
async fn pubacks_come_in_the_order_of_the_publishes() {
    let house = House::new().await;
    let mut client = house.connect("dev").await;
    let mut bytes = Vec::new();
    let ids: Vec<u16> = (1..=200).map(|n| n * 7 % 211).collect();
    for id in &ids {
        // Over four lanes, with answers at once in between.
        let topic = if id % 5 == 0 {
            "ask/x".into()
        } else {
            format!("lane/{id}")
        };
        bytes.extend(bytes_of(&publish(&topic, LEAST, *id, "x")));
    }
    client.raw(&bytes).await;
    for id in ids {
        assert_eq!(client.next().await, Some(Packet::PubAck(PubAck::new(id))));
    }
    client.send(&publish("t", ONCE, 0, "x")).await;
    client.ping().await;
}

#[tokio::test(start_paused = true)]
async fn silence_is_allowed_for_one_and_a_half_keep_alives_and_no_longer_than_the_ceiling() {
    for (keep_alive, seconds) in [
        (60_u16, 90.0),
        (1, 1.5),
        (1177, 1765.5),
        (1178, 1767.0),
        (u16::MAX, 1767.0),
        (0, 1767.0),
    ] {
        let house = House::new().await;
        let mut asked = willing("dev");
        asked.keep_alive = keep_alive;
        let (mut client, _) = house.connect_as(asked).await;
        let allowed = Duration::from_secs_f64(seconds);
        tokio::time::sleep(allowed * 9 / 10).await;
        client.ping().await;
        let heard = tokio::time::Instant::now();
        assert_eq!(client.next().await, None);
        let silent = heard.elapsed();
        assert!(
            silent >= allowed && silent < allowed + Duration::from_millis(10),
            "{keep_alive}: {silent:?}"
        );
        let record = house.refusal(0).await;
        assert_eq!(record.refusal.kind, "keep-alive");
        let sentence = format!(
            "nothing was heard for {seconds:.1} s, one and a half times the keep-alive; send PINGREQ in time"
        );
        assert_eq!(record.refusal.sentence, sentence);
        let ends = [
            Event::Will("dev".into(), "last".into()),
            Event::Left("dev".into(), CloseReason::KeepAlive),
        ];
        assert_eq!(house.service.events()[1..], ends);
    }
}

#[tokio::test(start_paused = true)]
async fn a_connect_that_does_not_come_whole_is_waited_for_half_a_minute() {
    let whole = bytes_of(&Packet::Connect(connect("dev")));
    for said in [0, 1, whole.len() - 1] {
        let house = House::new().await;
        let mut client = house.dial();
        client.raw(&whole[..said]).await;
        let dialled = tokio::time::Instant::now();
        assert_eq!(client.next().await, None);
        assert!(dialled.elapsed() >= Duration::from_secs(30));
        assert!(dialled.elapsed() < Duration::from_secs(31));
        let record = house.refusal(0).await;
        assert_eq!(record.refusal.kind, "connect-timeout");
        assert_eq!(record.refusal.sentence, "no whole CONNECT came in time");
    }
}

#[tokio::test(start_paused = true)]
async fn a_busy_connection_ends_with_its_credential() {
    let house = House::new().await;
    *house.service.expires.lock() = Some(Duration::from_secs(100));
    let (mut client, _) = house.connect_as(willing("dev")).await;
    let start = tokio::time::Instant::now();
    for _ in 0..9 {
        tokio::time::sleep(Duration::from_secs(11)).await;
        client.ping().await;
    }
    assert_eq!(client.next().await, None);
    assert_eq!(start.elapsed().as_secs(), 100);
    let record = house.refusal(0).await;
    assert_eq!(
        (record.refusal.kind, record.operation),
        ("expired-in-use", Operation::Connection)
    );
    assert!(
        record
            .refusal
            .sentence
            .starts_with("the token this connection was opened with has expired")
    );
    assert_eq!(
        house.service.events().last(),
        Some(&Event::Left("dev".into(), CloseReason::Expired))
    );
}

#[tokio::test]
async fn a_session_is_present_only_where_both_want_it() {
    let house = House::new().await;
    // [MQTT-3.2.2-1] to [MQTT-3.2.2-3]
    for (clean, present) in [
        (false, false),
        (false, true),
        (true, false),
        (false, false),
        (false, true),
    ] {
        let mut asked = connect("dev");
        asked.clean_session = clean;
        let (mut client, found) = house.connect_as(asked).await;
        assert_eq!(found, present);
        client.send(&Packet::Disconnect).await;
        assert_eq!(client.next().await, None);
    }
}

#[tokio::test]
async fn a_kept_session_delivers_again_with_dup_and_goes_on_without_subscribe() {
    let house = House::new().await;
    let (mut client, _) = house.connect_as(kept("dev")).await;
    client.subscribe(&[("c2d/#", LEAST)]).await;
    for n in 1..=3 {
        house
            .service
            .line("dev")
            .deliver(message("c2d/a", &n.to_string()))
            .unwrap();
        assert_eq!(client.message().await, ("c2d/a".into(), n, false));
    }
    client.acknowledge(2).await;
    client.ping().await;
    drop(client);
    let mut client = house.dial();
    client.send(&Packet::Connect(kept("dev"))).await;
    assert_eq!(client.next().await, accepted(true));
    for id in [1, 3] {
        assert_eq!(client.message().await, ("c2d/a".into(), id, true));
    }
    house
        .service
        .line("dev")
        .deliver(message("c2d/b", "4"))
        .unwrap();
    assert_eq!(client.message().await, ("c2d/b".into(), 4, false));
    // A clean session ends it all.
    let (mut client, present) = house.connect_as(connect("dev")).await;
    assert!(!present);
    house
        .service
        .line("dev")
        .deliver(message("c2d/b", "5"))
        .unwrap();
    client.ping().await;
}

#[tokio::test]
async fn what_the_service_sees_of_a_client_is_what_the_client_said() {
    let house = House::new().await;
    let mut asked = kept("dev/module");
    asked.set_login("host/dev", "SharedAccessSignature sig=abc");
    asked.last_will = Some(LastWill::new("last", "words", TWICE, true));
    let (_client, _) = house.connect_as(asked).await;
    let hello = house.service.hellos.lock().remove(0);
    assert_eq!(
        (hello.client_id.as_str(), hello.user_name.as_deref()),
        ("dev/module", Some("host/dev"))
    );
    let will = hello.will.clone().unwrap();
    assert_eq!(
        (will.qos, will.exactly_once, will.retain),
        (QoS::AtLeastOnce, true, true)
    );
    assert!(
        !format!("{hello:?}").contains("abc"),
        "Debug shows no token"
    );
}
