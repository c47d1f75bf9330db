//! The handshake by which a webhook shows that it wants events of this hub.
//!
//! ```text
//!              200 with the code, or the allowed origin
//!   Asking ───────────────────────────────────────────────► Valid
//!    │  ▲ │                                                   ▲
//!    │  └─┘ anything else: again after 5 s                    │ GET validationUrl
//!    │                                                        │
//!    └── 200 without the code (Event Grid schema) ──► Manual ─┘
//!    10 minutes after the first request, from either: Failed
//! ```
//!
//! Pure. May not enter: requests, where it is kept that a webhook is valid.

use std::time::{Duration, SystemTime};

use azimuth_wire::time::Timestamp;
use serde_json::{Value, json};

use super::subscription::Schema;

/// Where a handshake stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    Asking { next: SystemTime },
    Manual,
    Valid,
    Failed,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Ask,
    Wait(SystemTime),
    Deliver,
    /// Until the hub starts again.
    Rest,
}

/// The handshake with one webhook.
#[derive(Debug)]
pub struct Handshake {
    phase: Phase,
    code: String,
    until: SystemTime,
    /// What was wrong with the last answer.
    why: Option<String>,
}

impl Handshake {
    const AGAIN_AFTER: Duration = Duration::from_secs(5);
    const PATIENCE: Duration = Duration::from_secs(600);

    /// `code` is not to be guessed.
    pub fn begin(code: String, now: SystemTime) -> Self {
        Self {
            phase: Phase::Asking { next: now },
            code,
            until: now + Self::PATIENCE,
            why: None,
        }
    }

    /// With a webhook that said yes before this start.
    pub fn done(now: SystemTime) -> Self {
        Self {
            phase: Phase::Valid,
            code: String::new(),
            until: now,
            why: None,
        }
    }

    pub fn step(&mut self, now: SystemTime) -> Step {
        let open = matches!(self.phase, Phase::Asking { .. } | Phase::Manual);
        if open && now >= self.until {
            self.phase = Phase::Failed;
        }
        match self.phase {
            Phase::Asking { next } if now >= next => Step::Ask,
            Phase::Asking { next } => Step::Wait(next.min(self.until)),
            Phase::Manual => Step::Wait(self.until),
            Phase::Valid => Step::Deliver,
            Phase::Failed => Step::Rest,
        }
    }

    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    pub fn code(&self) -> &str {
        &self.code
    }

    /// Why it is not valid yet, as far as known.
    pub fn why(&self) -> Option<&str> {
        self.why.as_deref()
    }

    /// The answer to a request with the code; a sentence where it was not one.
    pub fn answered(&mut self, answer: Result<(u16, &[u8]), String>, now: SystemTime) {
        let why = match answer {
            Ok((200, body)) if self.is_echoed(body) => return self.accept(),
            Ok((200, _)) if self.phase == Phase::Valid => return,
            Ok((200, _)) => {
                self.phase = Phase::Manual;
                self.why = Some(
                    "it answered 200 without the validationResponse; open the validationUrl that it was sent within 10 minutes"
                        .into(),
                );
                return;
            }
            Ok((status, _)) => {
                format!("it answered {status} to the validation, and only 200 counts")
            }
            Err(why) => why,
        };
        self.again(why, now);
    }

    /// The answer to OPTIONS: its status and `WebHook-Allowed-Origin`.
    pub fn allowed(&mut self, answer: Result<(u16, Option<&str>), String>, now: SystemTime) {
        let why = match answer {
            Ok((200, Some(origin))) if origin == "*" || origin.eq_ignore_ascii_case(ORIGIN) => {
                return self.accept();
            }
            Ok((200, _)) => format!(
                "it answered 200 to OPTIONS without `WebHook-Allowed-Origin: {ORIGIN}`, or `*`"
            ),
            Ok((status, _)) => format!("it answered {status} to OPTIONS, and only 200 counts"),
            Err(why) => why,
        };
        self.again(why, now);
    }

    /// Somebody opened the validation URL. Whether its code is the one that was sent and still counts.
    pub fn opened(&mut self, code: &str, now: SystemTime) -> bool {
        self.step(now);
        let counts = match self.phase {
            Phase::Asking { .. } | Phase::Manual | Phase::Valid => true,
            Phase::Failed => false,
        };
        let right = counts && !self.code.is_empty() && code == self.code;
        if right {
            self.accept();
        }
        right
    }

    fn accept(&mut self) {
        (self.phase, self.why) = (Phase::Valid, None);
    }

    fn again(&mut self, why: String, now: SystemTime) {
        // It may have been opened by hand while it was asked.
        if let Phase::Asking { next } = &mut self.phase {
            *next = now + Self::AGAIN_AFTER;
            self.why = Some(why);
        }
    }

