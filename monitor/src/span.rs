//! Spans of time as people write them: `30s`, `1m30s`, `500ms`, `2h`, or a plain number of seconds.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::SignedDuration;
use serde::{Deserialize, Deserializer};

/// Longer than nothing and shorter than ten years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(Duration);

/// The text is no span of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a span of time above zero and below ten years; write 30s, 1m30s, 500ms or 2h"
)]
pub struct InvalidSpan(String);

impl Span {
    pub const fn get(self) -> Duration {
        self.0
    }

    /// So many seconds, where that is a span.
    pub fn seconds(seconds: f64) -> Option<Self> {
        let span = Duration::try_from_secs_f64(seconds).ok()?;
        (!span.is_zero() && span < TEN_YEARS).then_some(Self(span))
    }

    /// For constants: zero becomes a second.
    pub const fn of_seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(if seconds == 0 { 1 } else { seconds }))
    }
}

const TEN_YEARS: Duration = Duration::from_secs(3650 * 86_400);

impl FromStr for Span {
    type Err = InvalidSpan;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidSpan(text.into());
        if let Ok(seconds) = text.parse::<f64>() {
            return Self::seconds(seconds).ok_or_else(invalid);
        }
        let span: SignedDuration = text.parse().map_err(|_| invalid())?;
        Self::seconds(span.as_secs_f64()).ok_or_else(invalid)
    }
}

/// A text, or a number of seconds.
impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "a span of time such as \"30s\", or a number of seconds"
        )]
        enum Written {
            Text(String),
            Seconds(f64),
        }
        let text = match Written::deserialize(deserializer)? {
            Written::Text(text) => text,
            Written::Seconds(seconds) => seconds.to_string(),
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", shown(self.0))
    }
}

/// For people: two units at most, `1h 5m`, `12.5s`.
pub fn shown(span: Duration) -> impl fmt::Display {
    let span = SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX);
    let (seconds, tenths) = (span.as_secs(), span.subsec_millis() / 100);
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, _) if tenths > 0 => format!("{seconds}.{tenths}s"),
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, 0) => format!("{minutes}m"),
        (0, minutes, seconds) => format!("{minutes}m {seconds}s"),
        (hours, 0, _) => format!("{hours}h"),
        (hours, minutes, _) => format!("{hours}h {minutes}m"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn spans_are_read_as_people_write_them() {
        for (text, milliseconds) in [
            ("30s", 30_000),
            ("1m30s", 90_000),
            ("1m 30s", 90_000),
            ("500ms", 500),
            ("2h", 7_200_000),
            ("90", 90_000),
            ("1.5", 1_500),
            ("PT1M", 60_000),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.get(), Duration::from_millis(milliseconds), "{text}");
        }
        for text in [
            "", "0", "0s", "-5s", "soon", "NaN", "inf", "20y", "1e300", "30 s s",
        ] {
            let error = text.parse::<Span>().unwrap_err();
            assert!(error.to_string().contains(&format!("`{text}`")), "{text}");
        }
    }

    #[test]
    fn spans_are_shown_with_two_units() {
        for (milliseconds, text) in [
            (0, "0s"),
            (450, "0.4s"),
            (12_000, "12s"),
            (60_000, "1m"),
            (61_900, "1m 1s"),
            (3_600_000, "1h"),
            (3_900_000, "1h 5m"),
        ] {
            let shown = shown(Duration::from_millis(milliseconds)).to_string();
            assert_eq!(shown, text);
        }
    }
}
