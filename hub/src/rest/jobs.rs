//! Import and export jobs over HTTPS.

use axum::body::Body;
use axum::response::Response;
use azimuth_wire::job::JobBody;

use super::registry::whole;
use super::{Rest, answer};
use crate::error::Error;

/// Bytes that are read; a body with two long URIs has less than ten thousand.
const BODY_LIMIT: usize = 256 << 10;

impl Rest {
    pub(super) async fn create_job(&self, body: Body) -> Result<Response, Error> {
        let body = JobBody::parse(&whole(body, BODY_LIMIT).await?)?;
        answer::json(&self.jobs.create(body).await?)
    }

    pub(super) fn list_jobs(&self) -> Result<Response, Error> {
        answer::json(&self.jobs.all()?)
    }

    pub(super) fn read_job(&self, id: &str) -> Result<Response, Error> {
        answer::json(&self.jobs.one(id)?)
    }

    pub(super) async fn cancel_job(&self, id: &str) -> Result<Response, Error> {
        self.jobs.cancel(id).await?;
        Ok(answer::empty())
    }
}
