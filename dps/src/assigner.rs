//! Carries registrations out: chooses a hub, writes the device into it, keeps the record.
//!
//! One registration of a device at a time; a later one waits and takes the earlier ones that wait
//! with it. A hub that is slow or down holds up its own devices only. What may not enter: topics,
//! credentials of devices.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use azimuth_broker::{Ledger, Operation, Refusal, Regions};
use azimuth_clock::Clock;
use azimuth_storage::Store;
use azimuth_wire::api_version::ApiVersion;
use azimuth_wire::enrollment::AllocationPolicy;
use azimuth_wire::registration::{RegistrationState, RegistrationStatus};
use azimuth_wire::{DeviceId, RegistrationId};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::allocation::webhook::Chosen;
use crate::allocation::weighed::weigh;
use crate::allocation::{self, Applicant, Candidate, NoHub};
use crate::attempt::{Allocation, AtHub, Attempt, Fate, HubAnswer, Left, Proof, Waiting};
use crate::attestation::HubCredential;
use crate::config::Pace;
use crate::enrollment::Terms;
use crate::error::{NO_HUB, SERVER_ERROR, UNAUTHORIZED};
use crate::explain;
use crate::linked_hub::{HubError, LinkedHub, Wanted};
use crate::linked_hubs::{LinkedHubs, find};
use crate::operation::{OperationId, Operations};
use crate::records;
use crate::registration::{self, Decision, Outcome, Record};
use crate::webhooks::Webhooks;

mod custom;

/// A registration that was taken and has to be carried out.
#[derive(Debug)]
pub struct Job {
    /// The folded registration id.
    pub key: Box<str>,
    pub registration_id: RegistrationId,
    pub terms: Arc<Terms>,
    pub credential: HubCredential,
    pub proof: Arc<Proof>,
    pub caller: ApiVersion,
    pub remote: SocketAddr,
    /// For the webhook of custom allocation.
    pub payload: Option<Box<RawValue>>,
    /// What ends with it, oldest first.
    pub operations: Vec<OperationId>,
    pub begun: Instant,
}

/// What carrying out needs.
pub struct Assigner {
    pub store: Arc<dyn Store>,
    pub operations: Arc<Operations>,
    pub hubs: Arc<LinkedHubs>,
    pub webhooks: Webhooks,
    pub regions: Regions,
    pub allocation: AllocationPolicy,
    pub pace: Pace,
    pub ledger: Arc<Ledger>,
    pub waiting: Arc<Waiting>,
    pub clock: Arc<dyn Clock>,
}

impl Assigner {
    /// Registrations that may be under way at once, most of them waiting for their hub.
    pub const AT_ONCE: usize = 50_000;
    /// Registrations that may wait to be begun; beyond it devices are asked to come back.
    pub const WAITING: usize = 50_000;

    /// Takes jobs until told to stop; what is under way is then dropped, and devices register again.
    pub async fn run(self: Arc<Self>, mut jobs: mpsc::Receiver<Job>, stop: CancellationToken) {
        let mut under_way = JoinSet::new();
        let mut keys = HashMap::new();
        // The key of each device that has a job under way, and the one that waits behind it.
        let mut busy: HashMap<Box<str>, Option<Job>> = HashMap::new();
        let mut sweep = tokio::time::interval(Duration::from_secs(10));
        loop {
            let next = tokio::select! {
                () = stop.cancelled() => return,
                _ = sweep.tick() => {
                    self.operations.sweep(self.clock.now());
                    None
                }
                Some(ended) = under_way.join_next_with_id(), if !under_way.is_empty() => {
                    let id = ended.map_or_else(|error: tokio::task::JoinError| error.id(), |(id, ())| id);
                    let key: Option<Box<str>> = keys.remove(&id);
                    key.and_then(|key| busy.remove(&key)).flatten()
                }
                Some(job) = jobs.recv(), if under_way.len() < Self::AT_ONCE => match busy.get_mut(&job.key) {
                    Some(waiting) => {
                        *waiting = Some(superseding(waiting.take(), job));
                        None
                    }
                    None => Some(job),
                },
            };
            let Some(job) = next else { continue };
            let key = job.key.clone();
            busy.insert(key.clone(), None);
            let assigner = self.clone();
            let task = under_way.spawn(async move { assigner.carry_out(job).await });
            keys.insert(task.id(), key);
        }
    }

    /// One registration from beginning to end. The record is stored before a poll can see it.
    pub async fn carry_out(&self, job: Job) {
        let result = match self.registered(&job).await {
            Ok(state) => state,
            Err(error) => {
                self.refuse(&job, explain::store_failed(&error));
                self.state(
                    &job,
                    None,
                    failed(SERVER_ERROR, "The registration could not be stored."),
                )
            }
        };
        self.waiting.is_over(&job.key);
        let now = self.clock.now();
        self.operations
            .finish(&job.key, &job.operations, &Arc::new(result), now);
    }

