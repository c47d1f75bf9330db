#![allow(clippy::unwrap_used, clippy::disallowed_methods)]
mod https;

use std::time::UNIX_EPOCH;

use azimuth_broker::{Answer, Peer, Secret};
use azimuth_clock::ManualClock;
use azimuth_storage::{Change, Expect};
use azimuth_wire::ca_certificate::CA_CERTIFICATE_OF_DPS;
use azimuth_wire::connection_string::ConnectionString;
use azimuth_wire::enrollment::{EnrollmentGroup, IndividualEnrollment};
use azimuth_wire::etag::IfMatch;
use azimuth_wire::registration::{RegistrationStatus, Substatus};
use azimuth_wire::{SymmetricKey, sas};
use serde_json::{Value, json};

use super::*;
use crate::config::LinkedHubConfig;
use crate::stub_hub::{Trust, linked_hubs};

const GROUP_KEY: &str =
    "rLuyBPpIJ+hOre2SFIP9Ajvdty3j0EwSP/WvTVH9eZAw5HpDuEmf13nziHy5RRXmuTy84FCLpOnhhBPASSbHYg==";
const OWN_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const NOW: u64 = 1_800_000_000;

mod tpm;
mod x509;

struct Room {
    desk: Desk,
    jobs: mpsc::Receiver<Job>,
    clock: Arc<ManualClock>,
}

fn keys(key: &str) -> Value {
    json!({ "type": "symmetricKey", "symmetricKey": { "primaryKey": key, "secondaryKey": key } })
}

impl Room {
    /// A desk with the group `fleet`, the disabled group `old`, and the enrollments `own` and `off`.
    async fn open(polls: u32) -> Self {
        let clock = Arc::new(ManualClock::at(UNIX_EPOCH + Duration::from_secs(NOW)));
        let store = azimuth_storage::memory();
        let enrollments = Enrollments::open(store.clone(), || vec!["a.net".into()]).unwrap();
        for (id, status) in [
            ("own", "enabled"),
            ("off", "disabled"),
            ("by-cert", "enabled"),
        ] {
            let body = json!({ "registrationId": id, "attestation": keys(OWN_KEY), "provisioningStatus": status });
            let entry: IndividualEnrollment = serde_json::from_value(body).unwrap();
            let _ = enrollments
                .put(entry, &IfMatch::Absent, clock.utc())
                .await
                .unwrap();
        }
        let body = json!({ "enrollmentGroupId": "fleet", "attestation": keys(GROUP_KEY) });
        let group: EnrollmentGroup = serde_json::from_value(body).unwrap();
        let _ = enrollments
            .put(group, &IfMatch::Absent, clock.utc())
            .await
            .unwrap();
        let (sender, jobs) = mpsc::channel(2);
        let trust = Trust::new();
        let string = ConnectionString::policy("a.net", "iothubowner", own_key());
        let mut link = LinkedHubConfig::new(string, "eastus");
        link.advertised = Some("127.0.0.11".parse().unwrap());
        let desk = Desk {
            id_scope: "0ne00002193".parse().unwrap(),
            enrollments: Arc::new(enrollments),
            ca_certificates: Arc::new(
                CaCertificates::open(store.clone(), CA_CERTIFICATE_OF_DPS).unwrap(),
            ),
            challenges: Challenges::new(100),
            operations: Arc::new(Operations::new(Duration::from_secs(60), polls, 100)),
            store,
            jobs: sender,
            ledger: Arc::new(Ledger::new("dps")),
            clock: clock.clone(),
            retry_after: 3,
            operation_life: Duration::from_secs(24 * 3600),
            quotas: None,
            assigned_hub_form: AssignedHubForm::Auto,
            hubs: linked_hubs(&azimuth_storage::memory(), &trust, &[link]).await,
        };
        Self { desk, jobs, clock }
    }

