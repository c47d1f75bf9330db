//! The hub that a webhook chooses: asks it, and again where it is overloaded.

use std::sync::Arc;

use azimuth_wire::registration::RegistrationState;
use bytes::Bytes;

use super::{Assigner, Job, failed, no_hub};
use crate::allocation::webhook::{self, Asking, Chosen, Custom, Failure, Verdict};
use crate::attestation::Proof;
use crate::explain;
use crate::linked_hub::LinkedHub;
use crate::registration::Outcome;

impl Assigner {
    /// `stays` is the hub that the device may not leave; then it is the only one to choose.
    pub(super) async fn custom(
        &self,
        job: &Job,
        custom: &Custom,
        before: Option<&RegistrationState>,
        hubs: &[Arc<LinkedHub>],
        stays: Option<&str>,
    ) -> Result<Chosen, Outcome> {
        let candidates: Vec<_> = hubs.iter().map(|hub| hub.candidate()).collect();
        let linked = match stays {
            Some(hub) => Ok(vec![hub.to_owned()]),
            None => webhook::to_choose_from(&candidates, &job.terms.hubs),
        };
        let linked = linked.map_err(|why| {
            self.refuse(job, explain::no_hub(&job.registration_id, why));
            no_hub(why)
        })?;
        let tpm = match &job.proof {
            Proof::Tpm(tpm) => Some(tpm.shown()),
            Proof::Credential(_) => None,
        };
        let asking = Asking {
            registration_id: &job.registration_id,
            before,
            payload: job.payload.as_deref(),
            tpm: tpm.as_ref(),
        };
        let body = Bytes::from(custom.request(asking, &linked));
        let url = &custom.definition.webhook_url;
        let shown = webhook::masked(url);
        let mut again = 0;
        loop {
            let spent = self.clock.now().saturating_duration_since(job.begun);
            let patience = self.pace.assignment_timeout.saturating_sub(spent);
            let answer = self.webhooks.ask(url, body.clone(), patience).await;
            let verdict = match &answer {
                Ok((status, answer)) => webhook::verdict(*status, answer, &linked),
                Err(why) => Verdict::Failed(Failure::Unreachable(why.clone())),
            };
            let failure = match verdict {
                Verdict::Chosen(chosen) => return Ok(chosen),
                Verdict::Failed(failure) => failure,
                Verdict::Again(status) => {
                    let failure = Failure::Status(status);
                    if let Some(wait) = webhook::wait(again, self.pace.webhook_retry) {
                        if again == 0 {
                            self.refuse(job, explain::webhook_failed(&shown, &failure, false));
                        }
                        tokio::time::sleep(wait).await;
                        again += 1;
                        continue;
                    }
                    failure
                }
            };
            self.refuse(job, explain::webhook_failed(&shown, &failure, true));
            return Err(failed(failure.code(), &failure.message()));
        }
    }
}

#[cfg(test)]
mod tests;
