//! `/azimuth/certificates`: the CA certificates of the service, in the shape of Azure's management API.
//!
//! Our own route, since Azure keeps them in its management plane. What may not enter: who proved what.

use axum::body::Body;
use axum::http::header::IF_NONE_MATCH;
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use azimuth_wire::etag::IfMatch;

use super::paths::Path;
use super::{Office, Refused, json, no_content, read};
use crate::error::Error;

impl Office {
    pub(super) async fn ca_certificate(
        &self,
        method: &Method,
        path: &Path,
        condition: &IfMatch,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Response, Refused> {
        let (cas, now) = (&self.ca_certificates, self.clock.utc());
        let answer = match (path, method.as_str()) {
            (Path::CaCertificates, "GET") => {
                let all = serde_json::json!({ "value": cas.all()? });
                return Ok(json("", &all));
            }
            (Path::CaCertificate(name), "GET") => cas.get(name)?,
            (Path::CaCertificate(name), "PUT") => {
                // `If-None-Match: *` says what no `If-Match` means here: create, never replace.
                let only_new = headers.contains_key(IF_NONE_MATCH);
                let condition = if only_new {
                    &IfMatch::Absent
                } else {
                    condition
                };
                cas.put(name, &read(body).await?, condition, now).await?
            }
            (Path::CaCertificate(name), "DELETE") => {
                cas.remove(name, condition).await?;
                return Ok(no_content());
            }
            (Path::CaCertificateCode(name), "POST") => cas.challenge(name, condition, now).await?,
            (Path::CaCertificateProof(name), "POST") => {
                cas.verify(name, &read(body).await?, condition, now).await?
            }
            _ => return Err(Error::MethodNotAllowed.into()),
        };
        Ok(json("", &answer))
    }
}

#[cfg(test)]
mod tests;