    fn hello(
        id: &str,
        user_name: Option<&str>,
        password: Option<String>,
        server: Option<&str>,
    ) -> Hello {
        Hello {
            client_id: id.into(),
            user_name: user_name.map(Into::into),
            password: password.map(Secret),
            clean_session: true,
            will: None,
            peer: Arc::new(Peer {
                remote: "127.0.0.1:4000".parse().unwrap(),
                local: "127.0.0.10:8883".parse().unwrap(),
                server_name: server.map(Into::into),
                certificates: Vec::new(),
            }),
        }
    }

    async fn device(&self, id: &str, key: &SymmetricKey, version: &str) -> Registrant {
        self.device_by(id, key, version, NOW + 3600, Some("global"))
            .await
    }

    async fn device_by(
        &self,
        id: &str,
        key: &SymmetricKey,
        version: &str,
        expiry: u64,
        server: Option<&str>,
    ) -> Registrant {
        let user = format!("0ne00002193/registrations/{id}/api-version={version}");
        let token = sas::sign(
            &format!("0ne00002193/registrations/{id}"),
            key,
            expiry,
            None,
        );
        let hello = Self::hello(id, Some(&user), Some(token), server);
        self.desk.authenticate(hello).await.unwrap().principal
    }

    async fn fleet(&self, id: &str) -> Registrant {
        self.device(id, &group_key().derive(id), "2019-03-31").await
    }

    fn send(&self, who: &Registrant, topic: &str, body: &str) -> (String, Value) {
        let payload = Bytes::copy_from_slice(body.as_bytes());
        let publish = publish(topic, &payload);
        let Inward::Answer(Some(answer)) = self.desk.publish(who, publish).unwrap() else {
            panic!("no answer");
        };
        // Azure: on every 202 and 429, and on nothing else.
        let comes_back = ["/res/202/", "/res/429/"].map(|status| answer.topic.contains(status));
        let told = answer.topic.contains("&retry-after=3");
        assert_eq!(comes_back.contains(&true), told, "{}", answer.topic);
        (
            answer.topic,
            serde_json::from_slice(&answer.payload).unwrap(),
        )
    }

    fn register(&self, who: &Registrant) -> (String, Value) {
        self.send(who, "$dps/registrations/PUT/iotdps-register/?$rid=7", "")
    }

    fn poll(&self, who: &Registrant, operation: &str) -> (String, Value) {
        let topic = format!(
            "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=8&operationId={operation}"
        );
        self.send(who, &topic, " ")
    }

    /// The one refusal that was written down since the last time.
    fn refusal(&self) -> (Refusal, Operation) {
        let records = self.desk.ledger.since(0);
        let last = records.last().expect("a refusal");
        (last.refusal.clone(), last.operation)
    }

    fn finish(&self, job: &Job, hub: &str) -> RegistrationState {
        let outcome = Outcome::Assigned {
            hub: hub.into(),
            device: job.registration_id.as_str().parse().unwrap(),
            substatus: Substatus::ReprovisionedToInitialAssignment,
        };
        let state = registration::after(None, &job.registration_id, outcome, self.clock.utc(), "g");
        let shared = Arc::new(state.clone());
        self.desk
            .operations
            .finish(&job.key, &job.operations, &shared, self.clock.now());
        state
    }
}

fn publish<'a>(topic: &'a str, payload: &'a Bytes) -> Publish<'a> {
    Publish {
        topic,
        payload,
        qos: QoS::AtLeastOnce,
        retain: false,
        duplicate: false,
        will: false,
    }
}

fn group_key() -> SymmetricKey {
    GROUP_KEY.parse().unwrap()
}

fn own_key() -> SymmetricKey {
    OWN_KEY.parse().unwrap()
}

