//! The service REST API of a DPS, and its device API over HTTPS, over lines that are kept.
//!
//! What may not enter: what is measured.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use anyhow::{Context, bail};
use azimuth_wire::connection_string::ConnectionString;
use azimuth_wire::{SymmetricKey, sas};
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::credentials::{bench_key, device_id, far_expiry, registration_token};
use crate::service::exchange;

/// A DPS as a back end sees it.
#[derive(Clone)]
pub struct Office {
    client: reqwest::Client,
    base: String,
    token: String,
    pub id_scope: String,
    /// Of the devices that register.
    group: String,
    group_key: SymmetricKey,
}

/// What can be listed.
#[derive(Debug, Clone, Copy)]
pub enum Listing {
    /// Individual enrollments.
    Enrollments,
    /// Registrations of the group.
    Registrations,
}

const API_VERSION: &str = "2021-10-01";

impl Office {
    /// Records in one bulk call; Azure takes no more.
    pub const BULK: usize = 10;

    pub fn new(
        address: SocketAddr,
        ca_pem: &str,
        owner: &ConnectionString,
        id_scope: String,
        (group, group_key): (String, SymmetricKey),
    ) -> anyhow::Result<Self> {
        let key = owner
            .key
            .as_ref()
            .context("the connection string of the DPS holds no key")?;
        let name = owner.key_name.as_deref();
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(azimuth_certs::client_config(Some(ca_pem))?)
            .no_proxy()
            .timeout(Duration::from_secs(30))
            .build()?;
        Ok(Self {
            client,
            base: format!("https://{address}"),
            token: sas::sign(&owner.host_name, key, far_expiry(), name),
            id_scope,
            group,
            group_key,
        })
    }

    /// A CA certificate that needs no proof, and a group of all that it signs.
    pub async fn enroll_certificates(&self, root_pem: &str) -> anyhow::Result<()> {
        let ca = json!({ "properties": { "certificate": root_pem, "isVerified": true } });
        self.ask(Method::PUT, "/azimuth/certificates/bench-root", &ca)
            .await?;
        let x509 = json!({ "caReferences": { "primary": "bench-root" } });
        let group = json!({ "enrollmentGroupId": "bench-certificates",
            "attestation": { "type": "x509", "x509": x509 } });
        let path = "/enrollmentGroups/bench-certificates";
        self.ask(Method::PUT, path, &group).await?;
        Ok(())
    }

    /// Individual enrollments for ten clients from `first` on, in one call.
    pub async fn enroll_ten(&self, first: usize) -> anyhow::Result<()> {
        let key = bench_key();
        let keys = json!({ "primaryKey": key.reveal(), "secondaryKey": key.reveal() });
        let attestation = json!({ "type": "symmetricKey", "symmetricKey": keys });
        let clients: Range<usize> = first..first + Self::BULK;
        let entries: Vec<_> = clients
            .map(|client| json!({ "registrationId": format!("enrolled-{client:06}"), "attestation": attestation }))
            .collect();
        let bulk = json!({ "mode": "create", "enrollments": entries });
        let (answer, _) = self.ask(Method::POST, "/enrollments", &bulk).await?;
        match answer["isSuccessful"].as_bool() {
            Some(true) => Ok(()),
            _ => bail!("the bulk call was answered {answer}"),
        }
    }

    /// Registers a member of the group over HTTPS, and does not wait until it is assigned.
    pub async fn register(&self, client: usize) -> anyhow::Result<()> {
        let id = device_id(client);
        let token = registration_token(&self.id_scope, &id, &self.group_key, far_expiry());
        let path = format!("/{}/registrations/{id}/register", self.id_scope);
        let body = json!({ "registrationId": id });
        loop {
            let (status, answer, _) = self.send(Method::PUT, &path, &token, &[], &body).await?;
            match status {
                StatusCode::ACCEPTED => return Ok(()),
                StatusCode::TOO_MANY_REQUESTS => {
                    tokio::time::sleep(Duration::from_millis(50)).await
                }
                _ => bail!("PUT {path} was answered {status}: {answer}"),
            }
        }
    }

    /// A page of a listing: how many records, and where to go on.
    pub async fn page(
        &self,
        listing: Listing,
        after: Option<String>,
    ) -> anyhow::Result<(usize, Option<String>)> {
        let headers: Vec<_> = after
            .iter()
            .map(|after| ("x-ms-continuation", after.as_str()))
            .collect();
        let query = json!({ "query": "SELECT *" });
        let path = match listing {
            Listing::Enrollments => "/enrollments/query".to_owned(),
            Listing::Registrations => format!("/registrations/{}/query", self.group),
        };
        let sent = self.send(Method::POST, &path, &self.token, &headers, &query);
        let (status, answer, headers) = sent.await?;
        let Some(page) = answer.as_array().filter(|_| status.is_success()) else {
            bail!("POST {path} was answered {status}: {answer}");
        };
        let next = headers.get("x-ms-continuation");
        let next = next.map(|next| next.to_str().map(str::to_owned));
        Ok((page.len(), next.transpose()?))
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> anyhow::Result<(Value, HeaderMap)> {
        let sent = self.send(method.clone(), path, &self.token, &[], body);
        let (status, answer, headers) = sent.await?;
        if !status.is_success() {
            bail!("{method} {path} was answered {status}: {answer}");
        }
        Ok((answer, headers))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        token: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> anyhow::Result<(StatusCode, Value, HeaderMap)> {
        let url = format!("{}{path}?api-version={API_VERSION}", self.base);
        exchange(&self.client, method, url, token, headers, body).await
    }
}
