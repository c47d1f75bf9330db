//! Why a DPS refuses, in sentences: one for each rule, with the arithmetic and the next step.
//!
//! What may not enter: keys, tokens and signatures; the text under a signature may.

mod tpm;
mod x509;

use std::time::{Duration, UNIX_EPOCH};

use azimuth_broker::{Answer, Refusal};
use azimuth_wire::api_version::InvalidApiVersion;
use azimuth_wire::registration_id::InvalidRegistrationId;
use azimuth_wire::sas::{CLOCK_SKEW_SECONDS, Malformed};
use azimuth_wire::time::Timestamp;
use azimuth_wire::twin::InvalidTwin;
use azimuth_wire::user_name::InvalidUserName;
use azimuth_wire::{IdScope, RegistrationId};

use crate::allocation::NoHub;
use crate::allocation::webhook::Failure;
use crate::attestation::Rejection;
use crate::linked_hub::HubError;
use crate::quota::Beyond;

pub use tpm::{tpm_not_enrolled, tpm_not_wrapped, tpm_over_mqtt, tpm_rejected};
pub use x509::{certificate_rejected, other_common_name, unreadable_certificate};

const UNAUTHORIZED: Answer = Answer::Response(401);
const BAD_REQUEST: Answer = Answer::Response(400);
const NOT_AUTHORIZED: Answer = Answer::Connack(5);

pub fn unknown_scope(given: &IdScope, ours: &IdScope) -> Refusal {
    let sentence = format!("this Device Provisioning Service has the id scope {ours}, not {given}");
    // Azure answers `server unavailable`, as if the tenant's server could not be found.
    Refusal::new("unknown-id-scope", Answer::Connack(3), sentence)
        .fact("id scope given", given)
        .fact("id scope here", ours)
}

pub fn bad_user_name(error: &InvalidUserName) -> Refusal {
    let kind = match error {
        InvalidUserName::ClientId { .. } => "client-id-mismatch",
        InvalidUserName::NoApiVersion | InvalidUserName::ApiVersion(_) => "bad-api-version",
        InvalidUserName::RegistrationId(_) | InvalidUserName::Id(_) => "bad-registration-id",
        InvalidUserName::Missing
        | InvalidUserName::Shape(_)
        | InvalidUserName::DpsShape(_)
        | InvalidUserName::IdScope(_) => "bad-user-name",
    };
    Refusal::new(kind, NOT_AUTHORIZED, error.to_string())
}

pub fn no_user_name() -> Refusal {
    let sentence = "the CONNECT has no user name; a Device Provisioning Service expects \
        `{id scope}/registrations/{registration id}/api-version=2019-03-31`";
    Refusal::new("bad-user-name", NOT_AUTHORIZED, sentence)
}

pub fn unknown_api_version(given: impl std::fmt::Display) -> Refusal {
    let sentence = format!(
        "the api-version {given} was never one of the Device Provisioning Service; use 2019-03-31 or 2021-06-01"
    );
    Refusal::new("bad-api-version", NOT_AUTHORIZED, sentence)
}

pub fn no_credentials() -> Refusal {
    let sentence = "the device sent neither a SAS token nor a client certificate; over MQTT the token is the password, \
        over HTTPS it stands in Authorization";
    Refusal::new("no-credentials", NOT_AUTHORIZED, sentence)
}

pub fn malformed_token(error: Malformed) -> Refusal {
    let sentence = format!("the credential is not a SAS token: {error}");
    Refusal::new("malformed-token", UNAUTHORIZED, sentence)
}

