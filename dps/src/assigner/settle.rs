//! Puts a device into the hub that was decided on, with the twin that belongs there.
//!
//! ```text
//!  create   one request: the identity, and the initial twin with it
//!  keep     the credential; the twin is nobody's business
//!  move     read the twin in the old hub ─► write both in the new one ─► remove the device from the old one
//! ```
//!
//! Cut off between two of these, the device registers again and all of it is done again: until its new
//! identity is written the old one has the data, and a device that the old hub has no more was written
//! already. What may not enter: which hub.

use std::sync::Arc;

use azimuth_wire::DeviceId;
use azimuth_wire::registration::Substatus;
use azimuth_wire::twin;
use serde_json::Value;

use super::{Assigner, Job, failed, failure};
use crate::attempt::{AtHub, Attempt, Fate, HubAnswer, Left, Written};
use crate::explain::{self, HubStep};
use crate::linked_hub::{Carried, HubError, LinkedHub, Wanted};
use crate::linked_hubs::find;
use crate::registration::{Data, Decision, Outcome};

impl Assigner {
    /// Hands out what became of the device's data. `initial_twin` is the webhook's, in place of the
    /// enrollment's; `wanted` has none yet.
    pub(super) async fn settle(
        &self,
        job: &Job,
        hubs: &[Arc<LinkedHub>],
        decision: Decision<'_>,
        wanted: Wanted<'_>,
        initial_twin: Option<&Value>,
        attempt: &mut Attempt,
    ) -> Result<Substatus, Outcome> {
        let initial = self.initial_twin(job, decision, initial_twin)?;
        // A hub that is linked no more is only named, never asked.
        let Some(hub) = find(hubs, decision.hub()) else {
            return Ok(decision.substatus());
        };
        let wanted = Wanted {
            twin: initial.as_ref(),
            ..wanted
        };
        match decision {
            Decision::Create { .. } => {
                let create = || hub.create(wanted);
                self.write(job, hub, attempt, create).await?;
                Ok(decision.substatus())
            }
            Decision::Keep { .. } => {
                self.write(job, hub, attempt, || hub.keep(wanted)).await?;
                Ok(decision.substatus())
            }
            Decision::Move { from, data, .. } => {
                let old = find(hubs, from);
                let moved = self.move_in(job, hub, old, data, wanted, attempt);
                let substatus = moved.await?;
                let became = match old {
                    Some(old) => self.leave(job, old, wanted.id).await,
                    None => Left::NotLinked,
                };
                if let Some(Fate::Moved { left, .. }) = &mut attempt.fate {
                    *left = Some(became);
                }
                Ok(substatus)
            }
        }
    }

    /// Data is only called migrated where it was.
    async fn move_in(
        &self,
        job: &Job,
        hub: &LinkedHub,
        old: Option<&Arc<LinkedHub>>,
        data: Data,
        wanted: Wanted<'_>,
        attempt: &mut Attempt,
    ) -> Result<Substatus, Outcome> {
        if data == Data::Reset {
            let replace = || hub.replace(wanted);
            self.write(job, hub, attempt, replace).await?;
            return Ok(Substatus::DeviceDataReset);
        }
        let carried = match old {
            Some(old) => {
                let read = || old.twin(wanted.id);
                let asked = self.insist(job, old, HubStep::ReadTwin, attempt, read);
                asked.await?.0
            }
            None => None,
        };
        if let Some(Carried { twin, status }) = &carried {
            let wanted = Wanted {
                twin: Some(twin),
                status: *status,
                ..wanted
            };
            let replace = || hub.replace(wanted);
            self.write(job, hub, attempt, replace).await?;
            return Ok(Substatus::DeviceDataMigrated);
        }
        // It is there when a move was cut off after it had been written.
        match self.write(job, hub, attempt, || hub.adopt(wanted)).await? {
            Written::Updated | Written::Unchanged => Ok(Substatus::DeviceDataMigrated),
            Written::Made => Ok(Substatus::DeviceDataReset),
        }
    }

    fn initial_twin(
        &self,
        job: &Job,
        decision: Decision<'_>,
        webhook: Option<&Value>,
    ) -> Result<Option<Value>, Outcome> {
        let given = webhook.or(job.terms.initial_twin.as_ref());
        match (given.map_or(Ok(None), twin::initial), decision) {
            (Ok(initial), _) => Ok(initial),
            // Nobody needs it.
            (Err(_), Decision::Keep { .. }) => Ok(None),
            (Err(why), _) => {
                let whose = webhook.map_or("enrollment", |_| "webhook");
                self.refuse(job, explain::initial_twin(whose, &why));
                Err(failed(
                    400_004,
                    &format!("The initial twin of the {whose} is not valid: {why}"),
                ))
            }
        }
    }

    /// Asks a hub to write the device.
    async fn write<F: Future<Output = Result<Written, HubError>>>(
        &self,
        job: &Job,
        hub: &LinkedHub,
        attempt: &mut Attempt,
        ask: impl Fn() -> F,
    ) -> Result<Written, Outcome> {
        let asked = self.insist(job, hub, HubStep::Write, attempt, ask);
        let (written, tries) = asked.await?;
        attempt.hub = Some(AtHub {
            host: hub.host().into(),
            answer: HubAnswer::written(written),
            tries,
        });
        Ok(written)
    }

    /// Asks a hub until it answers or the registration has taken long enough. How often it was asked.
    async fn insist<T, F: Future<Output = Result<T, HubError>>>(
        &self,
        job: &Job,
        hub: &LinkedHub,
        step: HubStep,
        attempt: &mut Attempt,
        ask: impl Fn() -> F,
    ) -> Result<(T, u32), Outcome> {
        let mut wait = self.pace.hub_retry;
        let mut tries = 0;
        loop {
            // Many others may wait for the same hub.
            let spent = self.clock.now().saturating_duration_since(job.begun);
            let patience = self.pace.assignment_timeout.saturating_sub(spent);
            let answer = tokio::time::timeout(patience, ask()).await;
            tries += 1;
            let error = match answer {
                Ok(Ok(done)) => return Ok((done, tries)),
                Ok(Err(error)) => error,
                Err(_) => HubError::Unreachable(TOO_LATE.into()),
            };
            attempt.hub = Some(AtHub {
                host: hub.host().into(),
                answer: HubAnswer::of(&error),
                tries,
            });
            let spent = self.clock.now().saturating_duration_since(job.begun);
            let again = matches!(error, HubError::Unreachable(_))
                && spent + wait < self.pace.assignment_timeout;
            if !again {
                self.refuse(job, explain::hub_failed(hub.host(), step, &error, true));
                return Err(failure(hub.host(), error));
            }
            if tries == 1 {
                self.refuse(job, explain::hub_failed(hub.host(), step, &error, false));
            }
            self.waits(job, attempt);
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(self.pace.hub_retry * 30);
        }
    }

    /// Removes a device that moved from its old hub. One that cannot be reached keeps it: the
    /// device has its new hub and must not wait.
    async fn leave(&self, job: &Job, hub: &LinkedHub, id: &DeviceId) -> Left {
        let Err(error) = hub.remove(id).await else {
            return Left::Removed;
        };
        let step = HubStep::Leave;
        self.refuse(job, explain::hub_failed(hub.host(), step, &error, true));
        tracing::warn!(
            registration.id = %job.registration_id, hub = hub.host(),
            "a device that moved could not be removed from its old hub: {error}"
        );
        Left::Failed(error.to_string())
    }
}

const TOO_LATE: &str = "it did not answer in time";

#[cfg(test)]
mod tests;
