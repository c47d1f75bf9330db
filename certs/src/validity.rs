//! Spans of time in certificates, and the text Azure writes them in.
//!
//! May not enter: clocks. `now` is always an argument.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use x509_parser::time::ASN1Time;

/// When a certificate begins and ends; both ends belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    pub not_before: SystemTime,
    pub not_after: SystemTime,
}

impl Validity {
    /// A span of `life` from `now`, begun an hour early because boards have bad clocks, and ended at
    /// `at_most` if that comes first.
    pub(crate) fn starting(now: SystemTime, life: Duration, at_most: Option<SystemTime>) -> Self {
        let not_before = whole_seconds(now)
            .checked_sub(HOUR)
            .unwrap_or(UNIX_EPOCH)
            .max(UNIX_EPOCH);
        let end = whole_seconds(now) + life;
        Self {
            not_before,
            not_after: at_most.map_or(end, |limit| limit.min(end)),
        }
    }

    pub fn contains(&self, now: SystemTime) -> bool {
        self.not_before <= now && whole_seconds(now) <= self.not_after
    }

    /// Less than a third of its life is left, or its life has not begun.
    pub(crate) fn is_due(&self, now: SystemTime) -> bool {
        if !self.contains(now) {
            return true;
        }
        let life = self.not_after.duration_since(self.not_before);
        let left = self.not_after.duration_since(now);
        left.unwrap_or_default() < life.unwrap_or_default() / 3
    }
}

/// As RFC 1123 writes times: `Fri, 31 Dec 2049 23:59:59 GMT`.
pub(crate) fn rfc1123_text(time: SystemTime) -> String {
    let Ok(asn1) = ASN1Time::from_timestamp(unix_seconds(time)) else {
        return "a time beyond the calendar".to_owned();
    };
    let at = asn1.to_datetime();
    format!(
        "{:.3}, {:02} {:.3} {:04} {:02}:{:02}:{:02} GMT",
        at.weekday().to_string(),
        at.day(),
        at.month().to_string(),
        at.year(),
        at.hour(),
        at.minute(),
        at.second()
    )
}

/// `2024-01-01T00:00:00Z`, the form of `notBeforeUtc`.
pub(crate) fn utc_text(time: SystemTime) -> String {
    let Ok(asn1) = ASN1Time::from_timestamp(unix_seconds(time)) else {
        return "a time beyond the calendar".to_owned();
    };
    let at = asn1.to_datetime();
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    )
}

/// The time `seconds` after (or, if negative, before) the beginning of 1970.
pub(crate) fn from_unix_seconds(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let moved = if seconds < 0 {
        UNIX_EPOCH.checked_sub(distance)
    } else {
        UNIX_EPOCH.checked_add(distance)
    };
    moved.unwrap_or(UNIX_EPOCH)
}

/// Seconds since the beginning of 1970, rounded down; negative before it.
pub(crate) fn unix_seconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(before) => {
            let before = before.duration();
            let seconds = i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
            -seconds - i64::from(before.subsec_nanos() > 0)
        }
    }
}

fn whole_seconds(time: SystemTime) -> SystemTime {
    from_unix_seconds(unix_seconds(time))
}

pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn text_is_in_whole_utc_seconds() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (1_704_067_200, "2024-01-01T00:00:00Z"),
            (2_524_607_999, "2049-12-31T23:59:59Z"),
        ] {
            assert_eq!(utc_text(from_unix_seconds(seconds)), text);
            assert_eq!(unix_seconds(from_unix_seconds(seconds)), seconds);
        }
    }

    #[test]
    fn the_end_is_written_as_rfc_1123_has_it() {
        let span = Validity {
            not_before: from_unix_seconds(0),
            not_after: from_unix_seconds(2_524_607_999),
        };
        assert_eq!(
            rfc1123_text(span.not_after),
            "Fri, 31 Dec 2049 23:59:59 GMT"
        );
    }

    #[test]
    fn both_ends_belong_to_the_span() {
        let span = Validity {
            not_before: from_unix_seconds(100),
            not_after: from_unix_seconds(400),
        };
        for (at, inside) in [(99, false), (100, true), (400, true), (401, false)] {
            assert_eq!(span.contains(from_unix_seconds(at)), inside, "at {at}");
        }
        // RFC 5280 §4.1.2.5: the last second is part of the period, to its end.
        assert!(span.contains(from_unix_seconds(400) + Duration::from_millis(999)));
    }

    #[test]
    fn renewal_is_due_when_less_than_a_third_is_left() {
        let span = Validity {
            not_before: from_unix_seconds(0),
            not_after: from_unix_seconds(300),
        };
        for (at, due) in [(0, false), (200, false), (201, true), (301, true)] {
            assert_eq!(span.is_due(from_unix_seconds(at)), due, "at {at}");
        }
    }
}
