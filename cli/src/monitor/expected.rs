//! What is expected of devices: flags and environment over the table `[monitor]` over what is usual.
//!
//! What may not enter: hubs, and what happens when a device is late.

use std::time::SystemTime;

use anyhow::Context;
use azimuth_clock::{Clock, SystemClock};
use azimuth_monitor::{Grace, Intervals, Rule, Settings, Since, Span};
use azimuth_wire::time::Timestamp;
use clap::Args;
use clap::builder::FalseyValueParser;
use reqwest::Url;
use serde_json::Value;

use crate::config::MonitorSection;

/// Flags and environment.
#[derive(Debug, Default, Args)]
pub struct Expected {
    /// How often a device is expected to send [default: 60s]
    #[arg(long, env = "AZIMUTH_MONITOR_INTERVAL", value_name = "SPAN")]
    interval: Option<Span>,
    /// How much later is still in time: a share of the interval or a span [default: 50%]
    #[arg(long, env = "AZIMUTH_MONITOR_GRACE", value_name = "SHARE")]
    grace: Option<Grace>,
    /// Interval of one device, or of all whose ids begin alike: `lamp-7=30s`, `lamp-*=30s`; may be repeated
    #[arg(
        long = "device",
        env = "AZIMUTH_MONITOR_DEVICE",
        value_delimiter = ' ',
        value_name = "ID=SPAN"
    )]
    devices: Vec<Rule>,
    /// Tag of a device's twin that holds its interval in seconds, such as `heartbeatSeconds`
    #[arg(long, env = "AZIMUTH_MONITOR_TAG", value_name = "PATH")]
    tag: Option<String>,
    /// Expect every enabled device of the registry, also those that never sent
    #[arg(long, env = "AZIMUTH_MONITOR_EXPECT_ALL", value_parser = FalseyValueParser::new())]
    expect_all: bool,
    /// Only messages with this application property are heartbeats, such as `heartbeat=true` [default: all
    /// that a device or its modules send]
    #[arg(long, env = "AZIMUTH_MONITOR_PROPERTY", value_name = "NAME[=VALUE]")]
    property: Option<String>,
    /// Oldest heartbeats that are read: `now`, `start`, `10m` ago, or a time [default: now]
    #[arg(long, env = "AZIMUTH_MONITOR_SINCE", value_name = "WHEN")]
    since: Option<String>,
    /// How often tags and the registry are read again [default: 60s]
    #[arg(long, env = "AZIMUTH_MONITOR_REFRESH", value_name = "SPAN")]
    refresh: Option<Span>,
    /// URL to which changes are posted as well, in JSON arrays
    #[arg(long, env = "AZIMUTH_MONITOR_WEBHOOK", value_name = "URL")]
    webhook: Option<String>,
}

const USUAL: Span = Span::of_seconds(60);

impl Expected {
    /// What holds, and where changes are posted.
    pub fn over(self, section: &MonitorSection) -> anyhow::Result<(Settings, Option<Url>)> {
        let rules = section.devices.iter().map(|(device, interval)| Rule {
            device: device.clone(),
            interval: *interval,
        });
        let intervals = Intervals::new(
            self.interval.or(section.interval).unwrap_or(USUAL),
            self.grace.or(section.grace).unwrap_or(Grace::Share(50.0)),
            rules.chain(self.devices),
        );
        let property = self.property.as_ref().or(section.property.as_ref());
        let tag = self.tag.as_ref().or(section.tag.as_ref());
        let since = self.since.as_ref().or(section.since.as_ref());
        let webhook = self.webhook.as_ref().or(section.webhook.as_ref());
        let settings = Settings {
            intervals,
            wanted: property
                .map(|property| property.parse())
                .transpose()
                .context("--property")?
                .unwrap_or_default(),
            since: since.map_or(Ok(Since::Now), |since| read_since(since, SystemClock.utc()))?,
            tag: tag.map(|tag| tag.parse()).transpose().context("--tag")?,
            expect_all: self.expect_all || section.expect_all,
            refresh: self.refresh.or(section.refresh).unwrap_or(USUAL).get(),
        };
        // A URL may hold a key: the sentence does not show it.
        let webhook = webhook.map(|url| url.parse()).transpose();
        let webhook: Option<Url> = webhook.context("the URL of the webhook is none")?;
        if let Some(url) = &webhook
            && !matches!(url.scheme(), "http" | "https")
        {
            anyhow::bail!("the URL of the webhook begins with neither https:// nor http://");
        }
        Ok((settings, webhook))
    }
}