    async fn registered(&self, job: &Job) -> Result<RegistrationState, crate::Error> {
        let before = records::registration(&*self.store, &job.key)?;
        let state_before = before.as_ref().map(|record| &record.state);
        let mut attempt = Attempt::begun(&job.proof, job.remote);
        let (outcome, payload) = match self.outcome(job, state_before, &mut attempt).await {
            Ok(assigned) => assigned,
            Err(outcome) => (outcome, None),
        };
        attempt.milliseconds = self.milliseconds(job);
        let mut state = self.state(job, state_before, outcome);
        state.payload = payload;
        if state.status == RegistrationStatus::Assigned {
            state.x509 = x509(job);
        }
        let record = Record {
            state: state.clone(),
            group: job.terms.group.clone(),
            operation: job
                .operations
                .last()
                .map(ToString::to_string)
                .unwrap_or_default(),
            attempt: Some(Box::new(attempt)),
        };
        let changes = records::put(&job.key, before.as_ref(), &record);
        self.store.commit(changes).await?;
        Ok(state)
    }

    /// How a registration ends, and what the webhook has for the device.
    async fn outcome(
        &self,
        job: &Job,
        before: Option<&RegistrationState>,
        attempt: &mut Attempt,
    ) -> Result<(Outcome, Option<Value>), Outcome> {
        // One set for the whole registration: what is linked or unlinked meanwhile is for the next.
        let hubs = self.hubs.live();
        let device = device_id(job)?;
        let present = before.and_then(|state| state.assigned_hub.as_deref());
        let chosen = match &job.terms.custom {
            Some(custom) => {
                let stays = registration::stays(job.terms.reprovision, job.caller);
                let stays = present.filter(|_| stays);
                self.custom(job, custom, before, &hubs, stays, attempt)
                    .await?
            }
            None => self.choose(job, &hubs, attempt)?,
        };
        let policy = job.terms.reprovision;
        let decision = registration::decide(present, &chosen.hub, policy, job.caller);
        attempt.fate = Some(decision.fate(&chosen.hub, policy));
        attempt.hub = Some(AtHub::not_asked(decision.hub()));
        // A hub that is linked no more is only named, never asked.
        if let Some(hub) = find(&hubs, decision.hub()) {
            self.write(job, hub, decision, &device, attempt).await?;
        }
        if let Decision::Move { from, .. } = decision {
            let old = before.and_then(|state| state.device_id.as_ref());
            let became = match find(&hubs, from) {
                Some(hub) => self.leave(job, hub, old.unwrap_or(&device)).await,
                None => Left::NotLinked,
            };
            if let Some(Fate::Moved { left, .. }) = &mut attempt.fate {
                *left = Some(became);
            }
        }
        let assigned = Outcome::Assigned {
            hub: decision.hub().into(),
            device,
            substatus: decision.substatus(),
        };
        Ok((assigned, chosen.payload))
    }

    fn choose(
        &self,
        job: &Job,
        hubs: &[Arc<LinkedHub>],
        attempt: &mut Attempt,
    ) -> Result<Chosen, Outcome> {
        let linked: Vec<_> = hubs.iter().map(|hub| hub.candidate()).collect();
        let applicant = Applicant {
            registration_id: &job.key,
            region: self.regions.of(job.remote.ip()),
        };
        let policy = job.terms.allocation.unwrap_or(self.allocation);
        let chosen = allocation::choose(policy, applicant, &linked, &job.terms.hubs, &self.regions);
        attempt.allocation = Some(self.weighed(job, policy, applicant, &linked, chosen.ok()));
        let hub = chosen.map_err(|why| {
            self.refuse(job, explain::no_hub(&job.registration_id, why));
            no_hub(why)
        })?;
        Ok(Chosen {
            hub: hub.host.into(),
            initial_twin: None,
            payload: None,
        })
    }