#[tokio::test]
async fn each_connect_that_is_refused_says_why() {
    let room = Room::open(0).await;
    let good = "0ne00002193/registrations/dev-1/api-version=2019-03-31";
    type Row<'a> = (
        Option<&'a str>,
        &'a str,
        Option<&'a str>,
        u8,
        &'a str,
        &'a str,
    );
    let rows: [Row<'_>; 9] = [
        (None, "dev-1", Some("x"), 5, "bad-user-name", "no user name"),
        (
            Some("nonsense"),
            "dev-1",
            Some("x"),
            5,
            "bad-user-name",
            "is not",
        ),
        (
            Some("0ne00FFFFFF/registrations/dev-1/api-version=2019-03-31"),
            "dev-1",
            Some("x"),
            3,
            "unknown-id-scope",
            "0ne00002193, not 0ne00FFFFFF",
        ),
        (
            Some(good),
            "dev-2",
            Some("x"),
            5,
            "client-id-mismatch",
            "dev-2",
        ),
        (
            Some(good),
            "dev-1",
            None,
            5,
            "no-credentials",
            "neither a SAS token",
        ),
        (
            Some(good),
            "dev-1",
            Some(""),
            5,
            "no-credentials",
            "neither a SAS token",
        ),
        (
            Some("0ne00002193/registrations/dev-1/api-version=2020-01-01"),
            "dev-1",
            Some("x"),
            5,
            "bad-api-version",
            "2020-01-01",
        ),
        (
            Some("0ne00002193/registrations/dev-1/ClientVersion=1"),
            "dev-1",
            Some("x"),
            5,
            "bad-api-version",
            "no api-version",
        ),
        (
            Some("0ne00002193/registrations/dev_/api-version=2019-03-31"),
            "dev_",
            Some("x"),
            5,
            "bad-registration-id",
            "not a valid",
        ),
    ];
    for (user, client, password, code, kind, words) in rows {
        let hello = Room::hello(client, user, password.map(Into::into), None);
        let refusal = room.desk.authenticate(hello).await.unwrap_err();
        assert_eq!(
            (refusal.kind, &refusal.answer),
            (kind, &Answer::Connack(code)),
            "{user:?}"
        );
        assert!(refusal.sentence.contains(words), "{}", refusal.sentence);
    }
}

#[tokio::test]
async fn every_clients_connect_is_let_in_without_judging_its_token() {
    let vectors: Value =
        serde_json::from_str(include_str!("../../tests/vectors/dps.json")).unwrap();
    let mut room = Room::open(0).await;
    room.desk.id_scope = "0ne00ABCDEF".parse().unwrap();
    for row in vectors["mqtt"]["connect"].as_array().unwrap() {
        let text = |name: &str| row[name].as_str().unwrap();
        let hello = Room::hello(
            text("clientId"),
            Some(text("username")),
            Some(text("password").into()),
            None,
        );
        assert!(room.desk.authenticate(hello).await.is_ok(), "{row}");
    }
    for version in ["2027-01-01", "2026-03-01-preview"] {
        let user = format!("0ne00ABCDEF/registrations/a/api-version={version}");
        let hello = Room::hello("A", Some(&user), Some("rubbish".into()), None);
        assert!(room.desk.authenticate(hello).await.is_ok(), "{version}");
    }
}

#[tokio::test]
async fn beyond_the_quotas_a_device_is_asked_to_come_back_and_others_are_served() {
    let mut room = Room::open(0).await;
    room.desk.quotas = Some(Meter::new(crate::quota::Quotas::AZURE));
    let who = room.fleet("dev-1").await;
    for call in 1..=6 {
        let (topic, body) = room.poll(&who, "none");
        if call <= 5 {
            assert_eq!(topic, "$dps/registrations/res/404/?$rid=8", "{call}");
        } else {
            assert_eq!(topic, "$dps/registrations/res/429/?$rid=8&retry-after=3");
            assert_eq!(body["errorCode"], 429_001);
        }
    }
    assert_eq!(room.refusal().0.kind, "throttled");
    // A register is counted apart, another device too, and time heals.
    assert!(room.register(&who).0.contains("/202/"));
    let other = room.fleet("dev-2").await;
    assert!(room.poll(&other, "none").0.contains("/404/"));
    room.clock.advance(Duration::from_secs(3));
    assert!(room.poll(&who, "none").0.contains("/404/"));
}

