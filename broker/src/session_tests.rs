//! The session by rows, with made-up time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use rumqttc::mqttbytes::v4::PubAck;

use super::*;

const LONGEST: Duration = Duration::from_secs(1767);

fn open(keep_alive: u16, expires: Option<u64>) -> (Session, Instant) {
    let start = Instant::now();
    let mut session = Session::new(start + Duration::from_secs(30));
    let step = session
        .handle(Packet::Connect(Connect::new("dev1")), start)
        .unwrap();
    assert!(matches!(step, Step::Authenticate(_)));
    let expires = expires.map(|seconds| start + Duration::from_secs(seconds));
    session.admit(keep_alive, LONGEST, expires, Kept::default(), start);
    (session, start)
}

fn publish(qos: WireQoS, pkid: u16) -> Packet {
    let mut publish = Publish::new("t", qos, "x");
    publish.pkid = pkid;
    Packet::Publish(publish)
}

fn message(topic: &str, qos: QoS) -> Outbound {
    Outbound {
        topic: topic.into(),
        payload: Default::default(),
        qos,
    }
}

#[test]
fn a_silent_device_is_closed_after_one_and_a_half_keep_alives_or_the_ceiling() {
    let rows = [
        (60, 90),
        (1, 1),
        (240, 360),
        (1177, 1765),
        (1178, 1767),
        (65535, 1767),
        (0, 1767),
    ];
    for (keep_alive, seconds) in rows {
        let (session, start) = open(keep_alive, None);
        let limit = if keep_alive == 1 {
            Duration::from_millis(1500)
        } else {
            Duration::from_secs(seconds)
        };
        let limit = if keep_alive == 1177 {
            Duration::from_millis(1_765_500)
        } else {
            limit
        };
        assert_eq!(
            session.deadline(),
            Some(start + limit),
            "keep-alive {keep_alive}"
        );
        assert_eq!(
            session.overdue(start + limit - Duration::from_millis(1)),
            None
        );
        assert_eq!(session.overdue(start + limit), Some(CloseReason::KeepAlive));
    }
}

#[test]
fn any_packet_restarts_the_silence() {
    let (mut session, start) = open(60, None);
    let later = start + Duration::from_secs(80);
    session.handle(Packet::PingReq, later).unwrap();
    assert_eq!(session.overdue(start + Duration::from_secs(169)), None);
    assert_eq!(
        session.overdue(later + Duration::from_secs(90)),
        Some(CloseReason::KeepAlive)
    );
}

#[test]
fn an_expired_credential_closes_even_a_busy_connection() {
    let (mut session, start) = open(60, Some(100));
    session
        .handle(Packet::PingReq, start + Duration::from_secs(99))
        .unwrap();
    assert_eq!(session.deadline(), Some(start + Duration::from_secs(100)));
    assert_eq!(
        session.overdue(start + Duration::from_secs(100)),
        Some(CloseReason::Expired)
    );
}

#[test]
fn a_connect_that_does_not_come_is_not_waited_for() {
    let start = Instant::now();
    let session = Session::new(start + Duration::from_secs(30));
    assert_eq!(session.overdue(start + Duration::from_secs(29)), None);
    assert!(matches!(
        session.overdue(start + Duration::from_secs(30)),
        Some(CloseReason::Refused(_))
    ));
}

#[test]
fn packets_out_of_place_end_the_conversation() {
    let rows = [
        (
            Packet::Connect(Connect::new("dev1")),
            Violation::SecondConnect,
        ),
        (publish(WireQoS::ExactlyOnce, 1), Violation::QosTwo),
        (Packet::PingResp, Violation::ServerPacket),
        (
            Packet::Subscribe(Subscribe::new("a/#/b", WireQoS::AtMostOnce)),
            Violation::Filter(filter::InvalidFilter::MultiLevel),
        ),
    ];
    for (packet, violation) in rows {
        let (mut session, start) = open(60, None);
        assert_eq!(session.handle(packet, start).unwrap_err(), violation);
    }
    let now = Instant::now();
    assert_eq!(
        Session::new(now).handle(Packet::PingReq, now).unwrap_err(),
        Violation::NotConnect
    );
}

#[test]
fn a_message_travels_at_the_lower_of_both_qualities_and_only_to_a_subscriber() {
    let (mut session, _) = open(60, None);
    assert!(session.deliver(message("a/b", QoS::AtLeastOnce)).is_none());
    session.subscribe("a/#", QoS::AtMostOnce, 50);
    assert_eq!(
        session
            .deliver(message("a/b", QoS::AtLeastOnce))
            .unwrap()
            .qos,
        WireQoS::AtMostOnce
    );
    session.subscribe("a/#", QoS::AtLeastOnce, 50);
    assert_eq!(
        session
            .deliver(message("a/b", QoS::AtMostOnce))
            .unwrap()
            .qos,
        WireQoS::AtMostOnce
    );
    let publish = session.deliver(message("a/b", QoS::AtLeastOnce)).unwrap();
    assert_eq!(
        (publish.qos, publish.pkid, publish.dup),
        (WireQoS::AtLeastOnce, 1, false)
    );
    session.unsubscribe("a/#");
    assert!(session.deliver(message("a/b", QoS::AtLeastOnce)).is_none());
}

#[test]
fn what_the_device_did_not_acknowledge_comes_again_with_dup_on_its_next_connection() {
    let (mut session, start) = open(60, None);
    session.subscribe("#", QoS::AtLeastOnce, 50);
    for topic in ["a", "b", "c"] {
        session.deliver(message(topic, QoS::AtLeastOnce)).unwrap();
    }
    let step = session
        .handle(Packet::PubAck(PubAck::new(2)), start)
        .unwrap();
    assert!(matches!(step, Step::Delivered));
    let kept = session.into_kept();

    let mut session = Session::new(start);
    session
        .handle(Packet::Connect(Connect::new("dev1")), start)
        .unwrap();
    session.admit(60, LONGEST, None, kept, start);
    let again: Vec<_> = session
        .redeliver()
        .map(|p| (p.topic.clone(), p.pkid, p.dup))
        .collect();
    assert_eq!(
        again,
        [("a".to_string(), 1, true), ("c".to_string(), 3, true)]
    );
    assert_eq!(
        session
            .deliver(message("d", QoS::AtLeastOnce))
            .unwrap()
            .pkid,
        4,
        "ids go on"
    );
}

#[test]
fn a_device_that_acknowledges_nothing_is_sent_no_more_than_a_window() {
    let (mut session, start) = open(60, None);
    session.subscribe("#", QoS::AtLeastOnce, 50);
    for _ in 0..Outflight::WINDOW {
        assert!(session.has_room());
        session.deliver(message("a", QoS::AtLeastOnce)).unwrap();
    }
    assert!(!session.has_room());
    session
        .handle(Packet::PubAck(PubAck::new(5)), start)
        .unwrap();
    assert!(session.has_room());
}

#[test]
fn the_number_of_subscriptions_is_bounded_and_repeating_one_is_free() {
    let (mut session, _) = open(60, None);
    assert!(session.subscribe("a", QoS::AtMostOnce, 2));
    assert!(session.subscribe("b", QoS::AtMostOnce, 2));
    assert!(session.subscribe("a", QoS::AtLeastOnce, 2));
    assert!(!session.subscribe("c", QoS::AtMostOnce, 2));
}
