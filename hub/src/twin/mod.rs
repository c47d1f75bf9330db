//! The twin of a device as it is stored, and what each kind of write does to it. Pure.
//!
//! A twin is as old as its identity. While nobody has written it, all of it follows from the identity,
//! and nothing is stored. May not enter: the store, live state, who may write.

mod part;
mod section;
mod stamps;

pub use part::TwinPart;

use azimuth_wire::etag::{self, IfMatch};
use azimuth_wire::time::Timestamp;
use azimuth_wire::twin::{SectionBody, TwinBody};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use section::{Kind, Section};

use crate::error::Error;

/// What is kept of a device beside its identity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Twin {
    /// Of the identity it belongs to; a later one of the same name has a twin of its own.
    pub generation_id: String,
    /// Behind the etag: one more with each write of a service.
    writes: u64,
    /// One more with each write.
    pub version: u64,
    #[serde(default)]
    pub tags: Map<String, Value>,
    pub desired: Section,
    pub reported: Section,
}

/// A write of a twin.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    pub twin: Twin,
    /// What a device that listens is told.
    pub desired: Option<DesiredChange>,
}

/// A change of desired properties, for a device.
#[derive(Debug, Clone, PartialEq)]
pub struct DesiredChange {
    pub version: u64,
    /// The patch with its nulls, or the whole section where it was replaced; and `$version`.
    pub payload: Value,
}

impl Twin {
    /// The twin of an identity that was made at `created`.
    pub fn initial(generation_id: &str, created: Timestamp) -> Self {
        Self {
            generation_id: generation_id.into(),
            writes: 1,
            version: 2,
            tags: Map::new(),
            desired: Section::new(created),
            reported: Section::new(created),
        }
    }

    /// The twin that a new identity is made with.
    pub fn with_content(self, content: &TwinBody) -> Result<Self, Error> {
        let mut twin = self;
        if let Some(tags) = &content.tags {
            twin.tags = replaced_tags(tags)?;
        }
        if let Some(desired) = &content.desired {
            twin.desired = Section::brought(Kind::Desired, desired)?;
        }
        if let Some(reported) = &content.reported {
            twin.reported = Section::brought(Kind::Reported, reported)?;
        }
        Ok(twin)
    }

    /// A PATCH of a service: tags and desired are merged. Reported properties are the device's. `None`
    /// where nothing is written.
    pub fn patched(&self, patch: &TwinBody, now: Timestamp) -> Result<Option<Written>, Error> {
        if patch.tags.is_none() && patch.desired.is_none() {
            return Ok(None);
        }
        let mut twin = self.written_by_service();
        if let Some(patch) = &patch.tags {
            twin.tags = patched_tags(&self.tags, patch)?;
        }
        let mut desired = None;
        if let Some(patch) = &patch.desired {
            let patch = match patch.cleared {
                true => {
                    let keys = self.desired.values.keys().cloned();
                    keys.map(|key| (key, Value::Null)).collect()
                }
                false => patch.values.clone(),
            };
            twin.desired = self.desired.patched(Kind::Desired, &patch, now)?;
            desired = Some(DesiredChange::of(&patch, twin.desired.version));
        }
        Ok(Some(Written { twin, desired }))
    }

    /// A PUT of a service: tags and desired are what the body says, and empty where it says nothing.
    pub fn replaced(&self, body: &TwinBody, now: Timestamp) -> Result<Option<Written>, Error> {
        let nothing = SectionBody::default();
        self.updated(
            &TwinBody {
                tags: Some(body.tags.as_ref().unwrap_or(&nothing).clone()),
                desired: Some(body.desired.as_ref().unwrap_or(&nothing).clone()),
                reported: None,
            },
            now,
        )
    }

    /// An update in bulk: each section that is given is replaced, others stay. `None` where none is.
    pub fn updated(&self, body: &TwinBody, now: Timestamp) -> Result<Option<Written>, Error> {
        if body.is_empty() {
            return Ok(None);
        }
        let mut twin = self.written_by_service();
        if let Some(tags) = &body.tags {
            twin.tags = replaced_tags(tags)?;
        }
        let mut change = None;
        if let Some(desired) = &body.desired {
            let desired = self.desired.replaced(Kind::Desired, &desired.values, now)?;
            change = Some(DesiredChange::of(&desired.values, desired.version));
            twin.desired = desired;
        }
        if let Some(reported) = &body.reported {
            twin.reported = self
                .reported
                .replaced(Kind::Reported, &reported.values, now)?;
        }
        Ok(Some(Written {
            twin,
            desired: change,
        }))
    }

    /// A device's patch of its reported properties. With `if_version`, only while they have that version.
    pub fn reported(
        &self,
        patch: &Map<String, Value>,
        if_version: Option<u64>,
        now: Timestamp,
    ) -> Result<Self, Error> {
        if let Some(wanted) = if_version
            && wanted != self.reported.version
        {
            return Err(Error::ReportedVersion {
                present: self.reported.version,
                wanted,
            });
        }
        let reported = self.reported.patched(Kind::Reported, patch, now)?;
        Ok(Self {
            version: self.version + 1,
            reported,
            ..self.clone()
        })
    }

    /// The unquoted etag.
    pub fn etag(&self) -> String {
        etag::of_twin(self.writes)
    }

    /// Whether a service may write on this condition.
    pub fn check_etag(&self, if_match: &IfMatch, device: &str) -> Result<(), Error> {
        match if_match {
            IfMatch::Etag(wanted) if *wanted != self.etag() => {
                Err(Error::StaleTwin(device.to_owned()))
            }
            IfMatch::Etag(_) | IfMatch::Any | IfMatch::Absent => Ok(()),
        }
    }

    /// What the device itself reads.
    pub fn for_device(&self) -> Value {
        json!({ "desired": self.desired.for_device(), "reported": self.reported.for_device() })
    }

    fn written_by_service(&self) -> Self {
        Self {
            writes: self.writes + 1,
            version: self.version + 1,
            ..self.clone()
        }
    }
}

impl DesiredChange {
    fn of(values: &Map<String, Value>, version: u64) -> Self {
        Self {
            version,
            payload: section::with_version(values, version),
        }
    }
}

fn patched_tags(
    present: &Map<String, Value>,
    patch: &SectionBody,
) -> Result<Map<String, Value>, Error> {
    Kind::Tags.check(&patch.values)?;
    let mut tags = match patch.cleared {
        true => Map::new(),
        false => present.clone(),
    };
    // Tags have no metadata: the stamps of the merge are nobody's.
    stamps::Stamps::default().merge(&mut tags, &patch.values, stamps::Mark::default());
    Kind::Tags.check_size(&tags)?;
    Ok(tags)
}

fn replaced_tags(tags: &SectionBody) -> Result<Map<String, Value>, Error> {
    Kind::Tags.check(&tags.values)?;
    let tags = stamps::without_nulls(&tags.values);
    Kind::Tags.check_size(&tags)?;
    Ok(tags)
}

#[cfg(test)]
mod tests;
