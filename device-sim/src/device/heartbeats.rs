//! The messages of one device: which are due, which are under way. Open loop: a message is due on
//! the beat whether or not earlier ones were acknowledged.

use std::time::{Duration, Instant};

use crate::chance::{Chance, Question};
use crate::plan::Plan;

/// Ids above are left to SUBSCRIBE.
const IDS: u64 = 65_534;

/// Messages are numbered from 0. Those from `sent` to `due` wait; nothing is stored for them.
#[derive(Debug)]
pub(super) struct Heartbeats {
    first: Instant,
    due: u64,
    sent: u64,
    /// Sent, not acknowledged; in order of sending.
    under_way: Vec<u64>,
}

impl Heartbeats {
    /// Beats begin now: at the first time the device is connected.
    pub(super) fn starting(first: Instant) -> Self {
        Self {
            first,
            due: 0,
            sent: 0,
            under_way: Vec::new(),
        }
    }

    /// When message `number` is due: on its beat, later by a share of the interval that chance says.
    pub(super) fn due_at(&self, number: u64, plan: &Plan, chance: Chance) -> Option<Instant> {
        let interval = plan.heartbeat?;
        if plan.messages.is_some_and(|messages| number >= messages) {
            return None;
        }
        let share = plan.jitter * chance.draw(Question::Heartbeat, number);
        let beats = Duration::try_from_secs_f64(interval.as_secs_f64() * (number as f64 + share));
        self.first.checked_add(beats.ok()?)
    }

    /// When the next message becomes due, if ever.
    pub(super) fn next(&self, plan: &Plan, chance: Chance) -> Option<Instant> {
        self.due_at(self.due, plan, chance)
    }

    /// Notes what has become due; says how many.
    pub(super) fn note_due(&mut self, plan: &Plan, chance: Chance, now: Instant) -> u64 {
        let before = self.due;
        while self.next(plan, chance).is_some_and(|due| due <= now) {
            self.due += 1;
        }
        self.due - before
    }

    /// The next message to send, if one is due and there is room. It counts as sent.
    pub(super) fn take(&mut self, plan: &Plan) -> Option<u64> {
        let number = self.sent;
        if number >= self.due {
            return None;
        }
        if plan.at_least_once {
            // An id may not be given again while its message waits [MQTT-2.3.1-4].
            let oldest = self.under_way.iter().min().copied().unwrap_or(number);
            if self.under_way.len() >= plan.in_flight || number - oldest >= IDS {
                return None;
            }
            self.under_way.push(number);
        }
        self.sent += 1;
        Some(number)
    }

    /// The message that this PUBACK is for; a second PUBACK is for none.
    pub(super) fn acknowledge(&mut self, packet_id: u16) -> Option<u64> {
        let place = self
            .under_way
            .iter()
            .position(|number| packet_id_of(*number) == packet_id)?;
        let number = self.under_way.remove(place);
        if self.under_way.is_empty() {
            self.under_way = Vec::new();
        }
        Some(number)
    }

    pub(super) fn under_way(&self) -> Vec<u64> {
        self.under_way.clone()
    }

    /// Whether nothing waits, neither to be sent nor to be acknowledged.
    pub(super) fn settled(&self) -> bool {
        self.sent == self.due && self.under_way.is_empty()
    }

    /// Whether the plan's number of messages is sent and acknowledged.
    pub(super) fn complete(&self, plan: &Plan) -> bool {
        plan.messages == Some(self.sent) && self.under_way.is_empty()
    }
}

/// The packet id of a message: the same each time it is sent, never 0.
pub(super) fn packet_id_of(number: u64) -> u16 {
    (number % IDS) as u16 + 1
}
