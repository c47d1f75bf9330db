#![allow(clippy::unwrap_used, clippy::disallowed_methods)]
mod any_body;

use std::time::{Duration, UNIX_EPOCH};

use azimuth_clock::{ManualClock, SystemClock};
use azimuth_storage::Change;
use azimuth_wire::SymmetricKey;
use azimuth_wire::ca_certificate::CA_CERTIFICATE_OF_DPS;
use azimuth_wire::policy::{DPS_OWNER, PolicyKeys};
use azimuth_wire::sas;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::policies::Policy;
use crate::registration::Record;
use crate::stub_hub::Trust;

pub(super) const HOST: &str = "contoso-dps.azure-devices-provisioning.net";
const KEY: &str = "2NG4SZFYHobo5ITHool++/lmb3Xz7SNyrfnLEapRDNA=";
const OTHERS: [(&str, DpsRights); 5] = [
    ("reader", DpsRights::EnrollmentRead),
    ("writer", DpsRights::EnrollmentWrite),
    ("looker", DpsRights::RegistrationStatusRead),
    ("forgetter", DpsRights::RegistrationStatusWrite),
    ("device", DpsRights::DeviceConnect),
];
const NOW: u64 = 1_800_000_000;

pub(super) struct Api {
    pub(super) office: Arc<Office>,
    pub(super) trust: Trust,
}

pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Value,
}

impl Api {
    pub(super) fn new() -> Self {
        Self::over(azimuth_storage::memory())
    }

    pub(super) fn over(store: Arc<dyn azimuth_storage::Store>) -> Self {
        let trust = Trust::new();
        let linked = || vec!["contoso-hub-east.azure-devices.net".into()];
        let hubs = LinkedHubs::open(
            store.clone(),
            trust.authority.certificate_pem(),
            Duration::from_secs(5),
            Arc::new(SystemClock),
        );
        let policy = |name: &str| PolicyKeys {
            name: name.into(),
            primary_key: KEY.parse().unwrap(),
            secondary_key: KEY.parse().unwrap(),
        };
        let policies = [DPS_OWNER].into_iter().chain(OTHERS);
        let policies = policies.map(|(name, rights)| Policy {
            keys: policy(name),
            rights,
        });
        let office = Office {
            enrollments: Arc::new(Enrollments::open(store.clone(), linked).unwrap()),
            ca_certificates: Arc::new(
                CaCertificates::open(store.clone(), CA_CERTIFICATE_OF_DPS).unwrap(),
            ),
            hubs: Arc::new(hubs.unwrap()),
            store,
            operations: Arc::new(Operations::new(Duration::from_secs(60), 0, 100)),
            waiting: Arc::default(),
            regions: Regions::new("eastus"),
            allocation: AllocationPolicy::Hashed,
            policies: Policies::new(policies.collect()),
            host_names: vec![HOST.into()],
            ledger: Arc::new(Ledger::new("dps")),
            clock: Arc::new(ManualClock::at(UNIX_EPOCH + Duration::from_secs(NOW))),
            stop: CancellationToken::new(),
        };
        Self {
            office: Arc::new(office),
            trust,
        }
    }

    pub(super) fn token() -> String {
        let key = KEY.parse().unwrap();
        sas::sign(HOST, &key, NOW + 60, Some("provisioningserviceowner"))
    }

    pub(super) async fn raw(&self, request: Request) -> Response {
        router(self.office.clone()).oneshot(request).await.unwrap()
    }

    pub(super) async fn send(
        &self,
        method: &str,
        path: &str,
        etag: Option<&str>,
        body: Value,
    ) -> Reply {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{path}?api-version=2021-10-01"))
            .header("host", HOST)
            .header("authorization", Self::token());
        if let Some(etag) = etag {
            request = request.header("if-match", etag);
        }
        let body = if body.is_null() {
            Body::empty()
        } else {
            Body::from(body.to_string())
        };
        let response = self.raw(request.body(body).unwrap()).await;
        Reply::read(response).await
    }

