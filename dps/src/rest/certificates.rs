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
        let (cas, now) = (self.ca_certificates.clone(), self.clock.utc());
        let answer = match (path, method.as_str()) {
            (Path::CaCertificates, "GET") => {
                let all = serde_json::json!({ "value": cas.all()? });
                return Ok(json("", &all));
            }
            (Path::CaCertificate(name), "GET") => cas.get(name)?,
            (Path::CaCertificate(name), "PUT") => {
                // `If-None-Match: *` says what no `If-Match` means here: create, never replace.
                let only_new = headers.contains_key(IF_NONE_MATCH);
                let condition = match only_new {
                    true => IfMatch::Absent,
                    false => condition.clone(),
                };
                let (name, body) = (name.clone(), read(body).await?);
                to_its_end(async move { Ok(cas.put(&name, &body, &condition, now).await?) }).await?
            }
            (Path::CaCertificate(name), "DELETE") => {
                let (name, condition) = (name.clone(), condition.clone());
                to_its_end(async move { Ok(cas.remove(&name, &condition).await?) }).await?;
                return Ok(no_content());
            }
            (Path::CaCertificateCode(name), "POST") => {
                let (name, condition) = (name.clone(), condition.clone());
                to_its_end(async move { Ok(cas.challenge(&name, &condition, now).await?) }).await?
            }
            (Path::CaCertificateProof(name), "POST") => {
                let (name, condition) = (name.clone(), condition.clone());
                let proof = read(body).await?;
                to_its_end(async move { Ok(cas.verify(&name, &proof, &condition, now).await?) })
                    .await?
            }
            _ => return Err(Error::MethodNotAllowed.into()),
        };
        Ok(json("", &answer))
    }
}

/// On a task of its own: the copy in memory follows the store also where the client has left meanwhile.
async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    // It is cut off only where the service stops.
    let ended = tokio::spawn(work).await;
    ended.map_err(|_| azimuth_storage::Error::Closed)?
}

#[cfg(test)]
mod tests;
