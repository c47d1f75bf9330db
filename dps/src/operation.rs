//! Operations: what a device polls between register and its result.
//!
//! Held in memory, bounded in number and time; the last one of each registration stands in its
//! record, and can be polled longer. What may not enter: how an assignment is made.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use azimuth_wire::registration::RegistrationState;
use dashmap::DashMap;
use uuid::Uuid;

use crate::fingerprint::fingerprint;

/// `5.`, 16 hexadecimal digits of the registration, `.`, a GUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OperationId {
    registration: u64,
    guid: Uuid,
}

impl OperationId {
    /// A new operation of a registration; the digits stay the same for it in one DPS.
    pub fn new(id_scope: &str, registration_id: &str, guid: Uuid) -> Self {
        Self {
            registration: fingerprint([id_scope, registration_id]),
            guid,
        }
    }
}

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "5.{:016x}.{}", self.registration, self.guid)
    }
}

impl std::str::FromStr for OperationId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (digits, guid) = text
            .strip_prefix("5.")
            .and_then(|rest| rest.split_once('.'))
            .filter(|(digits, guid)| digits.len() == 16 && guid.len() == 36)
            .ok_or(())?;
        Ok(Self {
            registration: u64::from_str_radix(digits, 16).map_err(|_| ())?,
            guid: guid.parse().map_err(|_| ())?,
        })
    }
}

/// How an operation stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Standing {
    Unknown,
    Assigning,
    Done(Arc<RegistrationState>),
}

/// No room for another operation: the caller is asked to come back later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// The operations of all registrations, by folded registration id.
#[derive(Debug)]
pub struct Operations {
    registrations: DashMap<Box<str>, VecDeque<Operation>>,
    /// Of all registrations together.
    held: AtomicUsize,
    life: Duration,
    capacity: usize,
    assigning_polls: u32,
}

#[derive(Debug)]
struct Operation {
    id: OperationId,
    touched: Instant,
    result: Option<Arc<RegistrationState>>,
    /// Polls that are still to be answered `assigning`.
    assigning_polls: u32,
}

impl Operations {
    /// Operations of one registration.
    pub const EACH: usize = 100;
    /// Registrations with operations in memory.
    pub const REGISTRATIONS: usize = 500_000;
    /// Operations of all of them, for each registration that there is room for.
    const SHARE: usize = 4;
    /// Whatever happens to an assignment, nobody polls it longer than this.
    pub const LONGEST_ASSIGNMENT: Duration = Duration::from_secs(40 * 60);

    pub fn new(life: Duration, assigning_polls: u32, capacity: usize) -> Self {
        Self {
            registrations: DashMap::new(),
            held: AtomicUsize::new(0),
            life,
            capacity,
            assigning_polls,
        }
    }

    /// A register call was taken.
    pub fn begin(&self, registration: &str, id: OperationId, now: Instant) -> Result<(), Full> {
        // The length takes every shard's lock, so it is asked before an entry is held.
        let full = self.registrations.len() >= self.capacity;
        let crammed = self.held.load(Ordering::Relaxed) >= self.capacity * Self::SHARE;
        let operation = Operation {
            id,
            touched: now,
            result: None,
            assigning_polls: self.assigning_polls,
        };
        if let Some(mut operations) = self.registrations.get_mut(registration) {
            // Who has many gives way to itself, not to others.
            if operations.len() >= Self::EACH || (crammed && !operations.is_empty()) {
                operations.pop_front();
            } else {
                self.held.fetch_add(1, Ordering::Relaxed);
            }
            operations.push_back(operation);
            return Ok(());
        }
        if full || crammed {
            return Err(Full);
        }
        self.held.fetch_add(1, Ordering::Relaxed);
        let operations = VecDeque::from([operation]);
        let before = self.registrations.insert(registration.into(), operations);
        self.held
            .fetch_sub(before.map_or(0, |before| before.len()), Ordering::Relaxed);
        Ok(())
    }

