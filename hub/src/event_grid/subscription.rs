//! What one subscription asks for: which events, in which form, how long to try.
//!
//! Pure. May not enter: text of configuration files, deliveries.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use azimuth_wire::Identity;

use crate::notification::Happening;

/// A type of event that a hub has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventType {
    DeviceCreated,
    DeviceDeleted,
    DeviceConnected,
    DeviceDisconnected,
}

impl EventType {
    pub const ALL: [Self; 4] = [
        Self::DeviceCreated,
        Self::DeviceDeleted,
        Self::DeviceConnected,
        Self::DeviceDisconnected,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::DeviceCreated => "Microsoft.Devices.DeviceCreated",
            Self::DeviceDeleted => "Microsoft.Devices.DeviceDeleted",
            Self::DeviceConnected => "Microsoft.Devices.DeviceConnected",
            Self::DeviceDisconnected => "Microsoft.Devices.DeviceDisconnected",
        }
    }
}

impl From<Happening> for EventType {
    fn from(happening: Happening) -> Self {
        match happening {
            Happening::Created => Self::DeviceCreated,
            Happening::Deleted => Self::DeviceDeleted,
            Happening::Connected => Self::DeviceConnected,
            Happening::Disconnected => Self::DeviceDisconnected,
        }
    }
}

/// The form of events on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schema {
    EventGrid,
    CloudEvents,
}

impl Schema {
    pub fn name(self) -> &'static str {
        match self {
            Self::EventGrid => "eventGrid",
            Self::CloudEvents => "cloudEvents",
        }
    }
}

/// A subscription to events of a hub.
#[derive(Clone)]
pub struct Subscription {
    /// Letters, digits and dashes.
    pub name: String,
    /// The webhook. Its query may hold a key, so nobody shows it.
    pub url: String,
    pub types: Vec<EventType>,
    pub subject_begins_with: String,
    pub subject_ends_with: String,
    pub schema: Schema,
    pub batch: Batch,
    /// Where events go that cannot be delivered; without, they are dropped.
    pub dead_letters: Option<PathBuf>,
    pub retry: Retry,
}

/// How many events share a request. More than one do only where more wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// 1 to 5000.
    pub events: usize,
    /// A single event may be larger.
    pub bytes: usize,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            events: 1,
            bytes: 64 << 10,
        }
    }
}

/// How long an event is tried: to the first of both limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// 1 to 30.
    pub attempts: u32,
    /// A minute to a day.
    pub time_to_live: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 30,
            time_to_live: Duration::from_secs(24 * 60 * 60),
        }
    }
}

impl Subscription {
    /// A subscription to all events, with Azure's defaults.
    pub fn new(name: &str, url: &str) -> Self {
        Self {
            name: name.into(),
            url: url.into(),
            types: EventType::ALL.to_vec(),
            subject_begins_with: String::new(),
            subject_ends_with: String::new(),
            schema: Schema::EventGrid,
            batch: Batch::default(),
            dead_letters: None,
            retry: Retry::default(),
        }
    }

    /// Whether it asks for such an event. Azure's filters pass over the case of letters unless told otherwise.
    pub fn wants(&self, happening: Happening, subject: &str) -> bool {
        let (begin, end) = (&self.subject_begins_with, &self.subject_ends_with);
        let begins = subject.get(..begin.len());
        let ends = subject.len().checked_sub(end.len());
        let ends = ends.and_then(|at| subject.get(at..));
        self.types.contains(&happening.into())
            && begins.is_some_and(|found| found.eq_ignore_ascii_case(begin))
            && ends.is_some_and(|found| found.eq_ignore_ascii_case(end))
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = azimuth_webhook::masked(&self.url);
        let mut subscription = f.debug_struct("Subscription");
        subscription.field("name", &self.name).field("url", &shown);
        subscription.finish_non_exhaustive()
    }
}

/// What an event is about, as filters see it.
pub fn subject(identity: &Identity) -> String {
    match &identity.module {
        None => format!("devices/{}", identity.device),
        Some(module) => format!("devices/{}/modules/{module}", identity.device),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_must_be_of_a_type_and_pass_both_filters() {
        let all = Subscription::new("s", "http://localhost/");
        assert!(all.wants(Happening::Created, "devices/d"));
        let some = Subscription {
            types: vec![EventType::DeviceConnected],
            subject_begins_with: "devices/Line1-".into(),
            subject_ends_with: "-Oven".into(),
            ..all
        };
        for (happening, subject, wanted) in [
            (Happening::Connected, "devices/line1-7-oven", true),
            (Happening::Connected, "devices/Line1-Oven", true),
            (Happening::Connected, "devices/line1-oven", true),
            (Happening::Disconnected, "devices/Line1-7-Oven", false),
            (Happening::Connected, "devices/Line2-7-Oven", false),
            (Happening::Connected, "devices/Line1-7-Press", false),
            (Happening::Connected, "d", false),
        ] {
            assert_eq!(some.wants(happening, subject), wanted, "{subject}");
        }
    }

    #[test]
    fn nothing_shows_the_key_in_the_url() {
        let subscription = Subscription::new("s", "https://a.example/f?code=secret");
        let shown = format!("{subscription:?}");
        assert!(shown.contains("a.example") && !shown.contains("secret"));
    }
}