#[tokio::test]
async fn register_and_poll_are_answered_as_azure_does() {
    let mut room = Room::open(1).await;
    let who = room.fleet("sample-device-01").await;
    let (topic, body) = room.register(&who);
    assert_eq!(topic, "$dps/registrations/res/202/?$rid=7&retry-after=3");
    let operation = body["operationId"].as_str().unwrap().to_owned();
    assert_eq!(
        body,
        json!({ "operationId": operation, "status": "assigning" })
    );
    assert_eq!(body.to_string().len(), 94);

    let job = room.jobs.recv().await.unwrap();
    let Attested::Credential(HubCredential::Keys(keys)) = &job.attested else {
        panic!("keys are expected");
    };
    assert_eq!(keys.primary, group_key().derive("sample-device-01"));
    room.finish(&job, "a.net");
    let (topic, body) = room.poll(&who, &operation);
    assert_eq!(topic, "$dps/registrations/res/202/?$rid=8&retry-after=3");
    assert_eq!(body.to_string().len(), 173);
    let (topic, body) = room.poll(&who, &operation);
    assert_eq!(topic, "$dps/registrations/res/200/?$rid=8");
    let state = &body["registrationState"];
    assert_eq!(
        (&body["status"], &state["assignedHub"]),
        (&json!("assigned"), &json!("a.net"))
    );
    // An older caller is not told of reprovisioning.
    assert_eq!(state["substatus"], "initialAssignment");
    assert!(room.desk.ledger.since(0).is_empty());
}

#[tokio::test]
async fn the_hub_is_given_in_the_form_the_device_used() {
    for (form, server, expected) in [
        (AssignedHubForm::Auto, Some("dps"), "a.net"),
        (AssignedHubForm::Auto, None, "127.0.0.11"),
        (AssignedHubForm::Name, None, "a.net"),
        (AssignedHubForm::Address, Some("dps"), "127.0.0.11"),
    ] {
        let mut room = Room::open(0).await;
        room.desk.assigned_hub_form = form;
        let who = room
            .device_by("own", &own_key(), "2021-06-01", NOW + 60, server)
            .await;
        let (_, body) = room.register(&who);
        let job = room.jobs.recv().await.unwrap();
        room.finish(&job, "a.net");
        let (_, body) = room.poll(&who, body["operationId"].as_str().unwrap());
        assert_eq!(body["registrationState"]["assignedHub"], expected);
        assert_eq!(
            body["registrationState"]["substatus"],
            "reprovisionedToInitialAssignment"
        );
    }
}

#[tokio::test]
async fn a_result_can_be_polled_after_a_restart() {
    let room = Room::open(0).await;
    let who = room.fleet("dev-1").await;
    let operation = "5.316aac5bdc130deb.b1e02da8-c3a0-4ff2-a121-7ea7a6b7f550";
    let mut state = RegistrationState::new("dev-1".parse().unwrap(), RegistrationStatus::Assigned);
    state.last_updated_date_time_utc = Some(room.clock.utc().into());
    let record = Record {
        state,
        group: None,
        operation: operation.into(),
        attempt: None,
        tpm: None,
    };
    let change = Change::put(
        records::registration_key("dev-1"),
        Expect::Anything,
        records::write(&record),
    );
    room.desk.store.commit(vec![change]).await.unwrap();
    assert_eq!(room.poll(&who, operation).1["status"], "assigned");
    // For a day, whatever the device's token: it brings a new one.
    for (hours, status) in [(23, 200), (1, 404)] {
        room.clock.advance(Duration::from_secs(hours * 3600));
        let expiry = unix_seconds(room.clock.utc()) + 60;
        let key = group_key().derive("dev-1");
        let who = room
            .device_by("dev-1", &key, "2019-03-31", expiry, None)
            .await;
        let (topic, body) = room.poll(&who, operation);
        assert!(topic.contains(&format!("/res/{status}/")), "{topic} {body}");
        let code = (status == 404).then_some(404_203);
        assert_eq!(body["errorCode"].as_u64(), code, "{body}");
    }
    assert_eq!(room.refusal().0.kind, "unknown-operation");
}

