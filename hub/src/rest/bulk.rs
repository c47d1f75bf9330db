//! `POST /devices`: up to a hundred identities with their twins, each for itself.

use std::collections::HashSet;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use azimuth_wire::ErrorCode;
use azimuth_wire::registry::InvalidBody;
use azimuth_wire::registry::bulk::{BulkError, BulkItem, BulkResult, InvalidItem, WhyInvalid};
use serde_json::Value;

use super::registry::whole;
use super::{Rest, answer};
use crate::error::Error;
use crate::registry::Applied;

/// Azure's limit of one request.
const MOST: usize = 100;

/// Bytes that are read: a hundred devices with rather large twins.
const BODY_LIMIT: usize = 8 << 20;

impl Rest {
    /// Whatever goes wrong with one item, the others are carried out.
    pub(super) async fn bulk(&self, body: Body) -> Result<Response, Error> {
        let items = items(&whole(body, BODY_LIMIT).await?)?;
        // On tasks of their own: all are on their way at once, and end also where the client has left.
        let under_way = items.into_iter().map(|item| {
            let item = item.map_err(refused)?;
            let (registry, id) = (Arc::clone(&self.registry), item.id.clone());
            let applying = async move { registry.apply(item).await };
            Ok((id, tokio::spawn(applying)))
        });
        let under_way: Vec<Result<_, BulkError>> = under_way.collect();
        let mut errors = Vec::new();
        for item in under_way {
            let (id, task) = match item {
                Ok(applying) => applying,
                Err(refused) => {
                    errors.push(refused);
                    continue;
                }
            };
            // Only where the hub stops.
            let applied = task.await.map_err(|_| azimuth_storage::Error::Closed)?;
            match applied {
                Ok(Applied::Deleted) => self.forget(&id),
                Ok(Applied::Twin(desired)) => self.tell(&id, desired),
                Ok(Applied::Written(written)) => {
                    if written.shut_out {
                        self.shut_out(&id);
                    }
                    self.tell(&id, written.desired);
                }
                Err(error) => errors.push(failed(id.to_string(), &error)),
            }
        }
        let result = BulkResult {
            is_successful: errors.is_empty(),
            errors,
            warnings: Vec::new(),
        };
        match result.is_successful {
            true => answer::json(&result),
            false => Err(Error::Bulk(result.into())),
        }
    }
}

/// The items, where the request as a whole can be carried out.
fn items(json: &[u8]) -> Result<Vec<Result<BulkItem, InvalidItem>>, Error> {
    let value: Value =
        serde_json::from_slice(json).map_err(|error| InvalidBody::NotJson(error.to_string()))?;
    let Value::Array(elements) = value else {
        return Err(Error::Argument("the body must be an array".into()));
    };
    if elements.is_empty() || elements.len() > MOST {
        let count = elements.len();
        let sentence = format!("the array must have 1 to {MOST} elements, not {count}");
        return Err(Error::Argument(sentence));
    }
    let items: Vec<_> = elements.iter().map(BulkItem::parse).collect();
    let mut seen = HashSet::new();
    let mut ids = items.iter().flatten().map(|item| &item.id);
    match ids.find(|id| !seen.insert(*id)) {
        Some(id) => Err(Error::DefinedTwice(id.to_string())),
        None => Ok(items),
    }
}

fn refused(invalid: InvalidItem) -> BulkError {
    let code = match &invalid.why {
        WhyInvalid::Module => ErrorCode::FeatureNotSupported,
        WhyInvalid::Body(_) | WhyInvalid::Id(_) => ErrorCode::ArgumentInvalid,
    };
    BulkError {
        device_id: invalid.id,
        module_id: invalid.module,
        error_code: code.number().into(),
        error_status: invalid.why.to_string(),
    }
}

fn failed(device_id: String, error: &Error) -> BulkError {
    let code = error.code();
    if code.status() >= 500 {
        tracing::error!(error = error as &dyn std::error::Error, "an item failed");
    }
    BulkError {
        device_id,
        module_id: None,
        error_code: code.number().into(),
        error_status: error.to_string(),
    }
}
