//! A long way for bytes: what goes in comes out later, whole and in order.
//!
//! Pure: takes bytes and the time. What may not enter: sockets, timers, regions.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

/// A way of one length for everything that takes it, with room for so many bytes.
pub struct DelayLine {
    delay: Duration,
    room: usize,
    bytes: BytesMut,
    /// When so many of `bytes` arrive, oldest first.
    arrivals: VecDeque<(Instant, usize)>,
    end: Option<Instant>,
}

/// What is next at the far end of the way.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// These have arrived. They take up room until [`DelayLine::taken`] says they do not.
    Bytes(Bytes),
    /// Nothing arrives before this.
    At(Instant),
    /// Nothing is under way.
    Nothing,
    /// Everything has arrived and nothing more will.
    End,
}

impl DelayLine {
    pub fn new(delay: Duration, room: usize) -> Self {
        Self {
            delay,
            room,
            bytes: BytesMut::new(),
            arrivals: VecDeque::new(),
            end: None,
        }
    }

    /// Sends the first of `bytes` on their way, as many as there is room for: how many.
    pub fn send(&mut self, bytes: &[u8], now: Instant) -> usize {
        let sent = bytes.len().min(self.room);
        if sent > 0 {
            self.room -= sent;
            self.bytes.extend_from_slice(&bytes[..sent]);
            self.arrivals.push_back((now + self.delay, sent));
        }
        sent
    }

    /// Nothing is sent after this. Said again, it changes nothing.
    pub fn end(&mut self, now: Instant) {
        self.end.get_or_insert(now + self.delay);
    }

    pub fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    pub fn next(&mut self, now: Instant) -> Next {
        let mut arrived = 0;
        while let Some((_, bytes)) = self.arrivals.pop_front_if(|(at, _)| *at <= now) {
            arrived += bytes;
        }
        if arrived > 0 {
            let bytes = self.bytes.split_to(arrived).freeze();
            if self.bytes.is_empty() {
                // An idle way holds no memory.
                self.bytes = BytesMut::new();
                self.arrivals = VecDeque::new();
            }
            return Next::Bytes(bytes);
        }
        match (self.arrivals.front(), self.end) {
            (Some((at, _)), _) => Next::At(*at),
            (None, Some(end)) if end <= now => Next::End,
            (None, Some(end)) => Next::At(end),
            (None, None) => Next::Nothing,
        }
    }

    /// So many of the bytes that arrived were taken off the way.
    pub fn taken(&mut self, bytes: usize) {
        self.room += bytes;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)]
    use super::*;
    use proptest::prelude::*;

    const DELAY: Duration = Duration::from_millis(68);

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn bytes(text: &'static str) -> Next {
        Next::Bytes(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn bytes_arrive_after_the_delay_and_together_if_looked_for_late() {
        let start = Instant::now();
        let mut way = DelayLine::new(DELAY, 100);
        assert_eq!(way.next(start), Next::Nothing);
        assert_eq!(way.send(b"one ", start), 4);
        assert_eq!(way.send(b"two ", start + ms(10)), 4);
        assert_eq!(way.send(b"three", start + ms(20)), 5);
        for (at, next) in [
            (0, Next::At(start + ms(68))),
            (67, Next::At(start + ms(68))),
            (68, bytes("one ")),
            (68, Next::At(start + ms(78))),
            (1000, bytes("two three")),
            (1000, Next::Nothing),
        ] {
            assert_eq!(way.next(start + ms(at)), next, "at {at} ms");
        }
    }

    #[test]
    fn the_end_takes_the_same_way_and_comes_last() {
        let start = Instant::now();
        let mut way = DelayLine::new(DELAY, 100);
        way.send(b"last", start);
        way.end(start + ms(5));
        way.end(start + ms(50));
        for (at, next) in [
            (67, Next::At(start + ms(68))),
            (68, bytes("last")),
            (68, Next::At(start + ms(73))),
            (73, Next::End),
        ] {
            assert_eq!(way.next(start + ms(at)), next, "at {at} ms");
        }
    }

    #[test]
    fn a_full_way_takes_nothing_until_what_arrived_is_taken() {
        let start = Instant::now();
        let mut way = DelayLine::new(DELAY, 6);
        assert_eq!(way.send(b"1234", start), 4);
        assert_eq!(way.send(b"5678", start), 2);
        assert_eq!(way.send(b"78", start), 0);
        assert_eq!(way.next(start + DELAY), bytes("123456"));
        assert_eq!(way.send(b"78", start + DELAY), 0, "arrived, not taken");
        way.taken(1);
        assert_eq!(way.send(b"78", start + DELAY), 1);
    }

    proptest! {
        /// Against one queue of bytes, each with the time it arrives.
        #[test]
        fn every_byte_arrives_once_in_order_and_never_early(
            steps in proptest::collection::vec((0_u64..40, 0_usize..30, 0_usize..30), 0..80),
        ) {
            const ROOM: usize = 50;
            let mut now = Instant::now();
            let mut way = DelayLine::new(DELAY, ROOM);
            let mut under_way = VecDeque::new();
            let (mut arrived, mut number) = (0, 0_u8);
            for (wait, send, take) in steps {
                now += ms(wait);
                let sending: Vec<u8> = (0..send).map(|n| number.wrapping_add(n as u8)).collect();
                let sent = way.send(&sending, now);
                prop_assert_eq!(sent, send.min(ROOM - under_way.len() - arrived));
                under_way.extend(sending[..sent].iter().map(|byte| (now + DELAY, *byte)));
                number = number.wrapping_add(sent as u8);

                let due = under_way.iter().take_while(|(at, _)| *at <= now).count();
                let due: Vec<u8> = under_way.drain(..due).map(|(_, byte)| byte).collect();
                arrived += due.len();
                match way.next(now) {
                    Next::Bytes(bytes) => prop_assert_eq!(bytes.as_ref(), &due[..]),
                    Next::At(at) => {
                        prop_assert!(due.is_empty());
                        prop_assert_eq!(Some(at), under_way.front().map(|(at, _)| *at));
                    }
                    Next::Nothing => prop_assert!(due.is_empty() && under_way.is_empty()),
                    Next::End => prop_assert!(false, "nobody ended it"),
                }
                let take = take.min(arrived);
                way.taken(take);
                arrived -= take;
            }
        }
    }
}