#[tokio::test]
async fn each_operation_of_one_device_has_its_own_answer_and_its_own_end() {
    let mut room = Room::open(0).await;
    let who = room.fleet("dev-1").await;
    // A second connection, and a second register while the first is under way: one identity, two operations.
    let again = room.fleet("DEV-1").await;
    let operation = |answer: (String, Value)| answer.1["operationId"].as_str().unwrap().to_owned();
    let first = operation(room.register(&who));
    let second = operation(room.register(&again));
    assert_ne!(first, second);
    assert_eq!(first[..19], second[..19]);
    let jobs = [room.jobs.try_recv().unwrap(), room.jobs.try_recv().unwrap()];
    assert_eq!(jobs[0].key, jobs[1].key);
    let _ = room.finish(&jobs[0], "a.net");
    // Either connection may ask for either.
    for who in [&who, &again] {
        assert!(room.poll(who, &first).0.contains("/res/200/"));
        assert!(room.poll(who, &second).0.contains("/res/202/"));
    }
    let _ = room.finish(&jobs[1], "a.net");
    assert!(room.poll(&who, &second).0.contains("/res/200/"));
    room.clock.advance(Duration::from_secs(59));
    room.desk.operations.sweep(room.clock.now());
    assert!(room.poll(&who, &first).0.contains("/res/200/"));
    room.clock.advance(Duration::from_secs(1));
    room.desk.operations.sweep(room.clock.now());
    let (topic, body) = room.poll(&who, &first);
    assert!(topic.contains("/res/404/"), "{topic}");
    assert_eq!(body["errorCode"], 404_203);
    assert_eq!(body["message"], "Operation not found.");
}

#[tokio::test]
async fn a_disabled_answer_does_not_take_away_the_hub_of_an_assignment_that_ends_meanwhile() {
    let room = Room::open(0).await;
    let who = room.device("off", &own_key(), "2019-03-31").await;
    let before = records::versioned(&*room.desk.store, "off").unwrap();
    assert!(room.register(&who).0.contains("/res/200/"));
    // The assignment began before the enrollment was disabled, and its record is written in between.
    let mut state = RegistrationState::new("off".parse().unwrap(), RegistrationStatus::Assigned);
    state.assigned_hub = Some("a.net".into());
    let record = Record {
        state: state.clone(),
        group: None,
        operation: "5.".into(),
        tpm: None,
        attempt: None,
    };
    let disabled = Record {
        state: RegistrationState::new("off".parse().unwrap(), RegistrationStatus::Disabled),
        ..record.clone()
    };
    let assigned = records::put("off", None, &record);
    room.desk.store.commit(assigned).await.unwrap();
    let late = records::put_unless_changed("off", before.as_ref(), &disabled);
    assert!(room.desk.store.commit(late).await.is_err());
    let kept = records::registration(&*room.desk.store, "off").unwrap();
    assert_eq!(kept.unwrap().state, state);
}

