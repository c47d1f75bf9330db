//! Times as Azure prints them: ISO 8601 UTC, up to seven fraction digits, trailing zeros cut.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::civil::DateTime;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Year 1: how Azure writes "never".
pub const NEVER: &str = "0001-01-01T00:00:00Z";

/// Ticks of 100 ns in a second.
const SECOND: i64 = 10_000_000;
/// 1970 in ticks since year 1.
const UNIX_EPOCH_TICKS: i64 = 621_355_968_000_000_000;
const UNIX_EPOCH_DATE: DateTime = jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0);
/// The last tick of year 9999, since 1970: where .NET's calendar ends.
const LAST_TICK: i64 = 2_534_023_008_000_000_000 - 1;

/// A time on the wire, exact to 100 nanoseconds (a .NET tick), or never.
///
/// Years 1 to 9999; a time before or after is moved to the nearer end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Timestamp(Option<SystemTime>);

impl Timestamp {
    /// Year 1.
    pub const NEVER: Self = Self(None);

    /// `None` when it never happened.
    pub fn get(self) -> Option<SystemTime> {
        self.0
    }

    /// Always seven fraction digits, `2017-08-13T23:00:00.1234567Z`: how cloud-to-device topics
    /// and some events write times.
    pub fn to_seven_digits(self) -> String {
        let (seconds, ticks) = self.split();
        format!("{seconds}.{ticks:07}Z")
    }

    /// The date and time of day, and the ticks of the second begun.
    fn split(self) -> (impl fmt::Display, i64) {
        let ticks = self.0.map_or(-UNIX_EPOCH_TICKS, ticks_since_1970);
        let second = jiff::SignedDuration::from_secs(ticks.div_euclid(SECOND));
        let second =
            (UNIX_EPOCH_DATE.checked_add(second)).expect("years 1 to 9999 are within the calendar");
        (second, ticks.rem_euclid(SECOND))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let ticks = ticks_since_1970(time);
        if ticks == -UNIX_EPOCH_TICKS {
            return Self::NEVER;
        }
        let distance = ticks.unsigned_abs();
        let distance = Duration::new(
            distance / SECOND.unsigned_abs(),
            (distance % SECOND.unsigned_abs()) as u32 * 100,
        );
        Self(Some(if ticks < 0 {
            UNIX_EPOCH - distance
        } else {
            UNIX_EPOCH + distance
        }))
    }
}

/// Rounded down to a tick, as a clock does, and kept within years 1 to 9999.
fn ticks_since_1970(time: SystemTime) -> i64 {
    let nanoseconds = match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i128::try_from(after.as_nanos()),
        Err(before) => i128::try_from(before.duration().as_nanos()).map(|nanos| -nanos),
    };
    let ticks = nanoseconds
        .expect("a Duration has 94 bits of nanoseconds")
        .div_euclid(100)
        .clamp(i128::from(-UNIX_EPOCH_TICKS), i128::from(LAST_TICK));
    ticks as i64
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, mut ticks) = self.split();
        write!(f, "{seconds}")?;
        if ticks > 0 {
            let mut width = 7;
            while ticks % 10 == 0 {
                ticks /= 10;
                width -= 1;
            }
            write!(f, ".{ticks:0width$}")?;
        }
        f.write_str("Z")
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// ISO 8601 with any offset; without one it is UTC, as Azure's own `0001-01-01T00:00:00` is.
impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if let Ok(at) = text.parse::<jiff::Timestamp>() {
            return Ok(Self::from(SystemTime::from(at)));
        }
        // .NET's last day lies beyond jiff's timestamps, not beyond its dates.
        let at: DateTime = (text.strip_suffix('Z').unwrap_or(&text))
            .parse()
            .map_err(serde::de::Error::custom)?;
        let since = at.duration_since(UNIX_EPOCH_DATE);
        Ok(Self::from(if since.is_negative() {
            UNIX_EPOCH - since.unsigned_abs()
        } else {
            UNIX_EPOCH + since.unsigned_abs()
        }))
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
    (UNIX_EPOCH_TICKS + ticks_since_1970(time)).unsigned_abs()
}

