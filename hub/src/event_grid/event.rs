//! One event as JSON: in both schemas, and as a dead letter.
//!
//! Pure. May not enter: when and how often it is delivered.

use azimuth_wire::Identity;
use azimuth_wire::time::{NEVER, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::subscription::{EventType, Schema, subject};
use crate::error::Error;
use crate::notification::{Happening, Number};
use crate::twin::Twin;

/// An event as it is kept until it is delivered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GridEvent {
    pub id: String,
    pub subject: String,
    pub event_type: String,
    pub event_time: Timestamp,
    pub data: Value,
}

/// What became of an event before it was given up.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Obituary<'a> {
    pub dead_letter_reason: &'a str,
    pub delivery_attempts: u32,
    pub last_delivery_outcome: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_http_status_code: Option<u16>,
    pub publish_time: Timestamp,
    pub last_delivery_attempt_time: Timestamp,
}

impl GridEvent {
    /// The event of a connection.
    pub fn of_connection(
        hub: &str,
        identity: &Identity,
        happening: Happening,
        number: Number,
        at: Timestamp,
    ) -> Self {
        let about =
            json!({ "deviceConnectionStateEventInfo": { "sequenceNumber": number.to_string() } });
        Self::about(hub, identity, happening, at, about)
    }

    /// The event of an identity. `initial` is the twin as it was when nobody had written it: that is what Azure shows,
    /// whatever the twin holds, and of the identity only what all have.
    pub fn of_lifecycle(
        hub: &str,
        identity: &Identity,
        happening: Happening,
        initial: &Twin,
        at: Timestamp,
    ) -> Result<Self, Error> {
        const NEVER_HERE: &str = "0001-01-01T00:00:00";
        debug_assert!(NEVER.starts_with(NEVER_HERE));
        let mut twin = json!({
            "deviceId": identity.device.as_str(),
            "etag": initial.etag(),
            "deviceEtag": "null",
            "status": "enabled",
            "statusUpdateTime": NEVER_HERE,
            "connectionState": "Disconnected",
            "lastActivityTime": NEVER_HERE,
            "cloudToDeviceMessageCount": 0,
            "authenticationType": "sas",
            "x509Thumbprint": { "primaryThumbprint": null, "secondaryThumbprint": null },
            "version": initial.version,
            "properties": {
                "desired": initial.desired.for_service()?,
                "reported": initial.reported.for_service()?,
            },
        });
        if let Some(module) = &identity.module {
            twin["moduleId"] = module.as_str().into();
        }
        let about = json!({ "twin": twin });
        Ok(Self::about(hub, identity, happening, at, about))
    }

    fn about(
        hub: &str,
        identity: &Identity,
        happening: Happening,
        at: Timestamp,
        mut data: Value,
    ) -> Self {
        data["hubName"] = hub.into();
        data["deviceId"] = identity.device.as_str().into();
        if let Some(module) = &identity.module {
            data["moduleId"] = module.as_str().into();
        }
        Self {
            id: uuid::Uuid::new_v4().to_string(),
            subject: subject(identity),
            event_type: EventType::from(happening).name().into(),
            event_time: at,
            data,
        }
    }

    /// As a webhook gets it, one of an array or alone.
    pub fn json(&self, schema: Schema, topic: &str) -> Value {
        match schema {
            Schema::EventGrid => json!({
                "id": self.id,
                "topic": topic,
                "subject": self.subject,
                "eventType": self.event_type,
                "eventTime": self.event_time,
                "data": self.data,
                "dataVersion": "1",
                "metadataVersion": "1",
            }),
            Schema::CloudEvents => json!({
                "id": self.id,
                "source": topic,
                "subject": self.subject,
                "type": self.event_type,
                "time": self.event_time,
                "data": self.data,
                "specversion": "1.0",
            }),
        }
    }

    /// As it is laid down when it is given up. CloudEvents allows small letters only in the names of what is added.
    pub fn dead_letter(&self, schema: Schema, topic: &str, obituary: &Obituary<'_>) -> Value {
        let mut event = self.json(schema, topic);
        let Ok(Value::Object(more)) = serde_json::to_value(obituary) else {
            return event;
        };
        for (name, value) in more {
            let name = match schema {
                Schema::EventGrid => name,
                Schema::CloudEvents => name.to_ascii_lowercase(),
            };
            event[name] = value;
        }
        event
    }
}

