//! Azure's limits of what a twin may hold. Pure; a refusal names the place and the limit.

use std::fmt;

use serde_json::{Map, Value, json};

use super::{SectionBody, TwinBody};
use crate::members::{Members, expected};
use crate::registry::InvalidBody;

/// A part of a twin with a limit of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    Tags,
    Desired,
    Reported,
}

/// Why a twin may not hold something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTwin {
    #[error(transparent)]
    Body(#[from] InvalidBody),
    #[error("`{0}`: a key may not hold `.`, `$`, `#`, a blank or a control character")]
    Key(String),
    #[error("`{path}`: the key has {bytes} bytes; {MOST_KEY_BYTES} are allowed")]
    LongKey { path: String, bytes: usize },
    #[error("`{path}`: the text has {bytes} bytes; {MOST_TEXT_BYTES} are allowed")]
    LongText { path: String, bytes: usize },
    #[error(
        "`{path}`: {value} is not from {LEAST_INTEGER} to {MOST_INTEGER}, as an integer must be"
    )]
    Integer { path: String, value: String },
    #[error("`{0}`: an array may not hold null")]
    NullInArray(String),
    #[error("`{0}`: objects may be nested {DEEPEST} deep")]
    Depth(String),
    #[error("{section} would have {bytes} bytes; {} are allowed", .section.limit())]
    Size { section: Section, bytes: usize },
}

impl Section {
    /// Bytes, counted as [`size`] does.
    pub fn limit(self) -> usize {
        match self {
            Self::Tags => 8 << 10,
            Self::Desired | Self::Reported => 32 << 10,
        }
    }

    /// Checks what is written to this section: keys, texts, numbers, nesting. Null removes, so it is
    /// good anywhere but in an array.
    pub fn check(self, values: &Map<String, Value>) -> Result<(), InvalidTwin> {
        let mut place = Place(vec![self.to_string()]);
        object(values, 1, &mut place)
    }

    /// Checks the size of what is in this section after a write.
    pub fn check_size(self, values: &Map<String, Value>) -> Result<(), InvalidTwin> {
        let bytes = members(values);
        match bytes > self.limit() {
            true => Err(InvalidTwin::Size {
                section: self,
                bytes,
            }),
            false => Ok(()),
        }
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tags => "tags",
            Self::Desired => "properties.desired",
            Self::Reported => "properties.reported",
        })
    }
}

/// Checks `{tags, properties: {desired}}`, the twin that a device is to begin with, and gives it back
/// with nothing else in it; `None` where it says nothing.
pub fn initial(twin: &Value) -> Result<Option<Value>, InvalidTwin> {
    let members = match twin {
        Value::Null => return Ok(None),
        Value::Object(members) => members,
        _ => return Err(expected("initialTwin", "an object").into()),
    };
    let body = TwinBody::of(&Members(members))?;
    let checked = |section: Section, given: Option<SectionBody>| {
        let given = given.filter(|given| !given.values.is_empty());
        let Some(given) = given else { return Ok(None) };
        section.check(&given.values)?;
        section.check_size(&given.values)?;
        Ok::<_, InvalidTwin>(Some(given.values))
    };
    let tags = checked(Section::Tags, body.tags)?;
    let desired = checked(Section::Desired, body.desired)?;
    if tags.is_none() && desired.is_none() {
        return Ok(None);
    }
    let mut content = Map::new();
    content.extend(tags.map(|tags| ("tags".into(), tags.into())));
    content.extend(desired.map(|desired| ("properties".into(), json!({ "desired": desired }))));
    Ok(Some(content.into()))
}

/// Bytes as Azure counts them: keys and texts in UTF-8 without control characters, 8 for a number, 4
/// for a boolean. Structure does not count, nor do `$version` and `$metadata`.
pub fn size(value: &Value) -> usize {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 4,
        Value::Number(_) => 8,
        Value::String(text) => bytes(text),
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(values) => members(values),
    }
}

fn members(values: &Map<String, Value>) -> usize {
    let counted = values
        .iter()
        .filter(|(key, _)| !matches!(key.as_str(), "$version" | "$metadata"));
    counted.map(|(key, value)| bytes(key) + size(value)).sum()
}

