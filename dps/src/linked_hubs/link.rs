//! A link as text and as a checked type, and what it must be like to be taken.
//!
//! Pure. A refusal names what is wrong and never shows a key.

use azimuth_wire::connection_string::{ConnectionString, MASK};
use azimuth_wire::linked_hub::IotHubDefinition;

use crate::config::LinkedHubConfig;
use crate::error::Error;

/// Reads a definition. A masked connection string, as it was given out, means the one there is.
pub fn of(
    definition: IotHubDefinition,
    present: Option<&IotHubDefinition>,
) -> Result<LinkedHubConfig, Error> {
    let given = &definition.connection_string;
    let present = present
        .map(|present| string(&present.connection_string))
        .transpose()?;
    let connection_string = match present {
        Some(present) if present.masked() == *given => present,
        _ if given.contains(&format!("={MASK}")) => {
            let sentence = format!(
                "the key in the connection string is masked (`{MASK}`); give the string with its key"
            );
            return Err(Error::Invalid(sentence));
        }
        _ => string(given)?,
    };
    let weight = definition.allocation_weight.unwrap_or(1);
    let host = connection_string.host_name.to_ascii_lowercase();
    if definition
        .name
        .is_some_and(|name| !name.eq_ignore_ascii_case(&host))
    {
        let sentence = format!("name is not that of the connection string, `{host}`");
        return Err(Error::Invalid(sentence));
    }
    let mut link = LinkedHubConfig::new(connection_string, definition.location.trim());
    link.weight = u16::try_from(weight).unwrap_or(u16::MAX);
    link.apply_allocation_policy = definition.apply_allocation_policy.unwrap_or(true);
    link.dial = definition.dial_address;
    link.advertised = definition.advertised_address;
    link.https_port = definition.https_port.unwrap_or(link.https_port);
    check(&link)?;
    Ok(link)
}

/// The whole of a link, with its key.
pub fn definition(link: &LinkedHubConfig) -> IotHubDefinition {
    IotHubDefinition {
        name: Some(link.host()),
        connection_string: link.connection_string.reveal(),
        location: link.region.clone(),
        allocation_weight: Some(link.weight.into()),
        apply_allocation_policy: Some(link.apply_allocation_policy),
        dial_address: link.dial,
        advertised_address: link.advertised,
        https_port: Some(link.https_port),
        etag: None,
        warning: None,
    }
}

/// What is shown of a link: all but the key.
pub fn masked(definition: IotHubDefinition) -> IotHubDefinition {
    let shown = string(&definition.connection_string);
    IotHubDefinition {
        connection_string: shown.map_or_else(|_| MASK.into(), |string| string.masked()),
        ..definition
    }
}

/// The rules of a link.
pub fn check(link: &LinkedHubConfig) -> Result<(), Error> {
    let invalid = |sentence: String| Err(Error::Invalid(sentence));
    let host = link.host();
    let of_a_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    if host.is_empty() || !host.chars().all(of_a_name) {
        return invalid(format!("HostName `{host}` is not the name of a host"));
    }
    let string = &link.connection_string;
    if string.identity.is_some() || string.key_name.is_none() || string.key.is_none() {
        return invalid(format!(
            "the connection string of the hub `{host}` must be that of a policy: HostName, SharedAccessKeyName, SharedAccessKey"
        ));
    }
    if link.region.is_empty() {
        return invalid(format!("the hub `{host}` needs a location, as `eastus`"));
    }
    if !(1..=1000).contains(&link.weight) {
        return invalid(format!(
            "allocationWeight of the hub `{host}` is not 1 to 1000"
        ));
    }
    Ok(())
}

fn string(text: &str) -> Result<ConnectionString, Error> {
    let parsed = text.parse();
    parsed.map_err(|error| Error::Invalid(format!("the connection string is not usable: {error}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    fn text(host: &str) -> String {
        format!("HostName={host};SharedAccessKeyName=iothubowner;SharedAccessKey={KEY}")
    }

    fn given(text: &str, extra: serde_json::Value) -> IotHubDefinition {
        let mut body = json!({ "connectionString": text, "location": "eastus" });
        for (name, value) in extra.as_object().unwrap() {
            body[name] = value.clone();
        }
        serde_json::from_value(body).unwrap()
    }

    #[test]
    fn a_definition_has_azures_defaults_and_reads_back_what_it_shows() {
        let link = of(given(&text("H.net"), json!({})), None).unwrap();
        assert_eq!(
            (
                link.weight,
                link.apply_allocation_policy,
                link.https_port,
                link.dial
            ),
            (1, true, 443, None)
        );
        let all = json!({ "allocationWeight": 1000, "applyAllocationPolicy": false,
            "dialAddress": "127.0.0.1", "advertisedAddress": "10.0.0.1", "httpsPort": 8443 });
        let link = of(given(&text("h.net"), all), None).unwrap();
        assert_eq!(of(definition(&link), None).unwrap(), link);
        let shown = masked(definition(&link));
        assert_eq!(
            shown.connection_string,
            "HostName=h.net;SharedAccessKeyName=iothubowner;SharedAccessKey=****"
        );
        let again = of(shown.clone(), Some(&definition(&link))).unwrap();
        assert_eq!(again, link);
        let error = of(shown, None).unwrap_err().to_string();
        assert!(error.contains("is masked"), "{error}");
    }

    #[test]
    fn what_cannot_be_a_link_is_refused_without_its_key() {
        let device = format!("HostName=h.net;DeviceId=d;SharedAccessKey={KEY}");
        for (string, extra, sentence) in [
            (text("h.net"), json!({ "allocationWeight": 0 }), "1 to 1000"),
            (
                text("h.net"),
                json!({ "allocationWeight": 1001 }),
                "1 to 1000",
            ),
            (
                text("h.net"),
                json!({ "allocationWeight": 65_537 }),
                "1 to 1000",
            ),
            (
                text("h.net"),
                json!({ "location": " " }),
                "needs a location",
            ),
            (
                text("h.net"),
                json!({ "name": "i.net" }),
                "name is not that of",
            ),
            (text("h.net/x?"), json!({}), "is not the name of a host"),
            (text("u@h.net"), json!({}), "is not the name of a host"),
            (device, json!({}), "must be that of a policy"),
            (format!("{}x", text("h.net")), json!({}), "is not base64"),
        ] {
            let error = of(given(&string, extra.clone()), None).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert_eq!(error.code(), 400_004);
            assert!(shown.contains(sentence), "{extra} {shown}");
            assert!(!shown.contains(&KEY[..8]), "{shown}");
        }
    }
}
