//! Several enrollments at once: each is taken or refused by itself.
//!
//! What may not enter: rules about enrollments.

use std::collections::HashSet;

use axum::body::Body;
use axum::response::Response;
use azimuth_wire::RegistrationId;
use azimuth_wire::api_version::ApiVersion;
use azimuth_wire::etag::IfMatch;
use futures_util::future::join_all;
use serde::Serialize;
use serde_json::{Value, json};

use super::{Asked, Office, Refused, Shown, check_condition, parsed_id, read, refusal_of};
use crate::enrollment::Entry;
use crate::error::Error;

/// What is done with each entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Create,
    Update,
    UpdateIfMatchEtag,
    Delete,
}

/// An entry and what it calls itself.
type Named<'a> = (&'a str, &'a Value);

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct BulkResult {
    is_successful: bool,
    errors: Vec<Value>,
}

impl Office {
    /// `POST /enrollments`: answered 200 whatever became of the single entries.
    pub(super) async fn bulk<E: Entry + Shown>(
        &self,
        asked: Asked<'_>,
        body: Body,
    ) -> Result<Response, Refused> {
        let request: Value = read(body).await?;
        let (mode, entries) = understood::<E>(&request)?;
        let results = self.each_of_bulk::<E>(mode, asked.version, &entries).await;
        let mut errors = Vec::new();
        for ((id, _), result) in entries.iter().zip(results) {
            let Err(error) = result else { continue };
            self.record(asked.who, asked.peer, refusal_of(&error));
            errors.push(json!({
                E::ID_MEMBER: id,
                "errorCode": error.code(),
                "errorStatus": error.to_string(),
            }));
        }
        let result = BulkResult {
            is_successful: errors.is_empty(),
            errors,
        };
        Ok(super::json("", &result))
    }

    /// Side by side, for one flush to disk; but two entries of one id one after the other.
    async fn each_of_bulk<E: Entry + Shown>(
        &self,
        mode: Mode,
        version: ApiVersion,
        entries: &[Named<'_>],
    ) -> Vec<Result<(), Error>> {
        let ids: HashSet<_> = entries.iter().map(|(id, _)| id.to_lowercase()).collect();
        if ids.len() == entries.len() {
            let each = entries.iter();
            let each = each.map(|(id, entry)| self.one_of_bulk::<E>(mode, version, id, entry));
            return join_all(each).await;
        }
        let mut results = Vec::with_capacity(entries.len());
        for (id, entry) in entries {
            results.push(self.one_of_bulk::<E>(mode, version, id, entry).await);
        }
        results
    }

    async fn one_of_bulk<E: Entry + Shown>(
        &self,
        mode: Mode,
        version: ApiVersion,
        id: &str,
        entry: &Value,
    ) -> Result<(), Error> {
        let folded = parsed_id::<RegistrationId>(id)?.folded();
        let condition = match mode {
            Mode::Create => IfMatch::Absent,
            Mode::Update => IfMatch::Any,
            Mode::UpdateIfMatchEtag => match IfMatch::parse(entry["etag"].as_str()) {
                IfMatch::Absent => {
                    let sentence = "mode updateIfMatchETag needs the member etag of each entry";
                    return Err(Error::Invalid(sentence.into()));
                }
                given => given,
            },
            Mode::Delete => {
                return self
                    .enrollments
                    .delete::<E>(&folded, &IfMatch::Absent)
                    .await;
            }
        };
        check_condition(&condition)?;
        let entry: E = serde_json::from_value(entry.clone())
            .map_err(|error| Error::Invalid(error.to_string()))?;
        let entry = entry.written_by(version);
        let now = self.clock.utc();
        self.enrollments.put(entry, &condition, now).await.map(drop)
    }
}

/// The mode, and each entry with its id. What cannot be told apart by ids is refused whole.
fn understood<E: Shown>(request: &Value) -> Result<(Mode, Vec<Named<'_>>), Error> {
    let invalid = |sentence: String| Err(Error::Invalid(sentence));
    let mode = request["mode"].as_str().unwrap_or_default();
    let Some((_, mode)) = MODES
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(mode))
    else {
        return invalid(format!(
            "mode is create, update, updateIfMatchETag or delete, not `{}`",
            mode.chars().take(40).collect::<String>()
        ));
    };
    let Some(entries) = request[E::COLLECTION].as_array() else {
        return invalid(format!("the member {} is a list", E::COLLECTION));
    };
    if !(1..=MOST_ENTRIES).contains(&entries.len()) {
        return invalid(format!(
            "{} holds 1 to {MOST_ENTRIES} entries, not {}",
            E::COLLECTION,
            entries.len()
        ));
    }
    let named = entries
        .iter()
        .map(|entry| Some((entry[E::ID_MEMBER].as_str()?, entry)));
    match named.collect::<Option<_>>() {
        Some(entries) => Ok((*mode, entries)),
        None => invalid(format!("each entry needs its {}", E::ID_MEMBER)),
    }
}

const MODES: [(&str, Mode); 4] = [
    ("create", Mode::Create),
    ("update", Mode::Update),
    ("updateIfMatchETag", Mode::UpdateIfMatchEtag),
    ("delete", Mode::Delete),
];
/// Azure's.
const MOST_ENTRIES: usize = 10;

#[cfg(test)]
mod tests;
