#![allow(clippy::unwrap_used)]
use serde_json::{Value, json};

use super::continuation::Place;
use super::*;

/// Documents under their keys, in the order of these.
type Documents = Vec<(String, Value)>;

const WHOLE: Limits = Limits {
    rows: 100,
    bytes: 1 << 20,
};

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../tests/vectors/query.json")).unwrap()
}

fn key(document: &Value) -> String {
    let names = ["deviceId", "moduleId", "jobId"];
    let names = names.iter().filter_map(|name| document[name].as_str());
    names.collect::<Vec<_>>().join("/")
}

fn documents(of: Collection) -> Documents {
    let name = match of {
        Collection::Devices => "devices",
        Collection::Modules => "modules",
        Collection::Jobs => "jobs",
    };
    let all = vectors()["query"][name].take();
    let mut all: Documents = serde_json::from_value::<Vec<Value>>(all)
        .unwrap()
        .into_iter()
        .map(|document| (key(&document), document))
        .collect();
    all.sort_by(|(one, _), (other, _)| one.cmp(other));
    all
}

/// A page, from stretches of two documents that are read no more than the query wants.
fn page(
    query: &Query,
    documents: &[(String, Value)],
    limits: Limits,
    place: Option<Place>,
) -> (Vec<Value>, Option<Place>) {
    let wanted = match query.selects_everything() {
        true => Wanted::Whole,
        false => query.wanted(),
    };
    let grouped = matches!(query.selection, Selection::Groups(_));
    let after = place
        .as_ref()
        .filter(|_| !grouped)
        .map(|place| place.after.clone());
    let behind: Documents = documents
        .iter()
        .filter(|(key, _)| after.as_ref().is_none_or(|after| key > after))
        .cloned()
        .collect();
    let mut page = Page::new(query, limits, place);
    for stretch in behind.chunks(2) {
        let mut part = Part::new(query);
        for (key, document) in stretch {
            let read = wanted.read(document.to_string().as_bytes()).unwrap();
            assert_eq!(query.passes(&read), query.passes(document), "{query:?}");
            if query.passes(&read) {
                part.add(query, key, &read).unwrap();
            }
        }
        page.take(part);
        if page.is_full() {
            break;
        }
    }
    let (json, next) = page.end().unwrap();
    (serde_json::from_slice(&json).unwrap(), next)
}

fn rows(text: &str) -> Vec<Value> {
    let query = Query::parse(text).unwrap();
    page(&query, &documents(query.collection), WHOLE, None).0
}

#[test]
fn every_published_case_gives_its_rows() {
    let sorted = |mut rows: Vec<String>| {
        rows.sort();
        rows
    };
    let cases = vectors()["query"]["cases"].take();
    let cases = cases.as_array().unwrap();
    assert_eq!(cases.len(), 73);
    for case in cases {
        let text = case["query"].as_str().unwrap();
        let query = Query::parse(text);
        if case["status"] == 400 {
            assert!(query.is_err(), "{case}");
            continue;
        }
        let query = query.unwrap();
        assert_eq!(query.item_type(), case["itemType"], "{case}");
        let found = rows(text);
        if let Some(ids) = case["expectIds"].as_array() {
            let ids = ids
                .iter()
                .map(|id| id.as_str().unwrap().to_owned())
                .collect();
            assert_eq!(
                sorted(found.iter().map(key).collect()),
                sorted(ids),
                "{case}"
            );
        }
        if let Some(expected) = case["expectRows"].as_array() {
            let texts = |rows: &[Value]| sorted(rows.iter().map(Value::to_string).collect());
            assert_eq!(texts(&found), texts(expected), "{case}");
        }
        if let Some(count) = case["expectCount"].as_u64() {
            assert_eq!(found.len() as u64, count, "{case}");
        }
    }
}

