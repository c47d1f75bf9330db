//! The device with a TPM at the DPS: it registers over HTTPS, opens what was wrapped for its TPM and signs
//! with what it finds.
//!
//! ```text
//!   PUT register ──401 + key──► PUT register, signed ──202──► GET operation … ──200 + key──► hub
//! ```

use std::sync::Arc;
use std::time::Instant;

use azimuth_tpm::{ActivationBlob, SoftwareTpm};
use azimuth_wire::SymmetricKey;
use azimuth_wire::percent;
use azimuth_wire::registration::{DeliveredKey, TpmChallenge};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::provisioning::Stage;
use super::registration::{Answer, Assignment};
use super::{Device, Now, Output, State};
use crate::fault::{Fault, FaultKind};
use crate::hello;
use crate::plan::Plan;

/// A request to the DPS.
pub(crate) struct Request {
    pub method: &'static str,
    pub target: String,
    pub authorization: Option<String>,
    pub body: String,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub status: u16,
    /// Seconds.
    pub retry_after: Option<u32>,
    pub body: Vec<u8>,
}

/// What a device with a TPM holds while it registers.
pub(super) struct AtDps {
    tpm: Arc<SoftwareTpm>,
    /// Signed with the key of the challenge, from then on.
    token: Option<String>,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.target)
    }
}

impl AtDps {
    pub(super) fn of(plan: &Plan, number: u64) -> Option<Box<Self>> {
        let tpm = plan.tpm(number)?.clone();
        Some(Box::new(Self { tpm, token: None }))
    }

    fn open(&self, wrapped: &str) -> Result<SymmetricKey, Fault> {
        let unfit = |why: String| {
            let sentence = format!("the DPS sent a key that the TPM cannot open: {why}");
            Fault::new(FaultKind::Protocol, sentence)
        };
        let blob = STANDARD.decode(wrapped);
        let blob = blob.map_err(|_| unfit("it is not base64".into()))?;
        let blob = ActivationBlob::parse(&blob).map_err(|error| unfit(error.to_string()))?;
        let key = self.tpm.activate(&blob);
        let key = key.map_err(|error| unfit(error.to_string()))?;
        Ok(SymmetricKey::from_bytes(key.reveal()))
    }
}

impl Device {
    pub(super) fn begin_over_https(&mut self, since: Instant, now: Now) {
        // The key of an earlier challenge may be forgotten over there.
        if let Some(tpm) = &mut self.tpm {
            tpm.token = None;
        }
        self.ask(since, 1, None, now);
    }

    pub(super) fn ask_over_https(&mut self, about: Option<&str>) {
        let (Some(at), Some(dps)) = (&self.tpm, &self.plan.provisioning) else {
            return;
        };
        let base64 = |key: &azimuth_tpm::StorageKey| STANDARD.encode(key.bytes());
        let (method, tail, body) = match about {
            None => {
                let keys = json!({ "endorsementKey": base64(at.tpm.endorsement_key()),
                    "storageRootKey": base64(at.tpm.storage_root_key()) });
                let body = json!({ "registrationId": *self.name, "tpm": keys });
                ("PUT", "register".into(), body.to_string())
            }
            Some(operation) => {
                let operation = percent::encode(operation);
                ("GET", format!("operations/{operation}"), String::new())
            }
        };
        let (scope, id) = (&dps.id_scope, percent::encode(&self.name));
        let request = Request {
            method,
            target: format!("/{scope}/registrations/{id}/{tail}?api-version=2021-06-01"),
            authorization: at.token.clone(),
            body,
        };
        self.outbox.push_back(Output::Ask(request));
    }

    /// The DPS answered over HTTPS.
    pub(crate) fn handle_reply(&mut self, reply: &Reply, now: Now) {
        let State::Provisioning { since, stage } = &self.state else {
            return;
        };
        let Stage::Asking { request, about, .. } = stage.clone() else {
            return;
        };
        let since = *since;
        match self.challenged(reply, now) {
            Ok(true) => self.ask(since, request.saturating_add(1), about, now),
            Ok(false) => {
                let answer = Answer::read(reply.status, reply.retry_after, &reply.body);
                self.obey(since, request, about, answer, now);
            }
            Err(fault) => self.fail_at_dps(fault, now),
        }
    }

    /// Whether the reply is a challenge; the TPM has opened it then. A second one in a row is a refusal.
    fn challenged(&mut self, reply: &Reply, now: Now) -> Result<bool, Fault> {
        let (Some(at), Some(dps)) = (&mut self.tpm, &self.plan.provisioning) else {
            return Ok(false);
        };
        if reply.status != 401 || at.token.is_some() {
            return Ok(false);
        }
        let Ok(challenge) = serde_json::from_slice::<TpmChallenge>(&reply.body) else {
            return Ok(false);
        };
        let key = at.open(&challenge.authentication_key)?;
        at.token = Some(hello::registration(
            &self.plan, dps, &self.name, &key, now.unix,
        ));
        Ok(true)
    }

    /// The assignment with the key that came for the TPM.
    pub(super) fn with_key(
        &self,
        to: Assignment,
        wrapped: Option<DeliveredKey>,
    ) -> Result<Assignment, Fault> {
        let Some(at) = &self.tpm else {
            return Ok(to);
        };
        let wrapped = wrapped.ok_or_else(|| {
            let sentence = "the DPS answered `assigned` without a key for the TPM";
            Fault::new(FaultKind::Protocol, sentence)
        })?;
        let key = Some(at.open(&wrapped.authentication_key)?);
        Ok(Assignment { key, ..to })
    }
}

#[cfg(test)]
mod tests;
