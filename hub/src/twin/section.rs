//! Desired or reported properties: their values, their version, their stamps. Pure.

use azimuth_wire::time::Timestamp;
use azimuth_wire::twin::{self, InvalidTwin, SectionBody};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::stamps::{Mark, Stamps, without_nulls};

/// One of the two sections that have versions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Section {
    pub version: u64,
    pub values: Map<String, Value>,
    stamps: Stamps,
}

/// Which of the two. Only desired has versions in its stamps.
pub type Kind = twin::Section;

impl Section {
    pub fn new(created: Timestamp) -> Self {
        Self {
            version: 1,
            values: Map::new(),
            stamps: Stamps::new(Mark {
                at: created,
                version: None,
            }),
        }
    }

    /// What comes with a new identity: version and stamps may be brought along from another hub.
    /// Without, it is version 1, written never.
    pub fn brought(kind: Kind, given: &SectionBody) -> Result<Self, InvalidTwin> {
        kind.check(&given.values)?;
        let version = given.version.unwrap_or(1).clamp(1, HIGHEST);
        let values = without_nulls(&given.values);
        kind.check_size(&values)?;
        let mark = mark(kind, Timestamp::NEVER, version);
        let stamps = match &given.metadata {
            Some(metadata) => {
                let unwritten = values.is_empty() && metadata.get("$lastUpdatedVersion").is_none();
                let version = mark.version.filter(|_| !unwritten);
                Stamps::brought(metadata, &values, Mark { version, ..mark })
            }
            None => Stamps::all(&values, mark),
        };
        Ok(Self {
            version,
            values,
            stamps,
        })
    }

    /// Merges a patch. The version grows whatever the patch holds.
    pub fn patched(
        &self,
        kind: Kind,
        patch: &Map<String, Value>,
        now: Timestamp,
    ) -> Result<Self, InvalidTwin> {
        kind.check(patch)?;
        let mut next = self.clone();
        next.version += 1;
        let mark = mark(kind, now, next.version);
        next.stamps.merge(&mut next.values, patch, mark);
        kind.check_size(&next.values)?;
        Ok(next)
    }

    /// Replaces everything; the version goes on.
    pub fn replaced(
        &self,
        kind: Kind,
        values: &Map<String, Value>,
        now: Timestamp,
    ) -> Result<Self, InvalidTwin> {
        kind.check(values)?;
        let version = self.version + 1;
        let values = without_nulls(values);
        kind.check_size(&values)?;
        Ok(Self {
            version,
            stamps: Stamps::all(&values, mark(kind, now, version)),
            values,
        })
    }

    /// As a device reads it.
    pub fn for_device(&self) -> Value {
        with_version(&self.values, self.version)
    }

    /// As a service reads it.
    pub fn for_service(&self) -> Result<Value, serde_json::Error> {
        let mut shown = self.values.clone();
        shown.insert("$metadata".into(), serde_json::to_value(&self.stamps)?);
        shown.insert("$version".into(), self.version.into());
        Ok(Value::Object(shown))
    }
}

/// Values beside the version that they have, or will have.
pub fn with_version(values: &Map<String, Value>, version: u64) -> Value {
    let mut shown = values.clone();
    shown.insert("$version".into(), version.into());
    Value::Object(shown)
}

fn mark(kind: Kind, at: Timestamp, version: u64) -> Mark {
    Mark {
        at,
        version: (kind == Kind::Desired).then_some(version),
    }
}

/// Far beyond what writes can reach, and an integer in every client's JSON.
const HIGHEST: u64 = 1 << 52;
