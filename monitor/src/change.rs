//! What became of a device: late, back, or gone; as a line for people and as JSON.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use azimuth_wire::time::Timestamp;
use serde::ser::{Serialize, SerializeStruct, Serializer};

use crate::span::shown;
use crate::watch::Absence;

/// One device is seen otherwise than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub news: News,
    pub hub: Arc<str>,
    pub device: Arc<str>,
    /// When it was noticed, by the hub's clock.
    pub at: SystemTime,
    /// `None` for a device that never sent.
    pub last_heartbeat: Option<SystemTime>,
    /// The last heartbeat, or since when one was expected, with the interval and the grace.
    pub expected_by: SystemTime,
    pub interval: Duration,
    pub silent_for: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Silent for longer than expected.
    Late,
    /// Heard again, after it was late. `last_heartbeat` is the one that ended the silence.
    Back,
    /// Was late and is expected no more.
    Gone(Absence),
}

impl News {
    pub fn name(self) -> &'static str {
        match self {
            Self::Late => "late",
            Self::Back => "back",
            Self::Gone(Absence::Deleted) => "deleted",
            Self::Gone(Absence::Disabled) => "disabled",
        }
    }
}

/// `time  late  device at hub  silent for 3m 20s, expected every 1m`.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = Timestamp::from(self.at);
        write!(
            f,
            "{at}  {:8}  {} at {}  ",
            self.news.name(),
            self.device,
            self.hub
        )?;
        let (silent, interval) = (shown(self.silent_for), shown(self.interval));
        match (self.news, self.last_heartbeat) {
            (News::Late, Some(_)) => write!(f, "silent for {silent}, expected every {interval}"),
            (News::Late, None) => write!(f, "never heard in {silent}, expected every {interval}"),
            (News::Back, _) => write!(f, "was silent for {silent}, expected every {interval}"),
            (News::Gone(_), _) => write!(f, "expected no more, was silent for {silent}"),
        }
    }
}

/// Spans are seconds.
impl Serialize for Change {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Change", 8)?;
        object.serialize_field("change", self.news.name())?;
        object.serialize_field("deviceId", &*self.device)?;
        object.serialize_field("hub", &*self.hub)?;
        object.serialize_field("at", &Timestamp::from(self.at))?;
        object.serialize_field("lastHeartbeat", &self.last_heartbeat.map(Timestamp::from))?;
        object.serialize_field("expectedBy", &Timestamp::from(self.expected_by))?;
        object.serialize_field("interval", &seconds(self.interval))?;
        object.serialize_field("silentFor", &seconds(self.silent_for))?;
        object.end()
    }
}

/// Exact to the millisecond, as heartbeats are dated.
fn seconds(span: Duration) -> f64 {
    span.as_millis() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn change(news: News, last: Option<u64>) -> Change {
        let time = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        Change {
            news,
            hub: "east".into(),
            device: "lamp".into(),
            at: time(1_700_000_100),
            last_heartbeat: last.map(time),
            expected_by: time(1_700_000_090),
            interval: Duration::from_secs(60),
            silent_for: Duration::from_millis(100_250),
        }
    }

    #[test]
    fn each_kind_is_one_line_and_one_object() {
        let heard = Some(1_700_000_000);
        for (change, line) in [
            (
                change(News::Late, heard),
                "late      lamp at east  silent for 1m 40s, expected every 1m",
            ),
            (
                change(News::Late, None),
                "late      lamp at east  never heard in 1m 40s, expected every 1m",
            ),
            (
                change(News::Back, heard),
                "back      lamp at east  was silent for 1m 40s, expected every 1m",
            ),
            (
                change(News::Gone(Absence::Deleted), heard),
                "deleted   lamp at east  expected no more, was silent for 1m 40s",
            ),
        ] {
            assert_eq!(change.to_string(), format!("2023-11-14T22:15:00Z  {line}"));
        }
        let expected = json!({
            "change": "late", "deviceId": "lamp", "hub": "east", "at": "2023-11-14T22:15:00Z",
            "lastHeartbeat": "2023-11-14T22:13:20Z", "expectedBy": "2023-11-14T22:14:50Z",
            "interval": 60.0, "silentFor": 100.25,
        });
        assert_eq!(json!(change(News::Late, heard)), expected);
        assert!(json!(change(News::Late, None))["lastHeartbeat"].is_null());
    }
}
