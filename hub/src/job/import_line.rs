//! One line of an import: the identity it is about, or why it is none. Pure.
//!
//! Errors never repeat the line, for it may hold keys. May not enter: what an import mode does.

use azimuth_wire::ErrorCode;
use azimuth_wire::registry::bulk::{BulkError, BulkItem, ImportMode};
use serde::Serialize;
use serde_json::Value;

use super::lines::{LONGEST, Line};
use crate::rest::refused;

/// A line of the error log of an import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LineError {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module_id: Option<String>,
    pub error_code: Value,
    pub error_status: String,
}

impl From<BulkError> for LineError {
    fn from(error: BulkError) -> Self {
        Self {
            device_id: Some(error.device_id),
            module_id: error.module_id,
            error_code: error.error_code,
            error_status: error.error_status,
        }
    }
}

/// Reads a line. Azure wants a `status` in each.
pub fn read(line: &Line) -> Result<BulkItem, LineError> {
    let Some(text) = &line.text else {
        return Err(format(line, &format!("it has more than {LONGEST} bytes")));
    };
    let value: Value =
        serde_json::from_slice(text).map_err(|error| format(line, &without_text(&error)))?;
    let has_status = value.as_object().is_some_and(|members| {
        let mut members = members.iter();
        members.any(|(name, value)| name.eq_ignore_ascii_case("status") && value.is_string())
    });
    let mut item = BulkItem::parse(&value).map_err(|invalid| LineError::from(refused(invalid)))?;
    if !has_status {
        return Err(format(line, "`status` is missing"));
    }
    let of_edge = item.name.module.as_ref();
    if of_edge.is_some_and(|module| module.as_str().starts_with('$')) {
        item.mode = only_the_twin(item.mode);
    }
    Ok(item)
}

/// The modules that an edge device is made with are nobody's to write; their twins are.
fn only_the_twin(mode: ImportMode) -> ImportMode {
    match mode {
        ImportMode::Create
        | ImportMode::Update
        | ImportMode::UpdateIfMatchEtag
        | ImportMode::CreateOrUpdate
        | ImportMode::CreateOrUpdateIfMatchEtag => ImportMode::UpdateTwin,
        ImportMode::Delete
        | ImportMode::DeleteIfMatchEtag
        | ImportMode::UpdateTwin
        | ImportMode::UpdateTwinIfMatchEtag => mode,
    }
}

fn format(line: &Line, why: &str) -> LineError {
    LineError {
        device_id: None,
        module_id: None,
        error_code: ErrorCode::DeserializationError.number().into(),
        error_status: format!("Invalid device format in line {}: {why}", line.number),
    }
}

/// The error's own text may show a piece of the line.
fn without_text(error: &serde_json::Error) -> String {
    let why = match error.classify() {
        serde_json::error::Category::Eof => "it ends too early",
        _ => "it is not JSON",
    };
    format!("{why} (at byte {})", error.column())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(text: &str) -> Result<BulkItem, LineError> {
        let text = Some(text.as_bytes().to_vec());
        read(&Line { number: 7, text })
    }

    #[test]
    fn a_line_is_an_item_of_a_request_with_many() {
        let item = of(r#"{"id":"d","status":"enabled","tags":{"a":1}}"#).unwrap();
        assert_eq!(item.mode, ImportMode::CreateOrUpdate);
        let item = of(r#"{"ID":"d","importMode":"DELETE","Status":"Enabled"}"#).unwrap();
        assert_eq!(item.mode, ImportMode::Delete);
    }

    #[test]
    fn a_line_that_is_none_is_told_by_its_number_and_never_repeated() {
        for (text, why) in [
            ("Keys are left out", "it is not JSON (at byte 1)"),
            (r#"{"id":"d","#, "it ends too early (at byte 10)"),
            (r#"{"id":"d"}"#, "`status` is missing"),
            (r#"{"id":"d","status":null}"#, "`status` is missing"),
        ] {
            let error = of(text).unwrap_err();
            assert_eq!(
                error.error_status,
                format!("Invalid device format in line 7: {why}"),
                "{text}"
            );
            assert_eq!(error.error_code, 400_012);
            assert_eq!(error.device_id, None);
        }
        let too_long = read(&Line {
            number: 3,
            text: None,
        });
        let too_long = too_long.unwrap_err().error_status;
        assert!(too_long.ends_with("it has more than 1048576 bytes"));
    }

    #[test]
    fn a_line_that_cannot_be_carried_out_names_its_device() {
        let error = of(r#"{"id":"d","status":"on"}"#).unwrap_err();
        assert_eq!(error.device_id.as_deref(), Some("d"));
        let line = serde_json::to_string(&error).unwrap();
        assert!(
            line.starts_with(r#"{"deviceId":"d","errorCode":400004,"errorStatus":""#),
            "{line}"
        );
        let deep = format!(
            r#"{{"id":"d","status":"enabled","tags":{}"#,
            "[".repeat(10_000)
        );
        assert_eq!(of(&deep).unwrap_err().error_code, 400_012);
    }
}
