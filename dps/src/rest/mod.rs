//! The service REST API: enrollments, groups, registrations, and, of this simulator's
//! own, linked hubs and the record of refusals.
//!
//! Handlers translate; the rooms behind decide. What may not enter: rules about enrollments.

mod auth;
mod bulk;
mod certificates;
mod linked_hubs;
mod paging;
mod paths;
mod query;
mod refusals;
mod why;

use std::str::FromStr;
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, IF_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use azimuth_broker::{Answer, Ledger, Operation, Peer, Refusal, Regions};
use azimuth_certs::CaCertificates;
use azimuth_clock::Clock;
use azimuth_storage::{Expect, Store};
use azimuth_wire::api_version::ApiVersion;
use azimuth_wire::enrollment::{
    AllocationPolicy, EnrollmentGroup, IndividualEnrollment, ReprovisionPolicy,
};
use azimuth_wire::etag::IfMatch;
use azimuth_wire::policy::DpsRights;
use azimuth_wire::registration::{ErrorBody, RegistrationState};
use azimuth_wire::registration_id::InvalidRegistrationId;
use azimuth_wire::time::unix_seconds;
use azimuth_wire::{EnrollmentGroupId, RegistrationId};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::attempt::Waiting;
use crate::enrollment::{Enrollments, Entry, x509};
use crate::error::Error;
use crate::linked_hubs::LinkedHubs;
use crate::operation::Operations;
use crate::policies::Policies;
use crate::records;
use paths::Path;

/// What the routes need.
pub struct Office {
    pub enrollments: Arc<Enrollments>,
    pub ca_certificates: Arc<CaCertificates>,
    pub hubs: Arc<LinkedHubs>,
    pub store: Arc<dyn Store>,
    pub operations: Arc<Operations>,
    pub waiting: Arc<Waiting>,
    pub regions: Regions,
    /// Of the service.
    pub allocation: AllocationPolicy,
    pub policies: Policies,
    pub host_names: Vec<String>,
    pub ledger: Arc<Ledger>,
    pub clock: Arc<dyn Clock>,
    pub stop: CancellationToken,
}

/// All routes. Names in paths compare without regard to case, so they are matched by hand.
pub fn router(office: Arc<Office>) -> axum::Router {
    axum::Router::new().fallback(answer).with_state(office)
}

async fn answer(State(office): State<Arc<Office>>, request: Request) -> Response {
    let peer = request.extensions().get::<Arc<Peer>>().cloned();
    let mut response = match office.route(request).await {
        Ok(response) => response,
        Err(refused) => office.refuse(peer.as_deref(), refused),
    };
    let id = uuid::Uuid::new_v4()
        .to_string()
        .parse()
        .expect("a GUID is a header value");
    response.headers_mut().insert("x-ms-request-id", id);
    response
}

/// An error, with a sentence of its own where there is more to say.
struct Refused {
    error: Error,
    /// The policy, where its token was good.
    who: Option<String>,
    refusal: Option<Box<Refusal>>,
}

impl<E: Into<Error>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self {
            error: error.into(),
            who: None,
            refusal: None,
        }
    }
}

impl Office {
    async fn route(&self, request: Request) -> Result<Response, Refused> {
        let (parts, body) = request.into_parts();
        let (method, uri, headers) = (&parts.method, &parts.uri, &parts.headers);
        let path = Path::parse(method, uri.path());
        let who = self.authorize(method, path.as_ref(), uri.path(), uri.host(), headers)?;
        let served = self.serve(who, path, &parts, body).await;
        served.map_err(|refused| Refused {
            who: Some(who.into()),
            ..refused
        })
    }

