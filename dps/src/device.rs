//! Devices at the desk: who may connect, and what register and poll are answered, over MQTT here and
//! over HTTPS in [`https`].
//!
//! An MQTT connection is let in before its credential is judged, as Azure does it: a wrong token is
//! answered `401` to register, where every client looks for it. What may not enter: choosing hubs,
//! requests to hubs.

pub mod https;
mod path;
mod tpm;

use std::sync::Arc;
use std::time::{Duration, Instant};

use azimuth_broker::{
    Admission, Backend, CloseReason, Granted, Hello, Inward, Ledger, Line, Operation, Outbound,
    Publish, QoS, Refusal,
};
use azimuth_certs::{CaCertificates, Certificate};
use azimuth_clock::Clock;
use azimuth_storage::Store;
use azimuth_wire::IdScope;
use azimuth_wire::enrollment::{AttestationKind, TpmAttestation};
use azimuth_wire::registration::{RegisterRequest, RegistrationState};
use azimuth_wire::sas::{CLOCK_SKEW_SECONDS, SasToken};
use azimuth_wire::time::unix_seconds;
use azimuth_wire::topic::dps::{RESPONSES, RequestTopic, ResponseTopic};
use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use crate::answer;
use crate::assigner::Job;
use crate::attempt::{Attempt, Proof};
use crate::attestation::{self, Attested, Claim, HubCredential, symmetric, x509};
use crate::challenges::Challenges;
use crate::config::AssignedHubForm;
use crate::enrollment::{Enrollments, Entry};
use crate::error::{
    BAD_REQUEST, Error, OPERATION_NOT_FOUND, SERVER_ERROR, THROTTLED, UNAUTHORIZED,
};
use crate::explain;
use crate::linked_hubs::LinkedHubs;
use crate::operation::{OperationId, Operations, Standing};
use crate::quota::{Beyond, Meter};
use crate::records;
use crate::registrant::{Claims, Credential, Proven, Registrant, Transport};
use crate::registration::{self, Outcome, Record};

/// The desk devices come to.
pub struct Desk {
    pub id_scope: IdScope,
    pub enrollments: Arc<Enrollments>,
    pub ca_certificates: Arc<CaCertificates>,
    pub challenges: Challenges,
    pub operations: Arc<Operations>,
    pub store: Arc<dyn Store>,
    pub jobs: mpsc::Sender<Job>,
    pub ledger: Arc<Ledger>,
    pub clock: Arc<dyn Clock>,
    pub retry_after: u32,
    /// Of the last one of each registration, from its end on.
    pub operation_life: Duration,
    pub quotas: Option<Meter>,
    pub assigned_hub_form: AssignedHubForm,
    pub hubs: Arc<LinkedHubs>,
}

/// What a device is answered.
struct Reply {
    status: u16,
    retry_after: Option<u32>,
    body: Bytes,
}

/// An error to answer with, and why.
struct Refused {
    code: u32,
    message: &'static str,
    refusal: Refusal,
}

impl Backend for Desk {
    type Principal = Registrant;

    async fn authenticate(&self, hello: Hello) -> Result<Admission<Registrant>, Refusal> {
        let registrant = Registrant::introduced(hello, &self.id_scope)?;
        Ok(Admission {
            principal: registrant,
            expires: None,
            longest_silence: LONGEST_SILENCE,
            persistent_sessions: false,
        })
    }

    fn publish(&self, from: &Registrant, publish: Publish<'_>) -> Result<Inward, Refusal> {
        if publish.will {
            return Ok(Inward::Answer(None));
        }
        let request = RequestTopic::parse(publish.topic)
            .map_err(|error| explain::unknown_topic(error.to_string()))?;
        let (request_id, reply) = match request {
            RequestTopic::Register { request_id } => {
                (request_id, self.register(from, publish.payload))
            }
            RequestTopic::OperationStatus {
                request_id,
                operation_id,
            } => (request_id, self.poll(from, operation_id)),
        };
        let reply = reply.unwrap_or_else(|refused| self.refuse(from, refused));
        let topic = ResponseTopic {
            status: reply.status,
            request_id,
            retry_after: reply.retry_after,
        };
        Ok(Inward::Answer(Some(Outbound {
            topic: topic.to_string(),
            payload: reply.body,
            qos: QoS::AtLeastOnce,
        })))
    }

