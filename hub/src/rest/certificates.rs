//! `/azimuth/certificates`: the CA certificates of the hub, in the shape of Azure's management API.
//!
//! Our own route, since Azure keeps them in its management plane. What may not enter: who proved what.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use azimuth_wire::ca_certificate::CaCertificateBody;
use azimuth_wire::registry::InvalidBody;

use super::registry::{if_match, whole};
use super::twins::to_its_end;
use super::{Rest, answer};
use crate::error::Error;

/// What is asked of the CA certificates; names are not yet checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaRoute {
    /// `/azimuth/certificates`
    All,
    /// `/azimuth/certificates/{name}`
    One(String),
    /// `/azimuth/certificates/{name}/generateVerificationCode`
    Code(String),
    /// `/azimuth/certificates/{name}/verify`
    Proof(String),
}

/// Bytes that are read: PEM, in base64 once more, with room.
const BODY_LIMIT: usize = 64 << 10;

impl Rest {
    pub(super) async fn ca_certificates(
        &self,
        method: &Method,
        route: &CaRoute,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Response, Error> {
        let (cas, now) = (Arc::clone(&self.ca_certificates), self.clock.utc());
        // Without `If-Match`, PUT creates and never replaces.
        let condition = if_match(headers);
        let answer = match (route, method.as_str()) {
            (CaRoute::All, "GET") => {
                return answer::json(&serde_json::json!({ "value": cas.all()? }));
            }
            (CaRoute::One(name), "GET") => cas.get(name)?,
            (CaRoute::One(name), "PUT") => {
                let (name, body) = (name.clone(), read(body).await?);
                to_its_end(async move { Ok(cas.put(&name, &body, &condition, now).await?) }).await?
            }
            (CaRoute::One(name), "DELETE") => {
                let name = name.clone();
                to_its_end(async move { Ok(cas.remove(&name, &condition).await?) }).await?;
                return Ok(answer::empty());
            }
            (CaRoute::Code(name), "POST") => {
                let name = name.clone();
                to_its_end(async move { Ok(cas.challenge(&name, &condition, now).await?) }).await?
            }
            (CaRoute::Proof(name), "POST") => {
                let (name, proof) = (name.clone(), read(body).await?);
                to_its_end(async move { Ok(cas.verify(&name, &proof, &condition, now).await?) })
                    .await?
            }
            (_, method) => return Err(Error::Method(method.to_owned())),
        };
        answer::json(&answer)
    }
}

async fn read(body: Body) -> Result<CaCertificateBody, Error> {
    let bytes = whole(body, BODY_LIMIT).await?;
    let read = serde_json::from_slice(&bytes);
    Ok(read.map_err(|error| InvalidBody::NotJson(error.to_string()))?)
}