    async fn serve(
        &self,
        who: &str,
        path: Option<Path>,
        parts: &Parts,
        body: Body,
    ) -> Result<Response, Refused> {
        let (method, headers) = (&parts.method, &parts.headers);
        let path = path.ok_or(Error::NoSuchPath)?;
        let query = parts.uri.query().unwrap_or_default();
        if path == Path::Refusals {
            return Ok(refusals::answer(&self.ledger, query, &self.stop));
        }
        let condition = headers.get(IF_MATCH).and_then(|value| value.to_str().ok());
        let condition = IfMatch::parse(condition);
        match &path {
            Path::Why(id) => return self.why(method, id),
            Path::LinkedHubs => return self.linked_hubs(method),
            Path::LinkedHub(host) => {
                return self
                    .linked_hub(method, host, &condition, headers, body)
                    .await;
            }
            Path::CaCertificates
            | Path::CaCertificate(_)
            | Path::CaCertificateCode(_)
            | Path::CaCertificateProof(_) => {
                return self
                    .ca_certificate(method, &path, &condition, headers, body)
                    .await;
            }
            _ => {}
        }
        let version = api_version(query)?;
        check_condition(&condition)?;
        let asked = Asked {
            method,
            condition: &condition,
            headers,
            version,
            who,
            peer: parts.extensions.get::<Arc<Peer>>().map(|peer| &**peer),
        };
        match path {
            Path::Enrollment(id) => self.entry::<IndividualEnrollment>(asked, &id, body).await,
            Path::Group(id) => self.entry::<EnrollmentGroup>(asked, &id, body).await,
            Path::EnrollmentKeys(id) => self.keys::<IndividualEnrollment>(method, &id),
            Path::GroupKeys(id) => self.keys::<EnrollmentGroup>(method, &id),
            Path::EnrollmentQuery => self.entries::<IndividualEnrollment>(headers, body).await,
            Path::GroupQuery => self.entries::<EnrollmentGroup>(headers, body).await,
            Path::Enrollments if *method == Method::POST => {
                check_media_type(headers)?;
                self.bulk::<IndividualEnrollment>(asked, body).await
            }
            Path::Groups if *method == Method::POST => {
                check_media_type(headers)?;
                self.bulk::<EnrollmentGroup>(asked, body).await
            }
            Path::Registration(id) => self.registration(method, &id, &condition).await,
            Path::RegistrationQuery(group) => {
                let group: EnrollmentGroupId = parsed_id(&group)?;
                self.registrations(method, &group, headers, body).await
            }
            Path::Enrollments | Path::Groups | Path::Registrations => {
                Err(Error::MethodNotAllowed.into())
            }
            _ => Err(Error::NoSuchPath.into()),
        }
    }

    fn authorize(
        &self,
        method: &Method,
        path: Option<&Path>,
        text: &str,
        authority: Option<&str>,
        headers: &HeaderMap,
    ) -> Result<&str, Refused> {
        let needed = path.map_or(DpsRights::EnrollmentWrite, |path| path.needs(method));
        let text_of = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let host = authority.or_else(|| text_of(HOST)).unwrap_or_default();
        let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
        let names = self.host_names.iter().map(String::as_str).chain([host]);
        let resources: Vec<_> = names
            .filter(|name| !name.is_empty())
            .map(|name| format!("{name}{text}"))
            .collect();
        let now = unix_seconds(self.clock.utc());
        auth::authorize(
            text_of(AUTHORIZATION),
            &self.policies,
            &resources,
            needed,
            now,
        )
        .map_err(|refusal| Refused {
            error: Error::Unauthorized,
            who: None,
            refusal: Some(Box::new(refusal)),
        })
    }

    async fn entry<E: Entry + Shown>(
        &self,
        asked: Asked<'_>,
        id: &str,
        body: Body,
    ) -> Result<Response, Refused> {
        let folded = parsed_id::<RegistrationId>(id)?.folded();
        match *asked.method {
            Method::GET => {
                let entry = self
                    .enrollments
                    .entry::<E>(&folded)?
                    .ok_or(Error::EnrollmentNotFound)?;
                let entry = entry.without_keys();
                Ok(json(E::ITEM_TYPE, &entry.with_state(self.state(&folded)?)))
            }
            Method::PUT => {
                check_media_type(asked.headers)?;
                let entry: E = read(body).await?;
                if entry.folded_id() != folded {
                    let shown = entry.shown_id();
                    let sentence = format!("the body is about `{shown}`, the path about `{id}`");
                    return Err(Error::Invalid(sentence).into());
                }
                let entry = entry.written_by(asked.version);
                let now = self.clock.utc();
                let entry = self.enrollments.put(entry, asked.condition, now).await?;
                Ok(json(E::ITEM_TYPE, &entry.with_state(self.state(&folded)?)))
            }
            Method::DELETE => {
                self.enrollments
                    .delete::<E>(&folded, asked.condition)
                    .await?;
                Ok(no_content())
            }
            _ => Err(Error::MethodNotAllowed.into()),
        }
    }

