//! Azure's quotas of registrations and polls, for who wants to see devices throttled.
//!
//! Token buckets with the time as an argument. What may not enter: clocks, and how a device is told.

use std::time::{Duration, Instant};

use dashmap::DashMap;
use parking_lot::Mutex;

/// So many calls in so long a time, in one go or spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub calls: u32,
    pub per: Duration,
}

/// What is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quotas {
    /// Of all devices together.
    pub registrations: Rate,
    /// Of one device; registrations and polls are counted apart.
    pub device_calls: Rate,
}

impl Quotas {
    /// 1000 registrations a minute, and 5 calls of each kind in 10 s from one device.
    pub const AZURE: Self = Self {
        registrations: Rate {
            calls: 1000,
            per: Duration::from_secs(60),
        },
        device_calls: Rate {
            calls: 5,
            per: Duration::from_secs(10),
        },
    };
}

/// Which quota a call is beyond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beyond {
    Registrations(Rate),
    DeviceCalls(Rate),
}

/// Counts calls against quotas.
#[derive(Debug)]
pub struct Meter {
    quotas: Quotas,
    all: Mutex<Option<Bucket>>,
    registrations: Calls,
    polls: Calls,
}

impl Meter {
    pub fn new(quotas: Quotas) -> Self {
        Self {
            quotas,
            all: Mutex::new(None),
            registrations: Calls::default(),
            polls: Calls::default(),
        }
    }

    /// A device registers, or looks its registration up.
    pub fn registration(&self, device: &str, now: Instant) -> Result<(), Beyond> {
        let Quotas {
            registrations,
            device_calls,
        } = self.quotas;
        // Its own quota first: a device that hammers must not use up that of all.
        if !self.registrations.take(device, device_calls, now) {
            return Err(Beyond::DeviceCalls(device_calls));
        }
        let mut all = self.all.lock();
        let all = all.get_or_insert_with(|| Bucket::full(registrations, now));
        if !all.take(registrations, now) {
            return Err(Beyond::Registrations(registrations));
        }
        Ok(())
    }

    /// A device asks how its operation stands.
    pub fn poll(&self, device: &str, now: Instant) -> Result<(), Beyond> {
        let rate = self.quotas.device_calls;
        let taken = self.polls.take(device, rate, now);
        taken.then_some(()).ok_or(Beyond::DeviceCalls(rate))
    }
}

/// A bucket for each device that called lately.
#[derive(Debug, Default)]
struct Calls(DashMap<Box<str>, Bucket>);

impl Calls {
    /// Devices beyond which those with a full bucket are forgotten; a new one is as full.
    const KEPT: usize = 100_000;

    fn take(&self, device: &str, rate: Rate, now: Instant) -> bool {
        if let Some(mut bucket) = self.0.get_mut(device) {
            return bucket.take(rate, now);
        }
        if self.0.len() >= Self::KEPT {
            self.0.retain(|_, bucket| !bucket.is_full(rate, now));
        }
        let mut bucket = Bucket::full(rate, now);
        let taken = bucket.take(rate, now);
        self.0.insert(device.into(), bucket);
        taken
    }
}

/// Calls that may still be made, filled up as time goes by.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    pub fn full(rate: Rate, now: Instant) -> Self {
        Self {
            left: f64::from(rate.calls),
            at: now,
        }
    }

    /// Whether one more call may be made; if so, it counts.
    pub fn take(&mut self, rate: Rate, now: Instant) -> bool {
        self.fill(rate, now);
        let may = self.left >= 1.0;
        if may {
            self.left -= 1.0;
        }
        may
    }

    fn is_full(mut self, rate: Rate, now: Instant) -> bool {
        self.fill(rate, now);
        self.left >= f64::from(rate.calls)
    }

    fn fill(&mut self, rate: Rate, now: Instant) {
        let passed = now.saturating_duration_since(self.at);
        let share = passed.as_secs_f64() / rate.per.as_secs_f64();
        let most = f64::from(rate.calls);
        self.left = (self.left + share * most).min(most);
        self.at = self.at.max(now);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)]
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn five_calls_in_ten_seconds_and_then_one_every_two() {
        let meter = Meter::new(Quotas::AZURE);
        let start = Instant::now();
        let taken = |device, at| meter.poll(device, at).is_ok();
        for (seconds, expected) in [
            (0, 5),
            (1, 0),
            (2, 1),
            (3, 0),
            (6, 2),
            // Nobody saves up more than the five.
            (600, 5),
        ] {
            let now = start + SECOND * seconds;
            let count = (0..9).filter(|_| taken("dev-1", now)).count();
            assert_eq!(count, expected, "{seconds}");
        }
        assert!(taken("dev-2", start + SECOND * 600));
        // Registrations are counted apart.
        assert!(meter.registration("dev-1", start + SECOND * 600).is_ok());
    }

    #[test]
    fn all_devices_share_a_thousand_registrations_a_minute_and_one_that_hammers_takes_few() {
        let meter = Meter::new(Quotas::AZURE);
        let now = Instant::now();
        let beyond = Beyond::DeviceCalls(Quotas::AZURE.device_calls);
        for call in 0..2000 {
            let expected = if call < 5 { Ok(()) } else { Err(beyond) };
            assert_eq!(meter.registration("hammer", now), expected);
        }
        let register = |number: u32, now| meter.registration(&format!("dev-{number}"), now);
        for number in 0..995 {
            assert_eq!(register(number, now), Ok(()));
        }
        let beyond = Beyond::Registrations(Quotas::AZURE.registrations);
        assert_eq!(register(2000, now), Err(beyond));
        assert_eq!(register(2000, now + SECOND * 6), Ok(()));
    }

    #[test]
    fn time_that_goes_back_gives_nothing() {
        let rate = Quotas::AZURE.device_calls;
        let start = Instant::now() + SECOND;
        let mut bucket = Bucket::full(rate, start);
        while bucket.take(rate, start) {}
        assert!(!bucket.take(rate, start - SECOND));
        assert!(!bucket.take(rate, start));
        assert!(bucket.take(rate, start + SECOND * 2));
    }
}
