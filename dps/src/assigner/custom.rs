//! The hub that a webhook chooses: asks it, and again where it is overloaded.

use std::sync::Arc;

use azimuth_webhook::{Question, masked};
use azimuth_wire::enrollment::AllocationPolicy;
use azimuth_wire::registration::RegistrationState;
use bytes::Bytes;

use super::{Assigner, Job, failed, no_hub};
use crate::allocation::webhook::{self, Asking, Chosen, Custom, Failure, Verdict};
use crate::allocation::{Applicant, Candidate};
use crate::attempt::{Allocation, Attempt, Exclusion};
use crate::attestation::Attested;
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
        attempt: &mut Attempt,
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
        let url = &custom.definition.webhook_url;
        let shown = masked(url);
        attempt.allocation = Some(self.offered(job, &candidates, stays, &shown));
        let tpm = match &job.attested {
            Attested::Tpm(tpm) => Some(tpm.shown()),
            Attested::Credential(_) => None,
        };
        let asking = Asking {
            registration_id: &job.registration_id,
            before,
            payload: job.payload.as_deref(),
            certificate: job.certificate.as_ref(),
            tpm: tpm.as_ref(),
        };
        let body = Bytes::from(custom.request(asking, &linked));
        let mut again = 0;
        loop {
            let spent = self.clock.now().saturating_duration_since(job.begun);
            let patience = self.pace.assignment_timeout.saturating_sub(spent);
            let question = Question::json(url, body.clone());
            let verdict = match self.webhooks.ask(question, patience).await {
                Ok(answer) => webhook::verdict(answer.status, &answer.body, &linked),
                Err(why) => Verdict::Failed(Failure::Unreachable(why.to_string())),
            };
            let failure = match verdict {
                Verdict::Chosen(chosen) => {
                    if let Some(allocation) = &mut attempt.allocation {
                        allocation.choose(&chosen.hub);
                    }
                    return Ok(chosen);
                }
                Verdict::Failed(failure) => failure,
                Verdict::Again(status) => {
                    let failure = Failure::Status(status);
                    if let Some(wait) = webhook::wait(again, self.pace.webhook_retry) {
                        if again == 0 {
                            self.refuse(job, explain::webhook_failed(&shown, &failure, false));
                        }
                        self.waits(job, attempt);
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

    /// What the webhook has to choose from.
    fn offered(
        &self,
        job: &Job,
        linked: &[Candidate<'_>],
        stays: Option<&str>,
        webhook: &str,
    ) -> Allocation {
        let applicant = Applicant {
            registration_id: &job.key,
            region: "",
        };
        let mut offered = self.weighed(job, AllocationPolicy::Custom, applicant, linked, None);
        for hub in offered.hubs.iter_mut().filter(|_| stays.is_some()) {
            let present = stays.is_some_and(|stays| stays.eq_ignore_ascii_case(&hub.host));
            hub.excluded = (!present).then_some(Exclusion::MayNotLeave);
        }
        offered.webhook = Some(webhook.chars().take(200).collect());
        offered
    }
}

#[cfg(test)]
mod tests;