    fn keys<E: Entry>(&self, method: &Method, id: &str) -> Result<Response, Refused> {
        if *method != Method::POST {
            return Err(Error::MethodNotAllowed.into());
        }
        let entry = self
            .enrollments
            .entry::<E>(&parsed_id::<RegistrationId>(id)?.folded())?;
        let entry = entry.ok_or(Error::EnrollmentNotFound)?;
        let mut attestation = entry.attestation().clone();
        x509::show(&mut attestation);
        Ok(json(E::ITEM_TYPE, &attestation))
    }

    async fn registration(
        &self,
        method: &Method,
        id: &str,
        condition: &IfMatch,
    ) -> Result<Response, Refused> {
        let folded = parsed_id::<RegistrationId>(id)?.folded();
        if *method != Method::GET && *method != Method::DELETE {
            return Err(Error::MethodNotAllowed.into());
        }
        let found = records::versioned(&*self.store, &folded)?;
        let (record, version) = found.ok_or(Error::RegistrationNotFound)?;
        if *method == Method::GET {
            return Ok(json("DeviceRegistration", &record.state));
        }
        let expect = match condition {
            IfMatch::Etag(etag) if record.state.etag.as_ref() != Some(etag) => {
                return Err(Error::PreconditionFailed.into());
            }
            IfMatch::Etag(_) => Expect::Version(version),
            IfMatch::Any | IfMatch::Absent => Expect::Anything,
        };
        let changes = records::delete(&folded, &record, expect);
        match self.store.commit(changes).await {
            Ok(_) => Ok(no_content()),
            // It registered again between the reading and the writing.
            Err(azimuth_storage::Error::Conflict { .. }) => Err(Error::PreconditionFailed.into()),
            Err(error) => Err(error.into()),
        }
    }

    fn state(&self, folded: &str) -> Result<Option<RegistrationState>, Error> {
        let record = records::registration(&*self.store, folded)?;
        Ok(record.map(|record| record.state))
    }

    fn refuse(&self, peer: Option<&Peer>, refused: Refused) -> Response {
        let error = refused.error;
        let status = u16::try_from(error.code() / 1000).expect("codes have six digits");
        let message = error.to_string();
        let refusal = refused
            .refusal
            .map_or_else(|| refusal_of(&error), |refusal| *refusal);
        // A token that is no good says nothing of who sent it.
        let owner = &self.policies.owner().keys.name;
        self.record(refused.who.as_ref().unwrap_or(owner), peer, refusal);
        let at = self.clock.utc();
        let body = ErrorBody {
            error_code: error.code(),
            tracking_id: uuid::Uuid::new_v4().to_string(),
            message,
            timestamp_utc: at.into(),
        };
        let mut response = json("", &body);
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
        let code = error
            .code()
            .to_string()
            .parse()
            .expect("digits are a header value");
        response.headers_mut().insert("x-ms-error-code", code);
        response
    }

    fn record(&self, who: &str, peer: Option<&Peer>, refusal: Refusal) {
        let (at, remote) = (self.clock.utc(), peer.map(|peer| peer.remote));
        self.ledger
            .record(at, Operation::Request, Some(who), remote, refusal);
    }
}

/// What a request says beside its path and body.
#[derive(Clone, Copy)]
struct Asked<'a> {
    method: &'a Method,
    condition: &'a IfMatch,
    headers: &'a HeaderMap,
    version: ApiVersion,
    who: &'a str,
    peer: Option<&'a Peer>,
}

fn refusal_of(error: &Error) -> Refusal {
    let status = u16::try_from(error.code() / 1000).expect("codes have six digits");
    let name = StatusCode::from_u16(status).ok();
    let name = name
        .and_then(|status| status.canonical_reason())
        .unwrap_or_default();
    Refusal::new(
        error.kind(),
        Answer::Http(status, name.into()),
        error.to_string(),
    )
}

/// How an enrollment goes in and out.
trait Shown: Sized {
    /// The member that names it.
    const ID_MEMBER: &'static str;
    /// The member that holds several.
    const COLLECTION: &'static str;

    /// Keys are shown by PUT and the attestation mechanism only.
    fn without_keys(self) -> Self;
    /// Certificates are never shown, only what is in them.
    fn with_state(self, state: Option<RegistrationState>) -> Self;
    /// Since re-provisioning exists, an entry that says nothing about it allows it.
    fn written_by(self, version: ApiVersion) -> Self;
}

impl Shown for IndividualEnrollment {
    const ID_MEMBER: &'static str = "registrationId";
    const COLLECTION: &'static str = "enrollments";

