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
use azimuth_wire::registry::Status;
use azimuth_wire::twin;
use serde_json::Value;

use super::{Assigner, Job, failed, failure};
use crate::explain::{self, HubStep};
use crate::linked_hub::{Carried, HubError, LinkedHub, Wanted};
use crate::linked_hubs::find;
use crate::registration::{Data, Decision, Outcome};

impl Assigner {
    /// Hands out what became of the device's data. `initial_twin` is the webhook's, in place of the
    /// enrollment's.
    pub(super) async fn settle(
        &self,
        job: &Job,
        hubs: &[Arc<LinkedHub>],
        decision: Decision<'_>,
        device: &DeviceId,
        initial_twin: Option<&Value>,
    ) -> Result<Substatus, Outcome> {
        let initial = self.initial_twin(job, decision, initial_twin)?;
        // A hub that is linked no more is only named, never asked.
        let Some(hub) = find(hubs, decision.hub()) else {
            return Ok(decision.substatus());
        };
        let wanted = Wanted {
            id: device,
            credential: &job.credential,
            iot_edge: job.terms.iot_edge,
            twin: initial.as_ref(),
            status: Status::Enabled,
        };
        let write = HubStep::Write;
        match decision {
            Decision::Create { .. } => {
                self.insist(job, hub, write, || hub.create(wanted)).await?;
                Ok(decision.substatus())
            }
            Decision::Keep { .. } => {
                self.insist(job, hub, write, || hub.keep(wanted)).await?;
                Ok(decision.substatus())
            }
            Decision::Move { from, data, .. } => {
                let old = find(hubs, from);
                let substatus = self.move_in(job, hub, old, data, wanted).await?;
                if let Some(old) = old {
                    self.leave(job, old, device).await;
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
    ) -> Result<Substatus, Outcome> {
        let write = HubStep::Write;
        if data == Data::Reset {
            self.insist(job, hub, write, || hub.replace(wanted)).await?;
            return Ok(Substatus::DeviceDataReset);
        }
        let carried = match old {
            Some(old) => {
                let read = HubStep::ReadTwin;
                self.insist(job, old, read, || old.twin(wanted.id)).await?
            }
            None => None,
        };
        if let Some(Carried { twin, status }) = &carried {
            let wanted = Wanted {
                twin: Some(twin),
                status: *status,
                ..wanted
            };
            self.insist(job, hub, write, || hub.replace(wanted)).await?;
            return Ok(Substatus::DeviceDataMigrated);
        }
        let was_there = self.insist(job, hub, write, || hub.adopt(wanted)).await?;
        match was_there {
            true => Ok(Substatus::DeviceDataMigrated),
            false => Ok(Substatus::DeviceDataReset),
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

    /// Asks a hub until it answers or the registration has taken long enough.
    async fn insist<T, F: Future<Output = Result<T, HubError>>>(
        &self,
        job: &Job,
        hub: &LinkedHub,
        step: HubStep,
        attempt: impl Fn() -> F,
    ) -> Result<T, Outcome> {
        let mut wait = self.pace.hub_retry;
        let mut told = false;
        loop {
            let error = match attempt().await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let spent = self.clock.now().saturating_duration_since(job.begun);
            let again = matches!(error, HubError::Unreachable(_))
                && spent + wait < self.pace.assignment_timeout;
            if !again {
                self.refuse(job, explain::hub_failed(hub.host(), step, &error, true));
                return Err(failure(hub.host(), error));
            }
            if !told {
                self.refuse(job, explain::hub_failed(hub.host(), step, &error, false));
                told = true;
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(self.pace.hub_retry * 30);
        }
    }

    /// Removes a device that moved from its old hub. One that cannot be reached keeps it: the
    /// device has its new hub and must not wait.
    async fn leave(&self, job: &Job, hub: &LinkedHub, id: &DeviceId) {
        if let Err(error) = hub.remove(id).await {
            let step = HubStep::Leave;
            self.refuse(job, explain::hub_failed(hub.host(), step, &error, true));
            tracing::warn!(
                registration.id = %job.registration_id, hub = hub.host(),
                "a device that moved could not be removed from its old hub: {error}"
            );
        }
    }
}

#[cfg(test)]
mod tests;
