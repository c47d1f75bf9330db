#![allow(clippy::unwrap_used, clippy::disallowed_methods)]
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use azimuth_wire::enrollment::ReprovisionPolicy;
use azimuth_wire::registration::{RegistrationStatus, Substatus};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::*;
use crate::assigner::tests::{Works, hubs};
use crate::enrollment::Entry;
use crate::stub_hub::{SOON, StubHub, Trust};
use azimuth_webhook::Webhooks;

/// A webhook that answers what the test says and keeps what it was sent.
struct StubWebhook {
    url: String,
    answer: Mutex<Option<(u16, String)>>,
    requests: Mutex<Vec<(String, Value)>>,
}

impl StubWebhook {
    async fn start() -> Arc<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let webhook = Arc::new(Self {
            url: format!("http://{address}/api/allocate?code=secret"),
            answer: Mutex::new(Some((200, "{}".into()))),
            requests: Mutex::default(),
        });
        let app = axum::Router::new()
            .fallback(serve)
            .with_state(webhook.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        webhook
    }

    fn chooses(&self, hub: &StubHub) {
        self.says(
            200,
            json!({ "iotHubHostName": hub.host, "payload": { "setting": [1, "value"] } }),
        );
    }

    fn says(&self, status: u16, body: Value) {
        *self.answer.lock() = Some((status, body.to_string()));
    }

    fn asked(&self) -> usize {
        self.requests.lock().len()
    }
}

async fn serve(
    State(webhook): State<Arc<StubWebhook>>,
    uri: Uri,
    body: String,
) -> (StatusCode, String) {
    let body = serde_json::from_str(&body).unwrap();
    webhook.requests.lock().push((uri.to_string(), body));
    let answer = webhook.answer.lock().clone();
    match answer {
        Some((status, body)) => (StatusCode::from_u16(status).unwrap(), body),
        None => std::future::pending().await,
    }
}