fn bytes(text: &str) -> usize {
    let counted = text.chars().filter(|c| !c.is_control());
    counted.map(char::len_utf8).sum()
}

fn object(values: &Map<String, Value>, depth: usize, place: &mut Place) -> Result<(), InvalidTwin> {
    if depth > DEEPEST {
        return Err(InvalidTwin::Depth(place.shown()));
    }
    for (key, value) in values {
        place.0.push(key.clone());
        let forbidden = |c: char| matches!(c, '.' | '$' | '#' | ' ') || c.is_control();
        if key.contains(forbidden) {
            return Err(InvalidTwin::Key(place.shown()));
        }
        if key.len() > MOST_KEY_BYTES {
            return Err(InvalidTwin::LongKey {
                path: place.shown(),
                bytes: key.len(),
            });
        }
        content(value, depth, place)?;
        place.0.pop();
    }
    Ok(())
}

fn content(value: &Value, depth: usize, place: &mut Place) -> Result<(), InvalidTwin> {
    match value {
        Value::Null | Value::Bool(_) => Ok(()),
        Value::Number(number) => {
            let fits = |value: i64| (LEAST_INTEGER..=MOST_INTEGER).contains(&value);
            let whole = number.is_i64() || number.is_u64();
            match whole && !number.as_i64().is_some_and(fits) {
                true => Err(InvalidTwin::Integer {
                    path: place.shown(),
                    value: number.to_string(),
                }),
                false => Ok(()),
            }
        }
        Value::String(text) if text.len() > MOST_TEXT_BYTES => Err(InvalidTwin::LongText {
            path: place.shown(),
            bytes: text.len(),
        }),
        Value::String(_) => Ok(()),
        Value::Array(items) => items.iter().try_for_each(|item| match item {
            Value::Null => Err(InvalidTwin::NullInArray(place.shown())),
            item => content(item, depth, place),
        }),
        Value::Object(values) => object(values, depth + 1, place),
    }
}

/// Where in the twin something stands.
struct Place(Vec<String>);

impl Place {
    /// Short enough for an error.
    fn shown(&self) -> String {
        let path = self.0.join(".");
        let printable = path
            .chars()
            .map(|c| if c.is_control() { '\u{fffd}' } else { c });
        printable.take(200).collect()
    }
}

/// Objects, that of the section among them.
const DEEPEST: usize = 10;
const MOST_KEY_BYTES: usize = 1 << 10;
const MOST_TEXT_BYTES: usize = 4 << 10;
const LEAST_INTEGER: i64 = -(1 << 52);
const MOST_INTEGER: i64 = (1 << 52) - 1;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_initial_twin_is_tags_and_desired_and_nothing_else() {
        for (given, left) in [
            (json!(null), None),
            (json!({}), None),
            (
                json!({ "tags": null, "properties": { "desired": {} } }),
                None,
            ),
            (json!({ "properties": { "reported": { "a": 1 } } }), None),
            (
                json!({ "Tags": { "a": 1 }, "etag": "x", "properties": { "Desired": { "b": 2, "$version": 7 } } }),
                Some(json!({ "tags": { "a": 1 }, "properties": { "desired": { "b": 2 } } })),
            ),
            (
                json!({ "tags": { "a": [{}] }, "properties": null }),
                Some(json!({ "tags": { "a": [{}] } })),
            ),
        ] {
            assert_eq!(initial(&given).unwrap(), left, "{given}");
        }
        for wrong in [
            json!(7),
            json!({ "tags": [] }),
            json!({ "tags": { "$a": 1 } }),
        ] {
            assert!(initial(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_refusal_names_the_place_and_shows_nothing_unprintable() {
        let bad = json!({ "a": { "b\u{1}": 1 } });
        let why = Section::Desired
            .check(bad.as_object().unwrap())
            .unwrap_err();
        let sentence = why.to_string();
        assert!(
            sentence.starts_with("`properties.desired.a.b\u{fffd}`: "),
            "{sentence}"
        );
        let deep = (0..40).fold(json!(1), |value, _| json!({ "k": value }));
        let why = Section::Tags.check(deep.as_object().unwrap()).unwrap_err();
        assert!(why.to_string().ends_with("objects may be nested 10 deep"));
    }
}
