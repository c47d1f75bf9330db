//! What becomes of events that wait for a webhook: taken, refused for good, tried again after a restart.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use azimuth_hub::event_grid::{Post, PostOffice, Subscription, forget_others, topic};
use azimuth_hub::notification::{NotifierConfig, Sources};
use azimuth_storage::Store;
use azimuth_webhook::Webhooks;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::desk::{Desk, Folder, authority_pem};

/// Says what it is asked: `validation`, or which try of which event.
async fn webhook() -> (String, UnboundedReceiver<String>) {
    let (asked, heard) = unbounded_channel();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(answer).with_state(asked);
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, heard)
}

/// It refuses one device for good and another for now.
async fn answer(
    State(asked): State<UnboundedSender<String>>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, String) {
    let events: Value = serde_json::from_slice(&body).unwrap();
    let event = &events[0];
    if headers["aeg-event-type"] == "SubscriptionValidation" {
        asked.send("validation".into()).unwrap();
        let code = &event["data"]["validationCode"];
        return (
            StatusCode::OK,
            json!({ "validationResponse": code }).to_string(),
        );
    }
    let subject = event["subject"].as_str().unwrap();
    let tries = headers["aeg-delivery-count"].to_str().unwrap();
    asked.send(format!("{tries} {subject}")).unwrap();
    let status = match subject {
        "devices/refused" => StatusCode::BAD_REQUEST,
        "devices/busy" => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::OK,
    };
    (status, String::new())
}

/// A hub with one subscription.
struct House {
    desk: Desk,
    post: Arc<Post>,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl House {
    /// Starts so many seconds after the first.
    fn open(store: &Arc<dyn Store>, url: &str, folder: &Folder, later: u64) -> Self {
        let mut opened = None;
        let desk = Desk::telling(store.clone(), |store, clock, ledger| {
            clock.advance(Duration::from_secs(later));
            let office = PostOffice {
                topic: topic("hub1"),
                store: store.clone(),
                clock: clock.clone(),
                ledger: ledger.clone(),
                webhooks: Arc::new(Webhooks::new(&authority_pem(), Duration::from_secs(10))),
            };
            let subscription = Subscription {
                dead_letters: Some(folder.0.clone()),
                ..Subscription::new("shop", url)
            };
            let post = Arc::new(Post::open(subscription, office).unwrap());
            opened = Some(post.clone());
            NotifierConfig {
                hub: "hub1".into(),
                sources: Sources::new(),
                posts: vec![post],
                partitions: 4,
                snapshots: false,
            }
        });
        let stop = CancellationToken::new();
        let run = desk.notifier.clone().run(String::new(), stop.clone());
        Self {
            post: opened.unwrap(),
            desk,
            stop,
            running: tokio::spawn(run),
        }
    }

    async fn end(self) {
        self.stop.cancel();
        self.running.await.unwrap();
    }
}

/// All that is asked up to the first try of this event. Events come one after the other: what stands before
/// the last is over and done with.
async fn until(heard: &mut UnboundedReceiver<String>, device: &str) -> Vec<String> {
    let last = format!("0 devices/{device}");
    let mut all = Vec::new();
    let asked = async {
        while all.last() != Some(&last) {
            all.push(heard.recv().await.unwrap());
        }
    };
    let asked = tokio::time::timeout(Duration::from_secs(30), asked).await;
    asked.expect("it comes at once, or never");
    all
}

/// The files below a folder.
fn files(folder: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(std::fs::read_to_string(path).unwrap()),
        }
    }
    found
}

#[tokio::test]
async fn each_event_is_taken_once_laid_down_or_tried_again_after_a_restart() {
    let (store, folder) = (azimuth_storage::memory(), Folder::new());
    let (url, mut heard) = webhook().await;
    let house = House::open(&store, &url, &folder, 0);
    for device in ["good", "refused", "busy", "end"] {
        house.desk.make(device).await;
    }
    assert_eq!(
        until(&mut heard, "end").await,
        [
            "validation",
            "0 devices/good",
            "0 devices/refused",
            "0 devices/busy",
            "0 devices/end"
        ]
    );
    let dead = files(&folder.0);
    let [dead] = &dead[..] else {
        panic!("one dead letter: {dead:?}");
    };
    let dead: Value = serde_json::from_str(dead).unwrap();
    assert_eq!(dead[0]["subject"], "devices/refused");
    assert_eq!(
        dead[0]["deadLetterReason"],
        "UndeliverableDueToHttpBadRequest"
    );
    house.end().await;

    // The pause after a first try is ten seconds, whenever the hub starts again.
    let house = House::open(&store, &url, &folder, 10);
    house.desk.make("last").await;
    let mut asked = until(&mut heard, "last").await;
    // Whether its answer was heard before the end is not known.
    asked.retain(|asked| asked != "0 devices/end");
    assert_eq!(asked, ["1 devices/busy", "0 devices/last"]);
    house.end().await;

    // Another address has said nothing yet.
    let house = House::open(&store, &format!("{url}/other"), &folder, 10);
    house.desk.make("other").await;
    let asked = until(&mut heard, "other").await;
    assert_eq!(asked[0], "validation");
    house.end().await;

    let waiting = |name: &str| {
        store
            .scan("event-grid", name, None, 9)
            .unwrap()
            .documents
            .len()
    };
    assert!(waiting("shop/") >= 1, "busy still waits");
    forget_others(&*store, &["shop"]).await.unwrap();
    assert!(waiting("shop/") >= 1);
    forget_others(&*store, &["another"]).await.unwrap();
    assert_eq!(waiting(""), 0);
    let house = House::open(&store, &url, &folder, 10);
    assert_eq!(house.post.status().queued, 0);
}
