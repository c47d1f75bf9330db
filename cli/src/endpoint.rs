//! A service's HTTPS side, asked with a token of one of its policies.
//!
//! What may not enter: what is asked, and how an answer is shown.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use azimuth_clock::{Clock, SystemClock};
use azimuth_wire::connection_string::ConnectionString;
use azimuth_wire::{percent, sas, time};
use reqwest::{Method, Response};
use serde_json::Value;

use crate::paste::{DpsPaste, HubPaste, Paste};

/// Where a request goes and how it is signed.
#[derive(Clone)]
pub struct Endpoint {
    /// What people call it.
    pub label: String,
    pub string: ConnectionString,
    /// Dialled instead of what the resolver says of the host name.
    pub address: Option<IpAddr>,
    /// Dialled when the resolver knows nothing of the host name.
    pub otherwise: Option<IpAddr>,
    pub port: u16,
    pub ca_file: PathBuf,
}

/// An endpoint with connections of its own.
pub struct Open {
    endpoint: Endpoint,
    client: reqwest::Client,
}

impl Endpoint {
    pub fn hub(paste: &Paste, hub: &HubPaste) -> anyhow::Result<Self> {
        Ok(Self {
            label: hub.name.clone(),
            string: hub.local_string()?,
            address: hub.dial,
            otherwise: Some(hub.address),
            port: paste.https_port,
            ca_file: paste.ca_file.clone(),
        })
    }

    pub fn dps(paste: &Paste, dps: &DpsPaste) -> anyhow::Result<Self> {
        Ok(Self {
            label: dps.name.clone(),
            string: dps.local_string()?,
            address: dps.dial,
            otherwise: Some(dps.address),
            port: paste.https_port,
            ca_file: paste.ca_file.clone(),
        })
    }

    pub async fn get(&self, path: &str, query: &[(&str, String)]) -> anyhow::Result<Response> {
        self.send(Method::GET, path, query, &[], None).await
    }

    /// One request; an answer of any status is an answer.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> anyhow::Result<Response> {
        let open = self.clone().open().await?;
        open.send(method, path, query, headers, body).await
    }

    /// For several requests: connections are kept from one to the next.
    pub async fn open(self) -> anyhow::Result<Open> {
        let client = self.client().await?;
        Ok(Open {
            endpoint: self,
            client,
        })
    }

    async fn client(&self) -> anyhow::Result<reqwest::Client> {
        let pem = std::fs::read_to_string(&self.ca_file)
            .with_context(|| format!("the CA file {} cannot be read", self.ca_file.display()))?;
        let tls = azimuth_certs::client_config(Some(&pem))?;
        let mut client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .connect_timeout(Duration::from_secs(5));
        if let Some(address) = self.dialled().await {
            let there = SocketAddr::new(address, self.port);
            client = client.resolve(&self.string.host_name, there);
        }
        Ok(client.build()?)
    }

    async fn dialled(&self) -> Option<IpAddr> {
        if self.address.is_some() {
            return self.address;
        }
        let otherwise = self.otherwise?;
        let host = self.string.host_name.as_str();
        let known = tokio::net::lookup_host((host, self.port)).await;
        let known = known.is_ok_and(|mut found| found.next().is_some());
        (!known).then_some(otherwise)
    }

    fn token(&self) -> anyhow::Result<String> {
        let string = &self.string;
        let key = string
            .key
            .as_ref()
            .context("the connection string holds no SharedAccessKey")?;
        let expiry = time::unix_seconds(SystemClock.utc()) + 3600;
        Ok(sas::sign(
            &string.host_name,
            key,
            expiry,
            string.key_name.as_deref(),
        ))
    }
}

impl Open {
    /// What people call it.
    pub fn label(&self) -> &str {
        &self.endpoint.label
    }

    /// The name or address in its connection string.
    pub fn host_name(&self) -> &str {
        &self.endpoint.string.host_name
    }

    /// One request; an answer of any status is an answer.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> anyhow::Result<Response> {
        let (host, port) = (&self.endpoint.string.host_name, self.endpoint.port);
        let mut url = format!("https://{host}:{port}{path}?api-version={API_VERSION}");
        for (name, value) in query {
            url += &format!("&{name}={}", percent::encode(value));
        }
        let mut request = self
            .client
            .request(method, url)
            .header("authorization", self.endpoint.token()?);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request
                .header("content-type", "application/json; charset=utf-8")
                .body(body.to_string());
        }
        request
            .send()
            .await
            .with_context(|| format!("{host} on port {port} cannot be asked; does it run?"))
    }
}

const API_VERSION: &str = "2021-04-12";