pub fn rejected(id: &RegistrationId, rejection: Rejection) -> Refusal {
    match rejection {
        Rejection::Resource { given, expected } => {
            let sentence = format!("the token is for `{given}`, the connection for `{expected}`");
            Refusal::new("wrong-resource", UNAUTHORIZED, sentence)
        }
        Rejection::Expired { expiry, now } => {
            let late = now.saturating_sub(expiry);
            let sentence = format!(
                "the token expired {late} s ago; {CLOCK_SKEW_SECONDS} s are allowed for a clock that is off. Make a new token, or set the device's clock"
            );
            Refusal::new("sas-expired", UNAUTHORIZED, sentence)
                .fact("expiry", time(expiry))
                .fact("time here", time(now))
                .fact("seconds late", late)
                .fact("seconds allowed", CLOCK_SKEW_SECONDS)
        }
        Rejection::WrongKey { string_to_sign } => {
            let sentence = format!(
                "neither key of the individual enrollment {id} signed the token; an individual enrollment decides alone, groups are not tried"
            );
            Refusal::new("wrong-key", UNAUTHORIZED, sentence).fact("text signed", string_to_sign)
        }
        Rejection::GroupKey { group } => {
            let sentence = format!(
                "the token is signed with the key of the enrollment group {group} itself; a device signs with its derived key, base64(HMAC-SHA256(group key, \"{id}\"))"
            );
            Refusal::new("group-key", UNAUTHORIZED, sentence).fact("enrollment group", group)
        }
        Rejection::Unknown {
            groups,
            string_to_sign,
        } => {
            let sentence = format!(
                "there is no individual enrollment {id}, and the token is not signed with a key derived for it from any of {groups} enrollment groups"
            );
            Refusal::new("unknown-registration", UNAUTHORIZED, sentence)
                .fact("text signed", string_to_sign)
                .fact("enrollment groups tried", groups)
        }
        Rejection::NoChallenge {
            challenges,
            string_to_sign,
        } => tpm::no_challenge(id, challenges, string_to_sign),
        Rejection::OtherKind { kind } => {
            let sentence =
                format!("the individual enrollment {id} wants {kind}, the device sent a SAS token");
            Refusal::new("wrong-attestation", UNAUTHORIZED, sentence)
        }
    }
}

pub fn disabled(id: &RegistrationId, group: Option<&str>) -> Refusal {
    let sentence = match group {
        Some(group) => format!("the enrollment group {group} of {id} is disabled"),
        None => format!("the individual enrollment {id} is disabled"),
    };
    Refusal::new("enrollment-disabled", Answer::Response(200), sentence)
}

pub fn unknown_topic(sentence: String) -> Refusal {
    Refusal::new("unknown-topic", Answer::Close, sentence)
}

pub fn unknown_filter(filter: &str) -> Refusal {
    let shown: String = filter.chars().take(200).collect();
    let sentence =
        format!("a device may subscribe to `$dps/registrations/res/#` only, not to `{shown}`");
    Refusal::new("unknown-filter", Answer::SubackFailure, sentence)
}

pub fn unknown_operation(operation: &str) -> Refusal {
    let shown: String = operation.chars().take(80).collect();
    let sentence = format!("there is no operation `{shown}` of this registration; register again");
    Refusal::new("unknown-operation", Answer::Response(404), sentence)
}

/// Over HTTPS the parts of a user name are looked at one by one.
pub fn bad_registration_id(error: &InvalidRegistrationId) -> Refusal {
    Refusal::new("bad-registration-id", BAD_REQUEST, error.to_string())
}

pub fn bad_api_version(error: &InvalidApiVersion) -> Refusal {
    Refusal::new("bad-api-version", BAD_REQUEST, error.to_string())
}

pub fn no_api_version() -> Refusal {
    let sentence = "the query parameter api-version is missing; use 2019-03-31 or 2021-06-01";
    Refusal::new("bad-api-version", BAD_REQUEST, sentence)
}

pub fn method_not_allowed(method: impl std::fmt::Display) -> Refusal {
    let sentence = format!(
        "{method} is not for this path: a device registers with PUT, polls with GET and looks up with POST"
    );
    Refusal::new("method-not-allowed", Answer::Response(405), sentence)
}

pub fn body_not_read(most: usize) -> Refusal {
    let sentence = format!("the body of the request is longer than {most} bytes, or broke off");
    Refusal::new("oversize", BAD_REQUEST, sentence)
}

pub fn never_registered(id: &RegistrationId) -> Refusal {
    let sentence = format!("{id} has never registered, or its registration was deleted");
    Refusal::new("never-registered", Answer::Response(404), sentence)
}

