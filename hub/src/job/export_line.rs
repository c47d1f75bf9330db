//! One line of an export: an identity with its twin. Pure.
//!
//! May not enter: which identities there are.

use azimuth_wire::ModuleId;
use azimuth_wire::registry::{Authentication, Capabilities, Status};
use azimuth_wire::twin::{Properties, Twin};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::registry::Identity;

/// How a file without keys begins. Azure's begins with such a line too.
pub const KEYS_ARE_LEFT_OUT: &str = "Warning: this file was exported without the keys of its identities. \
     Identities that are imported from it get new keys.";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExportLine<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    module_id: Option<&'a str>,
    e_tag: String,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_reason: &'a Option<String>,
    authentication: Value,
    #[serde(rename = "twinETag")]
    twin_etag: &'a str,
    #[serde(skip_serializing_if = "Map::is_empty")]
    tags: &'a Map<String, Value>,
    properties: &'a Properties,
    /// Of a device.
    #[serde(skip_serializing_if = "Option::is_none")]
    capabilities: Option<Capabilities>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_scope: &'a Option<String>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    parent_scopes: &'a [String],
    /// Of a module.
    #[serde(skip_serializing_if = "Option::is_none")]
    managed_by: &'a Option<String>,
}

/// Adds a line with its end. The modules that an edge device is made with have one where their twin says something.
pub fn write(
    identity: &Identity,
    twin: &Twin,
    exclude_keys: bool,
    file: &mut Vec<u8>,
) -> Result<(), serde_json::Error> {
    if identity.authentication == Authentication::None && says_nothing(twin) {
        return Ok(());
    }
    let module_id = identity.module_id.as_ref().map(ModuleId::as_str);
    let line = ExportLine {
        id: identity.device_id.as_str(),
        module_id,
        e_tag: identity.etag(),
        status: identity.status,
        status_reason: &identity.status_reason,
        authentication: authentication(&identity.authentication, exclude_keys)?,
        twin_etag: &twin.etag,
        tags: &twin.tags,
        properties: &twin.properties,
        capabilities: module_id.is_none().then_some(Capabilities {
            iot_edge: identity.iot_edge,
        }),
        device_scope: &identity.device_scope,
        parent_scopes: &identity.parent_scopes,
        managed_by: &identity.managed_by,
    };
    serde_json::to_writer(&mut *file, &line)?;
    file.push(b'\n');
    Ok(())
}

fn says_nothing(twin: &Twin) -> bool {
    let sections = [&twin.properties.desired, &twin.properties.reported];
    let mut members = sections.into_iter().filter_map(Value::as_object).flatten();
    twin.tags.is_empty() && members.all(|(name, _)| name.starts_with('$'))
}

fn authentication(given: &Authentication, exclude_keys: bool) -> Result<Value, serde_json::Error> {
    let mut shown = serde_json::to_value(given)?;
    if exclude_keys {
        shown["symmetricKey"] = json!({ "primaryKey": null, "secondaryKey": null });
    }
    Ok(shown)
}
