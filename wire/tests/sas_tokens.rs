//! Tokens as the clients of Azure write them, at a hub, at its REST API and at a DPS, and tokens that
//! must be refused.

#![allow(clippy::unwrap_used)]

use azimuth_wire::SymmetricKey;
use azimuth_wire::connection_string::ConnectionString;
use azimuth_wire::sas::{self, CLOCK_SKEW_SECONDS, Malformed, SasToken, Signer};
use serde_json::Value;

const NOW: u64 = 1_700_000_000;

fn hub() -> Value {
    serde_json::from_str(include_str!("vectors/hub_sas.json")).unwrap()
}

fn dps() -> Value {
    serde_json::from_str(include_str!("vectors/dps_sas.json")).unwrap()
}

fn service() -> Value {
    serde_json::from_str(include_str!("vectors/service_sas.json")).unwrap()
}

fn rows(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn key(value: &Value) -> SymmetricKey {
    text(value).parse().unwrap()
}

fn token(row: &Value) -> SasToken {
    SasToken::parse(text(&row["token"])).unwrap()
}

fn hub_resource(identity: &Value) -> String {
    let device = format!(
        "contoso.azure-devices.net/devices/{}",
        text(&identity["deviceId"])
    );
    match identity["moduleId"].as_str() {
        Some(module) => format!("{device}/modules/{module}"),
        None => device,
    }
}

#[test]
fn every_clients_token_opens_what_it_names_and_nothing_else() {
    let vectors = hub();
    for row in rows(&vectors["tokens"]) {
        let name = text(&row["name"]);
        let token = token(row);
        let key = match text(&row["key"]) {
            // HMAC takes any length; the registry does not.
            "short" => SymmetricKey::from_bytes(b"secret"),
            known => key(&vectors["keys"][known]),
        };
        assert_eq!(token.string_to_sign(), text(&row["stringToSign"]), "{name}");
        assert_eq!(
            token.key_name(),
            row["skn"].as_str().filter(|skn| !skn.is_empty()),
            "{name}"
        );
        assert_eq!(token.expiry(), row["se"].as_u64().unwrap(), "{name}");
        assert!(token.signed_by(&key), "{name}");
        let other = SymmetricKey::from_bytes(&[9; 32]);
        assert_eq!(token.signer(&key, &other), Some(Signer::Primary), "{name}");
        assert_eq!(
            token.signer(&other, &key),
            Some(Signer::Secondary),
            "{name}"
        );
        assert_eq!(token.signer(&other, &other), None, "{name}");

        for identity in rows(&row["validFor"]) {
            assert!(token.covers(&hub_resource(identity)), "{name}: {identity}");
            assert!(!token.expired(NOW, CLOCK_SKEW_SECONDS), "{name}");
        }
        for identity in rows(&row["notValidFor"]) {
            // The resource of this one is the whole hub; only its key keeps it from other devices.
            let key_alone_refuses = name == "device-key-hub-level-resource";
            assert!(
                !token.covers(&hub_resource(identity))
                    || token.expired(NOW, CLOCK_SKEW_SECONDS)
                    || key_alone_refuses,
                "{name}: {identity}"
            );
        }
    }
}

/// Why a hub refuses a token, in the order in which a hub looks.
fn hub_refusal(vectors: &Value, row: &Value) -> String {
    let token = match SasToken::parse(text(&row["token"])) {
        Ok(token) => token,
        Err(malformed) => return malformed.to_string(),
    };
    let identity = &row["identity"];
    let keys: &[&str] = match (token.key_name(), identity["moduleId"].is_null()) {
        (Some("device"), _) => &["policyDevice"],
        (Some(_), _) => return "policy".into(),
        (None, true) => &["devicePrimary", "deviceSecondary"],
        (None, false) => &["modulePrimary"],
    };
    if !token.covers(&hub_resource(identity)) {
        return "resource".into();
    }
    let mut keys = keys.iter().map(|name| key(&vectors["keys"][*name]));
    if !keys.any(|key| token.signed_by(&key)) {
        return "signature".into();
    }
    if token.expired(row["now"].as_u64().unwrap(), CLOCK_SKEW_SECONDS) {
        return "expired".into();
    }
    panic!("accepted: {row}");
}

#[test]
fn every_token_a_hub_must_refuse_is_refused_for_its_reason() {
    let vectors = hub();
    let missing = |field| Malformed::Missing(field).to_string();
    let expected = [
        ("tampered-signature", "signature".into()),
        ("expiry-changed", "signature".into()),
        ("resource-recased-after-signing", "signature".into()),
        ("missing-se", missing("se")),
        ("missing-sig", missing("sig")),
        ("missing-sr", missing("sr")),
        ("se-not-a-number", Malformed::Expiry.to_string()),
        ("wrong-scheme", Malformed::Scheme.to_string()),
        ("no-scheme", Malformed::Scheme.to_string()),
        ("other-device", "resource".into()),
        ("unknown-policy", "policy".into()),
        ("device-token-used-by-module", "signature".into()),
        ("module-token-used-by-device", "resource".into()),
        ("expired", "expired".into()),
        ("empty", Malformed::Scheme.to_string()),
    ];
    let refused = rows(&vectors["refused"]);
    assert_eq!(refused.len(), expected.len());
    for (row, (name, reason)) in refused.iter().zip(expected) {
        assert_eq!(text(&row["name"]), name);
        assert_eq!(hub_refusal(&vectors, row), reason, "{name}");
    }
}

#[test]
fn a_clock_may_be_off_by_five_minutes() {
    let vectors = hub();
    for row in rows(&vectors["clockSkew"]) {
        let named = |token: &&Value| token["name"] == row["token"];
        let token = token(rows(&vectors["tokens"]).iter().find(named).unwrap());
        let now = row["now"].as_u64().unwrap();
        let accepted = !token.expired(now, CLOCK_SKEW_SECONDS);
        assert_eq!(accepted, row["accept"].as_bool().unwrap(), "{row}");
    }
    let endless =
        SasToken::parse("SharedAccessSignature sr=h&sig=&se=18446744073709551615").unwrap();
    assert!(!endless.expired(u64::MAX - 1, CLOCK_SKEW_SECONDS));
}

#[test]
fn device_keys_of_a_group_are_those_azure_derives() {
    for row in rows(&dps()["derivedKeys"]) {
        let derived = key(&row["groupKey"]).derive(text(&row["registrationId"]));
        assert_eq!(derived.reveal(), text(&row["deviceKey"]), "{row}");
    }
}

/// The rule of a DPS, with every key the enrollment might mean.
fn admitted_by_dps(row: &Value, keys: &[SymmetricKey]) -> bool {
    let token = token(row);
    let resource = format!(
        "{}/registrations/{}",
        text(&row["idScope"]),
        text(&row["registrationId"])
    );
    keys.iter().any(|key| token.signed_by(key))
        && token.names(&resource)
        && !token.expired(NOW, CLOCK_SKEW_SECONDS)
}

#[test]
fn every_clients_token_registers_its_device() {
    let unrelated = SymmetricKey::from_bytes(&[9; 32]);
    for row in rows(&dps()["device"]) {
        let style = text(&row["style"]);
        assert_eq!(
            token(row).string_to_sign(),
            text(&row["stringToSign"]),
            "{style}"
        );
        assert!(
            matches!(token(row).key_name(), None | Some("registration")),
            "{style}"
        );
        let key = key(&row["key"]);
        assert!(
            admitted_by_dps(row, &[unrelated.clone(), key]),
            "{style}: {row}"
        );
        assert!(!admitted_by_dps(row, std::slice::from_ref(&unrelated)));
    }
}

#[test]
fn every_token_a_dps_must_refuse_is_refused() {
    let vectors = dps();
    let group: SymmetricKey = key(&vectors["derivedKeys"][0]["groupKey"]);
    for row in rows(&vectors["deviceRefused"]) {
        let registration_id = text(&row["registrationId"]);
        let keys = [
            group.derive(registration_id),
            group.derive(&registration_id.to_lowercase()),
        ];
        assert!(!admitted_by_dps(row, &keys), "{row}");
    }

    let published = &vectors["doesNotVerify"];
    let signature = text(&published["publishedSignature"]).replace('+', "%2B");
    for sr in [
        "0ne00111111%2Fregistrations%2Fmy-symkey-device",
        "0ne00111111/registrations/my-symkey-device",
    ] {
        let token = format!("SharedAccessSignature sr={sr}&sig={signature}&se=1663952627");
        let token = SasToken::parse(&token).unwrap();
        assert!(!token.signed_by(&key(&published["key"])));
    }
}

#[test]
fn a_dps_resource_is_decoded_once_and_compared_without_regard_to_case() {
    for (sr, named) in [
        ("0NE00ABCDEF/Registrations/DEV-1", true),
        ("0ne00abcdef%2fregistrations%2Fdev%2D1", true),
        ("0ne00abcdef%252Fregistrations%252Fdev-1", false),
        ("0ne00abcdef/registrations", false),
        ("0ne00abcdef/registrations/dev-1/", false),
        ("0ne00abcdef/registrations/dev-12", false),
        ("", false),
    ] {
        let token = format!("SharedAccessSignature sr={sr}&sig=&se=1");
        let token = SasToken::parse(&token).unwrap();
        assert_eq!(
            token.names("0ne00ABCDEF/registrations/dev-1"),
            named,
            "{sr}"
        );
    }
}

#[test]
fn service_tokens_are_taken_and_refused_as_azure_does() {
    let vectors = service();
    for row in rows(&vectors["cases"]) {
        let token = token(row);
        assert_eq!(token.string_to_sign(), text(&row["stringToSign"]), "{row}");
        let known = token
            .key_name()
            .is_some_and(|name| !vectors["policies"][name].is_null());
        let accepted = known
            && token.covers(text(&row["requestHost"]))
            && token.signed_by(&key(&row["policyKey"]))
            && !token.expired(row["now"].as_u64().unwrap(), CLOCK_SKEW_SECONDS);
        assert_eq!(accepted, row["valid"].as_bool().unwrap(), "{row}");
    }
}

#[test]
fn service_tokens_of_a_dps_open_it_with_the_key_of_its_connection_string() {
    let vectors = dps();
    let connection: ConnectionString = text(&vectors["serviceConnectionString"]).parse().unwrap();
    for row in rows(&vectors["service"]) {
        let token = token(row);
        assert!(token.signed_by(connection.key.as_ref().unwrap()), "{row}");
        assert!(token.covers(&connection.host_name), "{row}");
        assert!(token.covers(&format!("{}/enrollments", connection.host_name)));
        assert_eq!(token.key_name(), connection.key_name.as_deref());
        assert_eq!(token.key_name(), row["policy"].as_str());
    }
}

#[test]
fn a_resource_covers_whole_segments_below_it() {
    let (device, collection) = ("h/devices/dev1", "h/devices");
    for (sr, resource, covered) in [
        ("h", device, true),
        ("H", device, true),
        ("h/", device, true),
        ("https://h/devices", device, true),
        ("sb%3A%2F%2Fh%2Fdevices", device, true),
        ("h/devices/dev", device, false),
        ("h/devices/dev1", "h/devices/dev10", false),
        ("h/devices/dev1", "h/devices/dev1/modules/m", true),
        ("h/devices/DEV1", device, false),
        ("h/Devices/dev1", device, false),
        ("h/devices/dev1/x", device, false),
        ("h/devices/dev1/x/api-version=2016-11-14", device, false),
        ("h/devices/dev1/api-version=2016-11-14", device, true),
        ("h/devices/dev1/API-Version=2016-11-14", device, true),
        ("h/devices/dev1/api-version=2016-11-14/x", device, false),
        ("h/devices/dev1/api-version=1/api-version=2", device, false),
        ("h/devices/dev1/api-versioné", device, false),
        (
            "h/devices/dev1/api-version=1",
            "h/devices/dev1/modules/m",
            false,
        ),
        ("h/devices/api-version=1", collection, false),
        (
            "h/devices/dev1/modules/api-version=1",
            "h/devices/dev1/modules",
            false,
        ),
        ("h/api-version=2016-11-14", "h", true),
        ("", device, false),
        ("/", device, false),
        ("//", device, false),
        ("h//devices", device, false),
        ("/h/devices", device, false),
        // Three times encoded is once too often.
        ("h%252Fdevices%252Fdev1", device, true),
        ("h%25252Fdevices%25252Fdev1", device, false),
        // An id may hold a percent sign.
        ("h/devices/a%23b", "h/devices/a%23b", true),
        ("h%2Fdevices%2Fa%2523b", "h/devices/a%23b", true),
        ("h%252Fdevices%252Fa%252523b", "h/devices/a%23b", true),
    ] {
        let token = format!("SharedAccessSignature sr={sr}&sig=&se=1");
        let token = SasToken::parse(&token).unwrap();
        assert_eq!(token.covers(resource), covered, "{sr} for {resource}");
    }
}

#[test]
fn odd_texts_are_refused_for_their_reason() {
    let huge = format!(
        "SharedAccessSignature sr=h&sig={}&se=1",
        "A".repeat(1 << 20)
    );
    for (text, expected) in [
        ("SharedAccessSignature ", Err(Malformed::Missing("sr"))),
        ("SharedAccessSignature", Err(Malformed::Scheme)),
        (
            "SharedAccessSignaturé sr=h&sig=&se=1",
            Err(Malformed::Scheme),
        ),
        ("SharedAccessSignatur€", Err(Malformed::Scheme)),
        (
            "SharedAccessSignature\u{a0}sr=h&sig=&se=1",
            Err(Malformed::Scheme),
        ),
        ("sharedaccesssignature sr=h&sig=&se=1", Ok(())),
        ("SharedAccessSignature sr=h&sig=&se=1&", Ok(())),
        ("SharedAccessSignature &&sr=h&sig=&x=1&x=2&se=1", Ok(())),
        (
            "SharedAccessSignature SR=h&sig=&se=1",
            Err(Malformed::Missing("sr")),
        ),
        (
            "SharedAccessSignature sr=h&sr=h&sig=&se=1",
            Err(Malformed::Repeated("sr")),
        ),
        (
            "SharedAccessSignature sr=h&sig=&se=1&skn=a&skn=a",
            Err(Malformed::Repeated("skn")),
        ),
        (
            "SharedAccessSignature sr=h&sig=&se=18446744073709551616",
            Err(Malformed::Expiry),
        ),
        (
            "SharedAccessSignature sr=h&sig=&se=",
            Err(Malformed::Expiry),
        ),
        (
            "SharedAccessSignature sr=h&sig=&se=-1",
            Err(Malformed::Expiry),
        ),
        (
            "SharedAccessSignature sr=h&sig=&se=+1",
            Err(Malformed::Expiry),
        ),
        (
            "SharedAccessSignature sr=h&sig=&se=1.5",
            Err(Malformed::Expiry),
        ),
        (
            "SharedAccessSignature sr=h&sig=&se=１",
            Err(Malformed::Expiry),
        ),
        (
            "SharedAccessSignature sr=h&sig=%&se=1",
            Err(Malformed::Signature),
        ),
        (
            "SharedAccessSignature sr=h&sig=%FF&se=1",
            Err(Malformed::Signature),
        ),
        (
            "SharedAccessSignature sr=h&sig=AAA&se=1",
            Err(Malformed::Signature),
        ),
        (
            "SharedAccessSignature sr=h&sig=AA A&se=1",
            Err(Malformed::Signature),
        ),
        ("SharedAccessSignature sr=h&sig=++++&se=1", Ok(())),
        (&huge, Ok(())),
    ] {
        let shown = text.chars().take(60).collect::<String>();
        assert_eq!(SasToken::parse(text).map(drop), expected, "{shown}");
    }
}

#[test]
fn a_signed_token_reads_back_and_hides_its_signature() {
    let key = SymmetricKey::from_bytes(&[7; 32]);
    for (resource, key_name) in [
        ("h.azure-devices.net/devices/a%23b", None),
        ("h.azure-devices.net", Some("iothubowner")),
        ("0ne00000000/registrations/a:b", Some("registration")),
        ("h/devices/é=&", Some("a&b")),
    ] {
        let text = sas::sign(resource, &key, 1_893_456_000, key_name);
        let token = SasToken::parse(&text).unwrap();
        assert!(token.signed_by(&key) && token.covers(resource) && token.names(resource));
        assert_eq!(
            (token.key_name(), token.expiry()),
            (key_name, 1_893_456_000)
        );
        let signature = text
            .split("sig=")
            .nth(1)
            .unwrap()
            .split('%')
            .next()
            .unwrap();
        assert!(!format!("{token:?}").contains(signature), "{token:?}");
    }
}
