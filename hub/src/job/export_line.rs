//! One line of an export: an identity with its twin. Pure.
//!
//! May not enter: which identities there are.

use azimuth_wire::registry::{Authentication, Capabilities, Device, Status};
use azimuth_wire::twin::{Properties, Twin};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// How a file without keys begins. Azure's begins with such a line too.
pub const KEYS_ARE_LEFT_OUT: &str = "Warning: this file was exported without the keys of its identities. \
     Identities that are imported from it get new keys.";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExportLine<'a> {
    id: &'a str,
    e_tag: &'a str,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_reason: &'a Option<String>,
    authentication: Value,
    #[serde(rename = "twinETag")]
    twin_etag: &'a str,
    #[serde(skip_serializing_if = "Map::is_empty")]
    tags: &'a Map<String, Value>,
    properties: &'a Properties,
    capabilities: Capabilities,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_scope: &'a Option<String>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    parent_scopes: &'a [String],
}

/// Adds a line with its end.
pub fn write(
    device: &Device,
    twin: &Twin,
    exclude_keys: bool,
    file: &mut Vec<u8>,
) -> Result<(), serde_json::Error> {
    let line = ExportLine {
        id: device.device_id.as_str(),
        e_tag: &device.etag,
        status: device.status,
        status_reason: &device.status_reason,
        authentication: authentication(&device.authentication, exclude_keys)?,
        twin_etag: &twin.etag,
        tags: &twin.tags,
        properties: &twin.properties,
        capabilities: device.capabilities,
        device_scope: &device.device_scope,
        parent_scopes: &device.parent_scopes,
    };
    serde_json::to_writer(&mut *file, &line)?;
    file.push(b'\n');
    Ok(())
}

fn authentication(given: &Authentication, exclude_keys: bool) -> Result<Value, serde_json::Error> {
    let mut shown = serde_json::to_value(given)?;
    if exclude_keys {
        shown["symmetricKey"] = json!({ "primaryKey": null, "secondaryKey": null });
    }
    Ok(shown)
}
