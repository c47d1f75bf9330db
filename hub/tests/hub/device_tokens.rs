//! Tokens as every Azure client writes them, at the device door.

use std::time::{Duration, UNIX_EPOCH};

use azimuth_broker::{Answer, Hello, Refusal, Secret};
use azimuth_hub::auth::{Entry, Rules};
use azimuth_hub::policies::Policies;
use azimuth_hub::registry::Identity;
use azimuth_wire::SymmetricKey;
use azimuth_wire::policy::PolicyKeys;
use azimuth_wire::registry::{Authentication, Status};
use azimuth_wire::time::Timestamp;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::desk;

const HUB: &str = "contoso.azure-devices.net";
const NOW: u64 = 1_700_000_000;

struct Vectors(Value);

impl Vectors {
    fn read() -> Self {
        Self(desk::vectors(include_str!("../vectors/device_sas.json")))
    }

    fn key(&self, name: &str) -> SymmetricKey {
        let bytes = STANDARD
            .decode(self.0["keys"][name].as_str().unwrap())
            .unwrap();
        SymmetricKey::from_bytes(&bytes)
    }

    fn rules(&self) -> Rules {
        let policy = |name: &str, key: &str| PolicyKeys {
            name: name.into(),
            primary_key: self.key(key),
            secondary_key: self.key("long64"),
        };
        Rules {
            host_names: vec![HUB.into()],
            policies: Policies::with_keys(&[
                policy("iothubowner", "policyIothubowner"),
                policy("device", "policyDevice"),
                policy("service", "policyIothubowner"),
            ]),
            clock_skew: Duration::from_secs(300),
        }
    }

    /// Lets `name` connect with a token to a hub where its primary key is `key`.
    fn connect(&self, token: &str, name: &Value, key: &str, now: u64) -> Result<Entry, Refusal> {
        let device = name["deviceId"].as_str().unwrap();
        let client_id = match name["moduleId"].as_str() {
            Some(module) => format!("{device}/{module}"),
            None => device.into(),
        };
        let hello = Hello {
            user_name: Some(format!("{HUB}/{client_id}/?api-version=2021-04-12")),
            client_id,
            password: (!token.is_empty()).then(|| Secret(token.into())),
            ..desk::hello(device)
        };
        let now = UNIX_EPOCH + Duration::from_secs(now);
        self.rules().device(&hello, &[], now, |name| {
            Ok(Some(Identity {
                device_id: name.device.clone(),
                module_id: name.module.clone(),
                generation_id: "1".into(),
                counter: 1,
                status: Status::Enabled,
                status_reason: None,
                status_updated_time: Timestamp::NEVER,
                authentication: Authentication::Sas {
                    primary: self.key(key),
                    secondary: self.key("deviceSecondary"),
                },
                iot_edge: false,
                device_scope: None,
                parent_scopes: Vec::new(),
                managed_by: None,
            }))
        })
    }
}

#[test]
fn a_token_lets_in_whom_it_names_and_nobody_else() {
    let vectors = Vectors::read();
    for case in vectors.0["sasTokens"].as_array().unwrap() {
        let (name, token) = (&case["name"], case["token"].as_str().unwrap());
        // Below a resource that covers all devices, the key alone tells them apart.
        let key_of = |enters: bool| match case["name"].as_str() {
            Some("device-key-hub-level-resource") if !enters => "modulePrimary",
            _ => case["key"].as_str().unwrap(),
        };
        for (list, enters) in [("validFor", true), ("notValidFor", false)] {
            for who in case[list].as_array().unwrap() {
                let entered = vectors.connect(token, who, key_of(enters), NOW);
                assert_eq!(entered.is_ok(), enters, "{name} {who} {entered:?}");
                let Ok(entry) = entered else { continue };
                let by_policy = case["key"].as_str().unwrap().starts_with("policy");
                let scope = match who["moduleId"].is_string() {
                    _ if by_policy => "hub",
                    true => "module",
                    false => "device",
                };
                assert!(
                    entry.auth_method.contains(&format!("\"{scope}\"")),
                    "{name} {who}"
                );
            }
        }
    }
}

#[test]
fn each_invalid_token_has_its_rule_and_never_shows_the_signature() {
    let kinds = [
        ("tampered-signature", "wrong-key"),
        ("expiry-changed", "wrong-key"),
        ("resource-recased-after-signing", "wrong-key"),
        ("missing-se", "malformed-token"),
        ("missing-sig", "malformed-token"),
        ("missing-sr", "malformed-token"),
        ("se-not-a-number", "malformed-token"),
        ("wrong-scheme", "malformed-token"),
        ("no-scheme", "malformed-token"),
        ("other-device", "wrong-resource"),
        ("unknown-policy", "unknown-policy"),
        ("device-token-used-by-module", "wrong-key"),
        ("module-token-used-by-device", "wrong-resource"),
        ("expired", "expired-token"),
        ("empty", "no-credentials"),
    ];
    let vectors = Vectors::read();
    let cases = vectors.0["sasTokensInvalid"].as_array().unwrap();
    assert_eq!(cases.len(), kinds.len());
    for (case, (name, kind)) in cases.iter().zip(kinds) {
        assert_eq!(case["name"], name);
        let token = case["token"].as_str().unwrap();
        let now = case["now"].as_u64().unwrap();
        let key = match case["identity"]["moduleId"].is_string() {
            true => "modulePrimary",
            false => "devicePrimary",
        };
        let entered = vectors.connect(token, &case["identity"], key, now);
        let refusal = entered.unwrap_err();
        assert_eq!(refusal.kind, kind, "{name}");
        assert_eq!(refusal.answer, Answer::Connack(5), "{name}");
        let shown = format!("{refusal:?}");
        let signature = token.split("sig=").nth(1).and_then(|sig| sig.get(..20));
        assert!(signature.is_none_or(|sig| !shown.contains(sig)), "{shown}");
    }
}

#[test]
fn a_token_is_taken_until_the_allowed_skew_is_over() {
    let vectors = Vectors::read();
    let tokens = vectors.0["sasTokens"].as_array().unwrap();
    for case in vectors.0["clockSkew"].as_array().unwrap() {
        let token = tokens
            .iter()
            .find(|token| token["name"] == case["token"])
            .unwrap();
        let now = case["now"].as_u64().unwrap();
        let who = &token["validFor"][0];
        let entered = vectors.connect(token["token"].as_str().unwrap(), who, "devicePrimary", now);
        assert_eq!(entered.is_ok(), case["accept"].as_bool().unwrap(), "{case}");
    }
}
