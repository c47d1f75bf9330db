//! The hub's HTTPS side: Azure's service API as far as it is simulated, and two streams of our own.
//!
//! One way for every request: whose is it, may they, which version, what; then one call of a room.
//! May not enter: rules of the registry, of tokens, of the event log.

mod answer;
mod bulk;
mod certificates;
mod event_subscriptions;
mod events;
mod jobs;
mod keys;
mod lines;
mod on_the_line;
mod paths;
mod query;
mod refusals;
mod registry;
mod throttle;
mod twins;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, Method};
use axum::response::Response;
use azimuth_broker::{Answer, Ledger, Operation, Peer, Presence, Refusal};
use azimuth_certs::CaCertificates;
use azimuth_clock::Clock;
use azimuth_wire::api_version::ApiVersion;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::twins::How;
use crate::auth::Rules;
use crate::error::Error;
use crate::event::Log;
use crate::job::Jobs;
use crate::notification::Notifier;
use crate::quota::Meter;
use crate::registry::Registry;

pub(crate) use bulk::{carry_out, refused};
use paths::Route;

/// What the HTTPS side of a hub works with.
pub struct Rest {
    pub rules: Arc<Rules>,
    pub registry: Arc<Registry>,
    pub ca_certificates: Arc<CaCertificates>,
    pub notifier: Arc<Notifier>,
    pub log: Arc<Log>,
    pub jobs: Arc<Jobs>,
    pub presence: Arc<Presence>,
    pub ledger: Arc<Ledger>,
    pub clock: Arc<dyn Clock>,
    /// Where the hub has a tier.
    pub meter: Option<Arc<Meter>>,
    /// Ends the streams when the hub stops.
    pub stopping: CancellationToken,
}

/// The routes. Each request is expected to carry its `Arc<Peer>`; without, records name no remote.
pub fn router(rest: Rest) -> Router {
    Router::new().fallback(serve).with_state(Arc::new(rest))
}

async fn serve(State(rest): State<Arc<Rest>>, request: Request) -> Response {
    let id = Uuid::new_v4();
    let (head, body) = request.into_parts();
    let mut response = match rest.answer(&head, body).await {
        Ok(response) => response,
        Err(failure) => {
            rest.record(&head, &failure);
            answer::error(&failure.error, id, rest.clock.utc())
        }
    };
    answer::stamp(&mut response, id);
    response
}

/// A request that was not served: what the client is told, and what else is to be said of it.
struct Failure {
    error: Error,
    /// The policy, as far as known.
    who: Option<String>,
    /// Why credentials were refused; the client is only told that they were.
    refusal: Option<Box<Refusal>>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            error,
            who: None,
            refusal: None,
        }
    }
}

impl Rest {
    async fn answer(&self, head: &Parts, body: axum::body::Body) -> Result<Response, Failure> {
        let segments = paths::segments(head.uri.path());
        let route = Route::of(&head.method, &segments);
        if let Route::DeviceSide(what) = route {
            return Err(Error::NotSimulated(what.into()).into());
        }
        if let (&Method::GET, Route::Validation(name)) = (&head.method, &route) {
            return Ok(self.validate(name, head.uri.query())?);
        }
        let who = self.authorize(head, &segments.join("/"), &route)?;
        let served = self.dispatch(head, body, route).await;
        served.map_err(|error| Failure {
            who: Some(who),
            ..error.into()
        })
    }

    fn authorize(&self, head: &Parts, path: &str, route: &Route) -> Result<String, Failure> {
        let header = header(&head.headers, &AUTHORIZATION);
        let needed = route.needs(&head.method);
        let judged = self.rules.service(header, path, needed, self.clock.utc());
        judged.map(ToOwned::to_owned).map_err(|refusal| Failure {
            error: Error::Unauthorized,
            who: None,
            refusal: Some(Box::new(refusal)),
        })
    }

