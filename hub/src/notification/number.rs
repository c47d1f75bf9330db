//! Sequence numbers of notifications: what a consumer orders them by, because their arrival need not be in order.
//!
//! Pure. May not enter: what is numbered.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use azimuth_wire::time;

/// Numbers of one run of a hub, each larger than all before it.
#[derive(Debug)]
pub struct Numbers {
    run: u64,
    next: AtomicU64,
}

/// A sequence number. As text 64 hex digits, which compare as the numbers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number {
    run: u64,
    count: u64,
}

impl Numbers {
    /// `before` is the run before this one. A clock that was set back since does not count.
    pub fn begin(now: SystemTime, before: Option<u64>) -> Self {
        let run = filetime(now).max(before.map_or(0, |before| before.saturating_add(1)));
        Self {
            run,
            next: AtomicU64::new(1),
        }
    }

    /// To be kept for the next start.
    pub fn run(&self) -> u64 {
        self.run
    }

    pub fn next(&self) -> Number {
        Number {
            run: self.run,
            count: self.next.fetch_add(1, Ordering::Relaxed),
        }
    }
}

impl Number {
    /// Up to 12 hex digits that differ between notifications of a run.
    pub(super) fn correlation(self) -> u64 {
        (self.run ^ self.count.rotate_left(20)) & 0xffff_ffff_ffff
    }
}

/// Laid out as Azure's: the time at which a run began, a 2, a counter.
impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032X}{EPOCH:08X}{:024X}", self.run, self.count)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("not a sequence number")]
pub struct InvalidNumber;

impl FromStr for Number {
    type Err = InvalidNumber;

    fn from_str(text: &str) -> Result<Self, InvalidNumber> {
        let part = |range| {
            let digits: Option<&str> = text.get(range);
            digits.and_then(|digits| u64::from_str_radix(digits, 16).ok())
        };
        match (text.len(), part(0..32), part(40..64)) {
            (64, Some(run), Some(count)) => Ok(Self { run, count }),
            _ => Err(InvalidNumber),
        }
    }
}

const EPOCH: u32 = 2;

/// Ticks of 100 ns since 1601.
fn filetime(at: SystemTime) -> u64 {
    const TICKS_TO_1601: u64 = 504_911_232_000_000_000;
    time::dotnet_ticks(at).saturating_sub(TICKS_TO_1601)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_number_is_64_digits_laid_out_as_azures() {
        // 2022-05-31T12:40:22.1237524Z
        let now = UNIX_EPOCH + Duration::from_nanos(1_654_000_822_123_752_400);
        let numbers = Numbers::begin(now, None);
        for _ in 0..6 {
            numbers.next();
        }
        let number = numbers.next();
        let text = number.to_string();
        assert_eq!(text.len(), 64);
        assert!(text.starts_with("000000000000000001D874"), "{text}");
        assert!(text.ends_with("00000002000000000000000000000007"), "{text}");
        assert_eq!(text.parse::<Number>().unwrap(), number);
        assert!("7".parse::<Number>().is_err());
        assert!("é".repeat(32).parse::<Number>().is_err());
    }

    #[test]
    fn a_later_run_counts_on_whatever_its_clock_says() {
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let first = Numbers::begin(now, None);
        let last = (0..1000).map(|_| first.next().to_string()).last().unwrap();
        assert!(first.next().to_string() > last);
        let an_hour_before = now - Duration::from_secs(3600);
        let second = Numbers::begin(an_hour_before, Some(first.run()));
        assert!(second.next().to_string() > last);
    }
}
