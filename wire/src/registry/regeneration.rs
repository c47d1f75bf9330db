//! `POST /devices/keys/regenerate`: new keys for many identities in one request, and what became of them.
//!
//! May not enter: where keys come from.

use serde::Serialize;
use serde_json::Value;

use super::InvalidBody;
use super::bulk::{self, InvalidItem};
use crate::device_id::{Identity, ModuleId};
use crate::key::SymmetricKey;
use crate::members::{Members, expected};

/// What a client wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegenerationBody {
    pub which: PolicyKey,
    pub items: Vec<Result<Identity, InvalidItem>>,
}

/// Which of the two keys is to be new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum PolicyKey {
    #[serde(rename = "primaryKey")]
    Primary,
    #[serde(rename = "secondaryKey")]
    Secondary,
    #[serde(rename = "both")]
    Both,
}

/// Why a request as a whole is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRegeneration {
    #[error("`policyKey` must be `primaryKey`, `secondaryKey` or `both`")]
    PolicyKey,
    #[error(transparent)]
    Body(#[from] InvalidBody),
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Regeneration {
    pub policy_key: PolicyKey,
    pub errors: Vec<RegenerationError>,
    pub rotated_keys: Vec<RotatedKeys>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RegenerationError {
    pub id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module_id: Option<String>,
    pub error_code: u32,
    pub error_status: String,
}

/// Both keys of an identity as they are now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RotatedKeys {
    pub id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module_id: Option<ModuleId>,
    pub primary_key: SymmetricKey,
    pub secondary_key: SymmetricKey,
}

impl RegenerationBody {
    pub fn parse(json: &[u8]) -> Result<Self, InvalidRegeneration> {
        let value: Value = serde_json::from_slice(json)
            .map_err(|error| InvalidBody::NotJson(error.to_string()))?;
        let Value::Object(members) = &value else {
            return Err(expected("the body", "an object").into());
        };
        let members = Members(members);
        let which = match members.value("policyKey").and_then(Value::as_str) {
            Some(text) if text.eq_ignore_ascii_case("primaryKey") => PolicyKey::Primary,
            Some(text) if text.eq_ignore_ascii_case("secondaryKey") => PolicyKey::Secondary,
            Some(text) if text.eq_ignore_ascii_case("both") => PolicyKey::Both,
            Some(_) | None => return Err(InvalidRegeneration::PolicyKey),
        };
        let items = members.value("devices").and_then(Value::as_array);
        let items = items.ok_or_else(|| expected("devices", "an array"))?;
        Ok(Self {
            which,
            items: items.iter().map(bulk::target).collect(),
        })
    }
}
