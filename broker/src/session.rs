//! The server's half of an MQTT 3.1.1 conversation, as IoT Hub bends it.
//!
//! Knows no socket and no clock: packets come in with the time they came, what to do next goes out.
//! What may not enter: Azure's topics, who may do what, bytes.
//!
//! ```text
//! AwaitingConnect ── CONNECT ──► AwaitingVerdict ── admitted ──► Open ── DISCONNECT, violation ──► over
//!        └── anything else, too late ──► over      └── refused ──► over
//! ```

use std::time::{Duration, Instant};

use rumqttc::mqttbytes::QoS as WireQoS;
use rumqttc::mqttbytes::v4::{Connect, Packet, Publish, Subscribe, Unsubscribe};

use crate::backend::{Outbound, QoS};
use crate::filter;
use crate::inflight::{Inbound, Outflight};
use crate::line::CloseReason;

/// One conversation, from CONNECT to goodbye.
#[derive(Debug)]
pub struct Session {
    state: State,
    kept: Kept,
    inbound: Inbound,
}

#[derive(Debug)]
enum State {
    AwaitingConnect {
        deadline: Instant,
    },
    AwaitingVerdict,
    Open {
        silence: Duration,
        heard: Instant,
        expires: Option<Instant>,
    },
}

/// What outlives a connection when the client asks for it: clean session 0.
#[derive(Debug, Default)]
pub struct Kept {
    subscriptions: Vec<(Box<str>, QoS)>,
    outflight: Outflight,
}

/// What a packet asks for.
#[derive(Debug)]
pub enum Step {
    /// Nothing to do.
    Idle,
    /// Judge this CONNECT; feed no packet until then.
    Authenticate(Box<Connect>),
    /// Hand to the service. A QoS 1 one is acknowledged through [`Session::stored`].
    Publish(Publish),
    Subscribe(Subscribe),
    Unsubscribe(Unsubscribe),
    /// Send PINGRESP.
    Pong,
    /// A message reached the device; there is room for another.
    Delivered,
    /// The client said DISCONNECT: the will is forgotten [MQTT-3.14.4-3].
    Goodbye,
}

/// A rule that was broken. The connection is closed [MQTT-4.8.0-1].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("the first packet was not a CONNECT [MQTT-3.1.0-1]")]
    NotConnect,
    #[error("a second CONNECT came on one connection [MQTT-3.1.0-2]")]
    SecondConnect,
    #[error("a client sent a packet that only a server may send")]
    ServerPacket,
    #[error("QoS 2 is not supported by IoT Hub; publish with QoS 0 or 1")]
    QosTwo,
    #[error("a topic filter is malformed: {0}")]
    Filter(#[from] filter::InvalidFilter),
}

impl Violation {
    /// The stable word of refusal records.
    pub fn kind(self) -> &'static str {
        match self {
            Self::NotConnect => "not-connect",
            Self::SecondConnect => "second-connect",
            Self::ServerPacket => "server-packet",
            Self::QosTwo => "qos-2",
            Self::Filter(_) => "malformed-filter",
        }
    }
}

impl Session {
    /// A conversation whose CONNECT must be there by `deadline`.
    pub fn new(deadline: Instant) -> Self {
        Self {
            state: State::AwaitingConnect { deadline },
            kept: Kept::default(),
            inbound: Inbound::default(),
        }
    }

    /// Takes the next packet.
    pub fn handle(&mut self, packet: Packet, now: Instant) -> Result<Step, Violation> {
        match &mut self.state {
            State::AwaitingConnect { .. } => {
                let Packet::Connect(connect) = packet else {
                    return Err(Violation::NotConnect);
                };
                self.state = State::AwaitingVerdict;
                return Ok(Step::Authenticate(Box::new(connect)));
            }
            State::AwaitingVerdict => return Ok(Step::Idle),
            State::Open { heard, .. } => *heard = now,
        }
        match packet {
            Packet::Publish(publish) => self.publish(publish),
            Packet::PubAck(ack) => {
                let delivered = self.kept.outflight.acknowledged(ack.pkid).is_some();
                Ok(if delivered {
                    Step::Delivered
                } else {
                    Step::Idle
                })
            }
            Packet::Subscribe(subscribe) => {
                subscribe
                    .filters
                    .iter()
                    .try_for_each(|wanted| filter::check(&wanted.path))?;
                Ok(Step::Subscribe(subscribe))
            }
            Packet::Unsubscribe(unsubscribe) => {
                unsubscribe
                    .topics
                    .iter()
                    .try_for_each(|topic| filter::check(topic))?;
                Ok(Step::Unsubscribe(unsubscribe))
            }
            Packet::PingReq => Ok(Step::Pong),
            Packet::Disconnect => Ok(Step::Goodbye),
            Packet::Connect(_) => Err(Violation::SecondConnect),
            Packet::PubRec(_) | Packet::PubRel(_) | Packet::PubComp(_) => Err(Violation::QosTwo),
            Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => {
                Err(Violation::ServerPacket)
            }
        }
    }

    fn publish(&mut self, publish: Publish) -> Result<Step, Violation> {
        match publish.qos {
            WireQoS::ExactlyOnce => return Err(Violation::QosTwo),
            WireQoS::AtLeastOnce => self.inbound.take(publish.pkid),
            WireQoS::AtMostOnce => {}
        }
        Ok(Step::Publish(publish))
    }

