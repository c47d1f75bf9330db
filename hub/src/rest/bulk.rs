//! `POST /devices`: up to a hundred identities with their twins, each for itself; those of one device in turn.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use azimuth_broker::Presence;
use azimuth_wire::registry::InvalidBody;
use azimuth_wire::registry::bulk::{BulkError, BulkItem, BulkResult, InvalidItem};
use azimuth_wire::{DeviceId, ErrorCode, Identity as Name};
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
        let mut errors = Vec::new();
        // What is about one device is done in its order: a module cannot be made before its device.
        let mut devices: HashMap<DeviceId, Vec<(usize, BulkItem)>> = HashMap::new();
        for (place, item) in items.into_iter().enumerate() {
            match item {
                Ok(item) => {
                    let device = item.name.device.clone();
                    devices.entry(device).or_default().push((place, item));
                }
                Err(invalid) => errors.push((place, refused(invalid))),
            }
        }
        // Devices begin in the order of the request, and their notifications have it.
        let mut devices: Vec<_> = devices.into_values().collect();
        devices.sort_by_key(|items| items.first().map(|(place, _)| *place));
        // On tasks of their own: all are on their way at once, and end also where the client has left.
        let under_way = devices.into_iter().map(|items| {
            let (registry, presence) = (Arc::clone(&self.registry), Arc::clone(&self.presence));
            tokio::spawn(async move {
                let mut errors = Vec::new();
                for (place, item) in items {
                    let failed = carry_out(&registry, &presence, item).await.err();
                    errors.extend(failed.map(|error| (place, error)));
                }
                errors
            })
        });
        let under_way: Vec<_> = under_way.collect();
        for task in under_way {
            // It is cut off only where the hub stops.
            errors.extend(task.await.map_err(|_| azimuth_storage::Error::Closed)?);
        }
        errors.sort_by_key(|(place, _)| *place);
        let errors: Vec<_> = errors.into_iter().map(|(_, error)| error).collect();
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
    registry: &Registry,
    presence: &Presence,
    item: BulkItem,
) -> Result<(), BulkError> {
    let name = item.name.clone();
    let _turn = registry.turn(&name).await;
    match registry.apply(item).await {
        Ok(Applied::Deleted(gone)) => on_the_line::forget(presence, &gone),
        Ok(Applied::Twin(desired)) => on_the_line::tell(presence, &name, desired.as_ref()),
        Ok(Applied::Written(written)) => on_the_line::follow(presence, &name, &written),
        Err(error) => return Err(failed(&name, &error)),
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
    check_count(elements.len())?;
    let items: Vec<_> = elements.iter().map(BulkItem::parse).collect();
    check_once(items.iter().flatten().map(|item| &item.name))?;
    Ok(items)
}

pub(super) fn check_count(count: usize) -> Result<(), Error> {
    match (1..=MOST).contains(&count) {
        true => Ok(()),
        false => Err(Error::Argument(format!(
            "the array must have 1 to {MOST} elements, not {count}"
        ))),
    }
}

/// Nobody stands twice in a request.
pub(super) fn check_once<'a>(mut names: impl Iterator<Item = &'a Name>) -> Result<(), Error> {
    let mut seen = HashSet::new();
    match names.find(|name| !seen.insert(*name)) {
        Some(name) => Err(Error::DefinedTwice(name.to_string())),
        None => Ok(()),
    }
}

pub(crate) fn refused(invalid: InvalidItem) -> BulkError {
    BulkError {
        device_id: invalid.id,
        module_id: invalid.module,
        error_code: ErrorCode::ArgumentInvalid.number().into(),
        error_status: invalid.why.to_string(),
    }
}

fn failed(name: &Name, error: &Error) -> BulkError {
    let code = error.code();
    if code.status() >= 500 {
        tracing::error!(error = error as &dyn std::error::Error, "an item failed");
    }
    BulkError {
        device_id: name.device.to_string(),
        module_id: name.module.as_ref().map(ToString::to_string),
        error_code: code.number().into(),
        error_status: error.to_string(),
    }
}
