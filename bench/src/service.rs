//! The service REST API of a hub, over lines that are kept.
//!
//! What may not enter: what is measured.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use anyhow::{Context, bail};
use azimuth_wire::connection_string::ConnectionString;
use azimuth_wire::sas;
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::credentials::{bench_key, device_id, far_expiry};

/// A hub as a back end sees it.
#[derive(Clone)]
pub struct Service {
    client: reqwest::Client,
    base: String,
    token: String,
}

const API_VERSION: &str = "2021-04-12";

impl Service {
    /// Identities in one bulk call; Azure takes no more.
    pub const BULK: usize = 100;

    pub fn new(
        address: SocketAddr,
        ca_pem: &str,
        owner: &ConnectionString,
    ) -> anyhow::Result<Self> {
        let key = owner.key.as_ref();
        let key = key.context("the connection string of the hub holds no key")?;
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(azimuth_certs::client_config(Some(ca_pem))?)
            .no_proxy()
            .timeout(Duration::from_secs(60))
            .build()?;
        let name = owner.key_name.as_deref();
        Ok(Self {
            client,
            base: format!("https://{address}"),
            token: sas::sign(&owner.host_name, key, far_expiry(), name),
        })
    }

    /// An identity without a twin that was written.
    pub async fn create(&self, device: usize) -> anyhow::Result<()> {
        let id = device_id(device);
        let body =
            json!({ "deviceId": id, "status": "enabled", "authentication": authentication() });
        let path = format!("/devices/{id}");
        self.ask(Method::PUT, &path, &[], &body).await?;
        Ok(())
    }

    /// A hundred identities from `first` on in one call, each with tags and properties of a few hundred bytes.
    pub async fn create_hundred(&self, first: usize) -> anyhow::Result<()> {
        let devices: Range<usize> = first..first + Self::BULK;
        let items: Vec<_> = devices.map(item).collect();
        let (answer, _) = self
            .ask(Method::POST, "/devices", &[], &Value::Array(items))
            .await?;
        match answer["isSuccessful"].as_bool() {
            Some(true) => Ok(()),
            _ => bail!("the bulk call was answered {answer}"),
        }
    }

    pub async fn read(&self, device: usize) -> anyhow::Result<()> {
        let path = format!("/devices/{}", device_id(device));
        self.ask(Method::GET, &path, &[], &Value::Null).await?;
        Ok(())
    }

    /// The least that can be asked: no identity is looked at.
    pub async fn count(&self) -> anyhow::Result<usize> {
        let path = "/statistics/devices";
        let (answer, _) = self.ask(Method::GET, path, &[], &Value::Null).await?;
        let count = answer["totalDeviceCount"].as_u64();
        let count = count.context("the statistics hold no number")?;
        Ok(usize::try_from(count)?)
    }

    /// A page of a query: its rows, and where to go on.
    pub async fn query(
        &self,
        text: &str,
        after: Option<&str>,
    ) -> anyhow::Result<(usize, Option<String>)> {
        let after = after.map(|after| ("x-ms-continuation", after));
        let headers: Vec<_> = [("x-ms-max-item-count", "1000")]
            .into_iter()
            .chain(after)
            .collect();
        let query = json!({ "query": text });
        let path = "/devices/query";
        let (answer, answered) = self.ask(Method::POST, path, &headers, &query).await?;
        let rows = answer.as_array().context("a page is no array")?.len();
        let next = answered.get("x-ms-continuation");
        let next = next.map(|next| next.to_str().map(str::to_owned));
        Ok((rows, next.transpose()?))
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> anyhow::Result<(Value, HeaderMap)> {
        let url = format!("{}{path}?api-version={API_VERSION}", self.base);
        let sent = exchange(
            &self.client,
            method.clone(),
            url,
            &self.token,
            headers,
            body,
        );
        let (status, answer, headers) = sent.await?;
        if !status.is_success() {
            bail!("{method} {path} was answered {status}: {answer}");
        }
        if answer.is_string() {
            bail!("{method} {path} was answered what is no JSON: {answer}");
        }
        Ok((answer, headers))
    }
}

/// One request to a service, and its answer; what is no JSON as a text.
pub async fn exchange(
    client: &reqwest::Client,
    method: Method,
    url: String,
    token: &str,
    headers: &[(&str, &str)],
    body: &Value,
) -> anyhow::Result<(StatusCode, Value, HeaderMap)> {
    let mut request = client
        .request(method, url)
        .header("Authorization", token)
        .header("Content-Type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if !body.is_null() {
        request = request.body(body.to_string());
    }
    let answer = request.send().await?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    let text = answer.text().await?;
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Ok((status, body, headers))
}

fn authentication() -> Value {
    let key = bench_key();
    let keys = json!({ "primaryKey": key.reveal(), "secondaryKey": key.reveal() });
    json!({ "type": "sas", "symmetricKey": keys })
}

fn item(device: usize) -> Value {
    let site = json!({ "floor": device % 50, "name": format!("building-{}", device % 7), "city": "Redmond" });
    json!({ "id": device_id(device), "importMode": "create", "authentication": authentication(),
        "tags": { "site": site, "environment": "production", "batch": device / 1000 },
        "properties": {
            "desired": { "interval": 30, "mode": "normal", "thresholds": { "high": 80, "low": 20 } },
            "reported": { "interval": 30, "battery": device % 100,
                "firmware": { "version": "1.2.3", "updated": "2026-01-02T03:04:05Z" } } } })
}