pub fn bad_body(error: &serde_json::Error) -> Refusal {
    let sentence =
        format!("the body of register is not the JSON of a registration request: {error}");
    Refusal::new("bad-body", Answer::Response(400), sentence)
}

pub fn body_too_large(bytes: usize, most: usize) -> Refusal {
    let sentence = format!("the body of register has {bytes} bytes; {most} are allowed");
    Refusal::new("oversize", Answer::Response(400), sentence)
}

pub fn other_registration(given: &str, id: &RegistrationId) -> Refusal {
    let shown: String = given.chars().take(140).collect();
    let sentence =
        format!("the body names the registration `{shown}`, the connection is that of {id}");
    Refusal::new("registration-id-mismatch", UNAUTHORIZED, sentence)
}

pub fn csr_not_simulated() -> Refusal {
    let sentence = "certificate signing requests are not simulated yet";
    Refusal::new("not-supported", Answer::Response(400), sentence)
}

pub fn busy() -> Refusal {
    let sentence = "too many registrations are under way; the device is asked to come back";
    Refusal::new("busy", Answer::Response(429), sentence)
}

pub fn beyond(beyond: Beyond) -> Refusal {
    let (who, rate) = match beyond {
        Beyond::Registrations(rate) => ("all devices together may register", rate),
        Beyond::DeviceCalls(rate) => ("one device may register, and poll,", rate),
    };
    let (calls, seconds) = (rate.calls, rate.per.as_secs());
    let sentence = format!("{who} {calls} times in {seconds} s; wait as long as retry-after says");
    Refusal::new("throttled", Answer::Response(429), sentence)
}

pub fn store_failed(error: &crate::Error) -> Refusal {
    Refusal::new(
        "store-failed",
        Answer::Response(500),
        format!(
            "the registration could not be read or written: {error}; a hub that has taken the device keeps it \
             until the device registers again"
        ),
    )
}

pub fn no_hub(id: &RegistrationId, why: NoHub) -> Refusal {
    let because = match why {
        NoHub::NoneLinked => "no hub is linked to this Device Provisioning Service",
        NoHub::NoneOfTheNamed => "none of the hubs in its enrollment's iotHubs is linked",
        NoHub::AllExcluded => {
            "every linked hub is kept out of allocation (applyAllocationPolicy is false)"
        }
        NoHub::NotOne => "static allocation needs exactly one linked hub in iotHubs",
        NoHub::Custom => "its enrollment has custom allocation, and no webhook to ask",
    };
    let sentence = format!("no hub can be chosen for {id}: {because}");
    Refusal::new("no-hub", Answer::Response(200), sentence)
}

/// `webhook` is its URL without what the query holds.
pub fn webhook_failed(webhook: &str, failure: &Failure, final_answer: bool) -> Refusal {
    let (status, next) = match final_answer {
        true => (200, "the registration failed"),
        false => (202, "it is asked again"),
    };
    let sentence = format!("the webhook {webhook} of custom allocation: {failure}; {next}");
    Refusal::new("webhook-failed", Answer::Response(status), sentence).fact("webhook", webhook)
}

/// What a hub was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HubStep {
    /// To hold the device.
    Write,
    /// For the twin of a device that moves away.
    ReadTwin,
    /// To remove a device that has moved.
    Leave,
}

impl HubStep {
    fn when(self) -> &'static str {
        match self {
            Self::Write => "when the device was to be written",
            Self::ReadTwin => "when the twin of the device was to be read, to move with it",
            Self::Leave => "when the device, which has moved, was to be removed",
        }
    }

    /// What is left behind, for whom nobody tries again.
    fn left(self) -> &'static str {
        match self {
            Self::Write => {
                "the registration failed; should the hub have taken the device before, it stays there until \
                 it registers again"
            }
            Self::ReadTwin => {
                "the registration failed and nothing was changed, so that its twin is not lost; when that hub \
                 is gone for good, unlink it: its devices then move without their twins"
            }
            Self::Leave => "the device is assigned to its new hub and stays in both",
        }
    }
}

