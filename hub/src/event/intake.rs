//! A PUBLISH of telemetry becomes an event: system and application properties apart, stamps, size.
//!
//! Pure, and on the path of every message: no JSON, no store, no look-ups; a message without
//! properties costs one allocation. May not enter: topics, partitions, sequence numbers.

use azimuth_wire::message::{PropertyBag, system_property};

use super::{Event, Pairs};

/// What an event says of its sender: worked out once per connection.
#[derive(Debug, Clone, Copy)]
pub struct Sender<'a> {
    pub device_id: &'a str,
    pub module_id: Option<&'a str>,
    pub generation_id: &'a str,
    pub auth_method: &'a str,
    /// The model id that the connection announced.
    pub model_id: Option<&'a str>,
}

/// What MQTT's flags add to the application properties.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags {
    pub retain: bool,
    pub duplicate: bool,
    pub will: bool,
}

/// Body and properties together are more than a message may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Oversize {
    pub body: usize,
    pub properties: usize,
}

/// Bytes of body, values of system properties, names and values of application properties.
pub const LIMIT: usize = 262_144;

/// Encodes an event.
pub fn envelope(
    sender: Sender<'_>,
    bag: &PropertyBag<'_>,
    flags: Flags,
    body: &[u8],
) -> Result<Vec<u8>, Oversize> {
    let mut system = Vec::new();
    let mut application = Vec::new();
    let mut properties = 0;
    for (name, value) in &bag.0 {
        let value = value.as_deref();
        match system_property(name) {
            Some(name) => {
                properties += value.map_or(0, str::len);
                system.push((name, value.unwrap_or("")));
            }
            None if flags.stamps(name) => {}
            None => {
                properties += name.len() + value.map_or(0, str::len);
                application.push((&**name, value));
            }
        }
    }
    if body.len() + properties > LIMIT {
        return Err(Oversize {
            body: body.len(),
            properties,
        });
    }
    if let Some(model_id) = sender.model_id {
        system.push(("dt-dataschema", model_id));
    }
    let stamps = flags.stamped();
    application.extend(stamps.map(|(name, value)| (name, Some(value))));
    let mut envelope = Vec::new();
    Event {
        device_id: sender.device_id,
        module_id: sender.module_id,
        generation_id: sender.generation_id,
        auth_method: sender.auth_method,
        source: "Telemetry",
        system: Pairs::new(&system),
        application: Pairs::new(&application),
        body,
    }
    .encode(&mut envelope);
    Ok(envelope)
}

impl Flags {
    fn stamped(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let all = [
            (self.retain, RETAIN, "true"),
            (self.duplicate, DUPLICATE, "true"),
            (self.will, MESSAGE_TYPE, "Will"),
        ];
        let set = all.into_iter().filter(|(set, ..)| *set);
        set.map(|(_, name, value)| (name, value))
    }

    /// Whether a property of the device's own would stand beside a stamp of the same name.
    fn stamps(self, name: &str) -> bool {
        self.stamped().any(|(stamp, _)| stamp == name)
    }
}

/// Azure: a RETAIN flag is not kept but told to the back end.
const RETAIN: &str = "mqtt-retain";
const DUPLICATE: &str = "mqtt-dup";
const MESSAGE_TYPE: &str = "iothub-MessageType";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SENDER: Sender<'_> = Sender {
        device_id: "dev1",
        module_id: None,
        generation_id: "637199981642612179",
        auth_method: "{}",
        model_id: None,
    };

    /// Both kinds of properties as text: `name=value`, or `name` alone.
    fn properties(bag: &str, flags: Flags) -> (Vec<String>, Vec<String>) {
        let bag = PropertyBag::parse(bag).unwrap();
        let bytes = envelope(SENDER, &bag, flags, b"x").unwrap();
        let event = Event::decode(&bytes).unwrap();
        let system = event.system.iter();
        let application = event.application.iter().map(|(name, value)| match value {
            Some(value) => format!("{name}={value}"),
            None => name.to_owned(),
        });
        (
            system
                .map(|(name, value)| format!("{name}={value}"))
                .collect(),
            application.collect(),
        )
    }

    #[test]
    fn system_and_application_properties_go_apart() {
        let bag = "%24.mid=1&a=b&%24.ct=application%2Fjson&%24.ce&c&%24.unknown=2&d=";
        let (system, application) = properties(bag, Flags::default());
        assert_eq!(
            system,
            [
                "message-id=1",
                "content-type=application/json",
                "content-encoding="
            ]
        );
        assert_eq!(application, ["a=b", "c", "$.unknown=2", "d="]);
    }

    #[test]
    fn flags_of_mqtt_become_properties_that_a_device_cannot_forge() {
        let flags = Flags {
            retain: true,
            duplicate: true,
            will: true,
        };
        let (_, application) = properties("iothub-MessageType=Mine&a=b", flags);
        assert_eq!(
            application,
            [
                "a=b",
                "mqtt-retain=true",
                "mqtt-dup=true",
                "iothub-MessageType=Will"
            ]
        );
        let (_, application) = properties("mqtt-retain=mine", Flags::default());
        assert_eq!(application.len(), 1);
    }

    #[test]
    fn the_limit_counts_body_values_and_names_of_application_properties() {
        for (bag, body, fits) in [
            ("", LIMIT, true),
            ("", LIMIT + 1, false),
            ("ab=cd", LIMIT - 4, true),
            ("ab=cd", LIMIT - 3, false),
            ("$.mid=cd", LIMIT - 2, true),
            ("$.mid=cd", LIMIT - 1, false),
        ] {
            let bag_read = PropertyBag::parse(bag).unwrap();
            let made = envelope(SENDER, &bag_read, Flags::default(), &vec![0; body]);
            assert_eq!(made.is_ok(), fits, "{bag} {body}");
        }
    }

    #[test]
    fn an_announced_model_is_stamped() {
        let sender = Sender {
            model_id: Some("dtmi:com:example;1"),
            ..SENDER
        };
        let bytes = envelope(sender, &PropertyBag::default(), Flags::default(), b"").unwrap();
        let event = Event::decode(&bytes).unwrap();
        assert_eq!(
            event.system.value("dt-dataschema"),
            Some("dtmi:com:example;1")
        );
        assert_eq!(event.source, "Telemetry");
    }
}
