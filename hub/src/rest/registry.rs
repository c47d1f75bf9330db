//! Device identities over HTTPS: arguments out of the request, one call, an answer.

use axum::body::{Body, to_bytes};
use axum::http::HeaderMap;
use axum::http::header::IF_MATCH;
use axum::response::Response;
use azimuth_wire::DeviceId;
use azimuth_wire::etag::IfMatch;
use azimuth_wire::registry::DeviceBody;
use bytes::Bytes;

use super::{Rest, answer, header, on_the_line, paths};
use crate::error::Error;

/// Devices of one list, and what a list without a usable `top` has.
const MOST: usize = 1000;

/// Bytes of an identity's JSON that are read; a whole one has less than two thousand.
const BODY_LIMIT: usize = 256 << 10;

impl Rest {
    pub(super) fn list(&self, query: Option<&str>) -> Result<Response, Error> {
        let top = paths::parameter(query, "top").and_then(|top| top.parse().ok());
        let top = top.filter(|top| (1..=MOST).contains(top)).unwrap_or(MOST);
        answer::json(&self.registry.devices(top)?)
    }

    pub(super) fn read(&self, id: &str) -> Result<Response, Error> {
        let device = self.registry.device(&device_id(id)?)?;
        answer::with_etag(&device, &device.etag)
    }

    pub(super) async fn put(
        &self,
        id: &str,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Response, Error> {
        let id = device_id(id)?;
        let body = DeviceBody::parse(&whole(body, BODY_LIMIT).await?)?;
        let written = self.registry.put(&id, &if_match(headers), body).await?;
        if written.shut_out {
            on_the_line::shut_out(&self.presence, &id);
        }
        answer::with_etag(&written.device, &written.device.etag)
    }

    pub(super) async fn delete(&self, id: &str, headers: &HeaderMap) -> Result<Response, Error> {
        let id = device_id(id)?;
        self.registry.delete(&id, &if_match(headers)).await?;
        on_the_line::forget(&self.presence, &id);
        Ok(answer::empty())
    }
}

/// The bytes of a body, up to a limit.
pub(super) async fn whole(body: Body, limit: usize) -> Result<Bytes, Error> {
    let bytes = to_bytes(body, limit).await;
    bytes.map_err(|_| Error::BodyTooLarge(limit))
}

pub(super) fn device_id(text: &str) -> Result<DeviceId, Error> {
    let id = text.parse();
    id.map_err(|invalid: azimuth_wire::device_id::InvalidId| Error::Argument(invalid.to_string()))
}

pub(super) fn if_match(headers: &HeaderMap) -> IfMatch {
    IfMatch::parse(header(headers, &IF_MATCH))
}
