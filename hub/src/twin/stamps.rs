//! `$metadata`: when each part of a section was written last. Pure.
//!
//! It mirrors the objects of the section. Arrays are leaves.

use std::collections::BTreeMap;

use azimuth_wire::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Stamps of one object or leaf, and of what is in it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Stamps {
    #[serde(flatten)]
    own: Mark,
    /// No key of a twin begins with `$`.
    #[serde(flatten)]
    within: BTreeMap<String, Stamps>,
}

/// What a write leaves on all that it touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Mark {
    #[serde(rename = "$lastUpdated", default)]
    pub at: Timestamp,
    /// In desired only; not before its first write.
    #[serde(
        rename = "$lastUpdatedVersion",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub version: Option<u64>,
}

impl Stamps {
    /// Of an object without members, or of a leaf.
    pub fn new(mark: Mark) -> Self {
        Self {
            own: mark,
            within: BTreeMap::new(),
        }
    }

    /// The same mark on everything.
    pub fn all(values: &Map<String, Value>, mark: Mark) -> Self {
        let within = values.iter().map(|(key, value)| {
            let stamps = match value {
                Value::Object(values) => Self::all(values, mark),
                _ => Self::new(mark),
            };
            (key.clone(), stamps)
        });
        Self {
            own: mark,
            within: within.collect(),
        }
    }

    /// The stamps that somebody brings along, as far as they fit; `mark` on everything else.
    pub fn brought(given: &Value, values: &Map<String, Value>, mark: Mark) -> Self {
        let own: Option<Mark> = serde_json::from_value(own_members(given)).ok();
        let own = own.map_or(mark, |own| Mark {
            at: own.at,
            version: mark.version.map(|version| own.version.unwrap_or(version)),
        });
        let within = values.iter().map(|(key, value)| {
            let stamps = match (given.get(key), value) {
                (None, Value::Object(values)) => Self::all(values, mark),
                (None, _) => Self::new(mark),
                (Some(given), Value::Object(values)) => Self::brought(given, values, mark),
                (Some(given), _) => Self::brought(given, &Map::new(), mark),
            };
            (key.clone(), stamps)
        });
        Self {
            own,
            within: within.collect(),
        }
    }

    /// Merges `patch` into `values` and marks the way to all that it names.
    pub fn merge(
        &mut self,
        values: &mut Map<String, Value>,
        patch: &Map<String, Value>,
        mark: Mark,
    ) {
        self.own = mark;
        for (key, value) in patch {
            match (value, values.get_mut(key)) {
                (Value::Null, _) => {
                    values.remove(key);
                    self.within.remove(key);
                }
                (Value::Object(patch), Some(Value::Object(present))) => {
                    let within = self.within.entry(key.clone()).or_default();
                    within.merge(present, patch, mark);
                }
                (Value::Object(new), _) => {
                    let new = without_nulls(new);
                    self.within.insert(key.clone(), Self::all(&new, mark));
                    values.insert(key.clone(), Value::Object(new));
                }
                (value, _) => {
                    self.within.insert(key.clone(), Self::new(mark));
                    values.insert(key.clone(), value.clone());
                }
            }
        }
    }
}

/// An object as it is stored: what is null in it is not there.
pub fn without_nulls(values: &Map<String, Value>) -> Map<String, Value> {
    let kept = values.iter().filter(|(_, value)| !value.is_null());
    let kept = kept.map(|(key, value)| match value {
        Value::Object(values) => (key.clone(), Value::Object(without_nulls(values))),
        value => (key.clone(), value.clone()),
    });
    kept.collect()
}

fn own_members(given: &Value) -> Value {
    let own = given.as_object().into_iter().flatten();
    let own = own.filter(|(key, _)| key.starts_with('$'));
    Value::Object(
        own.map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
    )
}