    pub(super) fn last_kind(&self) -> &'static str {
        self.office.ledger.since(0).last().unwrap().refusal.kind
    }
}

impl Reply {
    pub(super) async fn read(response: Response) -> Self {
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, 1 << 20).await.unwrap();
        Self {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: serde_json::from_slice(&body).unwrap_or_default(),
        }
    }
}

pub(super) fn examples() -> Value {
    let vectors: Value =
        serde_json::from_str(include_str!("../../tests/vectors/dps.json")).unwrap();
    vectors["serviceExamples"].clone()
}

#[tokio::test]
async fn an_enrollment_lives_from_put_to_delete() {
    let api = Api::new();
    let example = examples()["individualSymmetricPut"]["body"].clone();
    let put = api
        .send("PUT", "/enrollments/dev-001", None, example.clone())
        .await;
    assert_eq!(put.status, 200);
    assert_eq!(put.headers["x-ms-item-type"], "Enrollment");
    assert_eq!(
        put.headers["content-type"],
        "application/json; charset=utf-8"
    );
    assert!(put.headers.contains_key("x-ms-request-id"));
    assert_eq!(put.body["attestation"], example["attestation"]);
    let etag = put.body["etag"].as_str().unwrap();

    let got = api
        .send("GET", "/Enrollments/DEV-001", None, Value::Null)
        .await;
    assert_eq!(got.body["attestation"], json!({ "type": "symmetricKey" }));
    assert_eq!(got.body["etag"], etag);
    assert_eq!(got.body["initialTwin"], example["initialTwin"]);
    let keys = api
        .send(
            "POST",
            "/enrollments/dev-001/attestationmechanism",
            None,
            Value::Null,
        )
        .await;
    assert_eq!(keys.body, example["attestation"]);

    let again = api
        .send("PUT", "/enrollments/dev-001", None, example.clone())
        .await;
    assert_eq!(
        (again.status, &again.headers["x-ms-error-code"]),
        (409, &"409001".parse().unwrap())
    );
    let stale = api
        .send(
            "PUT",
            "/enrollments/dev-001",
            Some("\"old\""),
            example.clone(),
        )
        .await;
    assert_eq!(stale.status, 412);
    let fresh = api
        .send(
            "PUT",
            "/enrollments/dev-001",
            Some(&format!("\"{etag}\"")),
            example,
        )
        .await;
    assert_eq!(fresh.status, 200);
    assert_eq!(
        api.send("DELETE", "/enrollments/dev-001", None, Value::Null)
            .await
            .status,
        204
    );
    let gone = api
        .send("DELETE", "/enrollments/dev-001", None, Value::Null)
        .await;
    assert_eq!(
        (gone.status, &gone.body["errorCode"]),
        (404, &json!(404_201))
    );
    assert_eq!(gone.body["message"], "Enrollment not found.");
}

#[tokio::test]
async fn a_group_lives_from_put_to_delete() {
    let api = Api::new();
    let example = examples()["groupSymmetricPut"]["body"].clone();
    let put = api
        .send(
            "PUT",
            "/enrollmentGroups/contoso-devices",
            None,
            example.clone(),
        )
        .await;
    assert_eq!(
        (put.status, &put.headers["x-ms-item-type"]),
        (200, &"EnrollmentGroup".parse().unwrap())
    );
    let got = api
        .send(
            "GET",
            "/enrollmentGroups/contoso-devices",
            None,
            Value::Null,
        )
        .await;
    assert_eq!(got.body["attestation"], examples()["groupGetAttestation"]);
    let keys = api
        .send(
            "POST",
            "/enrollmentgroups/contoso-devices/attestationmechanism",
            None,
            Value::Null,
        )
        .await;
    assert_eq!(keys.body, example["attestation"]);
    assert_eq!(
        api.send(
            "DELETE",
            "/enrollmentGroups/contoso-devices",
            Some("*"),
            Value::Null
        )
        .await
        .status,
        204
    );
}

