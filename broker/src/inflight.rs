//! Packet ids in flight, both ways: what was taken and not yet acknowledged, what was sent and not
//! yet acknowledged by the device.
//!
//! Pure. What may not enter: sockets, time, topics.

use std::collections::VecDeque;

use crate::backend::Outbound;

/// QoS 1 packets taken from a device. Acknowledged in the order they came [MQTT-4.6.0-2], whatever
/// order they are stored in.
#[derive(Debug, Default)]
pub struct Inbound {
    waiting: VecDeque<(u16, bool)>,
}

impl Inbound {
    /// Takes a packet that will be acknowledged later.
    pub fn take(&mut self, packet: u16) {
        self.waiting.push_back((packet, false));
    }

    /// Marks a packet as done.
    pub fn done(&mut self, packet: u16) {
        if let Some(entry) = self
            .waiting
            .iter_mut()
            .find(|(id, done)| *id == packet && !done)
        {
            entry.1 = true;
        }
    }

    /// The next packet that may be acknowledged.
    pub fn next_acknowledged(&mut self) -> Option<u16> {
        let &(packet, true) = self.waiting.front()? else {
            return None;
        };
        self.waiting.pop_front();
        if self.waiting.is_empty() {
            // An idle connection holds no buffer.
            self.waiting = VecDeque::new();
        }
        Some(packet)
    }

    /// Packets not yet acknowledged.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// QoS 1 messages sent to a device, until its PUBACK. Survives the connection with its session.
#[derive(Debug, Default)]
pub struct Outflight {
    sent: VecDeque<(u16, Outbound)>,
    last: u16,
}

impl Outflight {
    /// Messages a device may leave unacknowledged before more are held back.
    pub const WINDOW: usize = 16;

    pub fn has_room(&self) -> bool {
        self.sent.len() < Self::WINDOW
    }

    pub fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// Remembers a message and gives it a packet id that is not in use [MQTT-2.3.1-2].
    pub fn send(&mut self, message: Outbound) -> u16 {
        loop {
            self.last = self.last.checked_add(1).unwrap_or(1);
            if self.sent.iter().all(|(id, _)| *id != self.last) {
                break;
            }
        }
        self.sent.push_back((self.last, message));
        self.last
    }

    /// The device's PUBACK. Any order is taken; an unknown id is none of our business.
    pub fn acknowledged(&mut self, packet: u16) -> Option<Outbound> {
        let at = self.sent.iter().position(|(id, _)| *id == packet)?;
        let (_, message) = self.sent.remove(at)?;
        if self.sent.is_empty() {
            self.sent = VecDeque::new();
        }
        Some(message)
    }

    /// What to send again with DUP on a new connection of the session, in order [MQTT-4.4.0-1].
    pub fn redeliver(&self) -> impl Iterator<Item = (u16, &Outbound)> {
        self.sent.iter().map(|(id, message)| (*id, message))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::backend::QoS;

    fn message(text: &str) -> Outbound {
        Outbound {
            topic: text.into(),
            payload: Default::default(),
            qos: QoS::AtLeastOnce,
        }
    }

    #[test]
    fn packets_are_acknowledged_in_the_order_they_came() {
        let mut inbound = Inbound::default();
        for packet in [7, 3, 7] {
            inbound.take(packet);
        }
        inbound.done(3);
        assert_eq!(inbound.next_acknowledged(), None, "7 came first");
        inbound.done(7);
        assert_eq!(inbound.next_acknowledged(), Some(7));
        assert_eq!(inbound.next_acknowledged(), Some(3));
        assert_eq!(
            inbound.next_acknowledged(),
            None,
            "the second 7 is not done"
        );
        inbound.done(7);
        assert_eq!(inbound.next_acknowledged(), Some(7));
        assert!(inbound.is_empty());
    }

    #[test]
    fn packet_ids_in_use_are_passed_over() {
        let mut outflight = Outflight::default();
        let first = outflight.send(message("a"));
        outflight.last = u16::MAX;
        let second = outflight.send(message("b"));
        assert_eq!((first, second), (1, 2), "0 is no packet id and 1 is in use");
        assert_eq!(outflight.acknowledged(1).unwrap().topic, "a");
        assert!(outflight.acknowledged(1).is_none());
        assert_eq!(
            outflight
                .redeliver()
                .map(|(id, m)| (id, m.topic.as_str()))
                .collect::<Vec<_>>(),
            [(2, "b")]
        );
    }
}