/// A registration whose enrollment asks the webhook.
fn asking(works: &Works, id: &str, url: &str) -> Job {
    let entry: azimuth_wire::enrollment::EnrollmentGroup = serde_json::from_value(json!({
        "enrollmentGroupId": "fleet", "attestation": { "type": "symmetricKey" },
        "allocationPolicy": "custom",
        "customAllocationDefinition": { "webhookUrl": url, "apiVersion": "2021-10-01" } }))
    .unwrap();
    let mut job = works.job(id, "");
    job.terms = Arc::new(entry.terms());
    job.payload = Some(serde_json::from_str(r#"{"model":"x"}"#).unwrap());
    job
}

#[tokio::test]
async fn the_webhook_chooses_and_its_payload_goes_to_the_device_each_time() {
    let trust = Trust::new();
    let (a, b) = hubs(&trust).await;
    let works = Works::open(trust, &[a.link(), b.link()]).await;
    let webhook = StubWebhook::start().await;
    webhook.chooses(&b);
    for substatus in [
        Substatus::InitialAssignment,
        Substatus::ReprovisionedToInitialAssignment,
    ] {
        let state = works.submit(asking(&works, "dev-1", &webhook.url)).await;
        assert_eq!(state.assigned_hub.as_ref(), Some(&b.host));
        assert_eq!(state.substatus, Some(substatus));
        assert_eq!(state.payload, Some(json!({ "setting": [1, "value"] })));
    }
    assert!(b.has("dev-1") && !a.has("dev-1"));
    // The query of the URL may hold a key of Azure Functions.
    let kept = works.attempt("dev-1");
    assert!(!format!("{kept:?}").contains("secret"));
    let allocation = kept.allocation.unwrap();
    assert!(allocation.webhook.unwrap().ends_with("/api/allocate?****"));
    assert_eq!(allocation.chosen.as_ref(), Some(&b.host));
    assert_eq!(allocation.hubs[0].host, b.host);
    let requests = webhook.requests.lock().clone();
    let (uri, first) = &requests[0];
    assert_eq!(uri, "/api/allocate?code=secret");
    assert_eq!(first["linkedHubs"], json!([a.host, b.host]));
    assert_eq!(
        first["deviceRuntimeContext"]["payload"],
        json!({ "model": "x" })
    );
    let second = &requests[1].1["deviceRuntimeContext"];
    assert_eq!(second["currentIotHubHostName"], json!(b.host));
    assert_eq!(second["currentDeviceId"], "dev-1");
    assert!(works.kinds().is_empty());
}

/// In place of the enrollment's where the device begins or begins anew, and of no account elsewhere.
#[tokio::test]
async fn the_webhook_may_say_what_the_device_begins_with() {
    let trust = Trust::new();
    let (a, b) = hubs(&trust).await;
    let works = Works::open(trust, &[a.link(), b.link()]).await;
    let webhook = StubWebhook::start().await;
    let asking = |migrate_device_data| {
        let mut job = asking(&works, "dev-1", &webhook.url);
        let terms = Arc::get_mut(&mut job.terms).unwrap();
        terms.initial_twin = Some(json!({ "tags": { "from": "enrollment" } }));
        terms.reprovision = Some(ReprovisionPolicy {
            update_hub_assignment: true,
            migrate_device_data,
        });
        job
    };
    let from = |hub: &StubHub| hub.devices.lock()["dev-1"].1["tags"]["from"].clone();
    let twin = |from: &str| json!({ "tags": { "from": from } });
    let rows = [
        (&a, twin("webhook"), true, "webhook"),
        (&a, twin("ignored"), true, "webhook"),
        (&b, twin("ignored"), true, "webhook"),
        (&a, twin("again"), false, "again"),
        (&b, Value::Null, false, "enrollment"),
    ];
    for (hub, twin, migrate, left) in rows {
        webhook.says(
            200,
            json!({ "iotHubHostName": hub.host, "initialTwin": twin }),
        );
        let state = works.submit(asking(migrate)).await;
        assert_eq!(state.assigned_hub.as_ref(), Some(&hub.host));
        assert_eq!(from(hub), left, "{twin}");
    }
    webhook.says(
        200,
        json!({ "iotHubHostName": a.host, "initialTwin": { "tags": 7 } }),
    );
    let state = works.submit(asking(false)).await;
    assert_eq!(state.error_code, Some(400_004));
    assert_eq!(works.kinds(), ["initial-twin"]);
    assert!(b.has("dev-1"), "a failed registration moves nobody");
}

#[tokio::test]
async fn each_way_a_webhook_fails_is_told_to_the_device_and_recorded() {
    let trust = Trust::new();
    let (a, _) = hubs(&trust).await;
    let works = Works::open(trust, &[a.link()]).await;
    let webhook = StubWebhook::start().await;
    let other = json!({ "iotHubHostName": "elsewhere.azure-devices.net" });
    let long = json!({ "iotHubHostName": a.host, "payload": "x".repeat(Webhooks::MOST_BYTES) });
    let rows = [
        (200, json!({}), 400_208, "names no iotHubHostName", 1),
        (200, other, 400_208, "elsewhere.azure-devices.net", 1),
        (200, json!([1]), 400_207, "not the JSON of a choice", 1),
        (200, long, 400_207, "more than 98304 bytes", 1),
        (401, json!({}), 400_209, "answered 401", 1),
        (404, json!({}), 400_207, "answered 404", 1),
        (
            503,
            json!({}),
            400_207,
            "answered 503; the registration failed",
            11,
        ),
        (
            429,
            json!({}),
            400_207,
            "answered 429; the registration failed",
            11,
        ),
    ];
    for (status, body, code, words, times) in rows {
        webhook.says(status, body);
        webhook.requests.lock().clear();
        let state = works.submit(asking(&works, "dev-1", &webhook.url)).await;
        assert_eq!(
            (state.status, state.error_code),
            (RegistrationStatus::Failed, Some(code)),
            "{words}"
        );
        assert_eq!(webhook.asked(), times, "{words}");
        let records = works.assigner.ledger.since(0);
        let refusal = &records.last().unwrap().refusal;
        assert_eq!(refusal.kind, "webhook-failed");
        assert!(refusal.sentence.contains(words), "{}", refusal.sentence);
        assert!(!format!("{refusal:?}").contains("secret"));
    }
    assert!(!a.has("dev-1"));

    // It comes to its senses between two of the waits.
    webhook.says(503, json!({}));
    let job = asking(&works, "dev-1", &webhook.url);
    let operation = job.operations[0];
    webhook.requests.lock().clear();
    works.sender.send(job).await.unwrap();
    while webhook.asked() == 0 {
        tokio::task::yield_now().await;
    }
    webhook.chooses(&a);
    let state = works.result("dev-1", operation).await;
    assert_eq!(state.status, RegistrationStatus::Assigned);
}

#[tokio::test]
async fn a_webhook_that_is_silent_or_not_there_holds_up_its_own_devices_only() {
    let trust = Trust::new();
    let (a, _) = hubs(&trust).await;
    let works = Works::open(trust, &[a.link()]).await;
    let webhook = StubWebhook::start().await;
    *webhook.answer.lock() = None;
    let stuck: Vec<_> = (0..Webhooks::AT_ONCE + 10)
        .map(|number| asking(&works, &format!("stuck-{number}"), &webhook.url))
        .collect();
    let (first, operation) = (stuck[0].key.clone(), stuck[0].operations[0]);
    for job in stuck {
        works.sender.send(job).await.unwrap();
    }
    let other = StubWebhook::start().await;
    other.chooses(&a);
    let state = works.submit(asking(&works, "dev-1", &other.url)).await;
    assert_eq!(state.status, RegistrationStatus::Assigned);
    let state = works.submit(works.job("dev-2", "")).await;
    assert_eq!(state.status, RegistrationStatus::Assigned);
    assert!(webhook.asked() <= Webhooks::AT_ONCE);
    let state = works.result(&first, operation).await;
    assert_eq!(state.error_code, Some(400_207));
    assert!(state.error_message.as_ref().unwrap().contains("in time"));

    let gone = asking(&works, "dev-3", "http://127.0.0.1:1/?code=secret");
    let state = works.submit(gone).await;
    assert_eq!(state.error_code, Some(400_207));
    assert!(!format!("{state:?}").contains("secret"));
}

#[tokio::test]
async fn a_device_that_may_not_leave_its_hub_offers_that_one_only() {
    let trust = Trust::new();
    let (a, b) = hubs(&trust).await;
    let works = Works::open(trust, &[a.link(), b.link()]).await;
    let webhook = StubWebhook::start().await;
    webhook.chooses(&a);
    let _ = works.submit(asking(&works, "dev-1", &webhook.url)).await;
    let never = |mut job: Job| {
        Arc::make_mut(&mut job.terms).reprovision = Some(ReprovisionPolicy {
            update_hub_assignment: false,
            migrate_device_data: false,
        });
        job
    };
    let state = works
        .submit(never(asking(&works, "dev-1", &webhook.url)))
        .await;
    assert_eq!(state.assigned_hub.as_ref(), Some(&a.host));
    let linked = webhook.requests.lock()[1].1["linkedHubs"].clone();
    assert_eq!(linked, json!([a.host]));
    webhook.chooses(&b);
    let state = works
        .submit(never(asking(&works, "dev-1", &webhook.url)))
        .await;
    assert_eq!(state.error_code, Some(400_208));
    // One that may is moved.
    let state = works.submit(asking(&works, "dev-1", &webhook.url)).await;
    assert_eq!(state.assigned_hub.as_ref(), Some(&b.host));
}

#[tokio::test]
async fn without_a_hub_to_choose_from_no_webhook_is_asked() {
    let works = Works::open(Trust::new(), &[]).await;
    let webhook = StubWebhook::start().await;
    let state = works.submit(asking(&works, "dev-1", &webhook.url)).await;
    assert_eq!(state.error_code, Some(401_001));
    assert_eq!(webhook.asked(), 0);
}

#[tokio::test]
async fn a_webhook_behind_tls_needs_a_certificate_of_ours_or_of_the_systems_authorities() {
    let trust = Trust::new();
    let served = StubHub::start(&trust, "localhost").await;
    let url = format!(
        "https://localhost:{}/api?code=secret",
        served.link().https_port
    );
    let ask = |trust: &Trust| {
        let webhooks = Webhooks::new(trust.authority.certificate_pem(), SOON);
        let url = url.clone();
        async move {
            webhooks
                .ask(Question::json(&url, Bytes::new()), Duration::from_secs(1))
                .await
        }
    };
    // It knows nothing of webhooks, and says so.
    assert_eq!(ask(&trust).await.unwrap().status, 401);
    let error = ask(&Trust::new()).await.unwrap_err().to_string();
    assert!(error.contains("certificate"), "{error}");
    assert!(!error.contains("secret"));
}
