//! Query texts: none panics, what is wrong has a place in the text, and however little of a document is read and
//! however few keys are looked at, the answer is that of the whole.

use azimuth_hub::query::continuation::Place;
use azimuth_hub::query::{Keys, LONGEST, Limits, Page, Part, Query};
use serde_json::{Value, json};

pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Some(place) = Place::of(text, text) {
        assert_eq!(Place::of(&place.token(text), text), Some(place));
    }
    let query = match Query::parse(text) {
        Ok(query) => query,
        Err(invalid) => {
            let characters = text.chars().count();
            assert!((1..=characters.max(LONGEST) + 1).contains(&invalid.position));
            return;
        }
    };
    assert!(text.chars().count() <= LONGEST);
    let (keys, wanted) = (query.keys(), query.wanted());
    let (mut whole, mut little) = (Part::new(&query), Part::new(&query));
    for document in documents() {
        let key = document["deviceId"].as_str().unwrap_or_default().to_owned();
        let read = wanted.read(document.to_string().as_bytes());
        let read = read.expect("it is JSON");
        let passes = query.passes(&document);
        assert_eq!(passes, query.passes(&read));
        if !passes {
            continue;
        }
        assert!(match &keys {
            Keys::All => true,
            Keys::Prefix(prefix) => key.starts_with(prefix),
            Keys::These(ids) => ids.contains(&key),
        });
        whole.add(&query, &key, &document).expect("it is JSON");
        let shown = if query.selects_everything() {
            &document
        } else {
            &read
        };
        little.add(&query, &key, shown).expect("it is JSON");
    }
    assert_eq!(page(&query, whole), page(&query, little));
}

fn page(query: &Query, part: Part) -> (Vec<Value>, Option<Place>) {
    let limits = Limits {
        rows: 2,
        bytes: 1 << 20,
    };
    let mut page = Page::new(query, limits, None);
    page.take(part);
    let (json, next) = page.end().expect("rows are JSON");
    (serde_json::from_slice(&json).expect("a page is JSON"), next)
}

/// Names that short texts can name.
fn documents() -> [Value; 3] {
    [
        json!({ "deviceId": "a", "status": "enabled", "version": 3, "tags": { "n": 1, "t": "x", "o": { "p": [1, "2"] } },
            "properties": { "desired": { "$version": 1, "f": 1.5 }, "reported": { "ok": true, "z": null } } }),
        json!({ "deviceId": "b", "status": "disabled", "version": 2, "tags": { "n": "1", "t": false },
            "parentScopes": ["s"], "properties": { "desired": { "$version": 7 }, "reported": {} } }),
        json!({ "deviceId": "ab", "properties": {} }),
    ]
}
