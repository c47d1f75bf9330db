//! Identities over HTTPS: arguments out of the request, one call, an answer.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::http::HeaderMap;
use axum::http::header::IF_MATCH;
use axum::response::Response;
use azimuth_wire::device_id::InvalidId;
use azimuth_wire::etag::IfMatch;
use azimuth_wire::registry::{IdentityBody, Status};
use azimuth_wire::{DeviceId, Identity as Name};
use bytes::Bytes;

use super::paths::Named;
use super::twins::to_its_end;
use super::{Rest, answer, header, on_the_line, paths};
use crate::error::Error;
use crate::registry::Shown;

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

    pub(super) fn modules(&self, device: &str) -> Result<Response, Error> {
        let device: DeviceId = device.parse().map_err(invalid)?;
        self.within_reach(&Name::device(device.clone()))?;
        answer::json(&self.registry.modules(&device)?)
    }

    pub(super) fn read(&self, named: &Named) -> Result<Response, Error> {
        let name = self.reached(named)?;
        shown(&self.registry.read(&name)?)
    }

    pub(super) async fn put(
        &self,
        named: &Named,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Response, Error> {
        let name = self.reached(named)?;
        let body = IdentityBody::parse(&whole(body, BODY_LIMIT).await?)?;
        let (registry, presence) = (Arc::clone(&self.registry), Arc::clone(&self.presence));
        let if_match = if_match(headers);
        let identity = to_its_end(async move {
            let written = registry.put(&name, &if_match, body).await?;
            on_the_line::follow(&presence, &name, &written);
            Ok(written.identity)
        });
        shown(&identity.await?)
    }

    pub(super) async fn delete(
        &self,
        named: &Named,
        headers: &HeaderMap,
    ) -> Result<Response, Error> {
        let name = self.reached(named)?;
        let (registry, presence) = (Arc::clone(&self.registry), Arc::clone(&self.presence));
        let if_match = if_match(headers);
        to_its_end(async move {
            let gone = registry.delete(&name, &if_match).await?;
            on_the_line::forget(&presence, &gone);
            Ok(())
        })
        .await?;
        Ok(answer::empty())
    }

    fn reached(&self, named: &Named) -> Result<Name, Error> {
        let name = name(named)?;
        if name.module.is_some() {
            self.within_reach(&name.of_device())?;
        }
        Ok(name)
    }

    /// Azure was seen to refuse every operation on modules of a device that is missing or disabled.
    fn within_reach(&self, device: &Name) -> Result<(), Error> {
        let why = match self.registry.identity(device)? {
            Some(device) if device.status == Status::Enabled => return Ok(()),
            Some(_) => "is disabled",
            None => "does not exist",
        };
        Err(Error::ModulesShut {
            device: device.to_string(),
            why,
        })
    }
}

/// The version of a device stands in a header as well.
fn shown(identity: &Shown) -> Result<Response, Error> {
    match identity {
        Shown::Device(device) => answer::with_etag(device, &device.etag),
        Shown::Module(module) => answer::json(module),
    }
}

/// The bytes of a body, up to a limit.
pub(super) async fn whole(body: Body, limit: usize) -> Result<Bytes, Error> {
    let bytes = to_bytes(body, limit).await;
    bytes.map_err(|_| Error::BodyTooLarge(limit))
}

pub(super) fn name(named: &Named) -> Result<Name, Error> {
    let module = named.module.as_deref().map(str::parse).transpose();
    Ok(Name {
        device: named.device.parse().map_err(invalid)?,
        module: module.map_err(invalid)?,
    })
}

pub(super) fn if_match(headers: &HeaderMap) -> IfMatch {
    IfMatch::parse(header(headers, &IF_MATCH))
}

fn invalid(id: InvalidId) -> Error {
    Error::Argument(id.to_string())
}
