//! Many writers of the registry at once: nothing is lost, and what is counted is what is there.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use axum::http::Method;
use azimuth_storage::{Change, Committed, Store};
use azimuth_wire::Identity as Name;
use azimuth_wire::registry::regeneration::PolicyKey;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::desk::{Desk, KEY, OTHER_KEY, VERSION};
use crate::layer::{Layer, Over};

/// A store where others come between what a writer read and what it commits.
struct Crowded(Arc<dyn Store>);

impl Layer for Crowded {
    fn below(&self) -> &Arc<dyn Store> {
        &self.0
    }

    fn commit(&self, changes: Vec<Change>) -> Committed {
        let store = self.0.clone();
        Box::pin(async move {
            tokio::task::yield_now().await;
            store.commit(changes).await
        })
    }
}

/// A store that has written what it has not yet answered.
pub struct Unanswered(pub Arc<dyn Store>);

fn polled_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    }
}

impl Layer for Unanswered {
    fn below(&self) -> &Arc<dyn Store> {
        &self.0
    }

    fn commit(&self, changes: Vec<Change>) -> Committed {
        let committed = polled_once(self.0.commit(changes));
        Box::pin(async move {
            tokio::task::yield_now().await;
            committed.expect("a store in memory makes nobody wait")
        })
    }
}

