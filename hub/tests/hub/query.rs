//! Queries over the hub's HTTPS door.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::http::Method;
use azimuth_storage::{Document, Error, Key, Page, Snapshot, Store};
use serde_json::{Value, json};

use crate::desk::{Desk, Reply, VERSION, vectors};
use crate::layer::{Layer, Over};

const PATH: &str = "/devices/query?api-version=2021-04-12";

async fn post(desk: &Desk, headers: &[(&str, &str)], body: &str) -> Reply {
    let mut all = vec![("authorization", desk.token("service"))];
    all.extend(
        headers
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned())),
    );
    desk.request(Method::POST, PATH, &all, body).await
}

async fn ask(desk: &Desk, query: &str, headers: &[(&str, &str)]) -> Reply {
    post(desk, headers, &json!({ "query": query }).to_string()).await
}

/// A page: its rows and the token behind it.
async fn page(
    desk: &Desk,
    query: &str,
    count: &str,
    token: Option<&str>,
) -> (Vec<Value>, Option<String>) {
    let mut headers = vec![("x-ms-max-item-count", count)];
    headers.extend(token.map(|token| ("x-ms-continuation", token)));
    let reply = ask(desk, query, &headers).await;
    assert_eq!(reply.status, 200, "{query}");
    let next = reply.headers.get("x-ms-continuation");
    let next = next.map(|next| next.to_str().unwrap().to_owned());
    (serde_json::from_value(reply.json().await).unwrap(), next)
}

/// All rows, page by page.
async fn rows(desk: &Desk, query: &str, count: &str) -> Vec<Value> {
    let (mut all, mut token) = (Vec::new(), None);
    loop {
        let (rows, next) = page(desk, query, count, token.as_deref()).await;
        all.extend(rows);
        token = next;
        if token.is_none() {
            return all;
        }
    }
}

async fn twin(desk: &Desk, device: &str) -> Value {
    let path = format!("/twins/{device}{VERSION}");
    desk.ask(Method::GET, &path, None, "").await.json().await
}

async fn bulk(desk: &Desk, items: Value) {
    let path = format!("/devices{VERSION}");
    let reply = desk
        .ask(Method::POST, &path, None, &items.to_string())
        .await;
    assert_eq!(reply.status, 200);
}

/// Devices of many kinds: with twins and without, on the line, disabled, with certificates.
async fn varied() -> Desk {
    let desk = Desk::new();
    let (_, line) = desk.on_the_line("a-connected").await;
    std::mem::forget(line);
    desk.make("b-plain").await;
    bulk(&desk, json!([
        { "id": "c-tagged", "tags": { "floor": 3, "o": { "x": [1, 2] } },
          "properties": { "desired": { "a": { "b": 1 } }, "reported": { "r": "s" } } },
        { "id": "d-disabled", "status": "disabled", "statusReason": "why", "tags": { "floor": 4 } },
        { "id": "e-x509", "capabilities": { "iotEdge": false }, "authentication": {
            "type": "selfSigned", "x509Thumbprint": { "primaryThumbprint": "a".repeat(40) } } },
    ])).await;
    desk
}

#[tokio::test]
async fn a_row_is_the_twin_and_a_column_is_a_member_of_it() {
    let desk = varied().await;
    let found = rows(&desk, "SELECT * FROM devices", "2").await;
    assert_eq!(found.len(), 5);
    for row in &found {
        let id = row["deviceId"].as_str().unwrap();
        assert_eq!(*row, twin(&desk, id).await);
        // However little is read for a column, it is what the whole twin has.
        let mut paths = Vec::new();
        collect(row, String::new(), &mut paths);
        for path in paths
            .iter()
            .map(String::as_str)
            .chain(["generationId", "tags.none"])
        {
            let query = format!("SELECT {path} AS it FROM devices WHERE deviceId = '{id}'");
            let column = rows(&desk, &query, "2").await;
            let expected = row.pointer(&format!("/{}", path.replace('.', "/")));
            assert_eq!(column[0].get("it"), expected, "{path} of {id}");
        }
    }
}

