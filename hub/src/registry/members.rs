//! Single members of a twin as services see it, for who looks at few members of many twins.
//!
//! What they are says [`super::twins::shown`], which makes all of them; a test compares the two. May not enter:
//! which are looked at.

use serde::Serialize;
use serde_json::{Value, json};

use super::{Identity, Liveness, twins};

/// A member that follows from the identity and from what happens on its line. `None` where it is not there.
pub fn of_identity(identity: &Identity, live: Liveness, name: &str) -> Option<Value> {
    match name {
        "deviceId" => written(&identity.device_id),
        "moduleId" => written(identity.module_id.as_ref()?),
        "deviceEtag" => written(&identity.etag()),
        "status" => written(&identity.status),
        "statusReason" => written(identity.status_reason.as_ref()?),
        "statusUpdateTime" => written(&identity.status_updated_time),
        "connectionState" => written(&live.state),
        "lastActivityTime" => written(&live.activity),
        "cloudToDeviceMessageCount" => Some(0.into()),
        "authenticationType" => written(&identity.authentication.kind()),
        "x509Thumbprint" => written(&twins::thumbprints(&identity.authentication)),
        "modelId" => Some("".into()),
        "capabilities" => {
            let iot_edge = identity.iot_edge && identity.module_id.is_none();
            Some(json!({ "iotEdge": iot_edge }))
        }
        "deviceScope" => written(identity.device_scope.as_ref()?),
        "parentScopes" if identity.parent_scopes.is_empty() => None,
        "parentScopes" => written(&identity.parent_scopes),
        _ => None,
    }
}

fn written(value: &impl Serialize) -> Option<Value> {
    serde_json::to_value(value).ok()
}
