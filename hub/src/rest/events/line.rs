//! One event as one line of JSON, its properties named as on the Event Hubs compatible endpoint.

use azimuth_wire::time::Timestamp;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use crate::event::{Event, Record};

/// Appends an event.
pub fn event(out: &mut Vec<u8>, partition: u16, record: &Record<'_>, event: &Event<'_>) {
    let enqueued = Timestamp::from(record.enqueued);
    let text = std::str::from_utf8(event.body).ok();
    write(
        out,
        &Line {
            partition,
            sequence_number: record.sequence,
            offset: record.offset.to_string(),
            enqueued_time_utc: enqueued,
            system_properties: System { event, enqueued },
            properties: Application(event),
            body: text,
            body_base64: text.is_none().then(|| STANDARD.encode(event.body)),
        },
    );
}

/// Appends a line about events that retention dropped before this reader came to them.
pub fn skipped(out: &mut Vec<u8>, partition: u16, skipped: u64) {
    #[derive(Serialize)]
    struct Skipped {
        skipped: u64,
        partition: u16,
    }
    write(out, &Skipped { skipped, partition });
}

fn write(out: &mut Vec<u8>, line: &impl Serialize) {
    serde_json::to_writer(&mut *out, line).expect("texts and numbers are JSON");
    out.push(b'\n');
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    partition: u16,
    sequence_number: u64,
    /// A text, as on the Event Hubs side.
    offset: String,
    enqueued_time_utc: Timestamp,
    system_properties: System<'a>,
    properties: Application<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

struct System<'a> {
    event: &'a Event<'a>,
    enqueued: Timestamp,
}

impl Serialize for System<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let event = self.event;
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in event.system {
            map.serialize_entry(name, value)?;
        }
        map.serialize_entry("iothub-connection-device-id", event.device_id)?;
        if let Some(module_id) = event.module_id {
            map.serialize_entry("iothub-connection-module-id", module_id)?;
        }
        // A notification is of nobody who signed in.
        if !event.auth_method.is_empty() {
            map.serialize_entry("iothub-connection-auth-method", event.auth_method)?;
            map.serialize_entry("iothub-connection-auth-generation-id", event.generation_id)?;
        }
        map.serialize_entry("iothub-enqueuedtime", &self.enqueued)?;
        map.serialize_entry("iothub-message-source", event.source)?;
        map.end()
    }
}

/// A property without a value is an empty text here.
struct Application<'a>(&'a Event<'a>);

impl Serialize for Application<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let properties = self.0.application.iter();
        serializer.collect_map(properties.map(|(name, value)| (name, value.unwrap_or(""))))
    }
}