#[tokio::test]
async fn registrations_are_shown_and_forgotten() {
    let api = Api::new();
    let missing = api
        .send("GET", "/registrations/dev-1", None, Value::Null)
        .await;
    assert_eq!(missing.body["errorCode"], 404_202);
    let state: RegistrationState = serde_json::from_value(json!({
        "registrationId": "Dev-1", "status": "assigned", "assignedHub": "a.net", "etag": "e" }))
    .unwrap();
    let record = Record {
        state,
        group: None,
        operation: String::new(),
        attempt: None,
        tpm: None,
    };
    let key = records::registration_key("dev-1");
    let change = Change::put(key, Expect::Absent, records::write(&record));
    api.office.store.commit(vec![change]).await.unwrap();
    let found = api
        .send("GET", "/registrations/DEV-1", None, Value::Null)
        .await;
    assert_eq!(
        (&found.headers["x-ms-item-type"], &found.body["assignedHub"]),
        (&"DeviceRegistration".parse().unwrap(), &json!("a.net"))
    );
    assert_eq!(
        api.send("DELETE", "/registrations/dev-1", Some("x"), Value::Null)
            .await
            .status,
        412
    );
    assert_eq!(
        api.send("DELETE", "/registrations/dev-1", Some("e"), Value::Null)
            .await
            .status,
        204
    );
    assert_eq!(
        api.send("GET", "/registrations/dev-1", None, Value::Null)
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn requests_that_cannot_be_served_say_why() {
    let api = Api::new();
    let body = json!({ "registrationId": "a", "attestation": { "type": "symmetricKey", "symmetricKey": {} } });
    for (method, path, body, status, kind) in [
        (
            "PUT",
            "/enrollments/b",
            body.clone(),
            400,
            "invalid-request",
        ),
        (
            "PUT",
            "/enrollments/a",
            json!({ "registrationId": "a" }),
            400,
            "invalid-request",
        ),
        (
            "PUT",
            "/enrollments/a%20b",
            json!({ "registrationId": "a b" }),
            400,
            "invalid-request",
        ),
        (
            "PUT",
            "/enrollments/a",
            json!({ "registrationId": "a", "attestation": { "type": "tpm", "tpm": {} } }),
            400,
            "invalid-request",
        ),
        (
            "POST",
            "/enrollments/query",
            json!({ "query": "SELECT * FROM enrollments WHERE x = 1" }),
            400,
            "not-supported",
        ),
        ("POST", "/enrollments/", json!({}), 400, "invalid-request"),
        (
            "GET",
            "/enrollments/a%2Fb",
            Value::Null,
            400,
            "invalid-request",
        ),
        (
            "PUT",
            "/enrollments/a",
            json!({ "registrationId": "a", "capabilities": { "iotEdge": "yes" },
                "attestation": { "type": "symmetricKey", "symmetricKey": {} } }),
            400,
            "invalid-request",
        ),
        (
            "PUT",
            "/enrollments/a",
            json!({ "registrationId": "a", "initialTwin": 1,
                "attestation": { "type": "symmetricKey", "symmetricKey": {} } }),
            400,
            "invalid-request",
        ),
        ("POST", "/enrollments/a", body, 405, "method-not-allowed"),
        ("GET", "/nothing", Value::Null, 404, "unknown-path"),
        (
            "GET",
            "/enrollments/a",
            Value::Null,
            404,
            "unknown-enrollment",
        ),
    ] {
        let reply = api.send(method, path, None, body).await;
        assert_eq!(
            (reply.status, api.last_kind()),
            (status, kind),
            "{method} {path}"
        );
        assert!(reply.body["trackingId"].as_str().unwrap().len() == 36);
        assert!(!reply.body["message"].as_str().unwrap().is_empty());
    }
    let request = Request::builder()
        .uri("/enrollments/a")
        .header("authorization", Api::token());
    let reply = Reply::read(api.raw(request.body(Body::empty()).unwrap()).await).await;
    assert_eq!(reply.status, 400);
    assert!(
        reply.body["message"]
            .as_str()
            .unwrap()
            .contains("api-version")
    );
}

#[tokio::test]
async fn only_tokens_of_the_policy_open_the_door() {
    let api = Api::new();
    let key: SymmetricKey = KEY.parse().unwrap();
    let other = SymmetricKey::from_bytes(&[7; 32]);
    let owner = Some("provisioningserviceowner");
    let signed = |resource: &str, key: &SymmetricKey, expiry, name| {
        Some(sas::sign(resource, key, expiry, name))
    };
    for (token, kind) in [
        (None, "no-credentials"),
        (Some("rubbish".into()), "malformed-token"),
        (
            signed(HOST, &key, NOW + 60, Some("somebody")),
            "unknown-policy",
        ),
        (signed(HOST, &key, NOW + 60, None), "unknown-policy"),
        (signed(HOST, &other, NOW + 60, owner), "wrong-key"),
        (signed(HOST, &key, NOW - 400, owner), "sas-expired"),
        (
            signed("another.net", &key, NOW + 60, owner),
            "wrong-resource",
        ),
        (
            signed(&format!("{HOST}/enrollmentGroups"), &key, NOW + 60, owner),
            "wrong-resource",
        ),
        (
            signed(&format!("{HOST}/enrollments"), &key, NOW + 60, owner),
            "unknown-enrollment",
        ),
        (
            signed("127.0.0.10", &key, NOW + 60, owner),
            "unknown-enrollment",
        ),
    ] {
        let mut request = Request::builder()
            .uri("/enrollments/a?api-version=2021-10-01")
            .header("host", "127.0.0.10:443");
        if let Some(token) = token {
            request = request.header("authorization", token);
        }
        let reply = Reply::read(api.raw(request.body(Body::empty()).unwrap()).await).await;
        let status = if kind == "unknown-enrollment" {
            404
        } else {
            401
        };
        assert_eq!((api.last_kind(), reply.status), (kind, status));
    }
}

#[tokio::test]
async fn refusals_come_as_lines_and_new_ones_follow() {
    let api = Api::new();
    let _ = api.send("GET", "/enrollments/a", None, Value::Null).await;
    let request = Request::builder()
        .uri("/azimuth/refusals?after=0&follow=true")
        .header("host", HOST)
        .header("authorization", Api::token());
    let response = api.raw(request.body(Body::empty()).unwrap()).await;
    let mut body = response.into_body();
    let line = next(&mut body).await;
    assert_eq!(
        (&line["number"], &line["kind"]),
        (&json!(1), &json!("unknown-enrollment"))
    );
    assert_eq!(
        (&line["operation"], &line["answer"]),
        (&json!("request"), &json!("HTTP 404 Not Found"))
    );
    let _ = api.send("GET", "/enrollments/b", None, Value::Null).await;
    assert_eq!(next(&mut body).await["number"], 2);
    api.office.stop.cancel();
    let end = std::future::poll_fn(|context| {
        hyper::body::Body::poll_frame(std::pin::Pin::new(&mut body), context)
    });
    assert!(end.await.is_none());
}

async fn next<B>(body: &mut B) -> Value
where
    B: hyper::body::Body<Data = bytes::Bytes> + Unpin,
    B::Error: std::fmt::Debug,
{
    let frame = std::future::poll_fn(|context| {
        hyper::body::Body::poll_frame(std::pin::Pin::new(&mut *body), context)
    });
    let data = frame.await.unwrap().unwrap().into_data().unwrap();
    serde_json::from_slice(&data).unwrap()
}

#[tokio::test]
async fn conditions_decide_as_azure_decides() {
    let api = Api::new();
    let body = |id: &str| json!({ "registrationId": id, "attestation": { "type": "symmetricKey", "symmetricKey": {} } });
    let put = api.send("PUT", "/enrollments/a", None, body("a")).await;
    let etag = put.body["etag"].as_str().unwrap().to_owned();
    let quoted = format!("\"{etag}\"");
    for (method, id, condition, status) in [
        ("PUT", "none", Some("b2xk"), 412),
        ("PUT", "made", Some("*"), 200),
        ("PUT", "a", None, 409),
        ("PUT", "a", Some("b2xk"), 412),
        ("PUT", "a", Some("\"two\", \"etags\""), 400),
        ("PUT", "a", Some("\"half"), 400),
        ("DELETE", "a", Some("b2xk"), 412),
        ("DELETE", "a", Some("no etag"), 400),
        ("DELETE", "none", Some("*"), 404),
        ("PUT", "a", Some(quoted.as_str()), 200),
        ("PUT", "a", Some(etag.as_str()), 412),
        ("PUT", "a", Some("*"), 200),
        ("DELETE", "a", Some("*"), 204),
    ] {
        let path = format!("/enrollments/{id}");
        let reply = api.send(method, &path, condition, body(id)).await;
        assert_eq!(reply.status, status, "{method} {id} {condition:?}");
    }
}

#[tokio::test]
async fn an_entry_allows_to_move_since_that_is_known() {
    let api = Api::new();
    for (id, version, policy) in [
        ("old", "2018-04-01", Value::Null),
        (
            "new",
            "2018-09-01-preview",
            json!({ "updateHubAssignment": true, "migrateDeviceData": true }),
        ),
    ] {
        let body = json!({ "registrationId": id,
            "attestation": { "type": "symmetricKey", "symmetricKey": {} } });
        let request = Request::builder()
            .method("PUT")
            .uri(format!("/enrollments/{id}?api-version={version}"))
            .header("host", HOST)
            .header("authorization", Api::token())
            .header("content-type", "Application/JSON; charset=utf-8")
            .body(Body::from(body.to_string()));
        let reply = Reply::read(api.raw(request.unwrap()).await).await;
        assert_eq!(reply.body["reprovisionPolicy"], policy, "{version}");
    }
}

#[tokio::test]
async fn a_body_of_another_media_type_is_refused() {
    let api = Api::new();
    for (path, method) in [("/enrollments/a", "PUT"), ("/enrollmentGroups", "POST")] {
        let request = Request::builder()
            .method(method)
            .uri(format!("{path}?api-version=2021-10-01"))
            .header("host", HOST)
            .header("authorization", Api::token())
            .header("content-type", "text/plain")
            .body(Body::from("{}"));
        let reply = Reply::read(api.raw(request.unwrap()).await).await;
        assert_eq!(
            (reply.status, api.last_kind()),
            (415, "unsupported-media-type")
        );
    }
}

#[tokio::test]
async fn each_policy_opens_what_its_rights_say() {
    let api = Api::new();
    for (method, path, opened) in [
        ("GET", "/enrollments/a", &["reader", "writer"][..]),
        ("POST", "/enrollmentGroups/query", &["reader", "writer"]),
        ("PUT", "/enrollments/a", &["writer"]),
        ("DELETE", "/enrollmentGroups/a", &["writer"]),
        ("POST", "/enrollments", &["writer"]),
        ("POST", "/enrollments/a/attestationmechanism", &["writer"]),
        ("GET", "/registrations/a", &["looker", "forgetter"]),
        ("POST", "/registrations/a/query", &["looker", "forgetter"]),
        ("DELETE", "/registrations/a", &["forgetter"]),
        ("GET", "/azimuth/linkedHubs", &[]),
    ] {
        let names = OTHERS.iter().map(|(name, _)| *name);
        for name in names.chain(["provisioningserviceowner"]) {
            let token = sas::sign(HOST, &KEY.parse().unwrap(), NOW + 60, Some(name));
            let request = Request::builder()
                .method(method)
                .uri(format!("{path}?api-version=2021-10-01"))
                .header("host", HOST)
                .header("authorization", token)
                .body(Body::empty());
            let reply = Reply::read(api.raw(request.unwrap()).await).await;
            let open = opened.contains(&name) || name == "provisioningserviceowner";
            assert_eq!(reply.status != 401, open, "{name}: {method} {path}");
            if !open {
                assert_eq!(api.last_kind(), "missing-right");
            }
        }
    }
}