/// Every path to a member, with points.
fn collect(value: &Value, at: String, paths: &mut Vec<String>) {
    for (name, value) in value.as_object().into_iter().flatten() {
        let path = if at.is_empty() {
            name.clone()
        } else {
            format!("{at}.{name}")
        };
        collect(value, path.clone(), paths);
        paths.push(path);
    }
}

#[tokio::test]
async fn filters_see_what_twins_show() {
    let desk = varied().await;
    for (filter, ids) in [
        ("connectionState = 'Connected'", vec!["a-connected"]),
        ("lastActivityTime > '2000-01-01'", vec!["a-connected"]),
        (
            "status = 'disabled' AND statusReason = 'why'",
            vec!["d-disabled"],
        ),
        ("tags.floor >= 3", vec!["c-tagged", "d-disabled"]),
        (
            "NOT is_defined(tags)",
            vec!["a-connected", "b-plain", "e-x509"],
        ),
        ("authenticationType != 'sas'", vec!["e-x509"]),
        (
            "STARTSWITH(x509Thumbprint.primaryThumbprint, 'aaaa')",
            vec!["e-x509"],
        ),
        (
            "properties.desired.$version = 1 AND properties.reported.r = 's'",
            vec!["c-tagged"],
        ),
        ("STARTSWITH(devices.deviceId, 'c-')", vec!["c-tagged"]),
        (
            "deviceId IN ['zz', 'e-x509', 'b-plain', 'b']",
            vec!["b-plain", "e-x509"],
        ),
        ("deviceId = 'B-plain'", vec![]),
    ] {
        let query = format!("SELECT deviceId FROM devices WHERE {filter}");
        for count in ["1", "100"] {
            let found = rows(&desk, &query, count).await;
            let found: Vec<_> = found
                .iter()
                .map(|row| row["deviceId"].as_str().unwrap())
                .collect();
            assert_eq!(found, ids, "{filter}");
        }
    }
}

#[tokio::test]
async fn answers_say_what_their_rows_are_and_refusals_what_is_wrong() {
    let desk = varied().await;
    for (query, item_type) in [
        ("SELECT * FROM devices", "Twin"),
        ("SELECT * FROM devices WHERE deviceId = 'none'", "Twin"),
        ("SELECT * FROM devices.modules", "Twin"),
        ("SELECT deviceId FROM devices", "Raw"),
        ("SELECT COUNT() AS n FROM devices", "Raw"),
        (
            "SELECT * FROM devices.jobs WHERE devices.jobs.jobId = 'j'",
            "DeviceJob",
        ),
    ] {
        let reply = ask(&desk, query, &[]).await;
        assert_eq!(reply.header("x-ms-item-type"), item_type, "{query}");
        assert_eq!(reply.headers.get("x-ms-continuation"), None, "{query}");
        assert!(reply.header("content-type").starts_with("application/json"));
        assert!(reply.json().await.is_array(), "{query}");
    }
    assert_eq!(
        rows(&desk, "SELECT COUNT() AS n FROM devices", "1").await,
        [json!({ "n": 5 })]
    );
    let jobs = rows(&desk, "SELECT * FROM devices.jobs", "1").await;
    assert_eq!(jobs, [] as [Value; 0]);

    let long = format!("SELECT * FROM devices WHERE {}1=1", "1=1 OR ".repeat(1200));
    for (body, name, message, kind) in [
        (
            json!({ "query": "SELECT * FROM device" }),
            "ArgumentInvalid",
            "BadRequest",
            "invalid-query",
        ),
        (
            json!({ "Query": "" }),
            "ArgumentInvalid",
            "BadRequest",
            "invalid-query",
        ),
        (
            json!({ "query": long }),
            "ArgumentInvalid",
            "BadRequest",
            "invalid-query",
        ),
        (
            json!({ "query": 7 }),
            "ArgumentInvalid",
            "the member query must be a text",
            "invalid-argument",
        ),
        (
            json!([]),
            "ArgumentInvalid",
            "the body must be an object",
            "invalid-argument",
        ),
        (json!({}), "ArgumentNull", "BadRequest", "invalid-query"),
        (
            json!({ "query": null }),
            "ArgumentNull",
            "BadRequest",
            "invalid-query",
        ),
    ] {
        let reply = post(&desk, &[], &body.to_string()).await;
        assert_eq!(
            (reply.status, reply.header("iothub-errorcode")),
            (400, name),
            "{body}"
        );
        let shown = reply.json().await["Message"].clone();
        assert_eq!(shown, format!("ErrorCode:{name};{message}"), "{body}");
        let record = desk.ledger.since(0).pop().unwrap();
        assert_eq!(record.refusal.kind, kind, "{body}");
    }
    let reply = post(&desk, &[], "{").await;
    assert_eq!(
        (reply.status, reply.header("iothub-errorcode")),
        (400, "IotHubFormatError")
    );

    ask(&desk, "SELECT * FROM devices WHERE tags.a == 1", &[]).await;
    let record = desk.ledger.since(0).pop().unwrap();
    let sentence =
        "at character 37 of the query: expected a value, a path or a function, found `=`";
    assert_eq!(record.refusal.sentence, sentence);
    assert_eq!(record.who.as_deref(), Some("service"));

    for (name, value) in [
        ("x-ms-max-item-count", "0"),
        ("x-ms-max-item-count", "-1"),
        ("x-ms-max-item-count", "many"),
        ("x-ms-continuation", "garbage"),
    ] {
        let reply = ask(&desk, "SELECT * FROM devices", &[(name, value)]).await;
        let code = reply.header("iothub-errorcode").to_owned();
        assert_eq!(
            (reply.status, code.as_str()),
            (400, "ArgumentInvalid"),
            "{name}: {value}"
        );
    }
}