#[test]
fn pages_go_on_behind_the_last_row() {
    for (text, size, expected) in [
        ("SELECT * FROM devices", 2, vec![2, 2, 2]),
        ("SELECT * FROM devices", 4, vec![4, 2]),
        ("SELECT * FROM devices", 6, vec![6]),
        ("SELECT * FROM devices", 100, vec![6]),
        ("SELECT TOP 3 * FROM devices", 2, vec![2, 1]),
        ("SELECT TOP 4 deviceId FROM devices", 2, vec![2, 2]),
        ("SELECT TOP 0 * FROM devices", 2, vec![0]),
        ("SELECT TOP 9 * FROM devices", 5, vec![5, 1]),
        ("SELECT * FROM devices WHERE tags.floor = 7", 2, vec![0]),
        (
            "SELECT status FROM devices GROUP BY deviceId, status",
            2,
            vec![2, 2, 2],
        ),
        (
            "SELECT TOP 3 status FROM devices GROUP BY deviceId, status",
            2,
            vec![2, 1],
        ),
        ("SELECT COUNT() FROM devices", 1, vec![1]),
        (
            "SELECT tags.env, COUNT() AS n FROM devices GROUP BY tags.env",
            1,
            vec![1, 1, 1],
        ),
    ] {
        let query = Query::parse(text).unwrap();
        let limits = Limits {
            rows: size,
            ..WHOLE
        };
        let (mut pages, mut all, mut place) = (Vec::new(), Vec::new(), None);
        loop {
            let (rows, next) = page(&query, &documents(query.collection), limits, place);
            pages.push(rows.len());
            all.extend(rows);
            place = next;
            if place.is_none() {
                break;
            }
        }
        assert_eq!(pages, expected, "{text}, {size}");
        assert_eq!(all, rows(text), "{text}");
    }
}

#[test]
fn a_page_ends_early_where_its_rows_are_large() {
    let query = Query::parse("SELECT deviceId FROM devices").unwrap();
    let limits = Limits {
        rows: 100,
        bytes: 45,
    };
    let (rows, next) = page(&query, &documents(query.collection), limits, None);
    assert_eq!((rows.len(), next.unwrap().after.as_str()), (2, "dev-01"));
    let tiny = Limits {
        rows: 100,
        bytes: 1,
    };
    let (rows, next) = page(&query, &documents(query.collection), tiny, None);
    assert_eq!(
        (rows.len(), next.is_some()),
        (1, true),
        "one row there is always"
    );
}