    fn is_echoed(&self, body: &[u8]) -> bool {
        let Ok(Value::Object(body)) = serde_json::from_slice(body) else {
            return false;
        };
        // Samples spell it with a large V too.
        body.iter().any(|(name, value)| {
            name.eq_ignore_ascii_case("validationResponse") && value == self.code.as_str()
        })
    }
}

/// The body of the request that asks for the code.
pub fn validation(topic: &str, code: &str, url: &str, at: Timestamp) -> Value {
    json!([{
        "id": uuid::Uuid::new_v4().to_string(),
        "topic": topic,
        "subject": "",
        "data": { "validationCode": code, "validationUrl": url },
        "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
        "eventTime": at,
        "metadataVersion": "1",
        "dataVersion": "1",
    }])
}

impl Phase {
    /// For people.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Asking { .. } => "AwaitingValidation",
            Self::Manual => "AwaitingManualAction",
            Self::Valid => "Active",
            Self::Failed => "Failed",
        }
    }
}

/// Whether a schema shakes hands by OPTIONS.
pub fn by_options(schema: Schema) -> bool {
    schema == Schema::CloudEvents
}

/// As which events come, where a webhook of CloudEvents asks.
pub const ORIGIN: &str = "eventgrid.azure.net";

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn begun() -> Handshake {
        let mut handshake = Handshake::begin("the-code".into(), at(0));
        assert_eq!(handshake.step(at(0)), Step::Ask);
        handshake
    }

    #[test]
    fn only_200_with_the_code_counts() {
        for (status, body, step) in [
            (200, r#"{"validationResponse":"the-code"}"#, Step::Deliver),
            (200, r#"{"ValidationResponse":"the-code"}"#, Step::Deliver),
            (
                200,
                r#"{"validationResponse":"other"}"#,
                Step::Wait(at(600)),
            ),
            (200, "thanks", Step::Wait(at(600))),
            (
                202,
                r#"{"validationResponse":"the-code"}"#,
                Step::Wait(at(6)),
            ),
            (500, "", Step::Wait(at(6))),
        ] {
            let mut handshake = begun();
            handshake.answered(Ok((status, body.as_bytes())), at(1));
            assert_eq!(handshake.step(at(1)), step, "{status} {body}");
        }
    }

    #[test]
    fn a_webhook_that_is_not_there_yet_is_asked_every_five_seconds_for_ten_minutes() {
        let mut handshake = begun();
        for second in (0..600).step_by(5) {
            assert_eq!(handshake.step(at(second)), Step::Ask, "{second}");
            handshake.answered(Err("connection refused".into()), at(second));
            assert_ne!(handshake.step(at(second + 4)), Step::Ask);
        }
        assert_eq!(handshake.why(), Some("connection refused"));
        assert_eq!(handshake.step(at(600)), Step::Rest);
        assert!(!handshake.opened("the-code", at(601)), "it is too late");
    }

    #[test]
    fn the_validation_url_may_be_opened_by_hand_for_ten_minutes() {
        for (code, second, step) in [
            ("the-code", 599, Step::Deliver),
            ("the-code", 600, Step::Rest),
            ("a guess", 1, Step::Wait(at(600))),
            ("", 1, Step::Wait(at(600))),
        ] {
            let mut handshake = begun();
            handshake.answered(Ok((200, b"")), at(0));
            assert_eq!(*handshake.phase(), Phase::Manual);
            assert_eq!(handshake.opened(code, at(second)), step == Step::Deliver);
            assert_eq!(handshake.step(at(second)), step, "{code}");
        }
        assert!(!Handshake::done(at(0)).opened("", at(1)));
    }

    #[test]
    fn a_webhook_that_opens_the_url_before_it_answers_is_valid() {
        for answer in ["thanks", r#"{"validationResponse":"other"}"#] {
            let mut handshake = begun();
            assert!(handshake.opened("the-code", at(1)));
            handshake.answered(Ok((200, answer.as_bytes())), at(2));
            assert_eq!(handshake.step(at(2)), Step::Deliver);
        }
    }

    #[test]
    fn cloud_events_want_the_origin_allowed() {
        for (status, origin, step) in [
            (200, Some("*"), Step::Deliver),
            (200, Some("EventGrid.azure.net"), Step::Deliver),
            (200, Some("other.example"), Step::Wait(at(5))),
            (200, None, Step::Wait(at(5))),
            (405, Some("*"), Step::Wait(at(5))),
        ] {
            let mut handshake = begun();
            handshake.allowed(Ok((status, origin)), at(0));
            assert_eq!(handshake.step(at(0)), step, "{status} {origin:?}");
        }
    }
}
