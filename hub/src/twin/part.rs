//! Reading no more of a stored twin than somebody will look at. Pure.

use std::collections::BTreeMap;

use super::Twin;
use crate::query::Wanted;

/// The members of stored twins that are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TwinPart(Wanted);

impl TwinPart {
    /// What is wanted is said in the members of a twin as services see it.
    pub fn new(wanted: &Wanted) -> Self {
        let properties = wanted.of("properties");
        let section = |name| section(properties.and_then(|properties| properties.of(name)));
        let always = ["generationId", "writes", "version"];
        let mut members: BTreeMap<String, Wanted> = always
            .map(|name| (name.to_owned(), Wanted::Whole))
            .into_iter()
            .collect();
        members.insert("desired".into(), section("desired"));
        members.insert("reported".into(), section("reported"));
        if let Some(tags) = wanted.of("tags") {
            members.insert("tags".into(), tags.clone());
        }
        Self(Wanted::Members(members))
    }

    /// The twin, empty where it is not read.
    pub fn read(&self, json: &[u8]) -> Result<Twin, serde_json::Error> {
        serde_json::from_value(self.0.read(json)?)
    }
}

/// Stamps are read all or not at all.
fn section(wanted: Option<&Wanted>) -> Wanted {
    let mut members = BTreeMap::from([("version".to_owned(), Wanted::Whole)]);
    match wanted {
        Some(Wanted::Whole) => return Wanted::Whole,
        Some(Wanted::Members(values)) => {
            if values.contains_key("$metadata") {
                members.insert("stamps".into(), Wanted::Whole);
            }
            members.insert("values".into(), Wanted::Members(values.clone()));
        }
        None => {}
    }
    Wanted::Members(members)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use azimuth_wire::time::Timestamp;
    use azimuth_wire::twin::TwinBody;
    use serde_json::{Value, json};

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
            let part = TwinPart::new(&query.wanted()).read(&stored).unwrap();
            assert_eq!(part.generation_id, "7");
            let (part, whole) = (shown(&part), &whole);
            assert_eq!(query.row(&part), query.row(whole), "{path}");
        }
    }
}
