//! Twin requests of devices: read, and report properties; each answered when it is done.
//!
//! Those of one connection are carried out one after the other, in the order they came, and an answer of
//! 204 says that what was reported is stored. The body of an error is never left out, because the Node SDK
//! looks at nothing but `errorCode` in it. May not enter: what a write does to a twin.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use azimuth_broker::{Answer, CloseReason, Ledger, Operation, Outbound, QoS, Refusal};
use azimuth_clock::Clock;
use azimuth_wire::ErrorCode;
use azimuth_wire::registry::InvalidBody;
use azimuth_wire::time::Timestamp;
use azimuth_wire::topic::hub::HubTopic;
use azimuth_wire::twin::{InvalidTwin, SectionBody};
use bytes::Bytes;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{DeviceDoor, Principal};
use crate::error::Error;
use crate::registry::Registry;

/// What a device asks of its twin.
pub struct Request {
    pub id: String,
    pub asks: Asks,
}

pub enum Asks {
    Read,
    Report {
        patch: Bytes,
        if_version: Option<u64>,
    },
}

/// The requests of a connection that wait behind the one under way; nothing where none is.
#[derive(Default)]
pub struct Waiting(Mutex<Option<Box<Behind>>>);

#[derive(Default)]
struct Behind(VecDeque<Request>);

impl Waiting {
    /// Requests that may wait. A device that asks faster than it is answered is told to slow down.
    const MOST: usize = 32;
}

/// What answering needs, on its own task.
struct Clerk {
    registry: Arc<Registry>,
    ledger: Arc<Ledger>,
    clock: Arc<dyn Clock>,
    who: Principal,
}

impl DeviceDoor {
    /// Takes a request. What is answered at once is a refusal.
    pub(super) fn twin(&self, who: &Principal, request: Request) -> Option<Outbound> {
        let clerk = Clerk {
            registry: self.registry.clone(),
            ledger: self.ledger.clone(),
            clock: self.clock.clone(),
            who: who.clone(),
        };
        if !who.0.has_api_version {
            let sentence =
                "the connection announced no api-version in its user name, so it has no twin";
            let refused = (ErrorCode::InvalidOperation, "twin", sentence.to_owned());
            return Some(clerk.refuse(&request.id, refused));
        }
        if let Err(error) = self.may_ask(&request.asks, self.clock.utc()) {
            let refused = (error.code(), error.kind(), error.to_string());
            return Some(clerk.refuse(&request.id, refused));
        }
        let mut waiting = who.0.waiting.0.lock();
        match &mut *waiting {
            Some(waiting) if waiting.0.len() >= Waiting::MOST => {
                let most = Waiting::MOST;
                let sentence = format!(
                    "{most} twin requests of this connection wait already; ask again when some are answered"
                );
                let refused = (ErrorCode::ThrottlingException, "throttled", sentence);
                Some(clerk.refuse(&request.id, refused))
            }
            Some(waiting) => {
                waiting.0.push_back(request);
                None
            }
            none => {
                *none = Some(Box::default());
                tokio::spawn(clerk.work(request));
                None
            }
        }
    }
}

impl Clerk {
    /// Answers a request, and those that come meanwhile.
    async fn work(self, first: Request) {
        let mut next = Some(first);
        while let Some(request) = next {
            let answer = match self.serve(&request).await {
                Ok((status, version, payload)) => {
                    self.outbound(&request.id, status, version, payload)
                }
                Err(error) => {
                    let refused = (told(&error), error.kind(), error.to_string());
                    self.refuse(&request.id, refused)
                }
            };
            if let Some(line) = self.who.0.line.get()
                && line.deliver(answer).is_err()
            {
                line.close(CloseReason::Removed(
                    "the device asked for its twin again and again and took no answer",
                ));
            }
            let mut waiting = self.who.0.waiting.0.lock();
            next = waiting.as_mut().and_then(|waiting| waiting.0.pop_front());
            if next.is_none() {
                *waiting = None;
            }
        }
    }

    async fn serve(&self, request: &Request) -> Result<(u16, Option<u64>, Bytes), Error> {
        let name = &self.who.0.identity;
        let generation_id = self.who.0.life.generation_id();
        match &request.asks {
            Asks::Read => {
                let twin = self.registry.own_twin(name, generation_id)?;
                Ok((200, None, twin.to_string().into()))
            }
            Asks::Report { patch, if_version } => {
                let patch = SectionBody::from(parse(patch)?).values;
                let written = self
                    .registry
                    .report(name, generation_id, &patch, *if_version);
                Ok((204, Some(written.await?), Bytes::new()))
            }
        }
    }

    fn refuse(&self, request_id: &str, refused: (ErrorCode, &'static str, String)) -> Outbound {
        let (code, kind, sentence) = refused;
        let now = self.clock.utc();
        let payload = body(code, &sentence, now);
        let refusal = Refusal::new(kind, Answer::Response(code.status()), sentence);
        let who = Some(self.who.0.owner.as_str());
        self.ledger
            .record(now, Operation::Request, who, None, refusal);
        self.outbound(request_id, code.status(), None, payload)
    }

    fn outbound(
        &self,
        request_id: &str,
        status: u16,
        version: Option<u64>,
        payload: Bytes,
    ) -> Outbound {
        let topic = HubTopic::TwinResponse {
            status,
            request_id,
            version,
        };
        Outbound {
            topic: topic.to_string(),
            payload,
            qos: QoS::AtMostOnce,
        }
    }
}

fn parse(patch: &[u8]) -> Result<Map<String, Value>, Error> {
    let value =
        serde_json::from_slice(patch).map_err(|error| InvalidBody::NotJson(error.to_string()))?;
    match value {
        Value::Object(patch) => Ok(patch),
        _ => Err(Error::Argument(
            "reported properties are a JSON object".into(),
        )),
    }
}

/// The number that a device is told: of what it sent, the size has one of its own.
fn told(error: &Error) -> ErrorCode {
    match error {
        Error::Twin(InvalidTwin::Size { .. }) => ErrorCode::MessageTooLarge,
        Error::Body(_) | Error::Twin(_) => ErrorCode::ArgumentInvalid,
        error => error.code(),
    }
}

fn body(code: ErrorCode, message: &str, now: SystemTime) -> Bytes {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        error_code: u32,
        tracking_id: String,
        message: &'a str,
        timestamp_utc: Timestamp,
    }
    let body = Body {
        error_code: code.number(),
        tracking_id: uuid::Uuid::new_v4().simple().to_string(),
        message,
        timestamp_utc: now.into(),
    };
    serde_json::to_vec(&body)
        .expect("numbers and texts are JSON")
        .into()
}
