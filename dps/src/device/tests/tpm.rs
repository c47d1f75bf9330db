//! Devices with a TPM, over HTTPS: challenge, token, poll; and every way not to be one.

use azimuth_tpm::ActivationBlob;
use azimuth_wire::registration::TpmChallenge;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::https::{Answered, ask, request};
use super::*;
use crate::attestation::tpm::tests::{TPM, shown};

const REGISTER: &str = "/0ne00002193/registrations/tpm-1/register?api-version=2021-06-01";
const LOOKUP: &str = "/0ne00002193/registrations/tpm-1?api-version=2021-06-01";

fn body() -> String {
    json!({ "registrationId": "tpm-1", "tpm": shown() }).to_string()
}

fn token(key: &SymmetricKey) -> Option<String> {
    let resource = "0ne00002193/registrations/tpm-1";
    Some(sas::sign(resource, key, NOW + 3600, Some("registration")))
}

impl Room {
    async fn with_tpm(polls: u32, status: &str) -> Self {
        let room = Self::open(polls).await;
        room.enroll_as(json!({ "type": "tpm", "tpm": shown() }), status)
            .await;
        room
    }

    async fn enroll_as(&self, attestation: Value, status: &str) {
        let entry = json!({ "registrationId": "tpm-1", "attestation": attestation,
            "provisioningStatus": status });
        let entry: IndividualEnrollment = serde_json::from_value(entry).unwrap();
        let now = self.clock.utc();
        let put = self.desk.enrollments.put(entry, &IfMatch::Any, now);
        let _ = put.await.unwrap();
    }

    /// The key that was wrapped for the TPM.
    async fn challenged(&self) -> SymmetricKey {
        let answer = ask(self, request("PUT", REGISTER, None, body())).await;
        opened(&answer)
    }

    async fn registers(&self, key: &SymmetricKey) -> Answered {
        ask(self, request("PUT", REGISTER, token(key), body())).await
    }
}

fn opened(answer: &Answered) -> SymmetricKey {
    assert_eq!(answer.status, 401, "{}", answer.body);
    let challenge: TpmChallenge = serde_json::from_str(&answer.body).unwrap();
    let blob = STANDARD.decode(challenge.authentication_key).unwrap();
    let blob = ActivationBlob::parse(&blob).unwrap();
    let found = TPM.activate(&blob).unwrap();
    assert_eq!(found.uri(), Some("0ne00002193/registrations/tpm-1"));
    assert_eq!(found.reveal().len(), 32);
    SymmetricKey::from_bytes(found.reveal())
}

#[tokio::test]
async fn the_enrolled_tpm_is_challenged_and_then_taken() {
    let mut room = Room::with_tpm(0, "enabled").await;
    let answer = ask(&room, request("PUT", REGISTER, None, body())).await;
    let text = &answer.body;
    let start = r#"{"message":"Authorization required, resend request using supplied key","authenticationKey":""#;
    assert!(text.starts_with(start), "{text}");
    let end = r#"","unencryptedAuthenticationKey":null,"keyName":"registration"}"#;
    assert!(text.ends_with(end), "{text}");
    assert_eq!(answer.header("x-ms-error-code"), None);
    assert_eq!(room.desk.ledger.since(0).len(), 0, "no refusal");
    let key = opened(&answer);

    let answer = room.registers(&key).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    let job = room.jobs.try_recv().unwrap();
    let Attested::Tpm(tpm) = &job.attested else {
        panic!("{:?}", job.proof);
    };
    assert_eq!(tpm.shown(), shown());
    // A poll and a lookup bring the same token and no keys.
    let operation = answer.json()["operationId"].as_str().unwrap().to_owned();
    let poll =
        format!("/0ne00002193/registrations/tpm-1/operations/{operation}?api-version=2021-06-01");
    let answer = ask(&room, request("GET", &poll, token(&key), "")).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    let answer = ask(&room, request("POST", LOOKUP, token(&key), "")).await;
    assert_eq!(answer.json()["errorCode"], 404_202);
    for (method, target) in [("GET", poll.as_str()), ("POST", LOOKUP)] {
        let answer = ask(&room, request(method, target, None, "")).await;
        assert_eq!(answer.json()["errorCode"], 401_002);
        assert_eq!(room.refusal().0.kind, "no-credentials");
    }
}

