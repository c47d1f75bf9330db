//! A hub seen from here: its service REST API, called with a linked hub's connection string.
//!
//! Connections are kept, requests at once are bounded per hub, so that a slow hub holds up nobody
//! else. What may not enter: which hub a device gets, and how often to try again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use azimuth_clock::Clock;
use azimuth_webhook::deepest;
use azimuth_wire::registry::Status;
use azimuth_wire::time::unix_seconds;
use azimuth_wire::{DeviceId, SymmetricKey, percent, sas};
use parking_lot::Mutex;
use reqwest::{Method, StatusCode};
use rustls::CertificateError::{BadSignature, UnknownIssuer};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::allocation::Candidate;
use crate::attempt::Written;
use crate::attestation::HubCredential;
use crate::config::LinkedHubConfig;
use crate::error::Error;

mod twins;

pub use twins::Carried;

/// One linked hub.
pub struct LinkedHub {
    link: LinkedHubConfig,
    host: String,
    base: String,
    key_name: String,
    key: SymmetricKey,
    token: Mutex<Option<(String, u64)>>,
    client: reqwest::Client,
    permits: Arc<Semaphore>,
    clock: Arc<dyn Clock>,
}

/// A device as it is to be in the hub.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    pub id: &'a DeviceId,
    pub credential: &'a HubCredential,
    pub iot_edge: bool,
    /// What a new identity begins with: `{tags, properties}`.
    pub twin: Option<&'a Value>,
    /// Of a new identity.
    pub status: Status,
}

/// Why a hub did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HubError {
    /// No answer, or one that says to try again later.
    #[error("{0}")]
    Unreachable(String),
    /// It answered, and will answer the same again.
    #[error("the hub answered {status}")]
    Refused { status: u16, body: String },
}

impl LinkedHub {
    /// Requests to one hub at once.
    const AT_ONCE: usize = 64;

    pub fn new(
        config: &LinkedHubConfig,
        tls: rustls::ClientConfig,
        timeout: Duration,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let host = config.host();
        let mut client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .tcp_nodelay(true)
            .pool_max_idle_per_host(Self::AT_ONCE)
            .connect_timeout(timeout.min(Duration::from_secs(5)))
            .timeout(timeout);
        if let Some(address) = config.dial {
            client = client.resolve(&host, SocketAddr::new(address, config.https_port));
        }
        let client = client.build().map_err(Error::Client)?;
        let permits = Arc::new(Semaphore::new(Self::AT_ONCE));
        Self::over(config, client, permits, clock)
    }

    /// The same hub under another link. Connections and their bound stay where the hub does.
    pub fn relinked(&self, config: &LinkedHubConfig) -> Option<Result<Self, Error>> {
        let place = |link: &LinkedHubConfig| (link.host(), link.dial, link.https_port);
        (place(config) == place(&self.link)).then(|| {
            let (client, permits) = (self.client.clone(), self.permits.clone());
            Self::over(config, client, permits, self.clock.clone())
        })
    }

    fn over(
        config: &LinkedHubConfig,
        client: reqwest::Client,
        permits: Arc<Semaphore>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let host = config.host();
        let string = &config.connection_string;
        let (Some(key_name), Some(key)) = (string.key_name.clone(), string.key.clone()) else {
            let sentence =
                format!("the connection string of the hub `{host}` names no policy and key");
            return Err(Error::Invalid(sentence));
        };
        Ok(Self {
            link: config.clone(),
            base: format!("https://{host}:{}", config.https_port),
            host,
            key_name,
            key,
            token: Mutex::default(),
            client,
            permits,
            clock,
        })
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn link(&self) -> &LinkedHubConfig {
        &self.link
    }

    pub fn candidate(&self) -> Candidate<'_> {
        Candidate {
            host: &self.host,
            region: &self.link.region,
            weight: self.link.weight,
            apply_allocation_policy: self.link.apply_allocation_policy,
        }
    }

    /// Asks for something small that needs the policy's rights to the registry.
    pub async fn probe(&self) -> Result<(), HubError> {
        let answer = self.send(Method::GET, "/statistics/devices", None, None);
        answer.await?.done().map(drop)
    }