/// Asks, and hangs up when the store has what was asked for but has not said so.
pub async fn ask_and_hang_up(
    desk: &Desk,
    method: Method,
    path: &str,
    if_match: Option<&str>,
    body: &str,
) {
    let path = format!("{path}{VERSION}");
    let asked = desk.ask(method, &path, if_match, body);
    assert!(polled_once(asked).is_none());
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_write_is_counted_although_the_client_hung_up() {
    let desk = Desk::over(Arc::new(Over(Unanswered(azimuth_storage::memory()))));
    ask_and_hang_up(
        &desk,
        Method::PUT,
        "/devices/d",
        None,
        r#"{"deviceId":"d"}"#,
    )
    .await;
    assert_eq!(desk.registry.statistics().total_device_count, 1);

    ask_and_hang_up(&desk, Method::DELETE, "/devices/d", Some("*"), "").await;
    assert_eq!(desk.registry.statistics().total_device_count, 0);
}

fn name(device: &str) -> Name {
    Name::device(device.parse().unwrap())
}

fn crowded() -> Arc<Desk> {
    Arc::new(Desk::over(Arc::new(Over(Crowded(
        azimuth_storage::memory(),
    )))))
}

/// Reads, changes and writes on condition, until the write holds; hands out how often another was faster.
async fn add_one(desk: &Desk, path: &str) -> usize {
    let mut lost = 0;
    loop {
        let read = desk.get(path).await.json().await;
        let before: u64 = read["statusReason"]
            .as_str()
            .unwrap_or("0")
            .parse()
            .unwrap();
        let etag = format!("\"{}\"", read["etag"].as_str().unwrap());
        let body = json!({ "statusReason": (before + 1).to_string() }).to_string();
        let reply = desk
            .ask(Method::PUT, &format!("{path}{VERSION}"), Some(&etag), &body)
            .await;
        match reply.status {
            200 => return lost,
            412 => lost += 1,
            other => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn an_update_on_condition_never_overwrites_another() {
    let desk = crowded();
    desk.make("d").await;
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        let desk = desk.clone();
        tasks.spawn(async move {
            for _ in 0..10 {
                add_one(&desk, "/devices/d").await;
            }
        });
    }
    tasks.join_all().await;
    let etag = |device: &Value| azimuth_wire::etag::counter_of(device["etag"].as_str().unwrap());
    let device = desk.read("d").await;
    assert_eq!(device["statusReason"], "80");
    assert!(etag(&device).is_some());
}

#[tokio::test]
async fn a_twin_has_what_the_service_and_the_device_wrote_at_once() {
    let desk = crowded();
    let device = desk.make("d").await;
    let generation_id = device["generationId"].as_str().unwrap().to_owned();
    let mut tasks = JoinSet::new();
    for number in 0..10 {
        let (desk, generation_id) = (desk.clone(), generation_id.clone());
        tasks.spawn(async move {
            let tags = json!({ "tags": { format!("t{number}"): number } }).to_string();
            let path = format!("/twins/d{VERSION}");
            let reply = desk.ask(Method::PATCH, &path, None, &tags);
            let reported = json!({ format!("r{number}"): number });
            let (name, patch) = (name("d"), reported.as_object().unwrap());
            let report = desk.registry.report(&name, &generation_id, patch, None);
            let (reply, report) = tokio::join!(reply, report);
            assert_eq!(reply.status, 200);
            report.unwrap();
        });
    }
    tasks.join_all().await;
    let twin = desk.get("/twins/d").await.json().await;
    assert_eq!(twin["properties"]["reported"]["$version"], 11);
    for number in 0..10 {
        assert_eq!(twin["tags"][format!("t{number}")], number);
        assert_eq!(twin["properties"]["reported"][format!("r{number}")], number);
    }
}

#[tokio::test]
async fn both_keys_are_new_though_each_was_made_at_once() {
    let desk = crowded();
    desk.make("d").await;
    let name = name("d");
    let (first, second) = tokio::join!(
        desk.registry.rekey(&name, PolicyKey::Primary),
        desk.registry.rekey(&name, PolicyKey::Secondary)
    );
    assert!(first.is_ok() && second.is_ok());
    let device = desk.read("d").await;
    let keys = &device["authentication"]["symmetricKey"];
    assert_ne!(keys["primaryKey"], KEY);
    assert_ne!(keys["secondaryKey"], OTHER_KEY);
}

#[tokio::test]
async fn statistics_are_exact_whoever_writes_what() {
    let desk = crowded();
    let mut tasks = JoinSet::new();
    for writer in 0..8_u32 {
        let desk = desk.clone();
        // All write the same few devices, each in its own order.
        tasks.spawn(async move {
            for step in 0..60_u32 {
                let path = format!("/devices/d{}{VERSION}", (writer * 7 + step * 3) % 5);
                let disabled = r#"{"status":"disabled"}"#;
                let edge = r#"{"capabilities":{"iotEdge":true}}"#;
                let module = path.replace('?', "/modules/m?");
                let (method, path, if_match, body) = match (writer + step) % 7 {
                    0 | 1 => (Method::PUT, path, None, "{}"),
                    2 => (Method::PUT, path, Some("*"), disabled),
                    3 => (Method::PUT, path, Some("*"), "{}"),
                    4 => (Method::DELETE, path, Some("*"), ""),
                    5 => (Method::PUT, module, None, "{}"),
                    _ => (Method::PUT, path, None, edge),
                };
                let status = desk.ask(method, &path, if_match, body).await.status;
                assert!(status < 500, "{status}");
            }
        });
    }
    tasks.join_all().await;
    let list = desk.get("/devices").await.json().await;
    let list = list.as_array().unwrap();
    let disabled = list
        .iter()
        .filter(|device| device["status"] == "disabled")
        .count();
    let expected = json!({ "totalDeviceCount": list.len(), "disabledDeviceCount": disabled,
        "enabledDeviceCount": list.len() - disabled });
    assert_eq!(desk.get("/statistics/devices").await.json().await, expected);
    let again = Desk::over(desk.store.clone());
    assert_eq!(
        again.get("/statistics/devices").await.json().await,
        expected
    );
    // No module outlived its device, and their number beside it is right.
    let rooms = |room| desk.store.scan(room, "", None, 1000).unwrap().documents;
    let mut modules = std::collections::BTreeMap::<String, u64>::new();
    for (key, _) in rooms("module") {
        let device = key.name().split('/').next().unwrap();
        *modules.entry(device.to_owned()).or_default() += 1;
    }
    let counted = rooms("modules-of").into_iter();
    let counted = counted.map(|(key, document)| {
        (
            key.name().to_owned(),
            serde_json::from_slice(&document.body).unwrap(),
        )
    });
    assert_eq!(
        counted.collect::<std::collections::BTreeMap<String, u64>>(),
        modules
    );
    let ids: Vec<_> = list
        .iter()
        .map(|device| device["deviceId"].as_str().unwrap())
        .collect();
    assert!(modules.keys().all(|device| ids.contains(&device.as_str())));
}

/// Both have read before either is stored: what one found is not what it writes beside.
#[tokio::test]
async fn a_module_is_never_left_without_its_device() {
    for module_first in [true, false] {
        let desk = crowded();
        desk.make("d").await;
        let ask = |method: Method, path: String, if_match: Option<&'static str>| {
            let desk = desk.clone();
            tokio::spawn(async move { desk.ask(method, &path, if_match, "{}").await.status })
        };
        let make = || ask(Method::PUT, format!("/devices/d/modules/m{VERSION}"), None);
        let delete = || ask(Method::DELETE, format!("/devices/d{VERSION}"), Some("*"));
        let (made, deleted) = match module_first {
            true => (make(), delete()),
            false => {
                let deleted = delete();
                (make(), deleted)
            }
        };
        let (made, deleted) = (made.await.unwrap(), deleted.await.unwrap());
        assert_eq!(deleted, 204);
        assert!([200, 404].contains(&made), "{made}");
        for room in ["device", "module", "modules-of"] {
            let left = desk.store.scan(room, "", None, 10).unwrap().documents;
            assert!(left.is_empty(), "{room}");
        }
    }
}

#[tokio::test]
async fn of_many_who_make_modules_at_once_fifty_are_served() {
    let desk = crowded();
    desk.make("d").await;
    let mut tasks = JoinSet::new();
    for number in 0..60 {
        let desk = desk.clone();
        tasks.spawn(async move {
            let path = format!("/devices/d/modules/m{number}{VERSION}");
            desk.ask(Method::PUT, &path, None, "{}").await.status
        });
    }
    let answers = tasks.join_all().await;
    assert_eq!(answers.iter().filter(|status| **status == 200).count(), 50);
    assert_eq!(answers.iter().filter(|status| **status == 413).count(), 10);
}

#[tokio::test]
async fn pages_hold_every_identity_once_with_its_own_twin() {
    use azimuth_hub::registry::Collection;
    let desk = Desk::new();
    for number in 0..23 {
        let device = format!("d{number}");
        desk.make(&device).await;
        desk.make_module(&device, "m").await;
        if number % 3 == 0 {
            let path = format!("/twins/{device}{VERSION}");
            let tags = json!({ "tags": { "n": device } }).to_string();
            desk.ask(Method::PATCH, &path, None, &tags).await;
        }
    }
    for (collection, limit) in [
        (Collection::Devices, 4),
        (Collection::Devices, 100),
        (Collection::Modules, 5),
    ] {
        let mut after = None;
        let mut seen = Vec::new();
        loop {
            let page = desk
                .registry
                .page(collection, after.as_ref(), limit)
                .unwrap();
            for pair in &page.pairs {
                let twin = desk.registry.twin_of(pair).unwrap();
                let name = pair.identity.name();
                assert_eq!(twin, desk.registry.twin(&name).unwrap());
                assert_eq!(name.module.is_some(), collection == Collection::Modules);
                seen.push(name.to_string());
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen.len(), 23);
        assert!(seen.is_sorted());
    }
}
