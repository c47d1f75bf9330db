// What any bytes may do to the decoder and the session: nothing but packets and refusals.
// Included by the ordinary tests and by the fuzz target of this name.

use std::time::{Duration, Instant};

use azimuth_broker::packet;
use azimuth_broker::session::{Session, Step};
use bytes::BytesMut;
use rumqttc::mqttbytes::v4::Packet;

/// The longest packet taken here.
const LIMIT: usize = 4096;

/// Feeds `bytes` as they might come off a socket, the first byte saying in which pieces.
fn converse(bytes: &[u8], start: Instant) {
    let Some((pieces, bytes)) = bytes.split_first() else {
        return;
    };
    let mut session = Session::new(start + Duration::from_secs(30));
    let mut inbound = BytesMut::new();
    let mut left = bytes.len();
    for piece in bytes.chunks(usize::from(*pieces).max(1)) {
        inbound.extend_from_slice(piece);
        loop {
            let before = inbound.len();
            let Ok(decoded) = packet::decode(&mut inbound, LIMIT) else {
                return;
            };
            let Some(packet) = decoded else {
                assert_eq!(inbound.len(), before, "what is not whole is left alone");
                // A fixed header has five bytes at most.
                assert!(before <= LIMIT + 5, "a packet beyond the limit is not waited for");
                break;
            };
            let taken = before - inbound.len();
            assert!(taken > 0, "each packet takes bytes");
            left -= taken;
            if !step(&mut session, packet, start) {
                return;
            }
        }
    }
    assert_eq!(inbound.len(), left, "no byte comes from nowhere");
}

/// Whether the conversation goes on.
fn step(session: &mut Session, packet: Packet, now: Instant) -> bool {
    match session.handle(packet, now) {
        Err(_) | Ok(Step::Goodbye) => return false,
        Ok(Step::Authenticate(connect)) => {
            let longest = Duration::from_secs(1767);
            session.admit(connect.keep_alive, longest, None, Default::default(), now);
        }
        Ok(Step::Publish(publish)) => {
            assert!(!publish.topic.is_empty() && !publish.topic.contains(['+', '#', '\0']));
            session.stored(publish.pkid);
        }
        Ok(Step::Subscribe(subscribe)) => {
            assert!(subscribe.pkid != 0 && !subscribe.filters.is_empty());
            for filter in subscribe.filters {
                session.subscribe(&filter.path, azimuth_broker::QoS::AtLeastOnce, 50);
            }
            deliver(session);
        }
        Ok(Step::Unsubscribe(unsubscribe)) => {
            assert!(unsubscribe.pkid != 0 && !unsubscribe.topics.is_empty());
            unsubscribe.topics.iter().for_each(|topic| session.unsubscribe(topic));
        }
        Ok(Step::Idle | Step::Pong | Step::Delivered) => {}
    }
    while session.next_acknowledged().is_some() {}
    assert_eq!(session.unacknowledged(), 0, "all is stored at once here");
    true
}

fn deliver(session: &mut Session) {
    if session.has_room() {
        let message = azimuth_broker::Outbound {
            topic: "a/b".into(),
            payload: Default::default(),
            qos: azimuth_broker::QoS::AtLeastOnce,
        };
        let _ = session.deliver(message);
    }
}