    /// The CONNECT was accepted. `kept` is the stored session, if there is one and the client wants
    /// it. A client is silent for too long after 1.5 times its keep-alive [MQTT-3.1.2-24], at most
    /// `longest_silence`, which also stands for keep-alive 0.
    pub fn admit(
        &mut self,
        keep_alive: u16,
        longest_silence: Duration,
        expires: Option<Instant>,
        kept: Kept,
        now: Instant,
    ) {
        let announced = Duration::from_millis(u64::from(keep_alive) * 1500);
        let silence = if keep_alive == 0 {
            longest_silence
        } else {
            announced.min(longest_silence)
        };
        self.state = State::Open {
            silence,
            heard: now,
            expires,
        };
        self.kept = kept;
    }

    /// When [`Session::overdue`] is worth asking again.
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::AwaitingConnect { deadline } => Some(deadline),
            State::AwaitingVerdict => None,
            State::Open {
                silence,
                heard,
                expires,
            } => {
                let silent = heard + silence;
                Some(expires.map_or(silent, |expires| expires.min(silent)))
            }
        }
    }

    /// Why the conversation is over at `now`, if it is.
    pub fn overdue(&self, now: Instant) -> Option<CloseReason> {
        match self.state {
            State::AwaitingConnect { deadline } if now >= deadline => {
                Some(CloseReason::Refused("no whole CONNECT came in time".into()))
            }
            State::Open {
                expires: Some(expires),
                ..
            } if now >= expires => Some(CloseReason::Expired),
            State::Open { silence, heard, .. } if now >= heard + silence => {
                Some(CloseReason::KeepAlive)
            }
            _ => None,
        }
    }

    /// The device was not listened to until `now`: its silence begins here.
    pub fn excuse(&mut self, now: Instant) {
        if let State::Open { heard, .. } = &mut self.state {
            *heard = now;
        }
    }

    /// The seconds of silence allowed, for records.
    pub fn silence(&self) -> Duration {
        match self.state {
            State::Open { silence, .. } => silence,
            _ => Duration::ZERO,
        }
    }

    /// A QoS 1 packet of the device is stored.
    pub fn stored(&mut self, packet: u16) {
        self.inbound.done(packet);
    }

    /// The next PUBACK to send.
    pub fn next_acknowledged(&mut self) -> Option<u16> {
        self.inbound.next_acknowledged()
    }

    /// QoS 1 packets taken and not yet acknowledged.
    pub fn unacknowledged(&self) -> usize {
        self.inbound.len()
    }

    /// Whether another message may be sent to the device.
    pub fn has_room(&self) -> bool {
        self.kept.outflight.has_room()
    }

    /// Adds a subscription; an existing one is replaced [MQTT-3.8.4-3]. False beyond `limit`.
    pub fn subscribe(&mut self, filter: &str, qos: QoS, limit: usize) -> bool {
        let subscriptions = &mut self.kept.subscriptions;
        if let Some(known) = subscriptions
            .iter_mut()
            .find(|(known, _)| **known == *filter)
        {
            known.1 = qos;
            return true;
        }
        if subscriptions.len() >= limit {
            return false;
        }
        subscriptions.push((filter.into(), qos));
        true
    }

    pub fn unsubscribe(&mut self, filter: &str) {
        self.kept
            .subscriptions
            .retain(|(known, _)| **known != *filter);
    }

    /// The filters subscribed to: of a connection that just began, those its stored session brought back.
    pub fn filters(&self) -> impl Iterator<Item = &str> {
        self.kept.subscriptions.iter().map(|(filter, _)| &**filter)
    }

    /// The packet that carries `message` to the device; `None` when it has not subscribed.
    pub fn deliver(&mut self, mut message: Outbound) -> Option<Publish> {
        let granted = self.kept.granted(&message.topic)?;
        message.qos = message.qos.min(granted);
        let topic = std::mem::take(&mut message.topic);
        let mut publish = Publish::from_bytes(topic, WireQoS::AtMostOnce, message.payload.clone());
        if message.qos == QoS::AtLeastOnce {
            publish.qos = WireQoS::AtLeastOnce;
            message.topic.clone_from(&publish.topic);
            publish.pkid = self.kept.outflight.send(message);
        }
        Some(publish)
    }

    /// What was sent on an earlier connection of the session and not acknowledged, with DUP.
    pub fn redeliver(&self) -> impl Iterator<Item = Publish> {
        self.kept.outflight.redeliver().map(|(packet, message)| {
            let mut publish = Publish::from_bytes(
                message.topic.as_str(),
                WireQoS::AtLeastOnce,
                message.payload.clone(),
            );
            publish.pkid = packet;
            publish.dup = true;
            publish
        })
    }

    /// What is kept when the connection is over.
    pub fn into_kept(self) -> Kept {
        self.kept
    }
}

impl Kept {
    /// The highest QoS of the subscriptions that match.
    fn granted(&self, topic: &str) -> Option<QoS> {
        self.subscriptions
            .iter()
            .filter(|(filter, _)| filter::matches(filter, topic))
            .map(|(_, qos)| *qos)
            .max()
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