#[tokio::test]
async fn the_keys_of_the_last_two_challenges_are_good_for_an_hour() {
    let mut room = Room::with_tpm(0, "enabled").await;
    let mut keys = Vec::new();
    for _ in 0..3 {
        keys.push(room.challenged().await);
    }
    for (key, status) in keys.iter().zip([401, 202, 202]) {
        assert_eq!(room.registers(key).await.status, status);
        let _ = room.jobs.try_recv();
    }
    room.clock.advance(Duration::from_secs(3601));
    let answer = room.registers(&keys[2]).await;
    assert_eq!(answer.json()["errorCode"], 401_002);
    let (refusal, _) = room.refusal();
    assert_eq!(refusal.kind, "wrong-key");
    assert!(
        refusal.sentence.contains("no key was wrapped"),
        "{}",
        refusal.sentence
    );
    assert!(!format!("{refusal:?}").contains(keys[2].reveal()));
}

#[tokio::test]
async fn a_tpm_that_is_not_enrolled_is_told_why() {
    let room = Room::with_tpm(0, "enabled").await;
    let other = azimuth_tpm::SoftwareTpm::generate().unwrap();
    let other = STANDARD.encode(other.endorsement_key().bytes());
    let keys = |ek: &str, srk: Option<&str>| {
        json!({ "tpm": { "endorsementKey": ek, "storageRootKey": srk } }).to_string()
    };
    let own = shown();
    let at = |id: &str| REGISTER.replace("tpm-1", id);
    let (ek, srk) = (&*own.endorsement_key, own.storage_root_key.as_deref());
    for (target, body, code, kind) in [
        (at("nobody"), keys(ek, srk), 404_201, "unknown-registration"),
        (at("own"), keys(ek, srk), 401_002, "wrong-attestation"),
        (
            at("tpm-1"),
            keys(&other, srk),
            401_002,
            "wrong-endorsement-key",
        ),
        (at("tpm-1"), keys("AA==", srk), 400_004, "bad-tpm-key"),
        (at("tpm-1"), keys(ek, Some("AA==")), 400_004, "bad-tpm-key"),
        (at("tpm-1"), r#"{"tpm":{}}"#.into(), 400_004, "bad-body"),
        (at("tpm-1"), "{}".into(), 401_002, "no-credentials"),
    ] {
        let answer = ask(&room, request("PUT", &target, None, body)).await;
        assert_eq!(answer.json()["errorCode"], code, "{kind} {}", answer.body);
        assert_eq!(room.refusal().0.kind, kind);
    }
    // With a token as well: the keys that are shown are looked at first.
    let key = room.challenged().await;
    let answer = ask(
        &room,
        request("PUT", REGISTER, token(&key), keys(&other, srk)),
    )
    .await;
    assert_eq!(answer.json()["errorCode"], 401_002);
    assert_eq!(room.refusal().0.kind, "wrong-endorsement-key");
}

#[tokio::test]
async fn other_proofs_do_not_stand_in_for_a_tpm() {
    let room = Room::with_tpm(0, "enabled").await;
    let answer = room.registers(&own_key()).await;
    assert_eq!(answer.json()["errorCode"], 401_002);
    assert_eq!(room.refusal().0.kind, "wrong-key");
    // Not over MQTT, whatever signed.
    let key = room.challenged().await;
    let who = room.device("tpm-1", &key, "2021-06-01").await;
    let (topic, answer) = room.register(&who);
    assert!(topic.contains("/res/401/"), "{topic}");
    assert_eq!(answer["errorCode"], 401_002);
    let (refusal, _) = room.refusal();
    assert_eq!(refusal.kind, "wrong-attestation");
    assert!(
        refusal.sentence.contains("not over MQTT"),
        "{}",
        refusal.sentence
    );
}

#[tokio::test]
async fn a_disabled_enrollment_tells_only_the_tpm_itself() {
    let mut room = Room::with_tpm(0, "disabled").await;
    let key = room.challenged().await;
    let registration = || records::registration(&*room.desk.store, "tpm-1").unwrap();
    assert!(registration().is_none());
    let answer = room.registers(&key).await;
    assert_eq!(
        (answer.status, &answer.json()["status"]),
        (200, &json!("disabled"))
    );
    assert!(room.jobs.try_recv().is_err());
}

#[tokio::test]
async fn a_tpm_that_was_replaced_in_the_enrollment_is_out_at_once() {
    let room = Room::with_tpm(0, "enabled").await;
    let key = room.challenged().await;
    let other = azimuth_tpm::SoftwareTpm::generate().unwrap();
    let other = STANDARD.encode(other.endorsement_key().bytes());
    let attestation = json!({ "type": "tpm", "tpm": { "endorsementKey": other } });
    room.enroll_as(attestation, "enabled").await;
    let answer = ask(&room, request("PUT", REGISTER, token(&key), "")).await;
    assert_eq!(answer.json()["errorCode"], 401_002);
}
