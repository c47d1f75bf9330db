//! The service REST API: enrollments, groups, registrations, and, of this simulator's
//! own, linked hubs and the record of refusals.
//!
//! Handlers translate; the rooms behind decide. What may not enter: rules about enrollments.

mod auth;
mod certificates;
mod linked_hubs;
mod paths;
mod refusals;

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, IF_MATCH};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use azimuth_broker::{Answer, Ledger, Operation, Peer, Refusal};
use azimuth_clock::Clock;
use azimuth_storage::{Change, Expect, Store};
use azimuth_wire::enrollment::{EnrollmentGroup, IndividualEnrollment};
use azimuth_wire::etag::IfMatch;
use azimuth_wire::policy::{DpsRights, PolicyKeys};
use azimuth_wire::registration::{ErrorBody, RegistrationState};
use azimuth_wire::time::unix_seconds;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::ca_certificates::CaCertificates;
use crate::enrollment::{Enrollments, Entry, x509};
use crate::error::Error;
use crate::linked_hubs::LinkedHubs;
use crate::records;
use paths::Path;

/// What the routes need.
pub struct Office {
    pub enrollments: Arc<Enrollments>,
    pub ca_certificates: Arc<CaCertificates>,
    pub hubs: Arc<LinkedHubs>,
    pub store: Arc<dyn Store>,
    pub policy: PolicyKeys,
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
    refusal: Option<Box<Refusal>>,
}

impl<E: Into<Error>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self {
            error: error.into(),
            refusal: None,
        }
    }
}

impl Office {
    async fn route(&self, request: Request) -> Result<Response, Refused> {
        let (parts, body) = request.into_parts();
        let (method, uri, headers) = (parts.method, parts.uri, parts.headers);
        let path = Path::parse(uri.path());
        self.authorize(&method, path.as_ref(), uri.path(), uri.host(), &headers)?;
        let path = path.ok_or(Error::NoSuchPath)?;
        let query = uri.query().unwrap_or_default();
        if path == Path::Refusals {
            return Ok(refusals::answer(&self.ledger, query, &self.stop));
        }
        let condition = headers.get(IF_MATCH).and_then(|value| value.to_str().ok());
        let condition = IfMatch::parse(condition);
        match &path {
            Path::LinkedHubs => return self.linked_hubs(&method),
            Path::LinkedHub(host) => {
                return self
                    .linked_hub(&method, host, &condition, &headers, body)
                    .await;
            }
            Path::CaCertificates
            | Path::CaCertificate(_)
            | Path::CaCertificateCode(_)
            | Path::CaCertificateProof(_) => {
                return self
                    .ca_certificate(&method, &path, &condition, &headers, body)
                    .await;
            }
            _ => {}
        }
        check_api_version(query)?;
        match path {
            Path::Enrollment(id) => {
                self.entry::<IndividualEnrollment>(&method, &id, &condition, body)
                    .await
            }
            Path::Group(id) => {
                self.entry::<EnrollmentGroup>(&method, &id, &condition, body)
                    .await
            }
            Path::EnrollmentKeys(id) => self.keys::<IndividualEnrollment>(&method, &id),
            Path::GroupKeys(id) => self.keys::<EnrollmentGroup>(&method, &id),
            Path::Registration(id) => self.registration(&method, &id, &condition).await,
            Path::Collection => Err(Error::NotSupported("query and bulk").into()),
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
    ) -> Result<(), Refused> {
        let read = *method == Method::GET;
        let needed = match path {
            Some(Path::Registration(_)) if read => {
                DpsRights::RegistrationStatusRead.and(DpsRights::RegistrationStatusWrite)
            }
            Some(Path::Registration(_)) => DpsRights::RegistrationStatusWrite,
            Some(Path::Enrollment(_) | Path::Group(_)) if read => {
                DpsRights::EnrollmentRead.and(DpsRights::EnrollmentWrite)
            }
            Some(
                Path::LinkedHubs
                | Path::LinkedHub(_)
                | Path::CaCertificates
                | Path::CaCertificate(_)
                | Path::CaCertificateCode(_)
                | Path::CaCertificateProof(_),
            ) => DpsRights::ServiceConfig,
            Some(_) | None => DpsRights::EnrollmentWrite,
        };
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
            &self.policy,
            &resources,
            needed,
            now,
        )
        .map_err(|refusal| Refused {
            error: Error::Unauthorized,
            refusal: Some(Box::new(refusal)),
        })
    }

