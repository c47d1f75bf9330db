//! How often a device is expected to send: by its id, by its tag, or as usual; and how much later is still in time.
//!
//! What may not enter: where rules were written down, when anything came.

use std::collections::HashMap;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::span::{InvalidSpan, Span};

/// The interval of every device.
#[derive(Debug, Clone)]
pub struct Intervals {
    usual: Span,
    grace: Grace,
    exact: HashMap<String, Span>,
    /// The longest first.
    prefixes: Vec<(String, Span)>,
}

/// What is added to an interval before a device is late.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Grace {
    /// So many hundredths of the interval.
    Share(f64),
    Fixed(Duration),
}

/// The interval of one device, or of all whose ids begin alike: `ID=30s`, `PREFIX*=30s`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub device: String,
    pub interval: Span,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRule {
    #[error("`{0}` is not ID=INTERVAL")]
    Form(String),
    #[error(transparent)]
    Interval(#[from] InvalidSpan),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a grace: write 50% of the interval, or a span of time such as 5s")]
pub struct InvalidGrace(String);

impl Intervals {
    /// Of rules that name the same the last holds.
    pub fn new(usual: Span, grace: Grace, rules: impl IntoIterator<Item = Rule>) -> Self {
        let (mut exact, mut prefixes) = (HashMap::new(), HashMap::new());
        for rule in rules {
            match rule.device.strip_suffix('*') {
                Some(prefix) => prefixes.insert(prefix.to_owned(), rule.interval),
                None => exact.insert(rule.device, rule.interval),
            };
        }
        let mut prefixes: Vec<_> = prefixes.into_iter().collect();
        prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        Self {
            usual,
            grace,
            exact,
            prefixes,
        }
    }

    /// A rule for the device comes before its tag, a rule for its prefix too; without either it is as usual.
    pub fn of(&self, device: &str, tag: Option<Span>) -> Duration {
        let by_prefix = || {
            let mut prefixes = self.prefixes.iter();
            prefixes.find(|(prefix, _)| device.starts_with(prefix.as_str()))
        };
        let ruled = self.exact.get(device).copied();
        let ruled = ruled.or_else(|| by_prefix().map(|(_, interval)| *interval));
        ruled.or(tag).unwrap_or(self.usual).get()
    }

    /// How long after a heartbeat the next one must have come.
    pub fn allowance(&self, interval: Duration) -> Duration {
        interval.saturating_add(match self.grace {
            Grace::Share(hundredths) => interval.mul_f64(hundredths / 100.0),
            Grace::Fixed(grace) => grace,
        })
    }
}

impl FromStr for Rule {
    type Err = InvalidRule;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // An id may hold `=`.
        match text.rsplit_once('=') {
            Some((device, interval)) if !device.is_empty() => Ok(Self {
                device: device.into(),
                interval: interval.parse()?,
            }),
            _ => Err(InvalidRule::Form(text.into())),
        }
    }
}

impl FromStr for Grace {
    type Err = InvalidGrace;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidGrace(text.into());
        if let Some(hundredths) = text.strip_suffix('%') {
            let hundredths: f64 = hundredths.trim().parse().map_err(|_| invalid())?;
            let sensible = (0.0..=10_000.0).contains(&hundredths);
            return sensible
                .then_some(Self::Share(hundredths))
                .ok_or_else(invalid);
        }
        if text.trim_end_matches('s') == "0" {
            return Ok(Self::Fixed(Duration::ZERO));
        }
        let span: Span = text.parse().map_err(|_| invalid())?;
        Ok(Self::Fixed(span.get()))
    }
}

impl<'de> Deserialize<'de> for Grace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_nearest_rule_says_the_interval() {
        let rules = [
            "lamp-*=10s",
            "lamp-7*=20s",
            "lamp-7=30s",
            "a=b=40s",
            "a=b=50s",
        ];
        let rules = rules.map(|rule| rule.parse().unwrap());
        let intervals = Intervals::new(Span::of_seconds(60), Grace::Share(50.0), rules);
        let tag = Some(Span::of_seconds(5));
        for (device, tag, seconds) in [
            ("lamp-7", tag, 30),
            ("lamp-70", tag, 20),
            ("lamp-1", None, 10),
            ("a=b", None, 50),
            ("door", tag, 5),
            ("door", None, 60),
            ("Lamp-7", None, 60),
        ] {
            let interval = intervals.of(device, tag);
            assert_eq!(interval, Duration::from_secs(seconds), "{device}");
        }
    }

    #[test]
    fn grace_is_a_share_of_the_interval_or_a_span() {
        for (text, allowance) in [
            ("50%", 15),
            ("0%", 10),
            ("0", 10),
            ("0s", 10),
            ("3s", 13),
            ("100 %", 20),
        ] {
            let intervals = Intervals::new(Span::of_seconds(10), text.parse().unwrap(), []);
            let allowed = intervals.allowance(Duration::from_secs(10));
            assert_eq!(allowed, Duration::from_secs(allowance), "{text}");
        }
        for text in ["-1%", "%", "", "much", "NaN%"] {
            assert!(text.parse::<Grace>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_rule_that_is_none_says_so() {
        for (text, sentence) in [
            ("lamp", "`lamp` is not ID=INTERVAL"),
            ("=5s", "`=5s` is not ID=INTERVAL"),
            (
                "lamp=",
                "`` is not a span of time above zero and below ten years; write 30s, 1m30s, 500ms or 2h",
            ),
        ] {
            assert_eq!(text.parse::<Rule>().unwrap_err().to_string(), sentence);
        }
    }
}
