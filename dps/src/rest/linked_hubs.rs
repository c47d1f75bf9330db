//! `/azimuth/linkedHubs`: the hubs devices may be sent to, in the shape of Azure's management API.
//!
//! Our own route, since Azure keeps links in its management plane. Keys go in and never come out.
//! What may not enter: rules about links.

use axum::body::Body;
use axum::http::header::IF_NONE_MATCH;
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use azimuth_wire::etag::IfMatch;
use azimuth_wire::linked_hub::IotHubDefinition;
use serde::de::DeserializeOwned;

use super::{Office, Refused, json, no_content};
use crate::error::Error;
use crate::linked_hubs::masked;

impl Office {
    pub(super) fn linked_hubs(&self, method: &Method) -> Result<Response, Refused> {
        if *method != Method::GET {
            return Err(Error::MethodNotAllowed.into());
        }
        let hubs = self.hubs.definitions()?.into_iter().map(masked);
        Ok(json("", &hubs.collect::<Vec<IotHubDefinition>>()))
    }

    pub(super) async fn linked_hub(
        &self,
        method: &Method,
        host: &str,
        condition: &IfMatch,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Response, Refused> {
        let answer = match *method {
            Method::GET => self.hubs.definition(host)?,
            Method::PUT => {
                // `If-None-Match: *` says what no `If-Match` means here: create, never replace.
                let only_new = headers.contains_key(IF_NONE_MATCH);
                let condition = if only_new {
                    &IfMatch::Absent
                } else {
                    condition
                };
                self.hubs.put(host, read(body).await?, condition).await?
            }
            Method::PATCH => self.hubs.update(host, read(body).await?, condition).await?,
            Method::DELETE => {
                self.hubs.remove(host, condition).await?;
                return Ok(no_content());
            }
            _ => return Err(Error::MethodNotAllowed.into()),
        };
        Ok(json("", &masked(answer)))
    }
}

/// A value in the wrong place is not repeated where it may be a key.
async fn read<T: DeserializeOwned>(body: Body) -> Result<T, Error> {
    match super::read(body).await {
        Err(Error::Invalid(sentence)) if sentence.contains("SharedAccessKey") => {
            let sentence = "the connection string belongs into the member connectionString";
            Err(Error::Invalid(sentence.into()))
        }
        read => read,
    }
}

#[cfg(test)]
mod tests;
