//! Twins over HTTPS. Who writes one waits for its turn, and the device or module hears of each write in turn.

use std::sync::Arc;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::response::Response;
use azimuth_wire::twin::TwinBody;

use super::paths::Named;
use super::registry::{if_match, name, whole};
use super::{Rest, answer, on_the_line};
use crate::error::Error;

/// Bytes of a twin's JSON that are read; a whole one has some 150 thousand with its metadata.
const BODY_LIMIT: usize = 1 << 20;

impl Rest {
    pub(super) fn read_twin(&self, named: &Named) -> Result<Response, Error> {
        answer::json(&self.registry.twin(&name(named)?)?)
    }

    /// PATCH merges, PUT replaces.
    pub(super) async fn write_twin(
        &self,
        named: &Named,
        headers: &HeaderMap,
        body: Body,
        how: How,
    ) -> Result<Response, Error> {
        let name = name(named)?;
        let body = TwinBody::parse(&whole(body, BODY_LIMIT).await?)?;
        let (registry, presence) = (Arc::clone(&self.registry), Arc::clone(&self.presence));
        let if_match = if_match(headers);
        let written = to_its_end(async move {
            let _turn = registry.turn(&name).await;
            let written = match how {
                How::Merge => registry.patch_twin(&name, &if_match, &body).await?,
                How::Replace => registry.replace_twin(&name, &if_match, &body).await?,
            };
            on_the_line::tell(&presence, &name, written.desired.as_ref());
            Ok(written.twin)
        });
        answer::json(&written.await?)
    }
}

/// What a body does to the twin that is there.
#[derive(Debug, Clone, Copy)]
pub(super) enum How {
    Merge,
    Replace,
}

/// On a task of its own: what follows on a write is done also where the client has left meanwhile.
pub(super) async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    // It is cut off only where the hub stops.
    let ended = tokio::spawn(work).await;
    ended.map_err(|_| azimuth_storage::Error::Closed)?
}
