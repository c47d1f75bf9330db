//! Times as Azure prints them: ISO 8601 UTC, up to seven fraction digits, trailing zeros cut.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Year 1: how Azure writes "never".
pub const NEVER: &str = "0001-01-01T00:00:00Z";

/// A time on the wire, exact to 100 nanoseconds (a .NET tick), or never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Timestamp(Option<SystemTime>);

impl Timestamp {
    /// Year 1.
    pub const NEVER: Self = Self(None);

    /// `None` when it never happened.
    pub fn get(self) -> Option<SystemTime> {
        self.0
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let ticks = Duration::new(since.as_secs(), since.subsec_nanos() / 100 * 100);
        Self(Some(UNIX_EPOCH + ticks))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(time) = self.0 else {
            return f.write_str(NEVER);
        };
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        let Ok(at) = jiff::Timestamp::from_second(seconds) else {
            return f.write_str(NEVER);
        };
        write!(f, "{}", at.strftime("%Y-%m-%dT%H:%M:%S"))?;
        let ticks = since.subsec_nanos() / 100;
        if ticks > 0 {
            write!(f, ".{}", format!("{ticks:07}").trim_end_matches('0'))?;
        }
        f.write_str("Z")
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.starts_with("0001-01-01") {
            return Ok(Self::NEVER);
        }
        let at: jiff::Timestamp = text.parse().map_err(serde::de::Error::custom)?;
        Ok(Self::from(SystemTime::from(at)))
    }
}

/// Seconds since 1970, as `se` counts.
pub fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

/// Ticks of 100 ns since year 1, as .NET counts: what a `generationId` is made of.
pub fn dotnet_ticks(time: SystemTime) -> u64 {
    const UNIX_EPOCH_TICKS: u64 = 621_355_968_000_000_000;
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH_TICKS + since.as_secs() * 10_000_000 + u64::from(since.subsec_nanos()) / 100
}