fn read_since(text: &str, now: SystemTime) -> anyhow::Result<Since> {
    match text {
        "now" => return Ok(Since::Now),
        "start" => return Ok(Since::Start),
        _ => {}
    }
    if let Ok(ago) = text.parse::<Span>() {
        return Ok(Since::Time(now - ago.get()));
    }
    let time: Option<Timestamp> = serde_json::from_value(Value::String(text.into())).ok();
    let time = time.and_then(Timestamp::get).with_context(|| {
        format!("--since: `{text}` is none of now, start, a span such as 10m, and a time such as 2026-01-01T00:00:00Z")
    })?;
    Ok(Since::Time(time))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::Duration;

    fn section(text: &str) -> MonitorSection {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn flags_go_over_the_table_and_the_table_over_what_is_usual() {
        let section = section(
            "interval = \"10s\"\ngrace = \"1s\"\ntag = \"beat\"\nrefresh = 5\nproperty = \"beat\"\n\
             since = \"start\"\nwebhook = \"http://127.0.0.1/a\"\n[devices]\n\"lamp-*\" = \"2s\"\ndoor = 3\n",
        );
        let flags = Expected {
            interval: Some("20s".parse().unwrap()),
            devices: vec!["door=4s".parse().unwrap()],
            since: Some("now".into()),
            webhook: Some("https://elsewhere/".into()),
            ..Expected::default()
        };
        let (settings, webhook) = flags.over(&section).unwrap();
        let of = |device: &str| settings.intervals.of(device, None).as_secs();
        assert_eq!((of("x"), of("lamp-1"), of("door")), (20, 2, 4));
        let allowance = settings.intervals.allowance(Duration::from_secs(20));
        assert_eq!(allowance, Duration::from_secs(21));
        assert_eq!(
            (settings.since, settings.refresh.as_secs()),
            (Since::Now, 5)
        );
        assert_eq!(settings.wanted, "beat".parse().unwrap());
        assert_eq!(settings.tag, Some("beat".parse().unwrap()));
        assert_eq!(webhook.unwrap().as_str(), "https://elsewhere/");

        let (settings, webhook) = Expected::default()
            .over(&MonitorSection::default())
            .unwrap();
        assert_eq!(settings.intervals.of("x", None).as_secs(), 60);
        let allowance = settings.intervals.allowance(Duration::from_secs(60));
        assert_eq!((allowance.as_secs(), settings.refresh.as_secs()), (90, 60));
        assert_eq!((webhook, settings.expect_all), (None, false));
    }

    #[test]
    fn a_time_to_begin_is_a_word_a_span_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let time = |seconds| Since::Time(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        for (text, since) in [
            ("now", Since::Now),
            ("start", Since::Start),
            ("10m", time(1_699_999_400)),
            ("2023-11-14T22:13:20Z", time(1_700_000_000)),
        ] {
            assert_eq!(read_since(text, now).unwrap(), since, "{text}");
        }
        assert!(read_since("yesterday", now).is_err());
    }

    #[test]
    fn what_cannot_be_is_refused_without_showing_the_webhook() {
        for url in ["ftp://host/?code=secret", "no url?code=secret"] {
            let text = format!("webhook = \"{url}\"\n");
            let error = Expected::default().over(&section(&text)).unwrap_err();
            assert!(!format!("{error:#}").contains("secret"), "{error:#}");
        }
        for text in ["tag = \"a..b\"", "property = \"=x\"", "since = \"soon\""] {
            assert!(Expected::default().over(&section(text)).is_err(), "{text}");
        }
        for text in [
            "interval = \"soon\"",
            "grace = 5",
            "every = \"5s\"",
            "interval = -1",
        ] {
            assert!(toml::from_str::<MonitorSection>(text).is_err(), "{text}");
        }
    }
}
