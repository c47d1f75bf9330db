//! Devices over HTTPS: register, poll and look up, a request each.
//!
//! The same desk as over MQTT answers; here its words become statuses and headers. What may not
//! enter: what register and poll mean.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{
    AUTHORIZATION, CONTENT_TYPE, HOST, LOCATION, RETRY_AFTER, STRICT_TRANSPORT_SECURITY,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use azimuth_broker::{Answer, Operation, Peer};
use azimuth_wire::percent;

use super::path::{Asked, DevicePath};
use super::{Desk, MOST_BODY_BYTES, Refused, Reply, bad, store, unauthorized};
use crate::error::Error;
use crate::quota::Meter;
use crate::registrant::{self, Registrant, Transport};
use crate::{answer, explain, records};

/// Puts the device API before the routes of the service API.
pub fn before(service: axum::Router, desk: Arc<Desk>) -> axum::Router {
    service.layer(from_fn_with_state(desk, answer_or_pass))
}

async fn answer_or_pass(State(desk): State<Arc<Desk>>, request: Request, next: Next) -> Response {
    match desk.over_https(request).await {
        Ok(response) => response,
        Err(request) => next.run(request).await,
    }
}

impl Desk {
    /// Answers a request of the device API; hands any other back.
    pub(super) async fn over_https(&self, request: Request) -> Result<Response, Request> {
        let path = DevicePath::parse(request.uri().path());
        let peer = request.extensions().get::<Arc<Peer>>().cloned();
        let (Some(path), Some(peer)) = (path, peer) else {
            return Err(request);
        };
        let (parts, body) = request.into_parts();
        // One id for the request and its error: Azure's are the same.
        let tracking_id = uuid::Uuid::new_v4().to_string();
        let mut error_code = None;
        let replied = self.request(&path, &parts, body, &peer).await;
        let reply = replied.unwrap_or_else(|refused| {
            let reply = self.failure(&refused, &tracking_id);
            error_code = Some(refused.code);
            let mut refusal = refused.refusal;
            let name = StatusCode::from_u16(reply.status).unwrap_or_default();
            let name = name.canonical_reason().unwrap_or_default();
            refusal.answer = Answer::Http(reply.status, name.into());
            let (at, who) = (self.clock.utc(), Some(path.registration_id.as_str()));
            let remote = Some(peer.remote);
            self.ledger
                .record(at, Operation::Registration, who, remote, refusal);
            reply
        });
        let location = (path.asked == Asked::Register && reply.status == 202)
            .then(|| location(&parts))
            .flatten();
        let mut response = response(reply, &tracking_id, error_code);
        if let Some(location) = location {
            response.headers_mut().insert(LOCATION, location);
        }
        Ok(response)
    }

    async fn request(
        &self,
        path: &DevicePath,
        parts: &Parts,
        body: Body,
        peer: &Arc<Peer>,
    ) -> Result<Reply, Refused> {
        // Read whatever is asked: Node sends a body with GET, and a connection with an unread body ends
        // after its answer.
        let body = to_bytes(body, MOST_BODY_BYTES).await;
        let body = body.map_err(|_| bad(explain::body_not_read(MOST_BODY_BYTES)))?;
        let who = self.introduced(path, parts, peer)?;
        match (&path.asked, &parts.method) {
            (Asked::Register, &Method::PUT) => self.register(&who, &body),
            (Asked::Operation(operation), &Method::GET) => self.poll(&who, operation),
            (Asked::Lookup, &Method::POST) => self.look_up(&who),
            (_, method) => Err(Refused {
                code: Error::MethodNotAllowed.code(),
                message: "The method is not allowed for this resource.",
                refusal: explain::method_not_allowed(method),
            }),
        }
    }

    /// What a CONNECT says over MQTT stands in the path, the query and `Authorization`.
    fn introduced(
        &self,
        path: &DevicePath,
        parts: &Parts,
        peer: &Arc<Peer>,
    ) -> Result<Registrant, Refused> {
        if path.id_scope != self.id_scope {
            let refusal = explain::unknown_scope(&path.id_scope, &self.id_scope);
            return Err(unauthorized(refusal));
        }
        let registration_id = path
            .registration_id
            .parse()
            .map_err(|error| bad(explain::bad_registration_id(&error)))?;
        let version = api_version(parts.uri.query().unwrap_or_default());
        let version = version.ok_or_else(|| bad(explain::no_api_version()))?;
        let version = version
            .parse()
            .map_err(|error| bad(explain::bad_api_version(&error)))?;
        registrant::check_api_version(version).map_err(bad)?;
        let token = parts.headers.get(AUTHORIZATION);
        let token = token.map(|token| String::from_utf8_lossy(token.as_bytes()));
        let credential = registrant::credential(token.as_deref(), peer, &registration_id);
        let credential = credential.map_err(unauthorized)?;
        Ok(Registrant::new(
            &self.id_scope,
            registration_id,
            version,
            credential,
            Transport::Https,
            peer.clone(),
        ))
    }

    /// The registration as it stands. Azure offers it over HTTPS only.
    fn look_up(&self, who: &Registrant) -> Result<Reply, Refused> {
        let claims = &*who.0;
        self.proven(claims)?;
        self.within(Meter::registration, claims)?;
        let record = records::registration(&*self.store, claims.owner.as_str());
        let record = record.map_err(|error| store(&error))?;
        let record = record.ok_or_else(|| Refused {
            code: Error::RegistrationNotFound.code(),
            message: "Registration not found.",
            refusal: explain::never_registered(&claims.registration_id),
        })?;
        Ok(Reply {
            status: 200,
            retry_after: None,
            body: answer::state(&self.shown(claims, &record.for_device())),
        })
    }
}

fn api_version(query: &str) -> Option<String> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .find(|(name, _)| name.eq_ignore_ascii_case("api-version"))
        .map(|(_, version)| percent::decode(version).into_owned())
}

/// Where the registration can be asked for again, as the device itself spelled it.
fn location(parts: &Parts) -> Option<HeaderValue> {
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| parts.uri.authority().map(|authority| authority.as_str()))?;
    format!("https://{host}{}", parts.uri.path())
        .try_into()
        .ok()
}

fn response(reply: Reply, tracking_id: &str, error_code: Option<u32>) -> Response {
    let mut response = Response::new(Body::from(reply.body));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or_default();
    let headers: &mut HeaderMap = response.headers_mut();
    let json = HeaderValue::from_static("application/json; charset=utf-8");
    headers.insert(CONTENT_TYPE, json);
    let a_year = HeaderValue::from_static("max-age=31536000; includeSubDomains");
    headers.insert(STRICT_TRANSPORT_SECURITY, a_year);
    if let Ok(id) = tracking_id.parse() {
        headers.insert("x-ms-request-id", id);
    }
    if let Some(seconds) = reply.retry_after {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    if let Some(code) = error_code {
        headers.insert("x-ms-error-code", code.into());
    }
    response
}
