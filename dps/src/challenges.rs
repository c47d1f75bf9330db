//! The keys that were wrapped for TPMs and not forgotten yet: the newest two of each registration.
//!
//! In memory only, bounded in number and time: a device whose challenge is gone asks for another. Only
//! registrations with an enrolled TPM get in. What may not enter: what a challenge proves.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::attestation::tpm::Challenge;

/// Challenges by folded registration id.
#[derive(Debug)]
pub struct Challenges {
    held: Mutex<Held>,
    capacity: usize,
}

#[derive(Debug, Default)]
struct Held {
    next: u64,
    registrations: HashMap<Box<str>, VecDeque<(u64, Challenge)>>,
    /// In the order of their making, so that the oldest are found without a search.
    order: BTreeMap<u64, (Instant, Box<str>)>,
}

impl Challenges {
    /// A registration's newest: a client that asked twice may still be on its way with the first.
    pub const EACH: usize = 2;
    /// In memory at once; beyond, the oldest goes.
    pub const CAPACITY: usize = 100_000;
    pub const LIFE: Duration = Duration::from_secs(3600);

    pub fn new(capacity: usize) -> Self {
        Self {
            held: Mutex::default(),
            capacity,
        }
    }

    pub fn issue(&self, registration: &str, challenge: Challenge, now: Instant) {
        let held = &mut *self.held.lock();
        held.forget(now, self.capacity.saturating_sub(1));
        let number = held.next;
        held.next += 1;
        let own = held.registrations.entry(registration.into()).or_default();
        own.push_back((number, challenge));
        if own.len() > Self::EACH
            && let Some((oldest, _)) = own.pop_front()
        {
            held.order.remove(&oldest);
        }
        held.order.insert(number, (now, registration.into()));
    }

    /// Those of a registration that are still good.
    pub fn of(&self, registration: &str, now: Instant) -> Vec<Challenge> {
        let held = &mut *self.held.lock();
        held.forget(now, self.capacity);
        let own = held.registrations.get(registration).into_iter().flatten();
        own.map(|(_, challenge)| challenge.clone()).collect()
    }
}

impl Held {
    /// Forgets what is too old, and the oldest beyond `most`.
    fn forget(&mut self, now: Instant, most: usize) {
        while let Some(oldest) = self.order.first_entry() {
            let made = oldest.get().0;
            let young = now.saturating_duration_since(made) < Challenges::LIFE;
            if young && self.order.len() <= most {
                return;
            }
            let Some((number, (_, registration))) = self.order.pop_first() else {
                return;
            };
            if let Some(own) = self.registrations.get_mut(&registration) {
                own.retain(|(one, _)| *one != number);
                if own.is_empty() {
                    self.registrations.remove(&registration);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]
    use std::sync::Arc;

    use azimuth_wire::SymmetricKey;

    use super::*;
    use crate::attestation::tpm::tests::{enrolled, shown};

    fn challenge(number: u8) -> Challenge {
        let tpm = crate::attestation::tpm::introduced(&shown(), &enrolled()).unwrap();
        Challenge {
            tpm: Arc::new(tpm),
            key: SymmetricKey::from_bytes(&[number; 32]),
        }
    }

    fn keys(challenges: &Challenges, registration: &str, now: Instant) -> Vec<SymmetricKey> {
        let found = challenges.of(registration, now).into_iter();
        found.map(|challenge| challenge.key).collect()
    }

    fn key(number: u8) -> SymmetricKey {
        SymmetricKey::from_bytes(&[number; 32])
    }

    #[test]
    fn the_newest_two_live_for_an_hour() {
        let challenges = Challenges::new(100);
        let start = Instant::now();
        for number in 0..5 {
            let at = start + Duration::from_secs(u64::from(number));
            challenges.issue("dev-1", challenge(number), at);
        }
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(keys(&challenges, "dev-1", after(9)), [key(3), key(4)]);
        assert_eq!(keys(&challenges, "dev-2", after(9)), []);
        assert_eq!(keys(&challenges, "dev-1", after(3603)), [key(4)]);
        assert_eq!(keys(&challenges, "dev-1", after(3604)), []);
        assert!(challenges.held.lock().registrations.is_empty());
    }

    #[test]
    fn beyond_the_capacity_the_oldest_goes() {
        let challenges = Challenges::new(3);
        let now = Instant::now();
        for number in 0..50 {
            challenges.issue(&format!("dev-{}", number % 10), challenge(number), now);
        }
        let held = challenges.held.lock();
        assert_eq!((held.order.len(), held.registrations.len()), (3, 3));
        drop(held);
        assert_eq!(keys(&challenges, "dev-9", now), [key(49)]);
        assert_eq!(keys(&challenges, "dev-6", now), []);
    }
}
