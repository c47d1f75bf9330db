//! Any bytes at all, and packets with single bytes changed, through decoder and session.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use proptest::prelude::*;
use rumqttc::mqttbytes::QoS as WireQoS;
use rumqttc::mqttbytes::v4::{Connect, LastWill, PubAck, Publish, Subscribe, Unsubscribe};

include!("fuzz/session.rs");

#[path = "../../fuzz/checks/packet.rs"]
mod packets;

/// What the fuzzer of this name kept.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let files = std::fs::read_dir(folder.join(target)).unwrap();
    let inputs: Vec<_> = files
        .map(|file| std::fs::read(file.unwrap().path()).unwrap())
        .collect();
    assert!(inputs.len() > 10, "{} inputs", inputs.len());
    inputs
}

#[test]
fn the_corpus_of_conversations_holds() {
    for bytes in corpus("session") {
        converse(&bytes, std::time::Instant::now());
    }
}

#[test]
fn what_the_fuzzers_kept_is_packets_or_refused() {
    for bytes in corpus("packet") {
        packets::check(&bytes);
        // The first byte says in which pieces the rest arrives; an input follows a CONNECT.
        let conversation = [&[255], conversation().as_slice(), &bytes].concat();
        converse(&conversation, std::time::Instant::now());
        converse(
            &[&[1], bytes.as_slice()].concat(),
            std::time::Instant::now(),
        );
    }
}

/// A conversation in which everything happens.
fn conversation() -> Vec<u8> {
    let mut connect = Connect::new("dev");
    connect.set_login("host/dev/?api-version=2021-04-12", "token");
    connect.last_will = Some(LastWill::new("last", "words", WireQoS::AtLeastOnce, true));
    let mut subscribe = Subscribe::new("a/#", WireQoS::AtLeastOnce);
    subscribe.pkid = 1;
    let mut publish = Publish::new(
        "devices/dev/messages/events/",
        WireQoS::AtLeastOnce,
        vec![7; 300],
    );
    publish.pkid = 2;
    let mut unsubscribe = Unsubscribe::new("a/#");
    unsubscribe.pkid = 3;
    let packets = [
        Packet::Connect(connect),
        Packet::Subscribe(subscribe),
        Packet::PubAck(PubAck::new(1)),
        Packet::Publish(publish),
        Packet::PingReq,
        Packet::Unsubscribe(unsubscribe),
        Packet::PingReq,
    ];
    let mut bytes = BytesMut::new();
    for packet in packets {
        packet.write(&mut bytes, usize::MAX).unwrap();
    }
    bytes.to_vec()
}

/// Frames of every kind with any body.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let frame =
        (any::<u8>(), proptest::collection::vec(any::<u8>(), 0..100)).prop_map(|(first, body)| {
            let mut bytes = vec![first, u8::try_from(body.len()).unwrap()];
            bytes.extend(body);
            bytes
        });
    proptest::collection::vec(frame, 0..10).prop_map(|frames| frames.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_packets_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..6000)) {
        converse(&bytes, Instant::now());
    }

    #[test]
    fn any_frames_after_a_connect_are_packets_or_refused(pieces in any::<u8>(), frames in frames()) {
        let mut bytes = vec![pieces];
        bytes.extend(conversation());
        bytes.extend(frames);
        converse(&bytes, Instant::now());
    }

    #[test]
    fn a_conversation_with_bytes_changed_is_packets_or_refused(
        pieces in any::<u8>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
    ) {
        let mut bytes = conversation();
        for (at, byte) in changes {
            let length = bytes.len();
            bytes[at.index(length)] = byte;
        }
        bytes.insert(0, pieces);
        converse(&bytes, Instant::now());
    }
}