    /// Makes the device; one that is there already is given the credential, and of its twin what
    /// `wanted` says.
    pub async fn create(&self, wanted: Wanted<'_>) -> Result<Written, HubError> {
        let made = self.make(wanted).await?;
        match (made.status, wanted.twin) {
            (StatusCode::CONFLICT, None) => self.keep(wanted).await,
            (StatusCode::CONFLICT, Some(twin)) => self.overwrite(wanted, twin).await,
            _ => made.done().map(|_| Written::Made),
        }
    }

    /// Makes sure that the device is there with this credential; touches nothing else of it, its twin
    /// least of all.
    pub async fn keep(&self, wanted: Wanted<'_>) -> Result<Written, HubError> {
        for _ in 0..Self::RACES {
            let found = self.request(Method::GET, wanted.id, None, None).await?;
            let (answer, written) = if found.status == StatusCode::NOT_FOUND {
                (self.make(wanted).await?, Written::Made)
            } else {
                let device: Device = found.read("a device")?;
                if device.has(wanted) {
                    return Ok(Written::Unchanged);
                }
                let etag = format!("\"{}\"", device.etag);
                let answer = self.put(wanted, Some(&device), Some(&etag)).await?;
                (answer, Written::Updated)
            };
            if !answer.raced() {
                return answer.done().map(|_| written);
            }
        }
        Err(changed_too_often())
    }

    /// Makes the identity, and its twin with it where there is something to say of one.
    async fn make(&self, wanted: Wanted<'_>) -> Result<Answer, HubError> {
        match wanted.twin {
            None => self.put(wanted, None, None).await,
            Some(twin) => self.make_with(wanted, twin).await,
        }
    }

    /// Removes the device, if it is there.
    pub async fn remove(&self, id: &DeviceId) -> Result<(), HubError> {
        let gone = self.request(Method::DELETE, id, Some("*"), None).await?;
        match gone.status {
            StatusCode::NOT_FOUND => Ok(()),
            _ => gone.done().map(drop),
        }
    }

    async fn put(
        &self,
        wanted: Wanted<'_>,
        present: Option<&Device>,
        etag: Option<&str>,
    ) -> Result<Answer, HubError> {
        let mut body = identity(wanted, present);
        body["deviceId"] = wanted.id.as_str().into();
        let body = Some(body.to_string());
        self.request(Method::PUT, wanted.id, etag, body).await
    }

    async fn request(
        &self,
        method: Method,
        id: &DeviceId,
        etag: Option<&str>,
        body: Option<String>,
    ) -> Result<Answer, HubError> {
        let path = format!("/devices/{}", percent::encode(id.as_str()));
        self.send(method, &path, etag, body).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        etag: Option<&str>,
        body: Option<String>,
    ) -> Result<Answer, HubError> {
        let _permit = self.permits.acquire().await;
        let url = format!("{}{path}?api-version={API_VERSION}", self.base);
        let mut request = self
            .client
            .request(method, url)
            .header("authorization", self.token());
        if let Some(etag) = etag {
            request = request.header("if-match", etag);
        }
        if let Some(body) = body {
            request = request
                .header("content-type", "application/json; charset=utf-8")
                .body(body);
        }
        let response = request.send().await.map_err(|error| unreachable(&error))?;
        let status = response.status();
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            let sentence = format!("it answered {}", status.as_u16());
            return Err(HubError::Unreachable(sentence));
        }
        let body = response.text().await.map_err(|error| unreachable(&error))?;
        Ok(Answer { status, body })
    }

    /// A token with at least ten minutes to go.
    fn token(&self) -> String {
        let now = unix_seconds(self.clock.utc());
        let mut token = self.token.lock();
        if let Some((text, expiry)) = &*token
            && *expiry > now + 600
            && *expiry <= now + 3600
        {
            return text.clone();
        }
        let expiry = now + 3600;
        let text = sas::sign(&self.host, &self.key, expiry, Some(&self.key_name));
        *token = Some((text.clone(), expiry));
        text
    }

    /// Reads of a device that somebody else is writing.
    const RACES: usize = 4;
}

/// An identity as it is to be written over the present one. A status stays, and so does the place among edge
/// devices, as far as there is one: an edge device's own scope cannot be changed, and one that becomes an edge
/// device gets a scope of its own.
fn identity(wanted: Wanted<'_>, present: Option<&Device>) -> Value {
    let mut identity = json!({
        "status": present.map_or(wanted.status, |present| present.status),
        "authentication": authentication(wanted.credential),
        "capabilities": { "iotEdge": wanted.iot_edge },
    });
    if let Some(present) = present {
        if present.is_edge() || !wanted.iot_edge {
            identity["deviceScope"] = present.device_scope.clone().into();
        }
        identity["parentScopes"] = present.parent_scopes.clone().into();
    }
    identity
}