    fn subscribe(&self, who: &Registrant, filter: &str, wanted: QoS) -> Result<Granted, Refusal> {
        if filter == RESPONSES {
            return Ok(Granted::UpTo(wanted));
        }
        self.record(who, Operation::Subscribe, explain::unknown_filter(filter));
        Ok(Granted::Failure)
    }

    fn unsubscribe(&self, _: &Registrant, _: &str) -> Result<(), Refusal> {
        Ok(())
    }

    fn arrived(&self, _: &Registrant, _: &Line) {}

    fn left(&self, _: &Registrant, _: &CloseReason) {}
}

impl Desk {
    fn register(&self, who: &Registrant, body: &[u8]) -> Result<Reply, Refused> {
        let claims = &*who.0;
        let Sent { payload, tpm } = check_body(claims, body)?;
        if let Some(tpm) = tpm
            && let Some(challenge) = self.challenge(claims, &tpm)?
        {
            return Ok(challenge);
        }
        let proven = self.proven(claims)?;
        self.within(Meter::registration, claims)?;
        if !proven.terms.enabled {
            return Ok(self.disabled(who, &proven));
        }
        let now = self.clock.now();
        let key = claims.owner.as_str();
        let operation = OperationId::new(self.id_scope.as_str(), key, uuid::Uuid::new_v4());
        self.operations
            .begin(key, operation, now)
            .map_err(|_| busy())?;
        let job = Job {
            key: key.into(),
            registration_id: claims.registration_id.clone(),
            terms: proven.terms.clone(),
            attested: proven.attested.clone(),
            proof: proven.proof.clone(),
            caller: claims.api_version,
            remote: claims.peer.remote,
            payload: proven.terms.custom.as_ref().and(payload),
            certificate: proven.terms.custom.as_ref().and(claims.leaf().cloned()),
            operations: vec![operation],
            begun: now,
        };
        if self.jobs.try_send(job).is_err() {
            self.operations.withdraw(key, operation);
            return Err(busy());
        }
        Ok(Reply {
            status: 202,
            retry_after: Some(self.retry_after),
            body: answer::accepted(&operation.to_string()),
        })
    }

    fn poll(&self, who: &Registrant, operation: &str) -> Result<Reply, Refused> {
        let claims = &*who.0;
        self.proven(claims)?;
        self.within(Meter::poll, claims)?;
        let key = claims.owner.as_str();
        let standing = match operation.parse() {
            Ok(id) => self.operations.poll(key, id),
            Err(()) => Standing::Unknown,
        };
        match standing {
            Standing::Assigning => Ok(Reply {
                status: 202,
                retry_after: Some(self.retry_after),
                body: answer::assigning(operation, &claims.registration_id),
            }),
            Standing::Done(state) => Ok(self.done(claims, operation, &state)),
            Standing::Unknown => {
                let record =
                    records::registration(&*self.store, key).map_err(|error| store(&error))?;
                let asked = |record: &Record| {
                    record.operation == operation && !operation.is_empty() && self.is_young(record)
                };
                let record = record.filter(asked);
                let record = record.ok_or_else(|| Refused {
                    code: OPERATION_NOT_FOUND,
                    message: "Operation not found.",
                    refusal: explain::unknown_operation(operation),
                })?;
                Ok(self.done(claims, operation, &record.for_device()))
            }
        }
    }

    /// Whether the operation that ended last can still be polled.
    fn is_young(&self, record: &Record) -> bool {
        let ended = record.state.last_updated_date_time_utc;
        let oldest = self.clock.utc().checked_sub(self.operation_life);
        oldest.is_none_or(|oldest| ended.is_some_and(|ended| ended > oldest.into()))
    }

    /// Counts a call of a device that proved itself: nobody uses up another's quota.
    fn within(
        &self,
        count: fn(&Meter, &str, Instant) -> Result<(), Beyond>,
        claims: &Claims,
    ) -> Result<(), Refused> {
        let Some(meter) = &self.quotas else {
            return Ok(());
        };
        let counted = count(meter, claims.owner.as_str(), self.clock.now());
        counted.map_err(|beyond| throttled(explain::beyond(beyond)))
    }

    fn done(&self, claims: &Claims, operation: &str, state: &RegistrationState) -> Reply {
        Reply {
            status: 200,
            retry_after: None,
            body: answer::done(operation, &self.shown(claims, state)),
        }
    }

