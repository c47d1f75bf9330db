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
use azimuth_certs::Certificate;
use azimuth_clock::Clock;
use azimuth_storage::Store;
use azimuth_wire::api_version::ApiVersion;
use azimuth_wire::enrollment::AllocationPolicy;
use azimuth_wire::registration::{RegistrationState, RegistrationStatus};
use azimuth_wire::registry::Status;
use azimuth_wire::{DeviceId, RegistrationId};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::allocation::webhook::Chosen;
use crate::allocation::weighed::weigh;
use crate::allocation::{self, Applicant, Candidate, NoHub};
use crate::attempt::{Allocation, AtHub, Attempt, Proof, Waiting};
use crate::attestation::{Attested, HubCredential};
use crate::config::Pace;
use crate::delivery::Delivery;
use crate::enrollment::Terms;
use crate::error::{NO_HUB, SERVER_ERROR, UNAUTHORIZED};
use crate::explain;
use crate::linked_hub::{HubError, LinkedHub, Wanted};
use crate::linked_hubs::LinkedHubs;
use crate::operation::{OperationId, Operations};
use crate::records;
use crate::registration::{self, Outcome, Record};
use azimuth_webhook::Webhooks;

mod custom;
mod settle;
mod tpm;

/// A registration that was taken and has to be carried out.
#[derive(Debug)]
pub struct Job {
    /// The folded registration id.
    pub key: Box<str>,
    pub registration_id: RegistrationId,
    pub terms: Arc<Terms>,
    pub attested: Attested,
    pub proof: Arc<Proof>,
    pub caller: ApiVersion,
    pub remote: SocketAddr,
    /// For the webhook of custom allocation, as is the certificate.
    pub payload: Option<Box<RawValue>>,
    pub certificate: Option<Certificate>,
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
        let tpm_before = before.as_ref().and_then(|record| record.tpm.as_ref());
        let mut attempt = Attempt::begun(&job.proof, job.remote);
        let ended = self.outcome(job, state_before, tpm_before, &mut attempt);
        let (outcome, payload, tpm) = match ended.await {
            Ok(assigned) => assigned,
            // The device may still be in its hub, with the key it had.
            Err(outcome) => (outcome, None, tpm_before.cloned()),
        };
        attempt.milliseconds = self.milliseconds(job);
        let mut state = self.state(job, state_before, outcome);
        state.payload = payload;
        if state.status == RegistrationStatus::Assigned {
            state.x509 = x509(job);
        }
        let record = Record {
            state,
            group: job.terms.group.clone(),
            operation: job
                .operations
                .last()
                .map(ToString::to_string)
                .unwrap_or_default(),
            attempt: Some(Box::new(attempt)),
            tpm,
        };
        let changes = records::put(&job.key, before.as_ref(), &record);
        self.store.commit(changes).await?;
        Ok(record.for_device())
    }

    /// How a registration ends, what the webhook has for the device, and the key for its TPM.
    async fn outcome(
        &self,
        job: &Job,
        before: Option<&RegistrationState>,
        tpm_before: Option<&Delivery>,
        attempt: &mut Attempt,
    ) -> Result<(Outcome, Option<Value>, Option<Delivery>), Outcome> {
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
        let recorded = before.and_then(|state| state.device_id.as_ref());
        let decision = match recorded {
            Some(recorded) if *recorded != device => decision.of_another_device(),
            Some(_) | None => decision,
        };
        attempt.fate = Some(decision.fate(&chosen.hub, policy));
        attempt.hub = Some(AtHub::not_asked(decision.hub()));
        let (credential, tpm) = self.credential(job, tpm_before, decision, &device)?;
        let wanted = Wanted {
            id: &device,
            credential: &credential,
            iot_edge: job.terms.iot_edge,
            twin: None,
            status: Status::Enabled,
        };
        let initial_twin = chosen.initial_twin.as_ref();
        let settled = self.settle(job, &hubs, decision, wanted, initial_twin, attempt);
        let substatus = settled.await?;
        let assigned = Outcome::Assigned {
            hub: decision.hub().into(),
            device,
            substatus,
        };
        Ok((assigned, chosen.payload, tpm))
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
    match (&job.attested, &job.terms.group) {
        (Attested::Credential(HubCredential::Keys(_)) | Attested::Tpm(_), _) => None,
        (Attested::Credential(HubCredential::Certificate(_)), None) => Some(json!({})),
        (Attested::Credential(HubCredential::Certificate(_)), Some(group)) => {
            Some(json!({ "enrollmentGroupId": group }))
        }
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

#[cfg(test)]
mod tests;