pub fn hub_failed(hub: &str, step: HubStep, error: &HubError, final_answer: bool) -> Refusal {
    match error {
        HubError::Unreachable(cause) => {
            let next = if final_answer {
                step.left()
            } else {
                "it is asked again"
            };
            let sentence = format!("the hub {hub} cannot be reached: {cause}; {next}");
            let status = if final_answer { 200 } else { 202 };
            Refusal::new("hub-unreachable", Answer::Response(status), sentence)
        }
        HubError::Refused { status: 401, .. } => {
            let right = match step {
                HubStep::ReadTwin => "; to read a twin its policy needs ServiceConnect",
                HubStep::Write | HubStep::Leave => "",
            };
            let sentence = format!(
                "the hub {hub} refused the key of its link {}; update the linked hub's connection string{right}",
                step.when()
            );
            Refusal::new("hub-key-refused", Answer::Response(200), sentence).fact("hub", hub)
        }
        HubError::Refused { status, .. } => {
            let sentence = format!("the hub {hub} answered {status} {}", step.when());
            Refusal::new("hub-refused", Answer::Response(200), sentence).fact("hub", hub)
        }
    }
}

/// `whose` twin: the enrollment's or the webhook's.
pub fn initial_twin(whose: &str, why: &InvalidTwin) -> Refusal {
    let sentence = format!(
        "the initial twin of the {whose} is none that a hub takes: {why}; the registration failed, and no hub \
         was asked"
    );
    Refusal::new("initial-twin", Answer::Response(200), sentence)
}

fn time(seconds: u64) -> Timestamp {
    UNIX_EPOCH
        .checked_add(Duration::from_secs(seconds))
        .map_or(Timestamp::NEVER, Timestamp::from)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Those that no device brings about by what it sends; the others are provoked over MQTT in the
    /// tests of `device`.
    #[test]
    fn each_rule_has_its_sentence() {
        let id: RegistrationId = "dev-1".parse().unwrap();
        let refused = |status| HubError::Refused {
            status,
            body: String::new(),
        };
        let store = crate::Error::Storage(azimuth_storage::Error::Closed);
        let rows = [
            (
                rejected(&id, Rejection::OtherKind { kind: "tpm" }),
                "wrong-attestation",
                "the individual enrollment dev-1 wants tpm, the device sent a SAS token",
            ),
            (
                store_failed(&store),
                "store-failed",
                "the registration could not be read or written",
            ),
            (
                hub_failed("hub-a", HubStep::Write, &refused(409), true),
                "hub-refused",
                "the hub hub-a answered 409 when the device was to be written",
            ),
            (
                hub_failed("hub-a", HubStep::ReadTwin, &refused(401), true),
                "hub-key-refused",
                "update the linked hub's connection string; to read a twin its policy needs ServiceConnect",
            ),
            (
                hub_failed(
                    "hub-a",
                    HubStep::Leave,
                    &HubError::Unreachable("no answer".into()),
                    true,
                ),
                "hub-unreachable",
                "stays in both",
            ),
            (
                initial_twin("webhook", &InvalidTwin::Key("tags.a b".into())),
                "initial-twin",
                "the initial twin of the webhook is none that a hub takes: `tags.a b`: a key may not",
            ),
            (
                no_hub(&id, NoHub::NoneLinked),
                "no-hub",
                "no hub is linked to this Device Provisioning Service",
            ),
            (
                no_hub(&id, NoHub::NoneOfTheNamed),
                "no-hub",
                "none of the hubs in its enrollment's iotHubs is linked",
            ),
            (
                no_hub(&id, NoHub::AllExcluded),
                "no-hub",
                "every linked hub is kept out of allocation",
            ),
            (
                no_hub(&id, NoHub::NotOne),
                "no-hub",
                "static allocation needs exactly one linked hub",
            ),
            (no_hub(&id, NoHub::Custom), "no-hub", "no webhook to ask"),
            (
                webhook_failed("https://a.example/f?****", &Failure::Status(404), true),
                "webhook-failed",
                "the webhook https://a.example/f?**** of custom allocation: it answered 404; the registration failed",
            ),
        ];
        for (refusal, kind, sentence) in rows {
            assert_eq!(refusal.kind, kind);
            assert!(refusal.sentence.contains(sentence), "{}", refusal.sentence);
        }
    }
}