    /// A registration as this caller may see it.
    fn shown(&self, claims: &Claims, state: &RegistrationState) -> RegistrationState {
        let mut shown = registration::shown_to_device(state, claims.api_version);
        let by_address = match self.assigned_hub_form {
            AssignedHubForm::Auto => claims.peer.server_name.is_none(),
            AssignedHubForm::Name => false,
            AssignedHubForm::Address => true,
        };
        if by_address && let Some(hub) = &mut shown.assigned_hub {
            let address = self.hubs.advertised(hub);
            *hub = address.map_or_else(|| std::mem::take(hub), |address| address.to_string());
        }
        shown
    }

    /// A disabled enrollment answers at once, and leaves a record behind.
    fn disabled(&self, who: &Registrant, proven: &Proven) -> Reply {
        let (claims, terms) = (&*who.0, &*proven.terms);
        let group = terms.group.as_ref().map(|group| group.as_str());
        let refusal = explain::disabled(&claims.registration_id, group);
        self.record(who, Operation::Registration, refusal);
        let key = claims.owner.as_str();
        let before = records::versioned(&*self.store, key).ok().flatten();
        let state = registration::after(
            before.as_ref().map(|(record, _)| &record.state),
            &claims.registration_id,
            Outcome::Disabled,
            self.clock.utc(),
            &uuid::Uuid::new_v4().to_string(),
        );
        let record = Record {
            state,
            group: terms.group.clone(),
            operation: String::new(),
            attempt: Some(Box::new(Attempt::begun(&proven.proof, claims.peer.remote))),
            tpm: before.as_ref().and_then(|(record, _)| record.tpm.clone()),
        };
        // An assignment that ends meanwhile wins: its record names the hub that the device is in.
        let changes = records::put_unless_changed(key, before.as_ref(), &record);
        self.store.commit_lazily(changes);
        self.done(claims, "", &record.state)
    }

    /// Judges the credential, or remembers the verdict while nothing it rests on changed.
    fn proven(&self, claims: &Claims) -> Result<Arc<Proven>, Refused> {
        let now = unix_seconds(self.clock.utc());
        let epoch = self.enrollments.epoch() + self.ca_certificates.epoch();
        let mut last = claims.proven.lock();
        if let Some((then, proven)) = &*last
            && *then == epoch
            && now < proven.until
        {
            return Ok(proven.clone());
        }
        let proven = match &claims.credential {
            Credential::Nothing => return Err(unauthorized(explain::no_credentials())),
            Credential::Token(Ok(token)) => self.by_token(claims, token, now)?,
            Credential::Token(Err(error)) => {
                return Err(unauthorized(explain::malformed_token(*error)));
            }
            Credential::Certificate(chain) => self.by_certificate(claims, chain)?,
        };
        let proven = Arc::new(proven);
        *last = Some((epoch, proven.clone()));
        Ok(proven)
    }

    fn by_token(&self, claims: &Claims, token: &SasToken, now: u64) -> Result<Proven, Refused> {
        let claim = Claim {
            registration_id: &claims.registration_id,
            resource: &claims.resource,
            now,
        };
        let individual = self.enrollments.individual(&claims.registration_id);
        let by_keys = |keys| Attested::Credential(HubCredential::Keys(keys));
        let verdict = match individual.map_err(|error| store(&error))? {
            Some(enrollment)
                if enrollment.attestation.kind == AttestationKind::Tpm
                    && claims.transport == Transport::Https =>
            {
                let challenges = self.challenges.of(claims.owner.as_str(), self.clock.now());
                attestation::tpm::individual(token, claim, &enrollment, &challenges)
                    .map(|tpm| (enrollment.terms(), Attested::Tpm(tpm), Proof::Tpm))
            }
            Some(enrollment) => symmetric::individual(token, claim, &enrollment)
                .map(|(keys, proof)| (enrollment.terms(), by_keys(keys), Proof::Token(proof))),
            None => symmetric::group(token, claim, &self.enrollments.groups())
                .map(|(group, keys, proof)| (group.terms(), by_keys(keys), Proof::Token(proof))),
        };
        let rejected =
            |rejection| unauthorized(explain::rejected(&claims.registration_id, rejection));
        let (terms, attested, proof) = verdict.map_err(rejected)?;
        Ok(Proven {
            terms: Arc::new(terms),
            attested,
            proof: Arc::new(proof),
            until: token.expiry().saturating_add(CLOCK_SKEW_SECONDS),
        })
    }

