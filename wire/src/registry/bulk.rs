//! `POST /devices`: many identities, each with its twin, in one request, and what became of them.
//!
//! May not enter: what a mode does.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{IdentityBody, InvalidBody};
use crate::ErrorCode;
use crate::device_id::Identity;
use crate::members::{Members, expected};
use crate::twin::TwinBody;

/// One identity of a request: a device, or a module of one.
#[derive(Debug, Clone, PartialEq)]
pub struct BulkItem {
    pub name: Identity,
    pub mode: ImportMode,
    /// For the modes that demand one; absent and `*` are any.
    pub etag: Option<String>,
    pub twin_etag: Option<String>,
    pub body: IdentityBody,
    pub twin: TwinBody,
}

/// What is to happen with an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportMode {
    Create,
    Update,
    UpdateIfMatchEtag,
    Delete,
    DeleteIfMatchEtag,
    CreateOrUpdate,
    CreateOrUpdateIfMatchEtag,
    UpdateTwin,
    UpdateTwinIfMatchEtag,
}

/// An element that cannot be carried out, as far as it says whom it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidItem {
    pub id: String,
    pub module: Option<String>,
    pub why: WhyInvalid,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WhyInvalid {
    #[error(transparent)]
    Body(#[from] InvalidBody),
    #[error(transparent)]
    Id(#[from] crate::device_id::InvalidId),
}

/// What became of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BulkResult {
    pub is_successful: bool,
    pub errors: Vec<BulkError>,
    /// Always empty: identity and twin are written together.
    #[serde(default)]
    pub warnings: Vec<Value>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BulkError {
    pub device_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module_id: Option<String>,
    /// A number of Azure's; its description of the API says a name.
    pub error_code: Value,
    #[serde(default)]
    pub error_status: String,
}

impl BulkError {
    /// The number, also where a hub says the name.
    pub fn number(&self) -> Option<u32> {
        let named = |name: &str| {
            let known = ErrorCode::ALL.iter().find(|code| code.name() == name);
            known.map(|code| code.number())
        };
        match &self.error_code {
            Value::Number(number) => u32::try_from(number.as_u64()?).ok(),
            Value::String(name) => named(name).or_else(|| name.parse().ok()),
            _ => None,
        }
    }
}

impl BulkItem {
    /// Reads one element of the array.
    pub fn parse(element: &Value) -> Result<Self, InvalidItem> {
        element_of(element, Self::read)
    }

    fn read(members: &Members<'_>) -> Result<Self, WhyInvalid> {
        Ok(Self {
            name: name(members)?,
            mode: mode(members.filled("importMode")?)?,
            etag: etag(members.filled("eTag")?),
            twin_etag: etag(members.filled("twinETag")?),
            body: IdentityBody {
                device_id: None,
                module_id: None,
                ..IdentityBody::of(members)?
            },
            twin: TwinBody::of(members)?,
        })
    }
}

/// Whom an element is about, where that is all it says.
pub(super) fn target(element: &Value) -> Result<Identity, InvalidItem> {
    element_of(element, name)
}

fn element_of<T>(
    element: &Value,
    read: impl Fn(&Members<'_>) -> Result<T, WhyInvalid>,
) -> Result<T, InvalidItem> {
    let Value::Object(members) = element else {
        return Err(InvalidItem {
            id: String::new(),
            module: None,
            why: expected("an element", "an object").into(),
        });
    };
    let members = Members(members);
    let text = |name| members.value(name).and_then(Value::as_str);
    read(&members).map_err(|why| InvalidItem {
        id: text("id").unwrap_or_default().chars().take(128).collect(),
        module: text("moduleId").map(|id| id.chars().take(128).collect()),
        why,
    })
}

fn name(members: &Members<'_>) -> Result<Identity, WhyInvalid> {
    let id = members.filled("id")?;
    let id = id.ok_or_else(|| expected("id", "the id of a device"))?;
    let module = members.filled("moduleId")?.map(str::parse).transpose()?;
    Ok(Identity {
        device: id.parse()?,
        module,
    })
}

fn mode(text: Option<&str>) -> Result<ImportMode, InvalidBody> {
    let Some(text) = text else {
        return Ok(ImportMode::CreateOrUpdate);
    };
    let known = MODES.iter();
    let mut known = known.filter(|(name, _)| name.eq_ignore_ascii_case(text));
    let wrong = || {
        expected(
            "importMode",
            "one of Azure's import modes, such as `create`",
        )
    };
    known.next().map(|(_, mode)| *mode).ok_or_else(wrong)
}

/// Quotes may stand around it. `*` demands nothing.
fn etag(text: Option<&str>) -> Option<String> {
    match crate::etag::IfMatch::parse(text) {
        crate::etag::IfMatch::Etag(etag) => Some(etag),
        crate::etag::IfMatch::Any | crate::etag::IfMatch::Absent => None,
    }
}

const MODES: [(&str, ImportMode); 9] = [
    ("create", ImportMode::Create),
    ("update", ImportMode::Update),
    ("updateIfMatchETag", ImportMode::UpdateIfMatchEtag),
    ("delete", ImportMode::Delete),
    ("deleteIfMatchETag", ImportMode::DeleteIfMatchEtag),
    ("createOrUpdate", ImportMode::CreateOrUpdate),
    (
        "createOrUpdateIfMatchETag",
        ImportMode::CreateOrUpdateIfMatchEtag,
    ),
    ("updateTwin", ImportMode::UpdateTwin),
    ("updateTwinIfMatchETag", ImportMode::UpdateTwinIfMatchEtag),
];