#[tokio::test]
async fn each_registration_that_is_refused_says_why() {
    let room = Room::open(0).await;
    let good = group_key().derive("dev-1");
    let at = |id: &'static str, key: SymmetricKey, expiry: u64| (id, key, expiry);
    let later = NOW + 60;
    let rows = [
        (
            at("dev-1", own_key(), later),
            "",
            401,
            "unknown-registration",
            "1 enrollment groups",
        ),
        (
            at("dev-1", group_key(), later),
            "",
            401,
            "group-key",
            "HMAC-SHA256",
        ),
        (
            at("dev-1", good.clone(), NOW - 400),
            "",
            401,
            "sas-expired",
            "400 s ago",
        ),
        (
            at("own", group_key().derive("own"), later),
            "",
            401,
            "wrong-key",
            "decides alone",
        ),
        (
            at("dev-1", good.clone(), later),
            "{",
            400,
            "bad-body",
            "not the JSON",
        ),
        (
            at("dev-1", good.clone(), later),
            r#"{"registrationId":"dev-2"}"#,
            401,
            "registration-id-mismatch",
            "dev-2",
        ),
        (
            at("dev-1", good.clone(), later),
            r#"{"tpm":{"endorsementKey":"AA=="}}"#,
            401,
            "not-supported",
            "never over MQTT",
        ),
        (
            at("dev-1", good.clone(), later),
            r#"{"csr":"AA=="}"#,
            400,
            "not-supported",
            "signing requests",
        ),
    ];
    for ((id, key, expiry), body, status, kind, words) in rows {
        let who = room.device_by(id, &key, "2019-03-31", expiry, None).await;
        let (topic, answer) =
            room.send(&who, "$dps/registrations/PUT/iotdps-register/?$rid=1", body);
        assert_eq!(topic, format!("$dps/registrations/res/{status}/?$rid=1"));
        assert_eq!(
            answer["errorCode"].as_u64().unwrap() / 1000,
            status,
            "{kind}"
        );
        let (refusal, operation) = room.refusal();
        assert_eq!((refusal.kind, operation), (kind, Operation::Registration));
        assert!(refusal.sentence.contains(words), "{}", refusal.sentence);
        let shown = format!("{refusal:?}");
        assert!(!shown.contains(key.reveal()), "{shown}");
    }
    let large = format!("\"{}\"", "x".repeat(MOST_BODY_BYTES));
    let who = room.fleet("dev-1").await;
    let (topic, _) = room.send(
        &who,
        "$dps/registrations/PUT/iotdps-register/?$rid=1",
        &large,
    );
    assert!(topic.contains("/res/400/"));
    assert_eq!(room.refusal().0.kind, "oversize");
}

#[tokio::test]
async fn tokens_that_cannot_be_read_or_are_for_others_are_answered_401() {
    let room = Room::open(0).await;
    let user = "0ne00002193/registrations/dev-1/api-version=2019-03-31";
    let hello = Room::hello("dev-1", Some(user), Some("rubbish".into()), None);
    let who = room.desk.authenticate(hello).await.unwrap().principal;
    assert!(room.register(&who).0.contains("/res/401/"));
    assert_eq!(room.refusal().0.kind, "malformed-token");

    let other = sas::sign(
        "0ne00002193/registrations/dev-2",
        &group_key().derive("dev-1"),
        NOW + 60,
        None,
    );
    let hello = Room::hello("dev-1", Some(user), Some(other), None);
    let who = room.desk.authenticate(hello).await.unwrap().principal;
    assert!(room.register(&who).0.contains("/res/401/"));
    assert_eq!(room.refusal().0.kind, "wrong-resource");
}

#[tokio::test]
async fn a_disabled_enrollment_answers_at_once_and_only_to_the_right_key() {
    let room = Room::open(0).await;
    let who = room.device("off", &own_key(), "2019-03-31").await;
    let (topic, body) = room.register(&who);
    assert_eq!(topic, "$dps/registrations/res/200/?$rid=7");
    let state = body["registrationState"].as_object().unwrap();
    let members: Vec<_> = state.keys().map(String::as_str).collect();
    assert_eq!(
        (&body["operationId"], &body["status"]),
        (&json!(""), &json!("disabled"))
    );
    for member in ["registrationId", "status", "lastUpdatedDateTimeUtc", "etag"] {
        assert!(members.contains(&member), "{member}");
    }
    assert_eq!(members.len(), 4);
    assert_eq!(room.refusal().0.kind, "enrollment-disabled");
    assert!(room.poll(&who, "").0.contains("/res/404/"));
    let who = room.device("off", &group_key(), "2019-03-31").await;
    assert!(room.register(&who).0.contains("/res/401/"));
}

#[tokio::test]
async fn unknown_operations_and_those_of_others_are_not_found() {
    let room = Room::open(0).await;
    let (one, other) = (room.fleet("dev-1").await, room.fleet("dev-2").await);
    let (_, body) = room.register(&one);
    let operation = body["operationId"].as_str().unwrap();
    for (who, operation) in [(&other, operation), (&one, "5.0.1"), (&one, "")] {
        let (topic, body) = room.poll(who, operation);
        assert_eq!(topic, "$dps/registrations/res/404/?$rid=8");
        assert_eq!(
            (&body["errorCode"], &body["message"]),
            (&json!(404_203), &json!("Operation not found."))
        );
        assert_eq!(room.refusal().0.kind, "unknown-operation");
    }
}

