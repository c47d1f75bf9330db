//! The device API over HTTPS, byte for byte as the vectors have it.

use std::collections::HashMap;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::HeaderMap;
use azimuth_wire::registration::RegistrationState;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::*;

pub(super) struct Answered {
    pub(super) status: u16,
    headers: HeaderMap,
    pub(super) body: String,
}

impl Answered {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

pub(super) fn request(
    method: &str,
    target: &str,
    token: Option<String>,
    body: impl Into<Body>,
) -> Request {
    let mut request = Request::builder()
        .method(method)
        .uri(target)
        .header("host", "global.azure-devices-provisioning.net");
    if let Some(token) = token {
        request = request.header("authorization", token);
    }
    let mut request = request.body(body.into()).unwrap();
    let peer = Room::hello("", None, None, Some("global")).peer;
    request.extensions_mut().insert(peer);
    request
}

pub(super) async fn ask(room: &Room, request: Request) -> Answered {
    let response = room.desk.over_https(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    // Azure: on every 202 and 429, and on nothing else.
    let comes_back = [202, 429].contains(&parts.status.as_u16());
    let told = parts
        .headers
        .get("retry-after")
        .map(|seconds| seconds == "3");
    assert_eq!(told, comes_back.then_some(true), "{}", parts.status);
    Answered {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    }
}

fn token(id: &str, key: &SymmetricKey) -> String {
    let resource = format!("0ne00002193/registrations/{id}");
    sas::sign(&resource, key, NOW + 3600, Some("registration"))
}

/// The token of a device of the group `fleet`.
fn fleet(id: &str) -> Option<String> {
    Some(token(id, &group_key().derive(id)))
}

const DEVICE: &str = "contoso-simdevice-east";
const REGISTER: &str =
    "/0ne00002193/registrations/contoso-simdevice-east/register?api-version=2019-03-31";
const LOOKUP: &str = "/0ne00002193/registrations/contoso-simdevice-east?api-version=2019-03-31";

fn register() -> Request {
    request("PUT", REGISTER, fleet(DEVICE), "")
}

fn poll(operation: &str, version: &str) -> Request {
    let target =
        format!("/0ne00002193/registrations/{DEVICE}/operations/{operation}?api-version={version}");
    // Node sends a body with its GET.
    request("GET", &target, fleet(DEVICE), "{}")
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    http_status: u16,
    retry_after: Option<u32>,
    body: Box<RawValue>,
}

fn vectors() -> (HashMap<String, Row>, Vec<Row>) {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Vectors {
        device_responses: HashMap<String, Box<RawValue>>,
    }
    let text = include_str!("../../../tests/vectors/dps.json");
    let mut rows = serde_json::from_str::<Vectors>(text)
        .unwrap()
        .device_responses;
    let errors = rows.remove("errors").unwrap();
    let rows = rows
        .into_iter()
        .filter_map(|(name, row)| Some((name, serde_json::from_str(row.get()).ok()?)))
        .collect();
    (rows, serde_json::from_str(errors.get()).unwrap())
}

/// The names of members in the order they are written.
fn members(json: &str) -> Vec<&str> {
    let pieces: Vec<_> = json.split('"').collect();
    let strings = pieces.iter().zip(pieces.iter().skip(1)).skip(1).step_by(2);
    strings
        .filter(|(_, after)| after.trim_start().starts_with(':'))
        .map(|(name, _)| *name)
        .collect()
}

/// What differs each time, and the names of this room.
fn without_chance(mut body: Value) -> Value {
    const CHANCE: [&str; 8] = [
        "operationId",
        "trackingId",
        "timestampUtc",
        "createdDateTimeUtc",
        "lastUpdatedDateTimeUtc",
        "etag",
        "assignedHub",
        "deviceId",
    ];
    let object = body.as_object_mut().unwrap();
    for (name, value) in object {
        if value.is_object() {
            *value = without_chance(value.take());
        } else if CHANCE.contains(&name.as_str()) && *value != "" {
            *value = "…".into();
        }
    }
    body
}

fn assert_like(answered: &Answered, row: &Row, what: &str) {
    assert_eq!(
        answered.status, row.http_status,
        "{what}: {}",
        answered.body
    );
    assert_eq!(members(&answered.body), members(row.body.get()), "{what}");
    let expected: Value = serde_json::from_str(row.body.get()).unwrap();
    let (ours, theirs) = (answered.json(), without_chance(expected));
    assert_eq!(without_chance(ours), theirs, "{what}");
    let waits = answered.header("retry-after").is_some();
    assert_eq!(waits, row.retry_after.is_some(), "{what}");
    let kind = answered.header("content-type");
    assert_eq!(kind, Some("application/json; charset=utf-8"));
    let (id, code) = (answered.header("x-ms-request-id"), answered.json());
    let refused = code.get("errorCode");
    assert_eq!(
        answered.header("x-ms-error-code"),
        refused.map(Value::to_string).as_deref()
    );
    if refused.is_some() {
        assert_eq!(id, code["trackingId"].as_str(), "{what}");
    }
    assert_eq!(id.unwrap().len(), 36);
}

#[tokio::test]
async fn a_registration_over_https_is_answered_as_azure_does() {
    let (rows, _) = vectors();
    for version in ["2019-03-31", "2021-06-01"] {
        let mut room = Room::open(1).await;
        let accepted = ask(&room, register()).await;
        assert_like(&accepted, &rows["registerAccepted"], "register");
        assert_eq!(accepted.body.len(), 94);
        assert_eq!(accepted.header("retry-after"), Some("3"));
        let here = "https://global.azure-devices-provisioning.net";
        let location = format!("{here}/0ne00002193/registrations/{DEVICE}/register");
        assert_eq!(accepted.header("location"), Some(location.as_str()));

        let operation = accepted.json()["operationId"].as_str().unwrap().to_owned();
        let job = room.jobs.recv().await.unwrap();
        room.finish(&job, "a.net");
        let pending = ask(&room, poll(&operation, version)).await;
        assert_like(&pending, &rows["pollPending"], "poll");
        assert_eq!(pending.header("location"), None);
        let row = match version {
            "2019-03-31" => &rows["assignedSymmetric"],
            _ => &rows["assignedAgain2021"],
        };
        let assigned = ask(&room, poll(&operation, version)).await;
        assert_like(&assigned, row, "assigned");
        assert_eq!(assigned.json()["registrationState"]["assignedHub"], "a.net");
    }
}

#[tokio::test]
async fn failed_and_disabled_registrations_are_answered_as_azure_does() {
    let (rows, _) = vectors();
    let mut room = Room::open(0).await;
    let accepted = ask(&room, register()).await;
    let operation = accepted.json()["operationId"].as_str().unwrap().to_owned();
    let job = room.jobs.recv().await.unwrap();
    let outcome = Outcome::Failed {
        code: crate::error::NO_HUB,
        message: "IoTHub not found.".into(),
    };
    let now = room.clock.utc();
    let state = registration::after(None, &job.registration_id, outcome, now, "g");
    let (state, begun) = (Arc::new(state), room.clock.now());
    let operations = &room.desk.operations;
    operations.finish(&job.key, &job.operations, &state, begun);
    let failed = ask(&room, poll(&operation, "2019-03-31")).await;
    assert_like(&failed, &rows["failedNoHub"], "failed");

    let target = "/0ne00002193/registrations/off/register?api-version=2019-03-31";
    let token = Some(token("off", &own_key()));
    let mut disabled = ask(&room, request("PUT", target, token, "")).await;
    disabled.body = disabled.body.replace("\"off\"", &format!("\"{DEVICE}\""));
    assert_like(&disabled, &rows["disabled"], "disabled");
    assert_eq!(disabled.header("location"), None);
}

#[tokio::test]
async fn refusals_are_answered_and_written_down_as_over_mqtt() {
    let (_, errors) = vectors();
    let error = |code: u64| {
        let is = |row: &&Row| {
            serde_json::from_str::<Value>(row.body.get()).unwrap()["errorCode"] == code
        };
        errors.iter().find(is).unwrap()
    };
    let room = Room::open(0).await;
    let own = "/0ne00002193/registrations/own/register?api-version=2019-03-31";
    let wrong = || Some(token("own", &group_key()));
    let stranger = || Some(token(DEVICE, &own_key()));
    let poll_other =
        "/0ne00002193/registrations/contoso-simdevice-east/operations/5.x?api-version=2019-03-31";
    let rows = [
        (request("PUT", own, wrong(), ""), 401_002, "wrong-key"),
        (
            request("PUT", own, Some("x".into()), ""),
            401_002,
            "malformed-token",
        ),
        (request("PUT", own, None, ""), 401_002, "no-credentials"),
        (
            request("PUT", REGISTER, stranger(), ""),
            401_002,
            "unknown-registration",
        ),
        (
            request("POST", LOOKUP, stranger(), ""),
            401_002,
            "unknown-registration",
        ),
        (
            request("GET", poll_other, stranger(), ""),
            401_002,
            "unknown-registration",
        ),
        (
            request("GET", poll_other, fleet(DEVICE), ""),
            404_203,
            "unknown-operation",
        ),
        (
            request(
                "PUT",
                REGISTER,
                fleet(DEVICE),
                r#"{"registrationId":"other"}"#,
            ),
            401_002,
            "registration-id-mismatch",
        ),
        (
            request("PUT", &REGISTER.replace("2193", "DEAD"), fleet(DEVICE), ""),
            401_002,
            "unknown-id-scope",
        ),
    ];
    for (request, code, kind) in rows {
        let answered = ask(&room, request).await;
        assert_like(&answered, error(code), kind);
        let (refusal, operation) = room.refusal();
        assert_eq!((refusal.kind, operation), (kind, Operation::Registration));
        let status = format!("HTTP {} ", code / 1000);
        assert!(refusal.answer.to_string().starts_with(&status));
    }
    // The queue of this room holds two.
    let _ = (ask(&room, register()).await, ask(&room, register()).await);
    let busy = ask(&room, register()).await;
    assert_like(&busy, error(429_001), "busy");
}

#[tokio::test]
async fn requests_that_cannot_be_read_are_told_what_is_wrong() {
    let room = Room::open(0).await;
    let large = " ".repeat(MOST_BODY_BYTES + 1);
    let unversioned = REGISTER.split('?').next().unwrap();
    let rows = [
        (
            request("PUT", REGISTER, fleet(DEVICE), "{"),
            400_004,
            "bad-body",
        ),
        (
            request("PUT", REGISTER, fleet(DEVICE), large),
            400_004,
            "oversize",
        ),
        (
            request("PUT", unversioned, fleet(DEVICE), ""),
            400_004,
            "bad-api-version",
        ),
        (
            request(
                "PUT",
                &REGISTER.replace("2019-03-31", "soon"),
                fleet(DEVICE),
                "",
            ),
            400_004,
            "bad-api-version",
        ),
        (
            request(
                "PUT",
                &REGISTER.replace("2019-03-31", "2020-01-01"),
                fleet(DEVICE),
                "",
            ),
            400_004,
            "bad-api-version",
        ),
        (
            request("PUT", &REGISTER.replace("east", "east_"), fleet(DEVICE), ""),
            400_004,
            "bad-registration-id",
        ),
        (
            request("GET", REGISTER, fleet(DEVICE), ""),
            405_000,
            "method-not-allowed",
        ),
        (
            request("PUT", LOOKUP, fleet(DEVICE), ""),
            405_000,
            "method-not-allowed",
        ),
        (
            request("POST", LOOKUP, fleet(DEVICE), ""),
            404_202,
            "never-registered",
        ),
    ];
    for (request, code, kind) in rows {
        let answered = ask(&room, request).await;
        assert_eq!(
            answered.json()["errorCode"],
            code,
            "{kind}: {}",
            answered.body
        );
        assert_eq!(u32::from(answered.status), code / 1000, "{kind}");
        assert_eq!(room.refusal().0.kind, kind);
    }
}

#[tokio::test]
async fn what_clients_add_does_not_matter() {
    let mut room = Room::open(0).await;
    let preview = REGISTER.replace("2019-03-31", "2027-01-01-preview");
    let node = format!("{REGISTER}&forceRegistration=true");
    let escaped = REGISTER.replace("contoso-", "contoso%2D");
    for target in [&preview, &node, &escaped] {
        for body in [
            "",
            "{}",
            r#"{"registrationId":"Contoso-SimDevice-East","payload":null}"#,
        ] {
            let mut request = request("PUT", target, fleet(DEVICE), body);
            let headers = request.headers_mut();
            headers.insert("content-encoding", "utf-8".parse().unwrap());
            assert_eq!(ask(&room, request).await.status, 202, "{target} {body}");
            room.jobs.recv().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_lookup_shows_the_registration_without_an_operation() {
    let room = Room::open(0).await;
    let id: azimuth_wire::RegistrationId = DEVICE.parse().unwrap();
    let outcome = Outcome::Assigned {
        hub: "a.net".into(),
        device: DEVICE.parse().unwrap(),
        substatus: Substatus::InitialAssignment,
    };
    let state = registration::after(None, &id, outcome, room.clock.utc(), "g");
    let record = Record {
        state: state.clone(),
        group: None,
        operation: "5.x".into(),
        attempt: None,
        tpm: None,
    };
    let key = records::registration_key(DEVICE);
    let change = Change::put(key, Expect::Absent, records::write(&record));
    room.desk.store.commit(vec![change]).await.unwrap();
    let found = ask(&room, request("POST", LOOKUP, fleet(DEVICE), "{}")).await;
    assert_eq!((found.status, found.header("retry-after")), (200, None));
    let shown: RegistrationState = serde_json::from_str(&found.body).unwrap();
    assert_eq!(shown, state);
}

#[tokio::test]
async fn requests_of_the_service_api_pass() {
    let room = Room::open(0).await;
    for target in [
        "/registrations/own",
        "/enrollments/registrations/attestationmechanism",
        "/",
    ] {
        let passed = room
            .desk
            .over_https(request("POST", target, None, ""))
            .await;
        assert_eq!(passed.unwrap_err().uri().path(), target);
    }
}
