//! Connection states as Azure reports them: looked at once a minute, told where they differ from what was told last.
//!
//! Pure. Holds who is on the line, and who has a state that was not told yet. May not enter: numbers, what a report is made of.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use azimuth_wire::Identity;
use azimuth_wire::registry::ConnectionState;

/// States between two looks.
#[derive(Debug)]
pub struct Snapshots {
    next: SystemTime,
    seen: BTreeMap<Identity, Seen>,
}

#[derive(Debug)]
struct Seen {
    told: ConnectionState,
    state: ConnectionState,
    /// When the state is such: a connection that was lost is noticed later.
    since: SystemTime,
}

impl Snapshots {
    /// Azure looks once a minute.
    pub const EVERY: Duration = Duration::from_secs(60);

    pub fn begin(now: SystemTime) -> Self {
        Self {
            next: now + Self::EVERY,
            seen: BTreeMap::new(),
        }
    }

    /// An identity has a new state from `since` on.
    pub fn turned(&mut self, identity: &Identity, state: ConnectionState, since: SystemTime) {
        match self.seen.get_mut(identity) {
            Some(seen) => (seen.state, seen.since) = (state, since),
            None => {
                let told = ConnectionState::Disconnected;
                let seen = Seen { told, state, since };
                self.seen.insert(identity.clone(), seen);
            }
        }
    }

    /// What is to be told at this time; nothing between two looks.
    pub fn look(&mut self, now: SystemTime) -> Vec<(Identity, ConnectionState)> {
        if now < self.next {
            return Vec::new();
        }
        self.next = now + Self::EVERY;
        let mut told = Vec::new();
        self.seen.retain(|identity, seen| {
            if seen.since > now {
                return true;
            }
            if seen.told != seen.state {
                seen.told = seen.state;
                told.push((identity.clone(), seen.state));
            }
            seen.state == ConnectionState::Connected
        });
        told
    }

    /// An identity is gone and there is no later look: whether it was told to be here.
    pub fn ended(&mut self, identity: &Identity) -> bool {
        let seen = self.seen.remove(identity);
        seen.is_some_and(|seen| seen.told == ConnectionState::Connected)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::UNIX_EPOCH;

    use azimuth_wire::registry::ConnectionState::{Connected, Disconnected};

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn device(id: &str) -> Identity {
        Identity::device(id.parse().unwrap())
    }

    #[test]
    fn flapping_within_a_minute_is_told_once_or_not_at_all() {
        let mut snapshots = Snapshots::begin(at(0));
        for second in [10, 20, 30] {
            snapshots.turned(&device("stays"), Disconnected, at(second));
            snapshots.turned(&device("stays"), Connected, at(second + 1));
            snapshots.turned(&device("goes"), Connected, at(second));
            snapshots.turned(&device("goes"), Disconnected, at(second + 1));
        }
        assert!(snapshots.look(at(59)).is_empty(), "between two looks");
        assert_eq!(snapshots.look(at(60)), [(device("stays"), Connected)]);
        assert!(snapshots.look(at(61)).is_empty());
        snapshots.turned(&device("stays"), Disconnected, at(100));
        snapshots.turned(&device("stays"), Connected, at(101));
        assert!(snapshots.look(at(120)).is_empty(), "it is told already");
        snapshots.turned(&device("stays"), Disconnected, at(130));
        assert_eq!(snapshots.look(at(180)), [(device("stays"), Disconnected)]);
        assert!(snapshots.seen.is_empty(), "who is gone is forgotten");
    }

    #[test]
    fn a_loss_that_is_noticed_later_is_told_later_and_not_after_a_return() {
        let mut snapshots = Snapshots::begin(at(0));
        snapshots.turned(&device("lost"), Connected, at(1));
        snapshots.turned(&device("back"), Connected, at(1));
        assert_eq!(snapshots.look(at(60)).len(), 2);
        for id in ["lost", "back"] {
            snapshots.turned(&device(id), Disconnected, at(100 + 300));
        }
        snapshots.turned(&device("back"), Connected, at(200));
        for minute in 2..=6 {
            assert!(snapshots.look(at(minute * 60)).is_empty());
        }
        assert_eq!(snapshots.look(at(420)), [(device("lost"), Disconnected)]);
        assert!(snapshots.ended(&device("back")));
        assert!(!snapshots.ended(&device("lost")), "that is told already");
    }
}
