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
        let mut parts = date.split('-');
        let (Some(year), Some(month), Some(day), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_version_a_client_sends_reads_back_what_it_shows() {
        for text in [
            "2016-11-14",
            "2017-11-08-preview",
            "2021-04-12",
            "9999-12-31",
        ] {
            assert_eq!(text.parse::<ApiVersion>().unwrap().to_string(), text);
        }
        assert_eq!("2021-04-12".parse(), Ok(ApiVersion::new(2021, 4, 12)));
    }

    #[test]
    fn a_preview_comes_before_its_release() {
        let rising = [
            "2019-10-01",
            "2020-09-30-preview",
            "2020-09-30",
            "2021-04-12",
        ];
        let versions = rising.map(|text| text.parse::<ApiVersion>().unwrap());
        assert!(versions.is_sorted());
    }

    #[test]
    fn anything_but_a_date_is_refused() {
        for text in [
            "",
            "-preview",
            "2021",
            "2021-4-12",
            "2021-04-12-",
            "2021-04-12-beta",
            "2021-13-01",
            "2021-00-01",
            "2021-04-32",
            "+021-04-12",
            "２０２１-04-12",
            "2021-04-12-01",
        ] {
            assert_eq!(
                text.parse::<ApiVersion>(),
                Err(InvalidApiVersion(text.into())),
                "{text}"
            );
        }
        let refused = "x".repeat(500).parse::<ApiVersion>().unwrap_err();
        assert_eq!(refused.0.len(), 40);
    }
}
