//! Asks webhooks over HTTP: one request, one answer, no meaning.
//!
//! Requests at once are bounded per host, so that a slow webhook holds up its own askers only. What may not enter: what is
//! sent, what an answer means, how often to ask again.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use reqwest::Client;
use reqwest::header::CONTENT_TYPE;
use tokio::sync::Semaphore;

pub use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
pub use reqwest::{Method, Url};

/// The way to all webhooks.
pub struct Webhooks {
    /// The authority that is trusted beside those of the system, PEM.
    roots_pem: String,
    timeout: Duration,
    /// Made when first needed: reading the system's authorities takes a while.
    client: OnceLock<Result<Client, String>>,
    permits: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// What a webhook is asked.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    pub method: Method,
    pub url: &'a str,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl<'a> Question<'a> {
    /// A POST of JSON.
    pub fn json(url: &'a str, body: Bytes) -> Self {
        let kind = HeaderValue::from_static("application/json; charset=utf-8");
        Self {
            method: Method::POST,
            url,
            headers: HeaderMap::from_iter([(CONTENT_TYPE, kind)]),
            body,
        }
    }
}

/// What a webhook answered.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    #[error("it did not answer in time")]
    TimedOut,
    #[error("too many requests wait for it")]
    Busy,
    #[error("its answer has more than {} bytes", Webhooks::MOST_BYTES)]
    TooLong,
    #[error("{0}")]
    Unreachable(String),
}

impl Webhooks {
    /// Requests to one host at once.
    pub const AT_ONCE: usize = 64;
    /// Bytes of an answer that are read: as much as a device may send.
    pub const MOST_BYTES: usize = 96 * 1024;

    pub fn new(roots_pem: &str, timeout: Duration) -> Self {
        Self {
            roots_pem: roots_pem.into(),
            timeout,
            client: OnceLock::new(),
            permits: Mutex::default(),
        }
    }

    /// Asks, and waits. `patience` bounds the wait for others that ask the same host.
    pub async fn ask(
        &self,
        question: Question<'_>,
        patience: Duration,
    ) -> Result<Answer, NoAnswer> {
        let url = Url::parse(question.url);
        let url = url.map_err(|error| NoAnswer::Unreachable(error.to_string()))?;
        let client = self.client.get_or_init(|| self.client());
        let client = client
            .as_ref()
            .map_err(|why| NoAnswer::Unreachable(why.clone()))?;
        let permits = self.permits_of(&url);
        let permit = tokio::time::timeout(patience, permits.acquire()).await;
        let _permit = permit.map_err(|_| NoAnswer::Busy)?;
        let request = client
            .request(question.method, url)
            .headers(question.headers)
            .body(question.body);
        let mut response = request.send().await.map_err(told)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(told)? {
            body.extend_from_slice(&chunk);
            if body.len() > Self::MOST_BYTES {
                return Err(NoAnswer::TooLong);
            }
        }
        Ok(Answer {
            status: response.status().as_u16(),
            headers: std::mem::take(response.headers_mut()),
            body,
        })
    }

    fn client(&self) -> Result<Client, String> {
        let tls = azimuth_certs::client_config_with_system_roots(&self.roots_pem);
        Client::builder()
            .tls_backend_preconfigured(tls.map_err(|error| error.to_string())?)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .tcp_nodelay(true)
            .connect_timeout(self.timeout.min(Duration::from_secs(5)))
            .timeout(self.timeout)
            .build()
            .map_err(|error| error.to_string())
    }

    fn permits_of(&self, url: &Url) -> Arc<Semaphore> {
        let port = url.port_or_known_default().unwrap_or_default();
        let host = format!("{}:{port}", url.host_str().unwrap_or_default());
        let mut permits = self.permits.lock();
        if permits.len() >= HOSTS_KEPT {
            permits.retain(|_, semaphore| Arc::strong_count(semaphore) > 1);
        }
        let fresh = || Arc::new(Semaphore::new(Self::AT_ONCE));
        permits.entry(host).or_insert_with(fresh).clone()
    }
}

/// Why a URL cannot be a webhook's.
pub fn check(url: &str) -> Result<(), String> {
    let parsed = Url::parse(url).map_err(|error| format!("is not a URL: {error}"))?;
    match matches!(parsed.scheme(), "https" | "http") && parsed.has_host() {
        true => Ok(()),
        false => Err("must begin with https:// or http:// and name a host".into()),
    }
}

/// The URL without what its query may hold, where Azure Functions take their key, and without a password.
pub fn masked(url: &str) -> String {
    let (before, rest) = match url.split_once(['?', '#']) {
        Some((before, _)) => (before, "?****"),
        None => (url, ""),
    };
    let Some((scheme, place)) = before.split_once("://") else {
        return "****".into();
    };
    let (authority, path) = place.split_at(place.find(['/', '\\']).unwrap_or(place.len()));
    let (mask, host) = match authority.rsplit_once('@') {
        Some((_, host)) => ("****@", host),
        None => ("", authority),
    };
    format!("{scheme}://{mask}{host}{path}{rest}")
}

/// The last cause says most: a refused connection, an unknown name, a certificate.
pub fn deepest(error: &reqwest::Error) -> &(dyn std::error::Error + 'static) {
    let mut cause: &(dyn std::error::Error + 'static) = error;
    loop {
        let deeper = match cause.downcast_ref::<std::io::Error>() {
            // The source of an `io::Error` is that of the error within, and not that error.
            Some(io) => io.get_ref().map(|within| within as _),
            None => cause.source(),
        };
        let Some(deeper) = deeper else { return cause };
        cause = deeper;
    }
}

fn told(error: reqwest::Error) -> NoAnswer {
    if error.is_timeout() {
        return NoAnswer::TimedOut;
    }
    // The error itself shows the URL, and with it the key that may stand in its query.
    NoAnswer::Unreachable(deepest(&error.without_url()).to_string())
}

/// Hosts beyond which those that nobody asks are forgotten.
const HOSTS_KEPT: usize = 1000;

#[cfg(test)]
mod tests {
    use super::masked;

    #[test]
    fn nothing_secret_of_a_url_is_shown() {
        for (url, shown) in [
            ("https://a.example/b", "https://a.example/b"),
            (
                "https://a.example/b?code=secret",
                "https://a.example/b?****",
            ),
            ("https://a.example?code=secret", "https://a.example?****"),
            ("https://a.example/b#secret", "https://a.example/b?****"),
            (
                "http://me:secret@a.example:81/b@c",
                "http://****@a.example:81/b@c",
            ),
            (
                "http://secret@a.example?c=d@e/f",
                "http://****@a.example?****",
            ),
            (r"http:\\me:secret@a.example\b", "****"),
        ] {
            assert_eq!(masked(url), shown);
        }
    }
}