#[tokio::test]
async fn only_who_may_read_twins_may_ask() {
    let desk = varied().await;
    for (policy, status) in [
        ("iothubowner", 200),
        ("service", 200),
        ("registryReadWrite", 401),
        ("registryRead", 401),
        ("device", 401),
    ] {
        let headers = [("authorization", desk.token(policy))];
        let body = r#"{"query":"SELECT * FROM devices"}"#;
        for path in [PATH, "/devices%2Fquery?api-version=2020-09-30"] {
            let reply = desk.request(Method::POST, path, &headers, body).await;
            assert_eq!(reply.status, status, "{policy}");
        }
    }
}

#[tokio::test]
async fn published_pages_are_as_long_as_azures() {
    let desk = Desk::new();
    for id in ["dev-01", "dev-02", "dev-03", "edge-01", "leaf-01", "Dev-04"] {
        desk.make(id).await;
    }
    let vectors = vectors(include_str!("../vectors/query.json"));
    for case in vectors["queryPaging"]["cases"].as_array().unwrap() {
        let query = case["query"].as_str().unwrap();
        let count = case["maxItemCount"].as_str();
        let mut headers: Vec<_> = count
            .map(|count| ("x-ms-max-item-count", count))
            .into_iter()
            .collect();
        if case["status"] == 400 {
            headers.push(("x-ms-continuation", case["continuation"].as_str().unwrap()));
            let reply = ask(&desk, query, &headers).await;
            assert_eq!(reply.status, 400);
            assert_eq!(reply.header("iothub-errorcode"), case["errorCode"]);
            continue;
        }
        let (mut pages, mut more, mut token) = (Vec::new(), Vec::new(), None::<String>);
        loop {
            let mut headers = headers.clone();
            headers.extend(token.as_deref().map(|token| ("x-ms-continuation", token)));
            let reply = ask(&desk, query, &headers).await;
            let next = reply.headers.get("x-ms-continuation");
            token = next.map(|next| next.to_str().unwrap().to_owned());
            pages.push(reply.json().await.as_array().unwrap().len());
            more.push(token.is_some());
            if token.is_none() {
                break;
            }
        }
        assert_eq!(json!(pages), case["pages"], "{case}");
        assert_eq!(json!(more), case["continuationAfterPage"], "{case}");
    }
}

