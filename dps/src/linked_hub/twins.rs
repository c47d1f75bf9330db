//! Identities together with their twins: one request writes both, so that neither is ever without the
//! other.
//!
//! May not enter: which twin a device gets.

use azimuth_wire::registry::Status;
use azimuth_wire::registry::bulk::BulkResult;
use azimuth_wire::{DeviceId, percent};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::attempt::Written;

use super::{Answer, Device, HubError, LinkedHub, Wanted, changed_too_often, identity};

/// What a device takes along from its old hub.
#[derive(Debug, Clone, PartialEq)]
pub struct Carried {
    /// `{tags, properties}` with versions and metadata.
    pub twin: Value,
    pub status: Status,
}

impl LinkedHub {
    /// The twin of a device, if the device is there.
    pub async fn twin(&self, id: &DeviceId) -> Result<Option<Carried>, HubError> {
        #[derive(Deserialize)]
        struct Twin {
            status: Status,
            #[serde(default)]
            tags: Value,
            properties: Value,
        }
        let path = format!("/twins/{}", percent::encode(id.as_str()));
        let found = self.send(Method::GET, &path, None, None).await?;
        if found.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let twin: Twin = found.read("a twin")?;
        let mut content = json!({ "properties": twin.properties });
        if !twin.tags.is_null() {
            content["tags"] = twin.tags;
        }
        Ok(Some(Carried {
            twin: content,
            status: twin.status,
        }))
    }

    /// Makes the device new. What is there under its name is left of a move that was cut off, and goes.
    pub async fn replace(&self, wanted: Wanted<'_>) -> Result<Written, HubError> {
        for _ in 0..Self::RACES {
            let made = self.make(wanted).await?;
            if !made.raced() {
                return made.done().map(|_| Written::Made);
            }
            self.remove(wanted.id).await?;
        }
        Err(changed_too_often())
    }

    /// Makes the device unless it is there, whose twin then stays as it is.
    pub async fn adopt(&self, wanted: Wanted<'_>) -> Result<Written, HubError> {
        let made = self.make(wanted).await?;
        if made.status != StatusCode::CONFLICT {
            return made.done().map(|_| Written::Made);
        }
        self.keep(wanted).await
    }

    pub(super) async fn make_with(
        &self,
        wanted: Wanted<'_>,
        twin: &Value,
    ) -> Result<Answer, HubError> {
        self.one("create", None, None, wanted, twin).await
    }

    /// Gives a device that is there the credential and the twin of `wanted`; it stays disabled if it is.
    pub(super) async fn overwrite(
        &self,
        wanted: Wanted<'_>,
        twin: &Value,
    ) -> Result<Written, HubError> {
        for _ in 0..Self::RACES {
            let found = self.request(Method::GET, wanted.id, None, None).await?;
            let (answer, written) = if found.status == StatusCode::NOT_FOUND {
                (self.make_with(wanted, twin).await?, Written::Made)
            } else {
                let device: Device = found.read("a device")?;
                let (mode, etag) = ("updateIfMatchETag", Some(device.etag.as_str()));
                let answer = self.one(mode, etag, Some(&device), wanted, twin).await?;
                (answer, Written::Updated)
            };
            if !answer.raced() {
                return answer.done().map(|_| written);
            }
        }
        Err(changed_too_often())
    }

    /// A bulk request of one identity; its answer as if it had been asked alone.
    async fn one(
        &self,
        mode: &str,
        etag: Option<&str>,
        present: Option<&Device>,
        wanted: Wanted<'_>,
        twin: &Value,
    ) -> Result<Answer, HubError> {
        let mut item = identity(wanted, present);
        item["id"] = wanted.id.as_str().into();
        item["importMode"] = mode.into();
        for member in ["tags", "properties"] {
            if let Some(content) = twin.get(member) {
                item[member] = content.clone();
            }
        }
        if let Some(etag) = etag {
            item["eTag"] = etag.into();
        }
        let body = Some(json!([item]).to_string());
        let answer = self.send(Method::POST, "/devices", None, body).await?;
        of_one(answer)
    }
}

/// 400 and a list with the item's own number, where the item was refused.
fn of_one(answer: Answer) -> Result<Answer, HubError> {
    let result: Option<BulkResult> = serde_json::from_str(&answer.body).ok();
    let refused = result.and_then(|result| result.errors.into_iter().next());
    let Some(number) = refused.and_then(|error| error.number()) else {
        return Ok(answer);
    };
    let status = u16::try_from(number / 1000).unwrap_or_default();
    let status = StatusCode::from_u16(status).unwrap_or(answer.status);
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        let sentence = format!("it answered {}", status.as_u16());
        return Err(HubError::Unreachable(sentence));
    }
    Ok(Answer { status, ..answer })
}
