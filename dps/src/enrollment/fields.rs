//! What single members of an enrollment must be like, where their type does not say it.
//!
//! Pure. A refusal names the member and what it should be.

use azimuth_wire::api_version::ApiVersion;
use azimuth_wire::enrollment::CustomAllocationDefinition;
use azimuth_wire::twin;
use serde_json::Value;

use super::entry::Entry;
use crate::error::Error;

pub fn check<E: Entry>(entry: &E) -> Result<(), Error> {
    if let Some(twin) = entry.initial_twin() {
        check_twin(twin)?;
        if let Err(why) = twin::initial(twin) {
            return invalid(&format!("initialTwin: {why}"));
        }
    }
    object("optionalDeviceInformation", entry.device_information())?;
    entry.custom_allocation().map_or(Ok(()), check_webhook)
}

/// `{tags, properties: {desired}}`, each of them an object where it is there.
fn check_twin(twin: &Value) -> Result<(), Error> {
    object("initialTwin", Some(twin))?;
    let properties = twin.get("properties");
    object("initialTwin.tags", twin.get("tags"))?;
    object("initialTwin.properties", properties)?;
    let desired = properties.and_then(|properties| properties.get("desired"));
    object("initialTwin.properties.desired", desired)
}

fn check_webhook(webhook: &CustomAllocationDefinition) -> Result<(), Error> {
    let url = webhook.webhook_url.as_str();
    let host = url.split_once("://").filter(|(scheme, rest)| {
        let known = ["https", "http"].iter();
        let known = known
            .into_iter()
            .any(|known| known.eq_ignore_ascii_case(scheme));
        known && rest.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '[')
    });
    if host.is_none() {
        return invalid("customAllocationDefinition.webhookUrl is the URL of a webhook");
    }
    let version = webhook.api_version.parse::<ApiVersion>();
    let first = FIRST_WITH_WEBHOOKS.parse().ok();
    if version.ok() < first {
        return invalid(&format!(
            "customAllocationDefinition.apiVersion is a version from {FIRST_WITH_WEBHOOKS} on"
        ));
    }
    Ok(())
}

fn object(member: &str, value: Option<&Value>) -> Result<(), Error> {
    match value {
        None | Some(Value::Null | Value::Object(_)) => Ok(()),
        Some(_) => invalid(&format!("{member} is an object")),
    }
}

fn invalid(sentence: &str) -> Result<(), Error> {
    Err(Error::Invalid(sentence.into()))
}

const FIRST_WITH_WEBHOOKS: &str = "2018-09-01-preview";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use azimuth_wire::enrollment::IndividualEnrollment;
    use serde_json::json;

    use super::*;

    #[test]
    fn members_are_what_they_should_be() {
        for (members, refused) in [
            (json!({ "initialTwin": {} }), None),
            (
                json!({ "initialTwin": { "tags": null, "properties": { "desired": {} } } }),
                None,
            ),
            (json!({ "initialTwin": [] }), Some("initialTwin is")),
            (
                json!({ "initialTwin": { "tags": 1 } }),
                Some("initialTwin.tags is"),
            ),
            (
                json!({ "initialTwin": { "properties": "x" } }),
                Some("initialTwin.properties is"),
            ),
            (
                json!({ "initialTwin": { "properties": { "desired": [] } } }),
                Some("initialTwin.properties.desired is"),
            ),
            (
                json!({ "initialTwin": { "tags": { "a b": 1 } } }),
                Some("initialTwin: `tags.a b`: a key may not hold"),
            ),
            (
                json!({ "initialTwin": { "tags": { "a": "x".repeat(4096), "b": "x".repeat(4096) } } }),
                Some("initialTwin: tags would have 8194 bytes; 8192 are allowed"),
            ),
            (
                json!({ "initialTwin": { "properties": { "desired": { "$version": 3, "a": [1, null] } } } }),
                Some("initialTwin: `properties.desired.a`: an array may not hold null"),
            ),
            (json!({ "optionalDeviceInformation": { "a": 1 } }), None),
            (
                json!({ "optionalDeviceInformation": "a" }),
                Some("optionalDeviceInformation is"),
            ),
            (webhook("https://a.example/f?code=x", "2019-03-31"), None),
            (webhook("http://[::1]:8080/f", "2018-09-01-preview"), None),
            (webhook("ftp://a.example", "2019-03-31"), Some("webhookUrl")),
            (webhook("https:///f", "2019-03-31"), Some("webhookUrl")),
            (webhook("", "2019-03-31"), Some("webhookUrl")),
            (
                webhook("https://a.example", "2018-04-01"),
                Some("apiVersion"),
            ),
            (webhook("https://a.example", "soon"), Some("apiVersion")),
        ] {
            let mut entry = json!({ "registrationId": "a",
                "attestation": { "type": "symmetricKey", "symmetricKey": {} } });
            for (name, value) in members.as_object().unwrap() {
                entry[name] = value.clone();
            }
            let entry: IndividualEnrollment = serde_json::from_value(entry).unwrap();
            let error = check(&entry).err().map(|error| error.to_string());
            match (error, refused) {
                (None, None) => {}
                (Some(error), Some(part)) => assert!(error.contains(part), "{error}"),
                (got, _) => panic!("{members}: {got:?}"),
            }
        }
    }

    fn webhook(url: &str, version: &str) -> Value {
        json!({ "customAllocationDefinition": { "webhookUrl": url, "apiVersion": version } })
    }
}