#[tokio::test]
async fn a_page_has_a_thousand_rows_at_most_and_goes_over_many_stretches() {
    let desk = Desk::new();
    for hundred in 0..13 {
        let items = (0..100).map(|one| {
            let number = hundred * 100 + one;
            json!({ "id": format!("d{number:04}"), "tags": { "n": number, "odd": number % 2 } })
        });
        bulk(&desk, items.collect()).await;
    }
    let unasked = ask(&desk, "SELECT deviceId FROM devices", &[]).await;
    assert_eq!(unasked.json().await.as_array().unwrap().len(), 100);
    for (count, first) in [("5000", 1000), ("1000", 1000), ("999", 999)] {
        let (rows, next) = page(&desk, "SELECT deviceId FROM devices", count, None).await;
        assert_eq!((rows.len(), next.is_some()), (first, true));
    }
    for count in ["7", "100", "1000"] {
        let odd = rows(
            &desk,
            "SELECT tags.n FROM devices WHERE tags.odd = 1",
            count,
        )
        .await;
        let expected: Vec<_> = (0..650).map(|n| json!({ "n": 2 * n + 1 })).collect();
        assert_eq!(odd, expected, "{count}");
    }
    let query = "SELECT tags.odd, COUNT() AS n, SUM(tags.n) AS s FROM devices GROUP BY tags.odd";
    let groups = rows(&desk, query, "1").await;
    assert_eq!(
        groups,
        [
            json!({ "odd": 0, "n": 650, "s": 421_850 }),
            json!({ "odd": 1, "n": 650, "s": 422_500 })
        ]
    );
    let every = rows(
        &desk,
        "SELECT deviceId, COUNT() AS n FROM devices GROUP BY deviceId",
        "400",
    )
    .await;
    assert_eq!(every.len(), 1300);
}