#[tokio::test]
async fn a_full_house_asks_devices_to_come_back() {
    let room = Room::open(0).await;
    let topics: Vec<_> = {
        let mut topics = Vec::new();
        for id in ["a", "b", "c"] {
            topics.push(room.register(&room.fleet(id).await).0);
        }
        topics
    };
    assert!(topics[1].contains("/res/202/"));
    assert_eq!(
        topics[2],
        "$dps/registrations/res/429/?$rid=7&retry-after=3"
    );
    assert_eq!(room.refusal().0.kind, "busy");
}

#[tokio::test]
async fn a_verdict_lasts_until_an_enrollment_changes_or_the_token_ends() {
    let room = Room::open(0).await;
    let who = room.fleet("dev-1").await;
    assert!(room.register(&who).0.contains("/res/202/"));
    room.clock.advance(Duration::from_secs(3600 + 301));
    assert!(room.poll(&who, "5.0.1").0.contains("/res/401/"));

    let who = room.device("own", &own_key(), "2019-03-31").await;
    room.clock.advance(Duration::ZERO);
    let fresh = room
        .device_by("own", &own_key(), "2019-03-31", NOW + 99_999, None)
        .await;
    assert!(room.register(&fresh).0.contains("/res/202/"));
    room.desk
        .enrollments
        .delete::<IndividualEnrollment>("own", &IfMatch::Any)
        .await
        .unwrap();
    assert!(room.register(&fresh).0.contains("/res/401/"));
    drop(who);
}

#[tokio::test]
async fn topics_and_filters_that_do_not_exist_are_refused() {
    let room = Room::open(0).await;
    let who = room.fleet("dev-1").await;
    let payload = Bytes::new();
    for topic in [
        "devices/dev-1/messages/events/",
        "$dps/registrations/POST/x/?$rid=1",
        "$dps",
    ] {
        let refusal = room
            .desk
            .publish(&who, publish(topic, &payload))
            .unwrap_err();
        assert_eq!(
            (refusal.kind, refusal.answer),
            ("unknown-topic", Answer::Close)
        );
    }
    let will = Publish {
        will: true,
        ..publish("anything", &payload)
    };
    assert!(matches!(
        room.desk.publish(&who, will),
        Ok(Inward::Answer(None))
    ));
    let granted = room
        .desk
        .subscribe(&who, RESPONSES, QoS::AtMostOnce)
        .unwrap();
    assert_eq!(granted, Granted::UpTo(QoS::AtMostOnce));
    assert_eq!(
        room.desk.subscribe(&who, "#", QoS::AtLeastOnce).unwrap(),
        Granted::Failure
    );
    assert_eq!(room.refusal().0.kind, "unknown-filter");
}

#[tokio::test]
async fn tolerated_topics_and_bodies_are_answered() {
    let vectors: Value =
        serde_json::from_str(include_str!("../../tests/vectors/dps.json")).unwrap();
    let list = |name: &str| {
        let values = vectors["mqtt"][name].as_array().unwrap();
        values
            .iter()
            .map(|value| value.as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    for body in list("registerBodies") {
        let room = Room::open(0).await;
        let who = room.fleet("contoso-simdevice-east").await;
        let (topic, _) = room.send(&who, "$dps/registrations/PUT/iotdps-register/?rid=1", &body);
        assert_eq!(
            topic, vectors["mqtt"]["responseTopics"]["emptyRid"],
            "{body}"
        );
    }
    let room = Room::open(0).await;
    let who = room.fleet("contoso-simdevice-east").await;
    for body in list("statusBodies") {
        let tolerated = &vectors["mqtt"]["requestTopics"]["tolerated"];
        for topic in [&tolerated[2], &tolerated[3]] {
            let (topic, _) = room.send(&who, topic.as_str().unwrap(), &body);
            assert_eq!(topic, "$dps/registrations/res/404/?$rid=2");
        }
    }
}
