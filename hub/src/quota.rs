//! What a tier of IoT Hub allows: rates of operations, messages a day, identities. For who wants to see them.
//!
//! Pure, with the time as an argument. Azure takes bursts of a minute or two at once, then makes
//! requests wait, then refuses; so do the buckets here. What may not enter: clocks, sockets, and how a
//! client is told.

use std::time::{Duration, Instant, SystemTime};

use azimuth_wire::time::unix_seconds;
use parking_lot::Mutex;
use serde::Deserialize;

/// What was bought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Tier {
    F1,
    B1,
    B2,
    B3,
    S1,
    S2,
    S3,
}

/// A tier, so many times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    tier: Tier,
    units: u32,
}

/// What a rate is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    IdentityRegistry,
    Query,
    TwinRead,
    TwinUpdate,
    Connection,
    Telemetry,
}

/// Beyond a rate, and when to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Throttled {
    pub operation: Operation,
    pub per_minute: u64,
    pub wait: Duration,
}

/// Beyond the messages of a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayIsFull {
    pub allowed: u64,
    pub counted: u64,
}

impl Operation {
    pub fn name(self) -> &'static str {
        match self {
            Self::IdentityRegistry => "IdentityRegistry",
            Self::Query => "Query",
            Self::TwinRead => "TwinRead",
            Self::TwinUpdate => "TwinUpdate",
            Self::Connection => "DeviceConnect",
            Self::Telemetry => "D2CSend",
        }
    }
}

impl Tier {
    pub fn most_units(self) -> u32 {
        match self {
            Self::F1 => 1,
            Self::B1 | Self::B2 | Self::S1 | Self::S2 => 200,
            Self::B3 | Self::S3 => 10,
        }
    }

    /// Telemetry alone: no twins, no cloud-to-device messages, no methods, no jobs.
    fn is_basic(self) -> bool {
        matches!(self, Self::B1 | Self::B2 | Self::B3)
    }
}

impl Plan {
    /// Nothing where Azure sells no so many units.
    pub fn new(tier: Tier, units: u32) -> Option<Self> {
        let most = tier.most_units();
        (1..=most).contains(&units).then_some(Self { tier, units })
    }

    pub fn is_basic(self) -> bool {
        self.tier.is_basic()
    }

    /// Operations a second, by Azure's table.
    fn per_second(self, operation: Operation) -> f64 {
        let units = f64::from(self.units);
        let (small, middle, large) = match operation {
            Operation::IdentityRegistry => (
                units * 100.0 / 60.0,
                units * 100.0 / 60.0,
                units * 5000.0 / 60.0,
            ),
            Operation::Query => (
                units * 20.0 / 60.0,
                units * 20.0 / 60.0,
                units * 1000.0 / 60.0,
            ),
            Operation::Connection | Operation::Telemetry => {
                (f64::max(100.0, 12.0 * units), 120.0 * units, 6000.0 * units)
            }
            Operation::TwinRead => (100.0, f64::max(100.0, 10.0 * units), 500.0 * units),
            Operation::TwinUpdate => (50.0, f64::max(50.0, 5.0 * units), 250.0 * units),
        };
        match self.tier {
            Tier::F1 | Tier::B1 | Tier::S1 => small,
            Tier::B2 | Tier::S2 => middle,
            Tier::B3 | Tier::S3 => large,
        }
    }

    /// Messages a day, each of so many bytes at most; a longer one counts several times.
    fn messages(self) -> (u64, usize) {
        let units = u64::from(self.units);
        match self.tier {
            Tier::F1 => (8_000, 512),
            Tier::B1 | Tier::S1 => (400_000 * units, 4096),
            Tier::B2 | Tier::S2 => (6_000_000 * units, 4096),
            Tier::B3 | Tier::S3 => (300_000_000 * units, 4096),
        }
    }

    /// Devices that may be registered.
    pub fn devices(self) -> u64 {
        match self.tier {
            Tier::F1 => 500,
            _ => 1_000_000,
        }
    }
}

/// Counts what happens in a hub against its plan.
#[derive(Debug)]
pub struct Meter {
    plan: Plan,
    buckets: Mutex<[Option<Bucket>; 6]>,
    day: Mutex<Day>,
}

impl Meter {
    pub fn new(plan: Plan) -> Self {
        Self {
            plan,
            buckets: Mutex::default(),
            day: Mutex::default(),
        }
    }

    pub fn plan(&self) -> Plan {
        self.plan
    }

    /// One more operation: how long it has to wait, `patience` at most.
    pub fn take(
        &self,
        operation: Operation,
        patience: Duration,
        now: Instant,
    ) -> Result<Duration, Throttled> {
        let rate = self.plan.per_second(operation);
        let mut buckets = self.buckets.lock();
        let bucket = &mut buckets[operation as usize];
        let bucket = bucket.get_or_insert(Bucket {
            left: rate * BURST_SECONDS,
            at: now,
        });
        let wait = bucket.wait(rate, now);
        if wait > patience {
            return Err(Throttled {
                operation,
                per_minute: (rate * 60.0).round() as u64,
                wait,
            });
        }
        bucket.left -= 1.0;
        Ok(wait)
    }

    /// A message of so many bytes on this day; it counts only where there is room.
    pub fn message(&self, bytes: usize, now: SystemTime) -> Result<(), DayIsFull> {
        let (allowed, block) = self.plan.messages();
        let blocks = u64::try_from(bytes.div_ceil(block))
            .unwrap_or(u64::MAX)
            .max(1);
        let today = unix_seconds(now) / SECONDS_OF_A_DAY;
        let mut day = self.day.lock();
        if day.number != today {
            *day = Day {
                number: today,
                counted: 0,
            };
        }
        let counted = day.counted.saturating_add(blocks);
        if counted > allowed {
            return Err(DayIsFull { allowed, counted });
        }
        day.counted = counted;
        Ok(())
    }
}

/// Operations that may still be done, filled up as time goes by; below nothing, some wait already.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    /// How long one more has to wait.
    fn wait(&mut self, rate: f64, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * rate).min(rate * BURST_SECONDS);
        self.at = self.at.max(now);
        let missing = (1.0 - self.left).max(0.0);
        Duration::from_secs_f64(missing / rate)
    }
}

#[derive(Debug, Default)]
struct Day {
    /// Since 1970, in UTC.
    number: u64,
    counted: u64,
}

/// What may come at once, in seconds of the rate.
const BURST_SECONDS: f64 = 60.0;
const SECONDS_OF_A_DAY: u64 = 24 * 3600;

#[cfg(test)]
mod tests;