    async fn entry<E: Entry + Shown>(
        &self,
        method: &Method,
        id: &str,
        condition: &IfMatch,
        body: Body,
    ) -> Result<Response, Refused> {
        let folded = id.to_ascii_lowercase();
        match *method {
            Method::GET => {
                let entry = self
                    .enrollments
                    .entry::<E>(&folded)?
                    .ok_or(Error::EnrollmentNotFound)?;
                let entry = entry.without_keys();
                Ok(json(E::ITEM_TYPE, &entry.with_state(self.state(&folded)?)))
            }
            Method::PUT => {
                let entry: E = read(body).await?;
                if entry.folded_id() != folded {
                    let shown = entry.shown_id();
                    let sentence = format!("the body is about `{shown}`, the path about `{id}`");
                    return Err(Error::Invalid(sentence).into());
                }
                let now = self.clock.utc();
                let entry = self.enrollments.put(entry, condition, now).await?;
                Ok(json(E::ITEM_TYPE, &entry.with_state(self.state(&folded)?)))
            }
            Method::DELETE => {
                self.enrollments.delete::<E>(&folded, condition).await?;
                Ok(no_content())
            }
            _ => Err(Error::MethodNotAllowed.into()),
        }
    }

    fn keys<E: Entry>(&self, method: &Method, id: &str) -> Result<Response, Refused> {
        if *method != Method::POST {
            return Err(Error::MethodNotAllowed.into());
        }
        let entry = self.enrollments.entry::<E>(&id.to_ascii_lowercase())?;
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
        let folded = id.to_ascii_lowercase();
        let state = self.state(&folded)?.ok_or(Error::RegistrationNotFound)?;
        match *method {
            Method::GET => Ok(json("DeviceRegistration", &state)),
            Method::DELETE => {
                if matches!(condition, IfMatch::Etag(etag) if state.etag.as_ref() != Some(etag)) {
                    return Err(Error::PreconditionFailed.into());
                }
                let key = records::registration_key(&folded);
                self.store
                    .commit(vec![Change::delete(key, Expect::Anything)])
                    .await?;
                Ok(no_content())
            }
            _ => Err(Error::MethodNotAllowed.into()),
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
        let refusal = refused.refusal.map(|refusal| *refusal).unwrap_or_else(|| {
            let name = StatusCode::from_u16(status).ok();
            let name = name
                .and_then(|status| status.canonical_reason())
                .unwrap_or_default();
            Refusal::new(
                error.kind(),
                Answer::Http(status, name.into()),
                message.clone(),
            )
        });
        let (at, remote) = (self.clock.utc(), peer.map(|peer| peer.remote));
        self.ledger.record(
            at,
            Operation::Request,
            Some(&self.policy.name),
            remote,
            refusal,
        );
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
}

/// What of an enrollment is shown outside.
trait Shown: Sized {
    /// Keys are shown by PUT and the attestation mechanism only.
    fn without_keys(self) -> Self;
    /// Certificates are never shown, only what is in them.
    fn with_state(self, state: Option<RegistrationState>) -> Self;
}

impl Shown for IndividualEnrollment {
    fn without_keys(mut self) -> Self {
        self.attestation.symmetric_key = None;
        self
    }

    fn with_state(mut self, state: Option<RegistrationState>) -> Self {
        self.registration_state = state;
        x509::show(&mut self.attestation);
        self
    }
}

impl Shown for EnrollmentGroup {
    fn without_keys(mut self) -> Self {
        self.attestation.symmetric_key = None;
        self
    }

    fn with_state(mut self, _: Option<RegistrationState>) -> Self {
        x509::show(&mut self.attestation);
        self
    }
}

fn check_api_version(query: &str) -> Result<(), Error> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let version = pairs.find(|(name, _)| name.eq_ignore_ascii_case("api-version"));
    let Some((_, version)) = version else {
        return Err(Error::Invalid(
            "the query parameter api-version is missing".into(),
        ));
    };
    let parsed = version.parse::<azimuth_wire::api_version::ApiVersion>();
    parsed
        .map(|_| ())
        .map_err(|error| Error::Invalid(error.to_string()))
}

async fn read<T: DeserializeOwned>(body: Body) -> Result<T, Error> {
    let body = to_bytes(body, MOST_BODY_BYTES).await;
    let body = body.map_err(|_| Error::Invalid("the body is too large, or broke off".into()))?;
    serde_json::from_slice(&body).map_err(|error| Error::Invalid(error.to_string()))
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

#[cfg(test)]
mod tests;
