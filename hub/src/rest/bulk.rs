//! `POST /devices`: up to a hundred identities with their twins, each for itself.

use std::collections::HashSet;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use azimuth_broker::Presence;
use azimuth_wire::ErrorCode;
use azimuth_wire::registry::InvalidBody;
use azimuth_wire::registry::bulk::{BulkError, BulkItem, BulkResult, InvalidItem, WhyInvalid};
use serde_json::Value;

use super::registry::whole;
use super::{Rest, answer, on_the_line};
use crate::error::Error;
use crate::registry::{Applied, Registry};

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
            let (registry, presence) = (Arc::clone(&self.registry), Arc::clone(&self.presence));
            let item = item.map_err(refused)?;
            Ok(tokio::spawn(carry_out(registry, presence, item)))
        });
        let under_way: Vec<Result<_, BulkError>> = under_way.collect();
        let mut errors = Vec::new();
        for task in under_way {
            let carried_out = match task {
                // It is cut off only where the hub stops.
                Ok(task) => task.await.map_err(|_| azimuth_storage::Error::Closed)?,
                Err(refused) => Err(refused),
            };
            errors.extend(carried_out.err());
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

pub(crate) async fn carry_out(
    registry: Arc<Registry>,
    presence: Arc<Presence>,
    item: BulkItem,
) -> Result<(), BulkError> {
    let id = item.id.clone();
    let _turn = registry.turn(&id).await;
    match registry.apply(item).await {
        Ok(Applied::Deleted) => on_the_line::forget(&presence, &id),
        Ok(Applied::Twin(desired)) => on_the_line::tell(&presence, &id, desired),
        Ok(Applied::Written(written)) => {
            if written.shut_out {
                on_the_line::shut_out(&presence, &id);
            }
            on_the_line::tell(&presence, &id, written.desired);
        }
        Err(error) => return Err(failed(id.to_string(), &error)),
    }
    Ok(())
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

pub(crate) fn refused(invalid: InvalidItem) -> BulkError {
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
