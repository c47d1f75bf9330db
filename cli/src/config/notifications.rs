//! What a hub tells of its own accord: sources for the event log, subscriptions of Event Grid.
//!
//! What may not enter: what is done with it.

use std::path::PathBuf;
use std::time::Duration;

use azimuth_hub::event_grid::{Batch, EventType, Retry, Schema, Subscription};
use azimuth_hub::notification::Source;
use serde::Deserialize;

use super::Error;

/// A message source beside the devices' own messages, by Azure's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(remote = "Source")]
enum SourceName {
    #[serde(rename = "DeviceLifecycleEvents")]
    DeviceLifecycle,
    #[serde(rename = "ModuleLifecycleEvents")]
    ModuleLifecycle,
    #[serde(rename = "DeviceConnectionStateEvents")]
    DeviceConnectionState,
}

/// A source in a list.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct EventSource(#[serde(with = "SourceName")] pub Source);

/// When a device that is gone is shown and told to be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConnectionState {
    #[default]
    Immediate,
    Faithful,
}

/// A webhook that wants events.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct EventSubscriptionSection {
    pub name: String,
    pub url: String,
    /// None means all.
    #[serde(default)]
    pub types: Vec<TypeName>,
    #[serde(default)]
    pub subject_begins_with: String,
    #[serde(default)]
    pub subject_ends_with: String,
    #[serde(default)]
    pub schema: SchemaName,
    pub max_events_per_batch: Option<usize>,
    pub preferred_batch_size_in_kilobytes: Option<usize>,
    /// Without, what cannot be delivered is dropped.
    pub dead_letter_folder: Option<PathBuf>,
    pub max_delivery_attempts: Option<u32>,
    pub event_time_to_live_in_minutes: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SchemaName {
    #[default]
    EventGrid,
    CloudEvents,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum TypeName {
    #[serde(rename = "Microsoft.Devices.DeviceCreated")]
    Created,
    #[serde(rename = "Microsoft.Devices.DeviceDeleted")]
    Deleted,
    #[serde(rename = "Microsoft.Devices.DeviceConnected")]
    Connected,
    #[serde(rename = "Microsoft.Devices.DeviceDisconnected")]
    Disconnected,
    #[serde(rename = "Microsoft.Devices.DeviceTelemetry")]
    Telemetry,
}

impl EventSubscriptionSection {
    /// What the hub is told, or what is wrong.
    pub fn subscription(&self) -> Result<Subscription, Error> {
        let unusable =
            |what: String| Error::Unusable(format!("event subscription `{}`: {what}", self.name));
        let label = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if !(3..=64).contains(&self.name.len()) || !self.name.chars().all(label) {
            return Err(unusable(
                "a name is 3 to 64 letters, digits and dashes".into(),
            ));
        }
        azimuth_webhook::check(&self.url).map_err(|why| unusable(format!("url {why}")))?;
        let within = |what: &str, value: u64, most: u64| match (1..=most).contains(&value) {
            true => Ok(()),
            false => Err(unusable(format!("{what} {value} is not 1 to {most}"))),
        };
        let (batch, retry) = (Batch::default(), Retry::default());
        let events = self.max_events_per_batch.unwrap_or(batch.events);
        within("max-events-per-batch", events as u64, 5000)?;
        let kilobytes = self
            .preferred_batch_size_in_kilobytes
            .unwrap_or(batch.bytes >> 10);
        within("preferred-batch-size-in-kilobytes", kilobytes as u64, 1024)?;
        let attempts = self.max_delivery_attempts.unwrap_or(retry.attempts);
        within("max-delivery-attempts", attempts.into(), 30)?;
        let minutes = self.event_time_to_live_in_minutes.unwrap_or(1440);
        within("event-time-to-live-in-minutes", minutes, 1440)?;
        let types = self.types.iter().map(|name| match name {
            TypeName::Created => Ok(EventType::DeviceCreated),
            TypeName::Deleted => Ok(EventType::DeviceDeleted),
            TypeName::Connected => Ok(EventType::DeviceConnected),
            TypeName::Disconnected => Ok(EventType::DeviceDisconnected),
            TypeName::Telemetry => Err(unusable(
                "Microsoft.Devices.DeviceTelemetry is not simulated; follow the event log instead"
                    .into(),
            )),
        });
        let types = types.collect::<Result<Vec<_>, _>>()?;
        Ok(Subscription {
            types: match types.is_empty() {
                true => EventType::ALL.to_vec(),
                false => types,
            },
            subject_begins_with: self.subject_begins_with.clone(),
            subject_ends_with: self.subject_ends_with.clone(),
            schema: match self.schema {
                SchemaName::EventGrid => Schema::EventGrid,
                SchemaName::CloudEvents => Schema::CloudEvents,
            },
            batch: Batch {
                events,
                bytes: kilobytes << 10,
            },
            dead_letters: self.dead_letter_folder.clone(),
            retry: Retry {
                attempts,
                time_to_live: Duration::from_secs(60 * minutes),
            },
            ..Subscription::new(&self.name, &self.url)
        })
    }
}
