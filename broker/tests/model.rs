//! The session against a small model: whatever the order of deliveries, acknowledgements and lost
//! connections, nothing is lost, nothing comes twice without DUP, and acknowledgements keep their order.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use azimuth_broker::inflight::Outflight;
use azimuth_broker::session::{Session, Step};
use azimuth_broker::{Outbound, QoS};
use proptest::prelude::*;
use rumqttc::mqttbytes::QoS as WireQoS;
use rumqttc::mqttbytes::v4::{Connect, Packet, PubAck, Publish};

#[derive(Debug, Clone)]
enum Move {
    /// The service sends the next message.
    Deliver(QoS),
    /// The device acknowledges one of what it holds, in any order.
    Acknowledge(usize),
    /// The device acknowledges something it never got.
    Stray(u16),
    /// The connection breaks; the next one resumes the session.
    Reconnect,
    Subscribe(QoS),
    Unsubscribe,
    /// The device publishes.
    Publish {
        id: u16,
        at_least_once: bool,
    },
    /// The store is done with one of what it holds, in any order.
    Stored(usize),
}

fn quality() -> impl Strategy<Value = QoS> {
    prop_oneof![Just(QoS::AtMostOnce), Just(QoS::AtLeastOnce)]
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        6 => quality().prop_map(Move::Deliver),
        6 => any::<usize>().prop_map(Move::Acknowledge),
        1 => any::<u16>().prop_map(Move::Stray),
        1 => Just(Move::Reconnect),
        2 => quality().prop_map(Move::Subscribe),
        1 => Just(Move::Unsubscribe),
        4 => (1..20_u16, any::<bool>()).prop_map(|(id, at_least_once)| Move::Publish { id, at_least_once }),
        4 => any::<usize>().prop_map(Move::Stored),
    ];
    proptest::collection::vec(one, 0..200)
}

/// What should be the case.
#[derive(Default)]
struct Model {
    granted: Option<QoS>,
    /// Sent with QoS 1 and not acknowledged: packet id and number.
    held: Vec<(u16, u64)>,
    next: u64,
    /// Taken from the device: packet id, and whether the store has it.
    taken: VecDeque<(u16, bool)>,
}

fn open(kept: azimuth_broker::session::Kept, now: Instant) -> Session {
    let mut session = Session::new(now);
    let step = session.handle(Packet::Connect(Connect::new("dev")), now);
    assert!(matches!(step, Ok(Step::Authenticate(_))));
    session.admit(60, Duration::from_secs(90), None, kept, now);
    session
}

fn number_of(publish: &Publish) -> u64 {
    u64::from_be_bytes(publish.payload[..].try_into().unwrap())
}

fn deliver(session: &mut Session, model: &mut Model, qos: QoS) {
    assert_eq!(session.has_room(), model.held.len() < Outflight::WINDOW);
    if !session.has_room() {
        return;
    }
    let number = model.next;
    model.next += 1;
    let payload = number.to_be_bytes().to_vec().into();
    let sent = session.deliver(Outbound {
        topic: "t".into(),
        payload,
        qos,
    });
    let Some(granted) = model.granted else {
        assert!(sent.is_none(), "nobody subscribed");
        return;
    };
    let sent = sent.expect("there is a subscription");
    assert_eq!(number_of(&sent), number);
    assert!(!sent.dup, "the first time");
    if qos.min(granted) == QoS::AtLeastOnce {
        assert_eq!(sent.qos, WireQoS::AtLeastOnce);
        assert!(sent.pkid != 0 && model.held.iter().all(|(id, _)| *id != sent.pkid));
        model.held.push((sent.pkid, number));
    } else {
        assert_eq!((sent.qos, sent.pkid), (WireQoS::AtMostOnce, 0));
    }
}

fn acknowledge(session: &mut Session, model: &mut Model, id: u16, now: Instant) {
    let step = session
        .handle(Packet::PubAck(PubAck::new(id)), now)
        .unwrap();
    let before = model.held.len();
    model.held.retain(|(held, _)| *held != id);
    assert_eq!(matches!(step, Step::Delivered), model.held.len() < before);
}

fn drain(session: &mut Session, model: &mut Model) {
    while let Some(id) = session.next_acknowledged() {
        assert_eq!(
            model.taken.pop_front(),
            Some((id, true)),
            "in order, and only what is stored"
        );
    }
    assert!(
        model.taken.front().is_none_or(|(_, stored)| !stored),
        "and all of it"
    );
    assert_eq!(session.unacknowledged(), model.taken.len());
}

fn make(what: Move, session: Session, model: &mut Model, now: Instant) -> Session {
    let mut session = session;
    match what {
        Move::Deliver(qos) => deliver(&mut session, model, qos),
        Move::Acknowledge(which) if !model.held.is_empty() => {
            let (id, _) = model.held[which % model.held.len()];
            acknowledge(&mut session, model, id, now);
        }
        Move::Stray(id) => acknowledge(&mut session, model, id, now),
        Move::Reconnect => {
            session = open(session.into_kept(), now);
            let again: Vec<_> = session.redeliver().collect();
            assert!(
                again
                    .iter()
                    .all(|publish| publish.dup && publish.qos == WireQoS::AtLeastOnce)
            );
            let again: Vec<_> = again
                .iter()
                .map(|publish| (publish.pkid, number_of(publish)))
                .collect();
            assert_eq!(again, model.held, "all that is unacknowledged, in order");
            // What was not acknowledged is the device's to send again.
            model.taken.clear();
        }
        Move::Subscribe(qos) => {
            assert!(session.subscribe("t", qos, 1));
            model.granted = Some(qos);
        }
        Move::Unsubscribe => {
            session.unsubscribe("t");
            model.granted = None;
        }
        Move::Publish { id, at_least_once } => {
            let qos = if at_least_once {
                WireQoS::AtLeastOnce
            } else {
                WireQoS::AtMostOnce
            };
            let mut publish = Publish::new("t", qos, "x");
            publish.pkid = if at_least_once { id } else { 0 };
            let step = session.handle(Packet::Publish(publish), now).unwrap();
            assert!(matches!(step, Step::Publish(_)));
            if at_least_once {
                model.taken.push_back((id, false));
            }
        }
        Move::Stored(which) if !model.taken.is_empty() => {
            let (id, _) = model.taken[which % model.taken.len()];
            session.stored(id);
            // Of two packets with one id the store had the older one first.
            if let Some(first) = model
                .taken
                .iter_mut()
                .find(|(taken, stored)| *taken == id && !stored)
            {
                first.1 = true;
            }
        }
        Move::Acknowledge(_) | Move::Stored(_) => {}
    }
    drain(&mut session, model);
    session
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_session_does_what_its_model_does(moves in moves()) {
        let now = Instant::now();
        let mut model = Model::default();
        let mut session = open(Default::default(), now);
        for what in moves {
            session = make(what, session, &mut model, now);
        }
        // At the end the device acknowledges all: nothing is left over.
        for (id, _) in model.held.clone() {
            acknowledge(&mut session, &mut model, id, now);
        }
        prop_assert_eq!(open(session.into_kept(), now).redeliver().count(), 0);
    }
}