/// The hub as a resource of Azure's, in the capitals that events have.
pub fn topic(hub: &str) -> String {
    format!(
        "/SUBSCRIPTIONS/00000000-0000-0000-0000-000000000000/RESOURCEGROUPS/AZIMUTH/PROVIDERS/MICROSOFT.DEVICES/IOTHUBS/{}",
        hub.to_ascii_uppercase()
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::notification::Numbers;

    fn identity(module: Option<&str>) -> Identity {
        Identity {
            device: "d1".parse().unwrap(),
            module: module.map(|module| module.parse().unwrap()),
        }
    }

    #[test]
    fn a_created_device_is_told_as_azure_tells_it() {
        let at = Timestamp::from(UNIX_EPOCH + Duration::from_secs(1_500_000_000));
        let twin = Twin::initial("7", at);
        let event = GridEvent::of_lifecycle("Hub1", &identity(None), Happening::Created, &twin, at)
            .unwrap();
        let shown = event.json(Schema::EventGrid, &topic("Hub1"));
        let section =
            json!({ "$metadata": { "$lastUpdated": "2017-07-14T02:40:00Z" }, "$version": 1 });
        let expected = json!({
            "id": event.id,
            "topic": "/SUBSCRIPTIONS/00000000-0000-0000-0000-000000000000/RESOURCEGROUPS/AZIMUTH/PROVIDERS/MICROSOFT.DEVICES/IOTHUBS/HUB1",
            "subject": "devices/d1",
            "eventType": "Microsoft.Devices.DeviceCreated",
            "eventTime": "2017-07-14T02:40:00Z",
            "data": {
                "twin": {
                    "deviceId": "d1",
                    "etag": "AAAAAAAAAAE=",
                    "deviceEtag": "null",
                    "status": "enabled",
                    "statusUpdateTime": "0001-01-01T00:00:00",
                    "connectionState": "Disconnected",
                    "lastActivityTime": "0001-01-01T00:00:00",
                    "cloudToDeviceMessageCount": 0,
                    "authenticationType": "sas",
                    "x509Thumbprint": { "primaryThumbprint": null, "secondaryThumbprint": null },
                    "version": 2,
                    "properties": { "desired": section, "reported": section },
                },
                "hubName": "Hub1",
                "deviceId": "d1",
            },
            "dataVersion": "1",
            "metadataVersion": "1",
        });
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_connected_module_in_both_schemas_and_as_a_dead_letter() {
        let now = UNIX_EPOCH + Duration::from_secs(1_500_000_000);
        let number = Numbers::begin(now, None).next();
        let event = GridEvent::of_connection(
            "hub1",
            &identity(Some("m1")),
            Happening::Connected,
            number,
            now.into(),
        );
        let shown = event.json(Schema::CloudEvents, "T");
        let data = json!({
            "deviceConnectionStateEventInfo": { "sequenceNumber": number.to_string() },
            "hubName": "hub1", "deviceId": "d1", "moduleId": "m1",
        });
        let expected = json!({
            "id": event.id, "source": "T", "subject": "devices/d1/modules/m1",
            "type": "Microsoft.Devices.DeviceConnected", "time": "2017-07-14T02:40:00Z",
            "data": data, "specversion": "1.0",
        });
        assert_eq!(shown, expected);
        let obituary = Obituary {
            dead_letter_reason: "MaxDeliveryAttemptsExceeded",
            delivery_attempts: 3,
            last_delivery_outcome: "NotFound",
            last_http_status_code: Some(404),
            publish_time: now.into(),
            last_delivery_attempt_time: (now + Duration::from_secs(40)).into(),
        };
        let dead = event.dead_letter(Schema::EventGrid, "T", &obituary);
        let members = [
            ("deadLetterReason", json!("MaxDeliveryAttemptsExceeded")),
            ("deliveryAttempts", json!(3)),
            ("lastDeliveryOutcome", json!("NotFound")),
            ("publishTime", json!("2017-07-14T02:40:00Z")),
            ("lastDeliveryAttemptTime", json!("2017-07-14T02:40:40Z")),
            ("subject", json!("devices/d1/modules/m1")),
        ];
        for (name, value) in members {
            assert_eq!(dead[name], value);
        }
        let dead = event.dead_letter(Schema::CloudEvents, "T", &obituary);
        assert_eq!(dead["deadletterreason"], "MaxDeliveryAttemptsExceeded");
    }
}
