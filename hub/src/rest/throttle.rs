//! Requests beyond what the hub's tier allows: first they wait, then they are refused.
//!
//! What may not enter: rates, and how much of them is used.

use std::time::Duration;

use axum::http::Method;
use axum::http::header::CONTENT_LENGTH;
use axum::http::request::Parts;

use super::paths::Route;
use super::{Rest, header};
use crate::error::Error;
use crate::quota::Operation;

/// How long a request waits at most before it is refused instead.
const PATIENCE: Duration = Duration::from_secs(10);

impl Rest {
    /// Lets a request go on, now or a little later.
    pub(super) async fn throttle(&self, head: &Parts, route: &Route) -> Result<(), Error> {
        let (Some(meter), Some(operation)) = (&self.meter, operation(&head.method, route)) else {
            return Ok(());
        };
        let twin = matches!(operation, Operation::TwinRead | Operation::TwinUpdate);
        if twin && meter.plan().is_basic() {
            return Err(Error::NotInTier);
        }
        let wait = meter.take(operation, PATIENCE, self.clock.now())?;
        if twin {
            let length = header(&head.headers, &CONTENT_LENGTH);
            let length = length.and_then(|length| length.parse().ok());
            meter.message(length.unwrap_or_default(), self.clock.utc())?;
        }
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }
}

/// What a request counts as; nothing where no rate is known.
fn operation(method: &Method, route: &Route) -> Option<Operation> {
    match route {
        Route::Devices
        | Route::Bulk
        | Route::Identity(_)
        | Route::Modules(_)
        | Route::RegenerateKeys => Some(Operation::IdentityRegistry),
        Route::Query => Some(Operation::Query),
        Route::Twin(_) if method == Method::GET => Some(Operation::TwinRead),
        Route::Twin(_) => Some(Operation::TwinUpdate),
        _ => None,
    }
}