    async fn write(
        &self,
        job: &Job,
        hub: &LinkedHub,
        decision: Decision<'_>,
        id: &DeviceId,
        attempt: &mut Attempt,
    ) -> Result<(), Outcome> {
        let wanted = Wanted {
            id,
            credential: &job.credential,
            iot_edge: job.terms.iot_edge,
        };
        let mut wait = self.pace.hub_retry;
        let mut tries = 0;
        loop {
            let asking = async {
                match decision {
                    Decision::Keep { .. } => hub.keep(wanted).await,
                    Decision::Create { .. } | Decision::Move { .. } => hub.create(wanted).await,
                }
            };
            // Many others may wait for the same hub.
            let spent = self.clock.now().saturating_duration_since(job.begun);
            let patience = self.pace.assignment_timeout.saturating_sub(spent);
            let written = tokio::time::timeout(patience, asking).await;
            let written = written.unwrap_or_else(|_| Err(HubError::Unreachable(TOO_LATE.into())));
            tries += 1;
            attempt.hub = Some(AtHub {
                host: hub.host().into(),
                answer: HubAnswer::of(&written),
                tries,
            });
            let Err(error) = written else { return Ok(()) };
            let spent = self.clock.now().saturating_duration_since(job.begun);
            let again = matches!(error, HubError::Unreachable(_))
                && spent + wait < self.pace.assignment_timeout;
            if !again {
                self.refuse(job, explain::hub_failed(hub.host(), &error, true));
                return Err(failure(hub.host(), error));
            }
            if tries == 1 {
                self.refuse(job, explain::hub_failed(hub.host(), &error, false));
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
        self.refuse(job, explain::hub_failed(hub.host(), &error, true));
        tracing::warn!(
            registration.id = %job.registration_id, hub = hub.host(),
            "a device that moved could not be removed from its old hub: {error}"
        );
        Left::Failed(error.to_string())
    }

    /// What can be told of a registration that is not over yet.
    fn waits(&self, job: &Job, attempt: &mut Attempt) {
        attempt.milliseconds = self.milliseconds(job);
        self.waiting.is(&job.key, job.terms.group.as_ref(), attempt);
    }

    fn milliseconds(&self, job: &Job) -> u64 {
        let spent = self.clock.now().saturating_duration_since(job.begun);
        u64::try_from(spent.as_millis()).unwrap_or(u64::MAX)
    }

    fn weighed(
        &self,
        job: &Job,
        policy: AllocationPolicy,
        applicant: Applicant<'_>,
        linked: &[Candidate<'_>],
        chosen: Option<Candidate<'_>>,
    ) -> Allocation {
        let chosen = chosen.map(|hub| hub.host);
        let named = &job.terms.hubs;
        let (hubs, more) = weigh(policy, applicant, linked, named, &self.regions, chosen);
        let by_region = policy == AllocationPolicy::GeoLatency;
        Allocation {
            policy,
            of_service: job.terms.allocation.is_none(),
            region: by_region.then(|| applicant.region.to_owned()),
            webhook: None,
            hubs,
            more,
            chosen: chosen.map(ToOwned::to_owned),
        }
    }

    fn state(
        &self,
        job: &Job,
        before: Option<&RegistrationState>,
        outcome: Outcome,
    ) -> RegistrationState {
        let guid = uuid::Uuid::new_v4().to_string();
        registration::after(
            before,
            &job.registration_id,
            outcome,
            self.clock.utc(),
            &guid,
        )
    }

    fn refuse(&self, job: &Job, refusal: Refusal) {
        let who = Some(job.registration_id.as_str());
        let at = self.clock.utc();
        self.ledger
            .record(at, Operation::Registration, who, Some(job.remote), refusal);
    }
}

/// The newer registration, with the operations of the one that waited.
fn superseding(waiting: Option<Job>, mut job: Job) -> Job {
    let Some(waiting) = waiting else { return job };
    let mut operations = waiting.operations;
    operations.append(&mut job.operations);
    let surplus = operations.len().saturating_sub(Operations::EACH);
    operations.drain(..surplus);
    Job { operations, ..job }
}

/// What the state of a device with a certificate says of it.
fn x509(job: &Job) -> Option<serde_json::Value> {
    match (&job.credential, &job.terms.group) {
        (HubCredential::Keys(_), _) => None,
        (HubCredential::Certificate(_), None) => Some(json!({})),
        (HubCredential::Certificate(_), Some(group)) => Some(json!({ "enrollmentGroupId": group })),
    }
}

fn device_id(job: &Job) -> Result<DeviceId, Outcome> {
    if let Some(id) = &job.terms.device_id {
        return Ok(id.clone());
    }
    let id = job.registration_id.as_str().parse();
    id.map_err(|_| failed(400_004, "The registration id is not a device id."))
}

fn failed(code: u32, message: &str) -> Outcome {
    Outcome::Failed {
        code,
        message: message.into(),
    }
}

fn no_hub(why: NoHub) -> Outcome {
    match why {
        NoHub::NoneLinked
        | NoHub::NoneOfTheNamed
        | NoHub::AllExcluded
        | NoHub::NotOne
        | NoHub::Custom => failed(NO_HUB, "IoTHub not found."),
    }
}

/// What the device is told: the hub's own words inside the message, as Azure nests them.
fn failure(hub: &str, error: HubError) -> Outcome {
    match error {
        HubError::Unreachable(cause) => failed(
            SERVER_ERROR,
            &format!("The IoT hub {hub} cannot be reached: {cause}"),
        ),
        HubError::Refused { status, body } => {
            let code = if status == 401 {
                UNAUTHORIZED
            } else {
                u32::from(status) * 1000
            };
            failed(code, &body.chars().take(2000).collect::<String>())
        }
    }
}

const TOO_LATE: &str = "it did not answer in time";

#[cfg(test)]
mod tests;
