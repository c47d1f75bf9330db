//! Reading no more of a stored twin than somebody will look at. Pure.
//!
//! Of many twins only few members are looked at, and making a whole one costs ten times as much.

use std::collections::BTreeMap;

use azimuth_wire::etag;
use serde_json::{Map, Value};

use crate::query::Wanted;

/// The members of stored twins that are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TwinPart(Wanted);

const SECTIONS: [&str; 2] = ["desired", "reported"];

impl TwinPart {
    /// The members of a twin as services see it that stand in a stored one.
    pub const MEMBERS: [&str; 4] = ["etag", "version", "tags", "properties"];

    /// What is wanted is said in these members.
    pub fn new(wanted: &Wanted) -> Self {
        let mut members = BTreeMap::from([("generationId".to_owned(), Wanted::Whole)]);
        for (shown, stored) in [("etag", "writes"), ("version", "version")] {
            if wanted.of(shown).is_some() {
                members.insert(stored.into(), Wanted::Whole);
            }
        }
        if let Some(tags) = wanted.of("tags") {
            members.insert("tags".into(), tags.clone());
        }
        let properties = wanted.of("properties");
        for name in SECTIONS {
            let section = properties.and_then(|properties| properties.of(name));
            members.extend(section.map(|wanted| (name.to_owned(), self::section(wanted))));
        }
        Self(Wanted::Members(members))
    }

    /// Adds the wanted members; false where the twin is that of another generation.
    pub fn show(
        &self,
        json: &[u8],
        generation_id: &str,
        shown: &mut Map<String, Value>,
    ) -> Result<bool, serde_json::Error> {
        let Value::Object(mut stored) = self.0.read(json)? else {
            return Ok(false);
        };
        if stored.get("generationId").and_then(Value::as_str) != Some(generation_id) {
            return Ok(false);
        }
        if let Some(writes) = stored.get("writes").and_then(Value::as_u64) {
            shown.insert("etag".into(), etag::of_twin(writes).into());
        }
        let mut add = |name: &str, value| shown.insert(name.into(), value);
        stored
            .remove("version")
            .map(|version| add("version", version));
        let tags = stored.remove("tags");
        // Without any the member is not there.
        let tags = tags.filter(|tags| tags.as_object().is_some_and(|tags| !tags.is_empty()));
        tags.map(|tags| add("tags", tags));
        let sections = SECTIONS.iter().filter_map(|name| {
            let section = stored.remove(*name)?;
            Some(((*name).to_owned(), show_section(section)))
        });
        let properties: Map<_, _> = sections.collect();
        if !properties.is_empty() {
            add("properties", Value::Object(properties));
        }
        Ok(true)
    }
}

/// Stamps are read all or not at all.
fn section(wanted: &Wanted) -> Wanted {
    let Wanted::Members(values) = wanted else {
        return Wanted::Whole;
    };
    let mut members = BTreeMap::from([("values".to_owned(), wanted.clone())]);
    for (shown, stored) in [("$version", "version"), ("$metadata", "stamps")] {
        if values.contains_key(shown) {
            members.insert(stored.into(), Wanted::Whole);
        }
    }
    Wanted::Members(members)
}

fn show_section(mut section: Value) -> Value {
    let mut shown = section["values"].take();
    for (name, stored) in [("$version", "version"), ("$metadata", "stamps")] {
        if let (Some(members), Some(value)) = (shown.as_object_mut(), section.get_mut(stored)) {
            members.insert(name.into(), value.take());
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use azimuth_wire::time::Timestamp;
    use azimuth_wire::twin::TwinBody;
    use serde_json::json;

    use super::super::Twin;
    use super::*;
    use crate::query::Query;

    fn shown(twin: &Twin) -> Value {
        json!({ "etag": twin.etag(), "version": twin.version, "tags": twin.tags, "properties": {
            "desired": twin.desired.for_service().unwrap(), "reported": twin.reported.for_service().unwrap() } })
    }

    #[test]
    fn a_part_answers_as_the_whole_does() {
        let body = json!({ "tags": { "a": { "b": 1, "c": 2 }, "d": "x" }, "properties": {
            "desired": { "a": { "b": 3 }, "list": [1, { "x": 2 }] }, "reported": { "n": 5 } } });
        let body = TwinBody::parse(body.to_string().as_bytes()).unwrap();
        let twin = Twin::initial("7", Timestamp::NEVER)
            .with_content(&body)
            .unwrap();
        let stored = serde_json::to_vec(&twin).unwrap();
        let whole = shown(&twin);
        for path in [
            "etag",
            "version",
            "version.x",
            "tags",
            "tags.a",
            "tags.a.b",
            "tags.a.b.c",
            "tags.z",
            "tags.d[0]",
            "properties",
            "properties.desired",
            "properties.desired.$version",
            "properties.desired.$version.x",
            "properties.desired.$metadata",
            "properties.desired.$metadata.a.b.$lastUpdated",
            "properties.desired.$metadata.$lastUpdated.x",
            "properties.desired.$metadata.a.$lastUpdatedVersion",
            "properties.desired.list[1].x",
            "properties.desired.list.x",
            "properties.reported.n",
            "properties.reported.$metadata.n.$lastUpdated",
            "properties.desired.n",
        ] {
            let query = Query::parse(&format!("SELECT {path} AS it FROM devices")).unwrap();
            let part = TwinPart::new(&query.wanted());
            let mut few = Map::new();
            assert!(part.show(&stored, "7", &mut few).unwrap());
            assert_eq!(query.row(&Value::Object(few)), query.row(&whole), "{path}");
            assert!(!part.show(&stored, "8", &mut Map::new()).unwrap());
        }
    }
}