/// The time that `dotnet_ticks` made a `generationId` of, where it can have been one.
pub fn of_dotnet_ticks(ticks: u64) -> Timestamp {
    let since = i64::try_from(ticks).map(|ticks| ticks - UNIX_EPOCH_TICKS);
    match since.ok().and_then(|since| u64::try_from(since).ok()) {
        Some(since) => {
            Timestamp::from(UNIX_EPOCH + Duration::from_nanos(since.saturating_mul(100)))
        }
        None => Timestamp::NEVER,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn after_1970(seconds: u64, nanoseconds: u32) -> SystemTime {
        UNIX_EPOCH + Duration::new(seconds, nanoseconds)
    }

    fn read(text: &str) -> Timestamp {
        serde_json::from_value(text.into()).unwrap()
    }

    #[test]
    fn trailing_zeros_of_the_fraction_are_cut() {
        for (nanoseconds, short, long) in [
            (0, "2017-08-13T23:00:00Z", "2017-08-13T23:00:00.0000000Z"),
            (99, "2017-08-13T23:00:00Z", "2017-08-13T23:00:00.0000000Z"),
            (
                123_456_789,
                "2017-08-13T23:00:00.1234567Z",
                "2017-08-13T23:00:00.1234567Z",
            ),
            (
                120_000_000,
                "2017-08-13T23:00:00.12Z",
                "2017-08-13T23:00:00.1200000Z",
            ),
            (
                100,
                "2017-08-13T23:00:00.0000001Z",
                "2017-08-13T23:00:00.0000001Z",
            ),
            (
                10_200_000,
                "2017-08-13T23:00:00.0102Z",
                "2017-08-13T23:00:00.0102000Z",
            ),
        ] {
            let at = Timestamp::from(after_1970(1_502_665_200, nanoseconds));
            assert_eq!(at.to_string(), short);
            assert_eq!(at.to_seven_digits(), long);
            assert_eq!(read(short), at);
            assert_eq!(read(long), at);
        }
    }

    #[test]
    fn the_time_behind_ticks_is_found_again() {
        let at = after_1970(1_502_665_200, 123_456_700);
        assert_eq!(of_dotnet_ticks(dotnet_ticks(at)), Timestamp::from(at));
        for ticks in [0, 1, u64::MAX] {
            assert_eq!(of_dotnet_ticks(ticks), Timestamp::NEVER, "{ticks}");
        }
        // Beyond the calendar is its end.
        let last = of_dotnet_ticks(i64::MAX as u64).to_string();
        assert!(last.starts_with("2554-07-21T"), "{last}");
    }

    #[test]
    fn never_is_year_one() {
        assert_eq!(Timestamp::NEVER.to_string(), NEVER);
        assert_eq!(
            Timestamp::NEVER.to_seven_digits(),
            "0001-01-01T00:00:00.0000000Z"
        );
        assert_eq!(Timestamp::default(), Timestamp::NEVER);
        for text in [
            NEVER,
            "0001-01-01T00:00:00",
            "0001-01-01T00:00:00.0000000Z",
            "-009998-01-01T00:00:00Z",
        ] {
            assert_eq!(read(text), Timestamp::NEVER, "{text}");
        }
        assert_eq!(
            read("0001-01-01T00:00:01Z").to_string(),
            "0001-01-01T00:00:01Z"
        );
    }

    #[test]
    fn times_before_1970_and_far_ahead_are_kept_and_ordered() {
        let texts = [
            "0001-01-01T00:00:00Z",
            "1601-01-01T00:00:00Z",
            "1969-12-31T23:59:59.9999999Z",
            "1970-01-01T00:00:00Z",
            "2038-01-19T03:14:08Z",
            "3237-07-19T23:06:40Z",
            "9999-12-31T23:59:59.9999999Z",
        ];
        let times = texts.map(read);
        assert_eq!(times.map(|time| time.to_string()), texts);
        assert!(times.is_sorted());
        assert_eq!(
            Timestamp::from(UNIX_EPOCH - Duration::from_nanos(1)).to_string(),
            "1969-12-31T23:59:59.9999999Z"
        );
    }

    #[test]
    fn a_time_outside_the_calendar_is_moved_to_its_end() {
        let ahead = UNIX_EPOCH + Duration::from_secs(1 << 60);
        assert_eq!(
            Timestamp::from(ahead).to_string(),
            "9999-12-31T23:59:59.9999999Z"
        );
        assert_eq!(dotnet_ticks(ahead), 3_155_378_975_999_999_999);
        let before = UNIX_EPOCH - Duration::from_secs(1 << 60);
        assert_eq!(Timestamp::from(before), Timestamp::NEVER);
        assert_eq!((dotnet_ticks(before), unix_seconds(before)), (0, 0));
    }

    #[test]
    fn offsets_are_read_and_nonsense_is_refused() {
        assert_eq!(
            read("2020-01-01T02:00:00+02:00").to_string(),
            "2020-01-01T00:00:00Z"
        );
        assert_eq!(
            read("2020-01-01T00:00:00").to_string(),
            "2020-01-01T00:00:00Z"
        );
        for text in ["", "soon", "2020-13-01T00:00:00Z", "2020-01-01T25:00:00Z"] {
            assert!(
                serde_json::from_value::<Timestamp>(text.into()).is_err(),
                "{text}"
            );
        }
    }

    #[test]
    fn dotnet_counts_from_year_one() {
        assert_eq!(dotnet_ticks(UNIX_EPOCH), 621_355_968_000_000_000);
        assert_eq!(dotnet_ticks(after_1970(1, 250)), 621_355_968_010_000_002);
        assert_eq!(unix_seconds(after_1970(1, 999_999_999)), 1);
    }
}