    async fn dispatch(
        &self,
        head: &Parts,
        body: axum::body::Body,
        route: Route,
    ) -> Result<Response, Error> {
        let query = head.uri.query();
        if route.is_azures() {
            check_version(query)?;
        }
        self.throttle(head, &route).await?;
        match (&head.method, route) {
            (&Method::GET, Route::Devices) => self.list(query),
            (&Method::GET, Route::Identity(named)) => self.read(&named),
            (&Method::PUT, Route::Identity(named)) => self.put(&named, &head.headers, body).await,
            (&Method::DELETE, Route::Identity(named)) => self.delete(&named, &head.headers).await,
            (&Method::GET, Route::Modules(device)) => self.modules(&device),
            (&Method::POST, Route::Bulk) => self.bulk(body).await,
            (&Method::POST, Route::RegenerateKeys) => self.regenerate_keys(body).await,
            (&Method::POST, Route::Query) => self.query(&head.headers, body).await,
            (&Method::GET, Route::Twin(named)) => self.read_twin(&named),
            (&Method::PATCH, Route::Twin(named)) => {
                self.write_twin(&named, &head.headers, body, How::Merge)
                    .await
            }
            (&Method::PUT, Route::Twin(named)) => {
                self.write_twin(&named, &head.headers, body, How::Replace)
                    .await
            }
            (&Method::GET, Route::DeviceStatistics) => answer::json(&self.registry.statistics()),
            (&Method::GET, Route::ServiceStatistics) => {
                answer::json(&self.registry.service_statistics())
            }
            (method, Route::CaCertificates(route)) => {
                self.ca_certificates(method, &route, &head.headers, body)
                    .await
            }
            (&Method::POST, Route::CreateJob) => self.create_job(body).await,
            (&Method::GET, Route::Jobs) => self.list_jobs(),
            (&Method::GET, Route::Job(id)) => self.read_job(&id),
            (&Method::DELETE, Route::Job(id)) => self.cancel_job(&id).await,
            (&Method::GET, Route::Events) => self.events(query).await,
            (&Method::GET, Route::Refusals) => self.refusals(query),
            (&Method::GET, Route::EventSubscriptions) => self.event_subscriptions(),
            (_, Route::NotSimulated(what) | Route::DeviceSide(what)) => {
                Err(Error::NotSimulated(what.into()))
            }
            (_, Route::Unknown) => Err(Error::UnknownPath(shown(head.uri.path()))),
            (method, _) => Err(Error::Method(method.to_string())),
        }
    }

    /// Every refused request leaves a record; a look-up that finds nothing is an answer, no refusal.
    fn record(&self, head: &Parts, failure: &Failure) {
        let error = &failure.error;
        if head.method == Method::GET && error.is_nothing_found() {
            return;
        }
        let code = error.code();
        if code.status() >= 500 {
            tracing::error!(error = error as &dyn std::error::Error, "a request failed");
        }
        let refusal = match &failure.refusal {
            Some(refusal) => Refusal::clone(refusal),
            None => {
                let answer = Answer::Http(error.status(), code.name().into());
                Refusal::new(error.kind(), answer, error.sentence())
            }
        };
        let request = format!("{} {}", head.method, shown(head.uri.path()));
        let refusal = refusal.fact("request", request);
        let remote = head.extensions.get::<Arc<Peer>>().map(|peer| peer.remote);
        let who = failure.who.as_deref();
        self.ledger
            .record(self.clock.utc(), Operation::Request, who, remote, refusal);
    }
}

/// Versions from the first on are served; newer than known ones as the newest.
fn check_version(query: Option<&str>) -> Result<(), Error> {
    const FIRST: ApiVersion = ApiVersion::new(2016, 11, 14);
    let Some(text) = paths::parameter(query, "api-version") else {
        return Err(Error::ApiVersion(None));
    };
    match text.parse::<ApiVersion>() {
        Ok(version) if version >= FIRST => Ok(()),
        Ok(_) | Err(_) => Err(Error::ApiVersion(Some(text))),
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn shown(path: &str) -> String {
    path.chars().take(200).collect()
}
