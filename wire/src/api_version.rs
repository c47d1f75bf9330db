//! `api-version`: `YYYY-MM-DD`, with or without `-preview`. An unknown, newer one is served as the
//! newest one known.

use std::fmt;
use std::str::FromStr;

/// A version by its date. Ordered by date; a preview comes before its release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion {
    year: u16,
    month: u8,
    day: u8,
    released: bool,
}

/// Why a text is not an api-version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an api-version: YYYY-MM-DD or YYYY-MM-DD-preview")]
pub struct InvalidApiVersion(pub String);

impl ApiVersion {
    pub const fn new(year: u16, month: u8, day: u8) -> Self {
        Self {
            year,
            month,
            day,
            released: true,
        }
    }
}

impl FromStr for ApiVersion {
    type Err = InvalidApiVersion;

    fn from_str(text: &str) -> Result<Self, InvalidApiVersion> {
        let invalid = || InvalidApiVersion(text.chars().take(40).collect());
        let (date, released) = match text.strip_suffix("-preview") {
            Some(date) => (date, false),
            None => (text, true),
        };
        let [year, month, day] = date.split('-').collect::<Vec<_>>()[..] else {
            return Err(invalid());
        };
        let digits =
            |text: &str, count| text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(year, 4) || !digits(month, 2) || !digits(day, 2) {
            return Err(invalid());
        }
        let parsed = (year.parse(), month.parse(), day.parse());
        let (Ok(year), Ok(month @ 1..=12), Ok(day @ 1..=31)) = parsed else {
            return Err(invalid());
        };
        Ok(Self {
            year,
            month,
            day,
            released,
        })
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let preview = if self.released { "" } else { "-preview" };
        write!(
            f,
            "{:04}-{:02}-{:02}{preview}",
            self.year, self.month, self.day
        )
    }
}