    fn by_certificate(&self, claims: &Claims, chain: &[Certificate]) -> Result<Proven, Refused> {
        let shown = x509::Shown {
            registration_id: &claims.registration_id,
            chain,
            now: self.clock.utc(),
        };
        let cas = self.ca_certificates.live();
        let individual = self.enrollments.individual(&claims.registration_id);
        let verdict = match individual.map_err(|error| store(&error))? {
            Some(enrollment) => x509::individual(shown, &enrollment, &cas)
                .map(|accepted| (enrollment.terms(), accepted)),
            None => x509::group(shown, &self.enrollments.anchors(), &cas)
                .map(|(group, accepted)| (group.terms(), accepted)),
        };
        let (terms, accepted) = verdict.map_err(|rejection| Refused {
            code: UNAUTHORIZED,
            message: match &rejection {
                x509::Rejection::Chain(_) => "Invalid certificate.",
                _ => "Unauthorized",
            },
            refusal: explain::certificate_rejected(&claims.registration_id, rejection),
        })?;
        Ok(Proven {
            terms: Arc::new(terms),
            attested: Attested::Credential(HubCredential::Certificate(accepted.thumbprint)),
            proof: Arc::new(Proof::Certificate(accepted.proof)),
            // The last second belongs to a certificate's life.
            until: unix_seconds(accepted.until).saturating_add(1),
        })
    }

    fn refuse(&self, who: &Registrant, refused: Refused) -> Reply {
        let reply = self.failure(&refused, &uuid::Uuid::new_v4().to_string());
        self.record(who, Operation::Registration, refused.refusal);
        reply
    }

    fn failure(&self, refused: &Refused, tracking_id: &str) -> Reply {
        let throttled = refused.code == THROTTLED;
        Reply {
            status: u16::try_from(refused.code / 1000).expect("codes have six digits"),
            retry_after: throttled.then_some(self.retry_after),
            body: answer::error(refused.code, refused.message, tracking_id, self.clock.utc()),
        }
    }

    fn record(&self, who: &Registrant, operation: Operation, refusal: Refusal) {
        let claims = &*who.0;
        let (at, remote) = (self.clock.utc(), Some(claims.peer.remote));
        let who = Some(claims.registration_id.as_str());
        self.ledger.record(at, operation, who, remote, refusal);
    }
}

/// What the device sends along.
struct Sent {
    payload: Option<Box<RawValue>>,
    tpm: Option<TpmAttestation>,
}

/// Reads the body of register.
fn check_body(claims: &Claims, body: &[u8]) -> Result<Sent, Refused> {
    if body.len() > MOST_BODY_BYTES {
        return Err(bad(explain::body_too_large(body.len(), MOST_BODY_BYTES)));
    }
    let request = RegisterRequest::parse(body).map_err(|error| bad(explain::bad_body(&error)))?;
    if let Some(given) = &request.registration_id
        && !given.eq_ignore_ascii_case(claims.registration_id.as_str())
    {
        return Err(unauthorized(explain::other_registration(
            given,
            &claims.registration_id,
        )));
    }
    if request.csr.is_some() || request.client_certificate_csr.is_some() {
        return Err(bad(explain::csr_not_simulated()));
    }
    Ok(Sent {
        payload: request.payload.map(ToOwned::to_owned),
        tpm: request.tpm,
    })
}

fn bad(refusal: Refusal) -> Refused {
    Refused {
        code: BAD_REQUEST,
        message: "Bad Request",
        refusal,
    }
}

fn unauthorized(refusal: Refusal) -> Refused {
    Refused {
        code: UNAUTHORIZED,
        message: "Unauthorized",
        refusal,
    }
}

fn busy() -> Refused {
    throttled(explain::busy())
}

fn throttled(refusal: Refusal) -> Refused {
    Refused {
        code: THROTTLED,
        message: "Operations are being throttled for this tenant.",
        refusal,
    }
}

fn store(error: &Error) -> Refused {
    Refused {
        code: SERVER_ERROR,
        message: "Internal Server Error",
        refusal: explain::store_failed(error),
    }
}

/// Azure: the size of a message to the service.
const MOST_BODY_BYTES: usize = 96 * 1024;
/// Azure's front end allows a keep-alive of 1740 s at most; also for clients that announce 0.
const LONGEST_SILENCE: Duration = Duration::from_secs(1740);

#[cfg(test)]
mod tests;