    /// The operation was not taken after all.
    pub fn withdraw(&self, registration: &str, id: OperationId) {
        if let Some(mut operations) = self.registrations.get_mut(registration) {
            let before = operations.len();
            operations.retain(|operation| operation.id != id);
            self.held
                .fetch_sub(before - operations.len(), Ordering::Relaxed);
        }
    }

    /// Operations of a registration ended, all with one result.
    pub fn finish(
        &self,
        registration: &str,
        ids: &[OperationId],
        result: &Arc<RegistrationState>,
        now: Instant,
    ) {
        let Some(mut operations) = self.registrations.get_mut(registration) else {
            return;
        };
        for operation in operations
            .iter_mut()
            .filter(|operation| ids.contains(&operation.id))
        {
            operation.result = Some(result.clone());
            operation.touched = now;
        }
    }

    /// Whether an operation of a registration has no result yet.
    pub fn under_way(&self, registration: &str) -> bool {
        let operations = self.registrations.get(registration);
        operations.is_some_and(|operations| operations.iter().any(|one| one.result.is_none()))
    }

    /// A device asks how its operation stands.
    pub fn poll(&self, registration: &str, id: OperationId) -> Standing {
        let Some(mut operations) = self.registrations.get_mut(registration) else {
            return Standing::Unknown;
        };
        let operation = operations
            .iter_mut()
            .rev()
            .find(|operation| operation.id == id);
        let Some(operation) = operation else {
            return Standing::Unknown;
        };
        let waits = operation.assigning_polls > 0;
        operation.assigning_polls = operation.assigning_polls.saturating_sub(1);
        match &operation.result {
            Some(result) if !waits => Standing::Done(result.clone()),
            Some(_) | None => Standing::Assigning,
        }
    }