/// A certificate is known by its thumbprint alone, also that of a group's device; the secondary slot stays
/// empty.
fn authentication(credential: &HubCredential) -> Value {
    match credential {
        HubCredential::Keys(keys) => json!({
            "type": "sas",
            "symmetricKey": { "primaryKey": keys.primary, "secondaryKey": keys.secondary },
        }),
        HubCredential::Certificate(thumbprint) => json!({
            "type": "selfSigned",
            "x509Thumbprint": { "primaryThumbprint": thumbprint.to_string(), "secondaryThumbprint": null },
        }),
    }
}

struct Answer {
    status: StatusCode,
    body: String,
}

impl Answer {
    /// Somebody else changed the device in between.
    fn raced(&self) -> bool {
        let raced = [StatusCode::CONFLICT, StatusCode::PRECONDITION_FAILED];
        raced.contains(&self.status)
    }

    fn read<T: DeserializeOwned>(self, what: &str) -> Result<T, HubError> {
        let done = self.done()?;
        serde_json::from_str(&done.body).map_err(|_| HubError::Refused {
            status: done.status.as_u16(),
            body: format!("the hub's answer is not {what}"),
        })
    }

    fn done(self) -> Result<Self, HubError> {
        if self.status.is_success() {
            return Ok(self);
        }
        Err(HubError::Refused {
            status: self.status.as_u16(),
            body: self.body,
        })
    }
}

/// What is read of a device identity.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Device {
    etag: String,
    status: Status,
    #[serde(default)]
    authentication: Option<Authentication>,
    #[serde(default)]
    capabilities: Option<Capabilities>,
    #[serde(default)]
    device_scope: Option<String>,
    #[serde(default)]
    parent_scopes: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Authentication {
    #[serde(rename = "type")]
    kind: String,
    symmetric_key: Option<Keys>,
    x509_thumbprint: Option<Thumbprints>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Keys {
    primary_key: Option<String>,
    secondary_key: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Thumbprints {
    primary_thumbprint: Option<String>,
    secondary_thumbprint: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Capabilities {
    #[serde(default)]
    iot_edge: bool,
}

impl Device {
    fn is_edge(&self) -> bool {
        self.capabilities.as_ref().is_some_and(|have| have.iot_edge)
    }

    fn has(&self, wanted: Wanted<'_>) -> bool {
        let authentication = self.authentication.as_ref();
        self.is_edge() == wanted.iot_edge
            && authentication.is_some_and(|have| have.is(wanted.credential))
    }
}

impl Authentication {
    fn is(&self, credential: &HubCredential) -> bool {
        match credential {
            HubCredential::Keys(keys) => {
                let have = self.symmetric_key.as_ref();
                self.kind == "sas"
                    && have.is_some_and(|have| {
                        have.primary_key.as_deref() == Some(keys.primary.reveal())
                            && have.secondary_key.as_deref() == Some(keys.secondary.reveal())
                    })
            }
            HubCredential::Certificate(thumbprint) => {
                let have = self.x509_thumbprint.as_ref();
                self.kind == "selfSigned"
                    && have.is_some_and(|have| {
                        have.primary_thumbprint.as_deref() == Some(&thumbprint.to_string())
                            && have.secondary_thumbprint.is_none()
                    })
            }
        }
    }
}

fn unreachable(error: &reqwest::Error) -> HubError {
    if error.is_timeout() {
        return HubError::Unreachable("it did not answer in time".into());
    }
    let cause = deepest(error);
    let tls = cause.downcast_ref();
    if let Some(rustls::Error::InvalidCertificate(UnknownIssuer | BadSignature)) = tls {
        let sentence = "its certificate was signed by another CA than this DPS trusts: hub and DPS must share one CA, \
                        so give both the same `certs` folder (or volume) and start them again";
        return HubError::Unreachable(sentence.into());
    }
    HubError::Unreachable(cause.to_string())
}

fn changed_too_often() -> HubError {
    HubError::Unreachable("the device changed again and again while it was written".into())
}

const API_VERSION: &str = "2021-04-12";

#[cfg(test)]
mod tests;