#[test]
fn a_condition_means_what_it_says() {
    let document = json!({ "deviceId": "d", "version": 3, "status": "enabled", "parentScopes": ["a", 1],
        "tags": { "n": 5, "t": "x", "f": false, "o": {}, "z": null, "my-tag": 1, "and": 2, "é": 3 },
        "properties": { "desired": { "$version": 4, "$metadata": { "$lastUpdated": "2026" } }, "reported": {} } });
    let t = Some(true);
    let f = Some(false);
    for (condition, expected) in [
        // Three answers.
        ("tags.n = 5 AND tags.none = 1", None),
        ("tags.n = 6 AND tags.none = 1", f),
        ("tags.none = 1 AND tags.n = 6", f),
        ("tags.n = 5 OR tags.none = 1", t),
        ("tags.none = 1 OR tags.n = 5", t),
        ("tags.n = 6 OR tags.none = 1", None),
        ("NOT tags.none", None),
        ("NOT NOT tags.n = 5", t),
        ("tags.n AND tags.n = 5", None),
        ("undefined = undefined", None),
        ("null = null", t),
        ("null < null", f),
        ("tags.z = null", t),
        ("tags.o = tags.o", None),
        ("tags.o = null", None),
        // Types.
        ("tags.n = '5'", f),
        ("tags.n != '5'", t),
        ("tags.n < '6'", None),
        ("tags.n = 5.0", t),
        ("tags.f = false", t),
        ("'a' < 'b' AND 'B' < 'a'", t),
        ("tags.n IN [1, '5', 5]", t),
        ("tags.n IN []", f),
        ("tags.n NIN []", t),
        ("tags.n IN [1, tags.none]", None),
        ("tags.n IN [5, tags.none]", t),
        ("tags.none NIN [1]", None),
        ("tags.o IN [1]", None),
        // Precedence.
        ("1 + 2 * 3 = 7 AND (1 + 2) * 3 = 9", t),
        ("10 - 2 - 3 = 5 AND 2 * 3 % 4 = 2 AND 8 / 2 / 2 = 2", t),
        ("10 - (2 - 3) = 11", t),
        ("-tags.n = 0 - 5 AND - - 2 = 2 AND 1 - -1 = 2", t),
        ("-2 * 3 = -6", t),
        ("NOT tags.n = 5 OR tags.n = 5", t),
        ("1 / 0 = 1", None),
        ("1 % 0 = 1", None),
        ("'a' + 1 = 1", None),
        ("(tags.n = 5) = true", t),
        // Texts and numbers.
        (r#"'\u0041\'\"\\' = "A'\"\\" "#, t),
        (r"'\ud83d\ude00' = '😀'", t),
        ("0x1F = 31 AND 1.5e1 = 15 AND 007 = 7 AND 0.5 = 00.5", t),
        // Paths.
        ("tags.[[my-tag]] = 1 AND [[tags]].n = 5", t),
        ("tags.and = 2", t),
        ("tags.é = 3", t),
        ("TAGS.n = 5 AND tags.N = 5", None),
        ("PROPERTIES.Desired.$version = version + 1", t),
        ("properties.desired.$metadata.$lastUpdated = '2026'", t),
        ("parentScopes[1] = 1 AND devices.parentScopes[0] = 'a'", t),
        ("parentScopes[2] = 1", None),
        ("tags[0] = 1", None),
        ("devices.devices.deviceId = 'd'", None),
        ("'d' IN [[[deviceId]]]", t),
        // Functions.
        (
            "IS_DEFINED(tags.z) AND is_null(tags.z) AND IS_DEFINED(tags)",
            t,
        ),
        ("is_defined(tags.none)", f),
        (
            "IS_BOOL(tags.f) AND IS_NUMBER(tags.n) AND IS_OBJECT(tags.o) AND IS_ARRAY(parentScopes) AND IS_STRING(deviceId)",
            t,
        ),
        ("IS_PRIMITIVE(tags.z) AND NOT IS_PRIMITIVE(tags.o)", t),
        ("IS_STRING(tags.none)", f),
        ("STARTSWITH(tags.n, '5')", None),
        (
            "ARRAY_CONTAINS(parentScopes, 1) AND ARRAY_CONTAINS(parentScopes, 'a')",
            t,
        ),
        ("ARRAY_CONTAINS(parentScopes, '1')", f),
        ("ARRAY_CONTAINS(tags, 1)", None),
        ("tags.n = 5 /* why\n not */ AND\r\n\ttags.f = FALSE", t),
    ] {
        let text = format!("SELECT * FROM devices WHERE {condition}");
        let query = Query::parse(&text).unwrap();
        assert_eq!(
            query.filter.unwrap().truth(&document),
            expected,
            "{condition}"
        );
    }
}

#[test]
fn a_mistake_is_named_with_its_place() {
    for (text, sentence) in [
        (
            "",
            "at character 1 of the query: expected SELECT, found the end",
        ),
        (
            "SELECT * FROM device",
            "at character 15 of the query: expected devices, devices.modules or devices.jobs, found `device`",
        ),
        (
            "SELECT * FROM devices.twins",
            "at character 23 of the query: expected modules or jobs, found `twins`",
        ),
        (
            "SELECT * FROM devices LIMIT 3",
            "at character 23 of the query: expected WHERE, GROUP BY or the end, found `LIMIT`",
        ),
        (
            "SELECT * FROM devices;",
            "at character 22 of the query: expected WHERE, GROUP BY or the end, found `;`",
        ),
        (
            "SELECT * FROM devices WHERE é = = 2",
            "at character 33 of the query: expected a value, a path or a function, found `=`",
        ),
        (
            "SELECT * FROM devices WHERE tags.a = 1 = 2",
            "at character 40 of the query: a comparison of a comparison; parentheses say which",
        ),
        (
            "SELECT * FROM devices WHERE a = 'x",
            "at character 33 of the query: the text has no closing quote",
        ),
        (
            r"SELECT * FROM devices WHERE a = 'x\n'",
            r#"at character 35 of the query: after a backslash stands one of ' " \ or u with four hexadecimal digits"#,
        ),
        (
            "SELECT * FROM devices WHERE a = #",
            "at character 33 of the query: `#` means nothing here",
        ),
        (
            "SELECT * FROM devices WHERE a = 1 /*/",
            "at character 35 of the query: the comment has no end",
        ),
        (
            "SELECT * FROM devices WHERE a = 1 /* so",
            "at character 35 of the query: the comment has no end",
        ),
        (
            "SELECT * FROM devices WHERE a.[[]] = 1",
            "at character 31 of the query: a name in brackets is `[[name]]`",
        ),
        (
            "SELECT * FROM devices WHERE deviceId IN ('a')",
            "at character 41 of the query: expected `[`, found `(`",
        ),
        (
            "SELECT * FROM devices WHERE is_defined(1)",
            "at character 40 of the query: expected a path, found `1`",
        ),
        (
            "SELECT * FROM devices WHERE STARTSWITH(a)",
            "at character 41 of the query: expected `,`, found `)`",
        ),
        (
            "SELECT deviceId id FROM devices",
            "at character 17 of the query: expected FROM, found `id`",
        ),
        (
            "SELECT *, deviceId FROM devices",
            "at character 9 of the query: expected FROM, found `,`",
        ),
        (
            "SELECT deviceId, COUNT() FROM devices",
            "at character 8 of the query: beside aggregates and groups only what is grouped by can be selected",
        ),
        (
            "SELECT * FROM devices GROUP BY status",
            "at character 23 of the query: SELECT * cannot be grouped",
        ),
        (
            "SELECT MEDIAN(version) FROM devices",
            "at character 8 of the query: only COUNT, SUM, AVG, MIN and MAX can be selected",
        ),
        (
            "SELECT SUM() FROM devices",
            "at character 12 of the query: expected a path, found `)`",
        ),
        (
            "SELECT jobId FROM devices.jobs",
            "at character 8 of the query: devices.jobs are selected whole: SELECT *",
        ),
        (
            "SELECT * FROM devices.jobs WHERE tags.a = 1",
            "at character 34 of the query: `a` is of a twin, and devices.jobs has none of these",
        ),
        (
            "SELECT * FROM devices WHERE a = 1e400",
            "at character 33 of the query: the number is too large",
        ),
        (
            "SELECT TOP -1 * FROM devices",
            "at character 12 of the query: expected FROM, found `-`",
        ),
    ] {
        let error = Query::parse(text).unwrap_err();
        assert_eq!(error.to_string(), sentence, "{text}");
    }
    let unknown = Query::parse("SELECT * FROM devices WHERE STARTS_WITH(a,'b')").unwrap_err();
    let begin = "no function STARTS_WITH (in a twin query STARTS_WITH is spelled STARTSWITH); there are IS_DEFINED,";
    assert!(unknown.what.starts_with(begin), "{}", unknown.what);
}

/// Nothing that fits into a query makes reading or judging it recurse without end.
#[test]
fn long_queries_are_judged_and_deep_ones_refused() {
    let fill = |begin: &str, repeated: &str, end: &str| {
        let room = LONGEST - begin.len() - end.len();
        let filled = repeated.repeat(room / repeated.len());
        format!("{begin}{filled}{end}")
    };
    let from = "SELECT * FROM devices WHERE ";
    for text in [
        fill(from, "1=1 OR ", "1=1"),
        fill(from, "1=1 AND ", "1=1"),
        fill(from, "1+", "1>1"),
        fill(from, "1-1*", "1>1"),
        fill(&format!("{from}1 IN ["), "1,", "1]"),
    ] {
        let query = Query::parse(&text).unwrap();
        query.passes(&json!({}));
        query.keys();
        query.wanted();
    }
    for text in [
        fill(from, "(", "1"),
        fill(from, "NOT ", "1"),
        fill(from, "-", "1"),
        fill(from, "IS_NULL(", "1"),
        fill(from, "a.", "a"),
        fill(from, "a = (1 + ", "1"),
    ] {
        let error = Query::parse(&text).unwrap_err();
        assert!(
            error.what.starts_with("more than") || error.what.starts_with("a path of more"),
            "{error}"
        );
    }
    let longer = format!("SELECT * FROM devices{}", " ".repeat(LONGEST));
    let error = Query::parse(&longer).unwrap_err();
    assert_eq!(error.position, LONGEST + 1);
}

#[test]
fn columns_and_groups_have_names() {
    for (text, row) in [
        (
            "SELECT DEVICEID, tags.location.Region, tags.location.region FROM devices WHERE deviceId = 'dev-01'",
            json!({ "deviceId": "dev-01", "region": "US" }),
        ),
        (
            "SELECT properties.reported.ports[0] FROM devices WHERE deviceId = 'dev-01'",
            json!({ "ports": 80 }),
        ),
        (
            "SELECT deviceId AS from, status AS [[my id]] FROM devices WHERE deviceId = 'dev-01'",
            json!({ "from": "dev-01", "my id": "enabled" }),
        ),
        (
            "SELECT COUNT(), SUM(tags.floor), COUNT(tags.floor) AS c, AVG(tags.floor) FROM devices",
            json!({ "$1": 6, "$2": 6, "c": 4, "$3": 2.0 }),
        ),
        (
            "SELECT SUM(tags.none) AS s, AVG(tags.none) AS a, MIN(tags.none) AS l, MAX(tags.env) AS h, COUNT(tags.none) AS c FROM devices",
            json!({ "c": 0 }),
        ),
        (
            "SELECT SUM(properties.reported.battery) AS s, MAX(properties.reported.battery) AS h FROM devices",
            json!({ "s": 221.0, "h": 90 }),
        ),
        (
            "SELECT devices.modules.moduleId FROM devices.modules WHERE devices.modules.moduleId = 'mod-a'",
            json!({ "moduleId": "mod-a" }),
        ),
        (
            "SELECT top FROM devices WHERE deviceId = 'dev-01'",
            json!({}),
        ),
        ("SELECT top FROM devices GROUP BY top", json!({})),
    ] {
        assert_eq!(rows(text), [row], "{text}");
    }
    let groups = rows("SELECT tags.floor, COUNT() AS n FROM devices GROUP BY tags.floor");
    let expected = json!([{ "n": 2 }, { "floor": "3", "n": 1 }, { "floor": 1, "n": 1 }, { "floor": 2, "n": 1 }, { "floor": 3, "n": 1 }]);
    assert_eq!(json!(groups), expected, "undefined is a group of its own");
}

#[test]
fn a_token_that_was_made_up_overflows_nothing() {
    let query = Query::parse("SELECT * FROM devices").unwrap();
    let place = Place {
        after: String::new(),
        shown: u64::MAX,
    };
    let limits = Limits {
        rows: 1,
        bytes: 1000,
    };
    let mut page = Page::new(&query, limits, Some(place));
    let mut part = Part::new(&query);
    part.push("a", b"{}".to_vec());
    part.push("b", b"{}".to_vec());
    page.take(part);
    let (_, next) = page.end().unwrap();
    assert_eq!(next.unwrap().after, "a");
}

#[test]
fn to_group_by_the_same_twice_is_to_group_by_it_once() {
    let grouped = |by: &str| {
        let text = format!("SELECT tags.a, COUNT() FROM devices GROUP BY {by}");
        Query::parse(&text).unwrap()
    };
    assert_eq!(grouped("tags.a, TAGS.a, tags.[[a]]"), grouped("tags.a"));
    assert_ne!(grouped("tags.a, tags.b"), grouped("tags.a"));
}
