//! One heartbeat as it is sent: topic, properties and body, all a function of device and number.
//!
//! A resent message is made anew and is the same, byte for byte; so nothing is kept while it waits.

use azimuth_wire::Identity;
use azimuth_wire::message::encode_bag;
use azimuth_wire::topic::hub::telemetry_topic;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::Publish;

use crate::chance::{Chance, Question};

/// The `number`-th heartbeat of `identity`, from 0, with a body of at least `bytes` bytes.
pub(crate) fn heartbeat(identity: &Identity, number: u64, bytes: usize, chance: Chance) -> Publish {
    let message_id = format!("{}-{number}", identity.device);
    let topic = telemetry_topic(identity)
        + &encode_bag([
            ("$.mid", Some(message_id.as_str())),
            ("$.ct", Some("application/json")),
            ("$.ce", Some("utf-8")),
        ]);
    let temperature = 20.0 + 10.0 * chance.draw(Question::Reading, number);
    let mut body = format!(
        r#"{{"deviceId":"{}","messageId":{number},"temperature":{temperature:.2}"#,
        identity.device
    );
    const FILL: &str = r#","fill":""#;
    // The fill member, its closing quote and the closing brace.
    if let Some(fill) = bytes.checked_sub(body.len() + FILL.len() + 2) {
        body.push_str(FILL);
        body.extend(std::iter::repeat_n('x', fill));
        body.push('"');
    }
    body.push('}');
    Publish::new(topic, QoS::AtLeastOnce, body)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_body_is_json_of_the_size_asked_for() {
        let identity = Identity::device("contoso-simdevice-1".parse().unwrap());
        for (bytes, expected) in [(0, 68), (77, 68), (78, 78), (200, 200), (4096, 4096)] {
            let publish = heartbeat(&identity, 7, bytes, Chance::new(1, 1));
            assert_eq!(publish.payload.len(), expected, "{bytes}");
            let json: serde_json::Value = serde_json::from_slice(&publish.payload).unwrap();
            assert_eq!(json["messageId"], 7);
            assert_eq!(
                publish.topic,
                "devices/contoso-simdevice-1/messages/events/%24.mid=contoso-simdevice-1-7&%24.ct=application%2Fjson&%24.ce=utf-8"
            );
        }
    }
}
