//! One line of a hub's event stream, as far as heartbeats are concerned: whose message, when, and whether it counts.
//!
//! What may not enter: bodies of messages, what follows from a heartbeat.

use std::borrow::Cow;
use std::collections::HashMap;
use std::str::FromStr;
use std::time::SystemTime;

use azimuth_wire::time::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

/// What a line tells.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    Event(Event<'a>),
    /// So many events were dropped before they could be read.
    Skipped(u64),
}

#[derive(Debug, PartialEq, Eq)]
pub struct Event<'a> {
    pub partition: u16,
    pub sequence: u64,
    /// Of a message that counts as a heartbeat: its device, and when the hub took it.
    pub heartbeat: Option<(Cow<'a, str>, SystemTime)>,
}

/// Which messages are heartbeats: all that devices and their modules send, or those with this application property.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted(Option<(String, Option<String>)>);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not NAME or NAME=VALUE")]
pub struct InvalidProperty(String);

impl FromStr for Wanted {
    type Err = InvalidProperty;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, None),
        };
        if name.is_empty() {
            return Err(InvalidProperty(text.into()));
        }
        Ok(Self(Some((name.into(), value))))
    }
}

impl Wanted {
    /// Reads a line of the stream.
    pub fn read<'a>(&self, line: &'a str) -> Result<Line<'a>, serde_json::Error> {
        let written: Written<'a> = serde_json::from_str(line)?;
        Ok(match written {
            Written {
                skipped: Some(skipped),
                ..
            } => Line::Skipped(skipped),
            written => Line::Event(Event {
                partition: written.partition,
                sequence: written.sequence_number,
                heartbeat: self.heartbeat(written),
            }),
        })
    }

    fn heartbeat<'a>(&self, event: Written<'a>) -> Option<(Cow<'a, str>, SystemTime)> {
        let system = event.system_properties?;
        if system.source != "Telemetry" {
            return None;
        }
        if let Some((name, wanted)) = &self.0 {
            let properties: HashMap<Cow<'_, str>, Cow<'_, str>> =
                serde_json::from_str(event.properties?.get()).ok()?;
            let value = properties.get(name.as_str())?;
            if wanted.as_ref().is_some_and(|wanted| wanted != value) {
                return None;
            }
        }
        Some((system.device, event.enqueued_time_utc.get()?))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    skipped: Option<u64>,
    #[serde(default)]
    partition: u16,
    #[serde(default)]
    sequence_number: u64,
    #[serde(default)]
    enqueued_time_utc: Timestamp,
    #[serde(borrow)]
    system_properties: Option<System<'a>>,
    #[serde(borrow)]
    properties: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct System<'a> {
    #[serde(rename = "iothub-connection-device-id", borrow)]
    device: Cow<'a, str>,
    #[serde(rename = "iothub-message-source", borrow)]
    source: Cow<'a, str>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::Duration;

    fn line(source: &str, properties: &str) -> String {
        format!(
            r#"{{"partition":3,"sequenceNumber":17,"offset":"900","enqueuedTimeUtc":"2023-11-14T22:13:20.5Z",
            "systemProperties":{{"message-id":"m","iothub-connection-device-id":"lamp","iothub-message-source":"{source}"}},
            "properties":{properties},"body":"\"{{}}"}}"#
        )
    }

    #[test]
    fn telemetry_is_a_heartbeat_and_what_the_hub_itself_writes_is_none() {
        for (wanted, source, properties, counts) in [
            ("", "Telemetry", r#"{}"#, true),
            ("", "deviceConnectionStateEvents", r#"{}"#, false),
            (
                "",
                "deviceLifecycleEvents",
                r#"{"opType":"createDeviceIdentity"}"#,
                false,
            ),
            (
                "heartbeat=true",
                "Telemetry",
                r#"{"heartbeat":"true"}"#,
                true,
            ),
            (
                "heartbeat=true",
                "Telemetry",
                r#"{"heartbeat":"false"}"#,
                false,
            ),
            ("heartbeat=true", "Telemetry", r#"{}"#, false),
            (
                "heartbeat",
                "Telemetry",
                r#"{"a":"\n","heartbeat":""}"#,
                true,
            ),
            ("heartbeat", "Telemetry", r#"{"a":"\n"}"#, false),
            ("a=b=c", "Telemetry", r#"{"a":"b=c"}"#, true),
        ] {
            let wanted = match wanted {
                "" => Wanted::default(),
                wanted => wanted.parse().unwrap(),
            };
            let line = line(source, properties);
            let Line::Event(event) = wanted.read(&line).unwrap() else {
                panic!("{line}");
            };
            assert_eq!((event.partition, event.sequence), (3, 17));
            let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_500);
            let heartbeat = counts.then_some((Cow::Borrowed("lamp"), time));
            assert_eq!(event.heartbeat, heartbeat, "{wanted:?} {line}");
        }
        assert!("".parse::<Wanted>().is_err() && "=x".parse::<Wanted>().is_err());
    }

    #[test]
    fn a_gap_is_seen_and_what_is_no_line_is_an_error() {
        let wanted = Wanted::default();
        assert_eq!(
            wanted.read(r#"{"skipped":5,"partition":2}"#).unwrap(),
            Line::Skipped(5)
        );
        for line in ["", "{", "[]", r#"{"sequenceNumber":-1}"#] {
            assert!(wanted.read(line).is_err(), "{line}");
        }
    }
}
