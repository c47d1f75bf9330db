//! The way to a hub's HTTPS side, and how long an answer may take.
//!
//! What may not enter: what is asked, and what an answer means.

use std::time::Duration;

use reqwest::{Method, Response};
use serde_json::Value;

use crate::error::Error;

/// One hub, asked with the rights of a service. Whoever starts a monitor knows the way and signs.
pub trait Hub {
    /// What people call it.
    fn name(&self) -> &str;

    /// One request; an answer of any status is an answer.
    fn ask(&self, request: Request<'_>) -> impl Future<Output = Result<Response, Error>>;
}

/// What is asked.
#[derive(Debug)]
pub struct Request<'a> {
    pub method: Method,
    pub path: &'a str,
    pub query: &'a [(&'a str, String)],
    pub headers: &'a [(&'a str, &'a str)],
    pub body: Option<Value>,
}

/// How long a hub may be silent before it counts as away.
const PATIENCE: Duration = Duration::from_secs(10);
/// Of a refusal, so much is shown.
const SHOWN: usize = 300;

/// Asks, and takes nothing but a success for an answer.
pub async fn answered(hub: &impl Hub, request: Request<'_>) -> Result<Response, Error> {
    let response = in_time(hub.ask(request)).await??;
    if response.status().is_success() {
        return Ok(response);
    }
    let status = response.status().as_u16();
    let body = in_time(response.text()).await?.unwrap_or_default();
    let body = body.chars().take(SHOWN).collect();
    Err(Error::Refused { status, body })
}

/// What must happen while the hub is there.
pub async fn in_time<T>(work: impl Future<Output = T>) -> Result<T, Error> {
    let done = tokio::time::timeout(PATIENCE, work).await;
    done.map_err(|_| Error::Silent(PATIENCE))
}