/// Pages of 50 while devices come, go and change: none comes twice, and of those that were there
/// throughout none is missing, each with what it always had.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pages_hold_while_others_write() {
    let desk = Arc::new(Desk::new());
    for hundred in 0..10 {
        let items = (0..100).map(|one| json!({ "id": format!("stay-{:03}", hundred * 100 + one), "tags": { "kind": "stays" } }));
        bulk(&desk, items.collect()).await;
    }
    let done = Arc::new(AtomicBool::new(false));
    let writers = (0..4).map(|writer| {
        let (desk, done) = (Arc::clone(&desk), Arc::clone(&done));
        tokio::spawn(async move {
            let mut round = 0;
            while !done.load(Ordering::Relaxed) {
                round += 1;
                let ids = (0..50).map(|n| {
                    format!(
                        "stay-{:03}-{writer}-{}",
                        (n * 37 + round * 11) % 1000,
                        round % 3
                    )
                });
                let ids: Vec<_> = ids.collect::<BTreeSet<_>>().into_iter().collect();
                let comes = ids
                    .iter()
                    .map(|id| json!({ "id": id, "tags": { "kind": "comes" } }));
                bulk(&desk, comes.collect()).await;
                let changes = (0..20).map(|n| {
                    json!({ "id": format!("stay-{:03}", (n * 53 + round) % 1000),
                    "importMode": "updateTwin", "properties": { "desired": { "round": round } } })
                });
                let changes: BTreeMap<_, _> = changes
                    .map(|change| (change["id"].to_string(), change))
                    .collect();
                bulk(&desk, changes.into_values().collect()).await;
                let goes = ids
                    .iter()
                    .map(|id| json!({ "id": id, "importMode": "delete" }));
                bulk(&desk, goes.collect()).await;
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    for _ in 0..3 {
        for (query, all) in [
            ("SELECT deviceId, tags.kind FROM devices", true),
            (
                "SELECT deviceId, tags.kind FROM devices WHERE tags.kind = 'stays'",
                false,
            ),
        ] {
            let found = rows(&desk, query, "50").await;
            let mut seen = BTreeSet::new();
            for row in &found {
                let id = row["deviceId"].as_str().unwrap();
                assert!(seen.insert(id.to_owned()), "{id} came twice");
                let kind = if id.len() == "stay-000".len() {
                    "stays"
                } else {
                    "comes"
                };
                assert_eq!(
                    row["kind"], kind,
                    "{id} is there with its tags or not at all"
                );
            }
            let stayed = seen
                .iter()
                .filter(|id| id.len() == "stay-000".len())
                .count();
            assert_eq!(stayed, 1000);
            assert!(all || seen.len() == 1000);
        }
        let query = "SELECT tags.kind, COUNT() AS n FROM devices WHERE tags.kind = 'stays' GROUP BY tags.kind";
        assert_eq!(
            rows(&desk, query, "1").await,
            [json!({ "kind": "stays", "n": 1000 })]
        );
    }
    done.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
}

#[tokio::test]
async fn modules_are_rows_of_their_own() {
    let desk = Desk::new();
    for device in ["a", "a-b", "b"] {
        desk.make(device).await;
        for module in ["m1", "m2"] {
            let path = format!("/devices/{device}/modules/{module}{VERSION}");
            let reply = desk.ask(Method::PUT, &path, None, "{}").await;
            assert_eq!(reply.status, 200);
        }
    }
    let path = format!("/twins/b/modules/m1{VERSION}");
    let reply = desk
        .ask(Method::PATCH, &path, None, r#"{"tags":{"k":"v"}}"#)
        .await;
    let mut twin = reply.json().await;
    twin["capabilities"] = json!({ "iotEdge": false });
    let tagged = "SELECT * FROM devices.modules WHERE tags.k = 'v'";
    assert_eq!(rows(&desk, tagged, "10").await, [twin.clone()]);
    let mut paths = Vec::new();
    collect(&twin, String::new(), &mut paths);
    for path in paths {
        let query = format!("SELECT {path} AS it FROM devices.modules WHERE tags.k = 'v'");
        let column = rows(&desk, &query, "2").await;
        let expected = twin.pointer(&format!("/{}", path.replace('.', "/")));
        assert_eq!(column[0].get("it"), expected, "{path}");
    }
    for (filter, expected) in [
        (
            "deviceId != ''",
            vec!["a-b/m1", "a-b/m2", "a/m1", "a/m2", "b/m1", "b/m2"],
        ),
        (
            "devices.modules.deviceId in ['b', 'a', 'a-b', 'c']",
            vec!["a-b/m1", "a-b/m2", "a/m1", "a/m2", "b/m1", "b/m2"],
        ),
        ("deviceId = 'a'", vec!["a/m1", "a/m2"]),
        (
            "STARTSWITH(deviceId, 'a') AND moduleId = 'm2'",
            vec!["a-b/m2", "a/m2"],
        ),
        ("capabilities.iotEdge = true", vec![]),
    ] {
        for count in ["1", "3", "100"] {
            let query = format!("SELECT deviceId, moduleId FROM devices.modules WHERE {filter}");
            let found = rows(&desk, &query, count).await;
            let name =
                |row: &Value| format!("{}/{}", row["deviceId"], row["moduleId"]).replace('"', "");
            let found: Vec<_> = found.iter().map(name).collect();
            assert_eq!(found, expected, "{filter}, {count}");
        }
    }
    let count = "SELECT COUNT() AS n FROM devices.modules";
    assert_eq!(rows(&desk, count, "1").await, [json!({ "n": 6 })]);
}

/// A store that counts the states of it that are read: those now, and the most.
struct Watched(Arc<dyn Store>, Arc<(AtomicUsize, AtomicUsize)>);

struct Read(Box<dyn Snapshot>, Arc<(AtomicUsize, AtomicUsize)>);

impl Layer for Watched {
    fn below(&self) -> &Arc<dyn Store> {
        &self.0
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>, Error> {
        let (now, most) = &*self.1;
        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        Ok(Box::new(Read(self.0.snapshot()?, self.1.clone())))
    }
}

impl Snapshot for Read {
    fn get(&self, key: &Key) -> Result<Option<Document>, Error> {
        self.0.get(key)
    }

    fn scan(
        &self,
        room: &'static str,
        prefix: &str,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Page, Error> {
        self.0.scan(room, prefix, after, limit)
    }
}

impl Drop for Read {
    fn drop(&mut self) {
        self.1.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn many_who_ask_at_once_take_turns() {
    let count = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    let store = Over(Watched(azimuth_storage::memory(), count.clone()));
    let desk = Arc::new(Desk::over(Arc::new(store)));
    desk.make("d").await;
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..30 {
        let desk = desk.clone();
        asked.spawn(async move { rows(&desk, "SELECT * FROM devices", "10").await });
    }
    for rows in asked.join_all().await {
        assert_eq!(rows.len(), 1);
    }
    assert!(count.1.load(Ordering::SeqCst) <= 4);
}
