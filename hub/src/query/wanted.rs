//! The parts of a JSON text that somebody will look at, and reading no others.
//!
//! Passing over a value costs a fraction of making it.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::path::{Path, Step};

/// Members that are wanted, each whole or in part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    Whole,
    Members(BTreeMap<String, Wanted>),
}

impl Wanted {
    pub fn nothing() -> Self {
        Self::Members(BTreeMap::new())
    }

    /// The members that are wanted by name.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let members = match self {
            Self::Whole => None,
            Self::Members(members) => Some(members.keys()),
        };
        members.into_iter().flatten().map(String::as_str)
    }

    /// Wants what is at the end of a path as well. Of an array all is wanted.
    pub fn add(&mut self, path: &Path) {
        let mut here = self;
        for step in path.steps() {
            let Step::Member(name) = step else { break };
            match here {
                Self::Whole => return,
                Self::Members(members) => {
                    here = members.entry(name.clone()).or_insert_with(Self::nothing);
                }
            }
        }
        *here = Self::Whole;
    }

    /// What is wanted of a member.
    pub fn of(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Whole => Some(&Self::Whole),
            Self::Members(members) => members.get(name),
        }
    }

    /// Reads so much of a text. What is there and not of the wanted kind is null.
    pub fn read(&self, json: &[u8]) -> Result<Value, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let value = self.deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(value)
    }
}

impl<'de> DeserializeSeed<'de> for &Wanted {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match self {
            Wanted::Whole => Value::deserialize(deserializer),
            Wanted::Members(members) => deserializer.deserialize_any(Sieve(members)),
        }
    }
}

/// Lets wanted members through.
struct Sieve<'w>(&'w BTreeMap<String, Wanted>);

impl<'de> Visitor<'de> for Sieve<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut kept = Map::new();
        while let Some(found) = map.next_key_seed(Name(self.0))? {
            match found {
                Some((name, wanted)) => {
                    let value = map.next_value_seed(wanted)?;
                    kept.insert(name.clone(), value);
                }
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Value::Object(kept))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_str<E>(self, _: &str) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
}

/// Finds a member's name without keeping it.
struct Name<'w>(&'w BTreeMap<String, Wanted>);

impl<'de, 'w> DeserializeSeed<'de> for Name<'w> {
    type Value = Option<(&'w String, &'w Wanted)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'w> Visitor<'_> for Name<'w> {
    type Value = Option<(&'w String, &'w Wanted)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.get_key_value(name))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::query::Query;

    #[test]
    fn only_what_a_query_looks_at_is_made() {
        let json =
            br#"{"tags":{"a":{"b":1,"c":2},"list":[1,2]},"version":3,"status":"enabled","x":null}"#;
        for (filter, left) in [
            ("tags.a.b = 1", r#"{"tags":{"a":{"b":1}}}"#),
            ("tags.a.b = tags.a.d", r#"{"tags":{"a":{"b":1}}}"#),
            (
                "tags.a.b = 1 AND is_defined(tags.a)",
                r#"{"tags":{"a":{"b":1,"c":2}}}"#,
            ),
            (
                "is_defined(tags.a) AND tags.a.b = 1",
                r#"{"tags":{"a":{"b":1,"c":2}}}"#,
            ),
            ("tags.list[1] = 2", r#"{"tags":{"list":[1,2]}}"#),
            ("tags.list.x = 2", r#"{"tags":{"list":null}}"#),
            ("version.x.y = 2", r#"{"version":null}"#),
            ("x = 1 OR Status = 'x'", r#"{"status":"enabled","x":null}"#),
            ("1 = 1", "{}"),
        ] {
            let text = format!("SELECT * FROM devices WHERE {filter}");
            let wanted = Query::parse(&text).unwrap().wanted();
            let read = wanted.read(json).unwrap();
            assert_eq!(read.to_string(), left, "{filter}");
        }
    }
}