    /// Forgets what ended long ago; sooner when there is much.
    pub fn sweep(&self, now: Instant) {
        let held = self.held.load(Ordering::Relaxed);
        let crowded =
            self.registrations.len() > self.capacity / 2 || held > self.capacity * Self::SHARE / 2;
        let life = if crowded { self.life / 20 } else { self.life };
        let stays = |operation: &Operation| {
            let life = match operation.result {
                Some(_) => life,
                // Its assignment died without a word, or it would have ended long ago.
                None => Self::LONGEST_ASSIGNMENT,
            };
            now.saturating_duration_since(operation.touched) < life
        };
        self.registrations.retain(|_, operations| {
            let before = operations.len();
            operations.retain(stays);
            self.held
                .fetch_sub(before - operations.len(), Ordering::Relaxed);
            !operations.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]
    use azimuth_wire::registration::RegistrationStatus;

    use super::*;

    fn id(number: u128) -> OperationId {
        OperationId::new("0ne", "dev-1", Uuid::from_u128(number))
    }

    fn result() -> Arc<RegistrationState> {
        let id = "dev-1".parse().unwrap();
        Arc::new(RegistrationState::new(id, RegistrationStatus::Assigned))
    }

    #[test]
    fn ids_have_azures_form_and_read_back() {
        let one = OperationId::new("0ne", "Dev-1", Uuid::from_u128(7));
        assert_eq!(one.to_string().len(), 55);
        assert_eq!(one.to_string().parse(), Ok(one));
        assert_eq!(one, OperationId::new("0NE", "dev-1", Uuid::from_u128(7)));
        for text in [
            "",
            "5.",
            "5.0.0",
            "4.316aac5bdc130deb.b1e02da8-c3a0-4ff2-a121-7ea7a6b7f550",
        ] {
            assert!(text.parse::<OperationId>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_first_polls_answer_assigning_even_when_all_is_done() {
        for (polls, expected) in [(0, "D"), (1, "AD"), (2, "AAD")] {
            let now = Instant::now();
            let operations = Operations::new(Duration::from_secs(60), polls, 10);
            operations.begin("dev-1", id(1), now).unwrap();
            operations.finish("dev-1", &[id(1)], &result(), now);
            let mut seen = String::new();
            while !seen.ends_with('D') && seen.len() < 9 {
                seen.push(match operations.poll("dev-1", id(1)) {
                    Standing::Unknown => 'U',
                    Standing::Assigning => 'A',
                    Standing::Done(_) => 'D',
                });
            }
            assert_eq!(seen, expected);
        }
    }

    #[test]
    fn an_operation_belongs_to_its_registration() {
        let operations = Operations::new(Duration::from_secs(60), 0, 10);
        operations.begin("dev-1", id(1), Instant::now()).unwrap();
        assert_eq!(operations.poll("dev-2", id(1)), Standing::Unknown);
        assert_eq!(operations.poll("dev-1", id(2)), Standing::Unknown);
        assert_eq!(operations.poll("dev-1", id(1)), Standing::Assigning);
    }

    #[test]
    fn operations_are_bounded_in_number_and_time() {
        let start = Instant::now();
        let operations = Operations::new(Duration::from_secs(60), 0, 100);
        for number in 0..150 {
            operations.begin("dev-1", id(number), start).unwrap();
        }
        assert_eq!(operations.poll("dev-1", id(49)), Standing::Unknown);
        assert_eq!(operations.poll("dev-1", id(50)), Standing::Assigning);
        for other in 0..99 {
            let other = format!("other-{other}");
            operations.begin(&other, id(1), start).unwrap();
        }
        assert_eq!(operations.begin("dev-3", id(1), start), Err(Full));

        operations.finish("dev-1", &[id(149)], &result(), start);
        operations.sweep(start + Duration::from_secs(61));
        assert_eq!(operations.poll("dev-1", id(149)), Standing::Unknown);
        assert_eq!(operations.poll("dev-1", id(148)), Standing::Assigning);
    }

    #[test]
    fn an_assignment_that_never_ends_is_forgotten_after_forty_minutes() {
        let start = Instant::now();
        let operations = Operations::new(Duration::from_secs(60), 0, 10);
        operations.begin("dev-1", id(1), start).unwrap();
        for (seconds, standing) in [
            (40 * 60 - 1, Standing::Assigning),
            (40 * 60, Standing::Unknown),
        ] {
            operations.sweep(start + Duration::from_secs(seconds));
            assert_eq!(operations.poll("dev-1", id(1)), standing, "{seconds}");
        }
        assert_eq!(operations.held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn all_operations_together_are_bounded_and_a_day_of_them_leaves_nothing() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let operations = Operations::new(Duration::from_secs(1800), 0, 10);
        let mut number = 0;
        let mut most = 0;
        for turn in 0..24 * 60 {
            let now = start + second * turn * 60;
            // Three devices that register all the time, and one after the other that comes once.
            for device in ["a", "b", "c", &format!("once-{turn}")] {
                number += 1;
                if operations.begin(device, id(number), now).is_ok() {
                    operations.finish(device, &[id(number)], &result(), now);
                }
            }
            if turn % 20 == 0 {
                operations.sweep(now);
            }
            most = most.max(operations.held.load(Ordering::Relaxed));
        }
        assert_eq!(most, 40, "room for ten registrations");
        operations.sweep(start + second * (25 * 3600));
        assert_eq!(operations.registrations.len(), 0);
        assert_eq!(operations.held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn who_fills_the_house_gives_way_to_itself() {
        let now = Instant::now();
        let operations = Operations::new(Duration::from_secs(60), 0, 2);
        for number in 0..20 {
            operations.begin("dev-1", id(number), now).unwrap();
        }
        assert_eq!(operations.begin("dev-2", id(99), now), Err(Full));
        assert_eq!(operations.poll("dev-1", id(11)), Standing::Unknown);
        assert_eq!(operations.poll("dev-1", id(12)), Standing::Assigning);
        operations.withdraw("dev-1", id(12));
        assert_eq!(operations.begin("dev-2", id(99), now), Ok(()));
    }
}
