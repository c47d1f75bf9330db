//! The sentences of refused credentials, each with its rule and its arithmetic.

use azimuth_broker::{Answer, Refusal};
use azimuth_wire::policy::HubRights;
use azimuth_wire::registry::Authentication;
use azimuth_wire::sas::{Malformed, SasToken};
use azimuth_wire::time::Timestamp;
use azimuth_wire::topic::hub::{InvalidTopic, telemetry_topic};
use azimuth_wire::user_name::InvalidUserName;
use azimuth_wire::{DeviceId, ErrorCode, Identity as Name, ModuleId};
use std::time::{Duration, UNIX_EPOCH};

use crate::error::Error;
use crate::policies::Policy;
use crate::registry::Identity;

/// Who is refused: decides what they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// CONNACK 5: the one failure code that IoT Hub answers with.
    Device,
    /// 401 IotHubUnauthorizedAccess.
    Service,
}

impl Asker {
    fn answer(self) -> Answer {
        match self {
            Self::Device => Answer::Connack(NOT_AUTHORIZED),
            Self::Service => {
                let code = ErrorCode::IotHubUnauthorizedAccess;
                Answer::Http(code.status(), code.name().into())
            }
        }
    }
}

/// CONNACK return codes, MQTT 3.1.1 table 3.1.
const SERVER_UNAVAILABLE: u8 = 3;
const NOT_AUTHORIZED: u8 = 5;

pub fn user_name(invalid: &InvalidUserName) -> Refusal {
    connack("user-name", invalid.to_string())
}

pub fn client_id(invalid: &InvalidUserName) -> Refusal {
    connack("client-id", invalid.to_string())
}

pub fn host(given: &str, names: &[String]) -> Refusal {
    let given = short(given);
    let sentence = format!(
        "the user name begins with the host `{given}`, which is not a name of this hub; use `{}`",
        names.first().map_or("", String::as_str)
    );
    connack("host", sentence)
        .fact("host in the user name", given)
        .fact("names of this hub", names.join(", "))
}

pub fn will_topic(topic: &str, name: &Name, why: Option<&InvalidTopic>) -> Refusal {
    let sentence = format!(
        "the will is for the topic `{}`; a device's will can only be its own telemetry, `{}`",
        short(topic),
        telemetry_topic(name)
    );
    let refusal = connack("will-topic", sentence);
    match why {
        Some(why) => refusal.fact("why the topic is not one", why),
        None => refusal,
    }
}

pub fn will_quality() -> Refusal {
    connack(
        "will-qos",
        "the will has QoS 2, which IoT Hub does not know; use 0 or 1",
    )
}

pub fn no_credentials(asker: Asker) -> Refusal {
    let sentence = match asker {
        Asker::Device => {
            "the CONNECT has no password and showed no client certificate; the password is a \
             SharedAccessSignature made with a key of the device"
        }
        Asker::Service => {
            "the request has no Authorization header; it must hold a SharedAccessSignature made with a \
             key of a policy"
        }
    };
    Refusal::new("no-credentials", asker.answer(), sentence)
}

pub fn malformed(asker: Asker, why: Malformed) -> Refusal {
    Refusal::new("malformed-token", asker.answer(), why.to_string())
}

pub fn no_policy() -> Refusal {
    let sentence =
        "the token names no policy: `skn` is missing or empty, and only policies may use this API";
    Refusal::new("unknown-policy", Asker::Service.answer(), sentence)
}

pub fn unknown_policy(asker: Asker, token: &SasToken, name: &str, known: &str) -> Refusal {
    let name = short(name);
    let sentence =
        format!("the token is signed by the policy `{name}`, which this hub does not have");
    let refusal = Refusal::new("unknown-policy", asker.answer(), sentence);
    refusal
        .fact("skn", name)
        .fact("policies of this hub", known)
        .fact("sr", token.resource())
}

pub fn no_right(asker: Asker, policy: &Policy, needed: HubRights) -> Refusal {
    let name = &policy.keys.name;
    let sentence = format!("the policy `{name}` does not have the right {needed}");
    Refusal::new("policy-without-right", asker.answer(), sentence)
        .fact("rights of the policy", policy.rights)
        .fact("right needed", needed)
}