    fn without_keys(mut self) -> Self {
        self.attestation.symmetric_key = None;
        self
    }

    fn with_state(mut self, state: Option<RegistrationState>) -> Self {
        self.registration_state = state;
        x509::show(&mut self.attestation);
        self
    }

    fn written_by(mut self, version: ApiVersion) -> Self {
        self.reprovision_policy = reprovisioning(self.reprovision_policy, version);
        self
    }
}

impl Shown for EnrollmentGroup {
    const ID_MEMBER: &'static str = "enrollmentGroupId";
    const COLLECTION: &'static str = "enrollmentGroups";

    fn without_keys(mut self) -> Self {
        self.attestation.symmetric_key = None;
        self
    }

    fn with_state(mut self, _: Option<RegistrationState>) -> Self {
        x509::show(&mut self.attestation);
        self
    }

    fn written_by(mut self, version: ApiVersion) -> Self {
        self.reprovision_policy = reprovisioning(self.reprovision_policy, version);
        self
    }
}

fn reprovisioning(
    given: Option<ReprovisionPolicy>,
    version: ApiVersion,
) -> Option<ReprovisionPolicy> {
    let known = version > LAST_WITHOUT_REPROVISIONING;
    given.or_else(|| known.then(ReprovisionPolicy::default))
}

fn api_version(query: &str) -> Result<ApiVersion, Error> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let version = pairs.find(|(name, _)| name.eq_ignore_ascii_case("api-version"));
    let Some((_, version)) = version else {
        return Err(Error::Invalid(
            "the query parameter api-version is missing".into(),
        ));
    };
    let version = version.parse::<ApiVersion>();
    version.map_err(|error| Error::Invalid(error.to_string()))
}

/// Individual enrollments, groups and registrations are named by one rule.
fn parsed_id<Id: FromStr<Err = InvalidRegistrationId>>(id: &str) -> Result<Id, Error> {
    id.parse()
        .map_err(|error: InvalidRegistrationId| Error::Invalid(error.to_string()))
}

/// No etag holds blanks or quotes once its own pair of quotes is cut.
fn check_condition(condition: &IfMatch) -> Result<(), Error> {
    match condition {
        IfMatch::Etag(etag) if etag.contains([' ', '\t', '"', ',']) => {
            Err(Error::Invalid("ETag is invalid".into()))
        }
        IfMatch::Etag(_) | IfMatch::Any | IfMatch::Absent => Ok(()),
    }
}

fn check_media_type(headers: &HeaderMap) -> Result<(), Error> {
    let given = headers.get(CONTENT_TYPE).map(|value| value.to_str());
    let is_json = |text: &str| {
        let kind = text.split(';').next().unwrap_or_default().trim();
        kind.eq_ignore_ascii_case("application/json")
    };
    match given {
        None => Ok(()),
        Some(Ok(text)) if is_json(text) => Ok(()),
        Some(_) => Err(Error::UnsupportedMediaType),
    }
}

/// A body that may be left out: `null` then.
async fn read_or_nothing(body: Body) -> Result<Value, Error> {
    let body = whole(body).await?;
    if body.trim_ascii().is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&body).map_err(|error| Error::Invalid(error.to_string()))
}

async fn read<T: DeserializeOwned>(body: Body) -> Result<T, Error> {
    let body = whole(body).await?;
    serde_json::from_slice(&body).map_err(|error| Error::Invalid(error.to_string()))
}

async fn whole(body: Body) -> Result<Bytes, Error> {
    let body = to_bytes(body, MOST_BODY_BYTES).await;
    body.map_err(|_| Error::Invalid("the body is too large, or broke off".into()))
}

fn json<T: Serialize>(item_type: &'static str, body: &T) -> Response {
    let mut response = Response::new(Body::from(records::write(body)));
    let headers = response.headers_mut();
    let value = axum::http::HeaderValue::from_static("application/json; charset=utf-8");
    headers.insert(CONTENT_TYPE, value);
    if !item_type.is_empty() {
        headers.insert(
            "x-ms-item-type",
            axum::http::HeaderValue::from_static(item_type),
        );
    }
    response
}

fn no_content() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// Far more than an enrollment with its twin needs.
const MOST_BODY_BYTES: usize = 1 << 20;

const LAST_WITHOUT_REPROVISIONING: ApiVersion = ApiVersion::new(2018, 4, 1);

#[cfg(test)]
mod tests;
