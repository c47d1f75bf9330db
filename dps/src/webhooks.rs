//! Asks webhooks of custom allocation over HTTP: one request, one answer, no meaning.
//!
//! Requests at once are bounded per host, so that a slow webhook holds up its own registrations only.
//! What may not enter: what is sent, what an answer means, how often to ask again.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use reqwest::{Client, Url};
use tokio::sync::Semaphore;

use crate::linked_hub::deepest;

/// The way to all webhooks.
pub struct Webhooks {
    /// The authority that is trusted beside those of the system, PEM.
    roots_pem: String,
    timeout: Duration,
    /// Made when first needed: reading the system's authorities takes a while.
    client: OnceLock<Result<Client, String>>,
    permits: Mutex<HashMap<String, Arc<Semaphore>>>,
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

    /// The status and the body of the answer, or why there is none. `patience` bounds the wait for
    /// others that ask the same host.
    pub async fn ask(
        &self,
        url: &str,
        body: Bytes,
        patience: Duration,
    ) -> Result<(u16, Vec<u8>), String> {
        let url = Url::parse(url).map_err(|error| error.to_string())?;
        let client = self.client.get_or_init(|| self.client()).as_ref()?;
        let permits = self.permits_of(&url);
        let permit = tokio::time::timeout(patience, permits.acquire()).await;
        let _permit = permit.map_err(|_| "too many registrations wait for it".to_owned())?;
        let request = client
            .post(url)
            .header("content-type", "application/json; charset=utf-8")
            .body(body);
        let mut response = request.send().await.map_err(told)?;
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(told)? {
            answer.extend_from_slice(&chunk);
            if answer.len() > Self::MOST_BYTES {
                let most = Self::MOST_BYTES;
                return Err(format!("its answer has more than {most} bytes"));
            }
        }
        Ok((response.status().as_u16(), answer))
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

fn told(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return "it did not answer in time".into();
    }
    // The error itself shows the URL, and with it the key that may stand in its query.
    deepest(&error.without_url()).to_string()
}

/// Hosts beyond which those that nobody asks are forgotten.
const HOSTS_KEPT: usize = 1000;