pub fn wrong_resource(asker: Asker, token: &SasToken, wanted: &str, names: &[String]) -> Refusal {
    let sentence = format!(
        "the token is for `{}`, which does not cover `{wanted}`; `sr` must be it or a beginning of it by whole \
         segments",
        short(&azimuth_wire::percent::decode(token.resource()))
    );
    Refusal::new("wrong-resource", asker.answer(), sentence)
        .fact("sr wanted", wanted)
        .fact("sr in the token", short(token.resource()))
        .fact("names of this hub", names.join(", "))
}

pub fn wrong_key(asker: Asker, token: &SasToken, whose: &str) -> Refusal {
    let sentence = format!(
        "neither key of {whose} made the token's signature: the key is another one, or what was signed is not \
         the `sr` text as sent, a line feed and the `se` digits"
    );
    Refusal::new("wrong-key", asker.answer(), sentence)
        .fact("keys tried", format!("primary and secondary of {whose}"))
        .fact("text that must be signed", short(&token.string_to_sign()))
}

pub fn expired(asker: Asker, token: &SasToken, now: u64, skew: u64) -> Refusal {
    let late = now.saturating_sub(token.expiry());
    let sentence = format!(
        "the token expired {late} s ago, more than the {skew} s that clocks may differ; make a new one, or set \
         the clock that made it"
    );
    let time = |seconds: u64| {
        let at = UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
        at.map_or_else(
            || "beyond all clocks".into(),
            |at| Timestamp::from(at).to_string(),
        )
    };
    Refusal::new("expired-token", asker.answer(), sentence)
        .fact(
            "se",
            format!("{} ({})", token.expiry(), time(token.expiry())),
        )
        .fact("hub's clock", format!("{now} ({})", time(now)))
        .fact("seconds past se", late)
        .fact("seconds allowed", skew)
}

pub fn unknown_device(device: &DeviceId) -> Refusal {
    let sentence = format!("this hub has no device `{device}`; ids are case-sensitive");
    connack("unknown-device", sentence)
}

pub fn unknown_module(device: &DeviceId, module: &ModuleId) -> Refusal {
    let sentence =
        format!("the device `{device}` has no module `{module}`; ids are case-sensitive");
    connack("unknown-module", sentence)
}

pub fn disabled_device(identity: &Identity) -> Refusal {
    let sentence = format!("the device `{}` is disabled", identity.device_id);
    let refusal =
        connack("disabled-device", sentence).fact("disabled since", identity.status_updated_time);
    match &identity.status_reason {
        Some(reason) => refusal.fact("statusReason", reason),
        None => refusal,
    }
}

pub fn wrong_authentication(identity: &Identity) -> Refusal {
    let kind = identity.authentication.kind();
    if identity.authentication == Authentication::None {
        return no_proof(identity);
    }
    let sentence = format!(
        "the {} proves itself by certificate (authentication type {kind}), the client sent a token",
        subject(identity)
    );
    connack("wrong-authentication", sentence).fact("authentication type", kind)
}

pub fn store(error: &Error) -> Refusal {
    tracing::error!(%error, "an identity could not be looked up");
    let sentence = format!("the hub could not look the identity up: {error}");
    Refusal::new("store", Answer::Connack(SERVER_UNAVAILABLE), sentence)
}

/// Of an edge device's own modules, whose keys its runtime would have to ask for.
pub fn no_proof(identity: &Identity) -> Refusal {
    let sentence = format!(
        "the {} has neither keys nor a thumbprint (authentication type none), so nothing lets it in",
        subject(identity)
    );
    connack("wrong-authentication", sentence).fact("authentication type", "none")
}

/// `device ‹id›` or `module ‹device›/‹id›`.
pub fn subject(identity: &Identity) -> String {
    let name = identity.name();
    match name.module {
        None => format!("device `{name}`"),
        Some(_) => format!("module `{name}`"),
    }
}

pub fn connack(kind: &'static str, sentence: impl Into<String>) -> Refusal {
    Refusal::new(kind, Asker::Device.answer(), sentence)
}

/// Text of a client's, cut where it is longer than anyone would read.
fn short(text: &str) -> String {
    text.chars().take(200).collect()
}
