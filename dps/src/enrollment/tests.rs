#![allow(clippy::unwrap_used, clippy::disallowed_methods)]
use std::time::UNIX_EPOCH;

use serde_json::{Value, json};

use super::*;
use crate::attestation::tpm::tests::shown;

const NOW: SystemTime = UNIX_EPOCH;

fn enrollments(store: &Arc<dyn Store>) -> Enrollments {
    let linked = || vec!["a.net".into(), "b.net".into()];
    Enrollments::open(store.clone(), linked).unwrap()
}

fn individual(extra: Value) -> IndividualEnrollment {
    let mut body = json!({ "registrationId": "Dev-1",
        "attestation": { "type": "symmetricKey", "symmetricKey": {} } });
    for (name, value) in extra.as_object().unwrap() {
        body[name] = value.clone();
    }
    serde_json::from_value(body).unwrap()
}

fn group(id: &str) -> EnrollmentGroup {
    serde_json::from_value(json!({ "enrollmentGroupId": id,
        "attestation": { "type": "symmetricKey", "symmetricKey": {} } }))
    .unwrap()
}

#[tokio::test]
async fn absent_keys_are_made_once_and_stay() {
    let store = azimuth_storage::memory();
    let enrollments = enrollments(&store);
    let first = enrollments
        .put(individual(json!({})), &IfMatch::Absent, NOW)
        .await
        .unwrap();
    let keys = keys_of(&first.attestation).unwrap();
    assert_eq!(keys.primary.reveal().len(), 88);
    assert_ne!(keys.primary, keys.secondary);
    let again = enrollments
        .put(individual(json!({})), &IfMatch::Any, NOW)
        .await
        .unwrap();
    assert_eq!(keys_of(&again.attestation), Some(keys));
    assert_ne!(again.etag, first.etag);
}

#[tokio::test]
async fn preconditions_are_azures() {
    let etag = |text: &str| IfMatch::Etag(text.into());
    // Whether the record exists, the condition, the expected status.
    for (exists, condition, status) in [
        (false, IfMatch::Absent, 200),
        (false, IfMatch::Any, 200),
        (false, etag("old"), 412),
        (true, IfMatch::Absent, 409),
        (true, IfMatch::Any, 200),
        (true, etag("current"), 200),
        (true, etag("old"), 412),
    ] {
        let store = azimuth_storage::memory();
        let enrollments = enrollments(&store);
        let mut condition = condition;
        if exists {
            let put = enrollments
                .put(individual(json!({})), &IfMatch::Absent, NOW)
                .await
                .unwrap();
            if condition == etag("current") {
                condition = IfMatch::Etag(put.etag.unwrap());
            }
        }
        let outcome = enrollments
            .put(individual(json!({})), &condition, NOW)
            .await;
        let got = outcome.map_or_else(|error| error.code() / 1000, |_| 200);
        assert_eq!(got, status, "exists {exists}, {condition:?}");
    }
}

#[tokio::test]
async fn deleting_asks_for_the_etag_only_when_one_is_given() {
    let store = azimuth_storage::memory();
    let enrollments = enrollments(&store);
    for (condition, code) in [
        (IfMatch::Absent, 0),
        (IfMatch::Any, 0),
        (IfMatch::Etag("old".into()), 412_001),
    ] {
        let _ = enrollments
            .put(individual(json!({})), &IfMatch::Any, NOW)
            .await
            .unwrap();
        let outcome = enrollments
            .delete::<IndividualEnrollment>("dev-1", &condition)
            .await;
        assert_eq!(outcome.map_or_else(|error| error.code(), |()| 0), code);
    }
    let missing = enrollments
        .delete::<IndividualEnrollment>("gone", &IfMatch::Any)
        .await;
    assert_eq!(missing.unwrap_err().code(), 404_201);
}

#[tokio::test]
async fn what_cannot_work_is_refused_with_the_member() {
    let store = azimuth_storage::memory();
    let enrollments = enrollments(&store);
    let two = json!({ "attestation": { "type": "symmetricKey", "symmetricKey": {},
        "tpm": { "endorsementKey": "AA==" } } });
    let hook = json!({ "webhookUrl": "x", "apiVersion": "2019-03-31" });
    for (extra, word) in [
        (json!({ "allocationPolicy": "static" }), "exactly one hub"),
        (
            json!({ "allocationPolicy": "static", "iotHubs": ["a.net", "b.net"] }),
            "exactly one hub",
        ),
        (json!({ "iotHubs": ["c.net"] }), "not linked"),
        (json!({ "iotHubHostName": "c.net" }), "not linked"),
        (
            json!({ "allocationPolicy": "custom" }),
            "customAllocationDefinition",
        ),
        (
            json!({ "allocationPolicy": "custom", "customAllocationDefinition": hook }),
            "webhookUrl",
        ),
        (
            json!({ "attestation": { "type": "x509", "x509": {} } }),
            "holds no certificate",
        ),
        (
            json!({ "attestation": { "type": "tpm" } }),
            "needs the member tpm",
        ),
        (
            json!({ "attestation": { "type": "tpm", "tpm": { "endorsementKey": "…" } } }),
            "Endorsement key is invalid, or does not match the Enrollment. attestation.tpm.endorsementKey",
        ),
        (
            json!({ "attestation": { "type": "tpm", "tpm": { "endorsementKey": "AAA=" } } }),
            "ends too early",
        ),
        (
            json!({ "attestation": { "type": "tpm", "tpm": {
                "endorsementKey": shown().endorsement_key, "storageRootKey": "AAA=" } } }),
            "attestation.tpm.storageRootKey must be",
        ),
        (json!({ "attestation": { "type": "none" } }), "must be"),
        (
            json!({ "attestation": { "type": "symmetricKey" } }),
            "needs the member",
        ),
        (two, "more than one"),
    ] {
        let error = enrollments
            .put(individual(extra.clone()), &IfMatch::Absent, NOW)
            .await;
        let error = error.unwrap_err();
        assert_eq!(error.code(), 400_004);
        assert!(error.to_string().contains(word), "{extra} {error}");
    }
}

#[tokio::test]
async fn groups_in_memory_follow_the_store() {
    let store = azimuth_storage::memory();
    let first = enrollments(&store);
    let _ = first.put(group("B"), &IfMatch::Absent, NOW).await.unwrap();
    let before = first.epoch();
    let _ = first.put(group("a"), &IfMatch::Absent, NOW).await.unwrap();
    assert_ne!(first.epoch(), before);
    let second = enrollments(&store);
    for enrollments in [&first, &second] {
        let groups = enrollments.groups();
        let names: Vec<_> = groups.iter().map(|group| group.shown_id()).collect();
        assert_eq!(names, ["a", "B"]);
    }
    first
        .delete::<EnrollmentGroup>("b", &IfMatch::Absent)
        .await
        .unwrap();
    assert_eq!(first.groups().len(), 1);
}

#[tokio::test]
async fn a_declaration_is_applied_once_until_it_changes() {
    let store = azimuth_storage::memory();
    let enrollments = enrollments(&store);
    let etag = || {
        enrollments
            .entry::<IndividualEnrollment>("dev-1")
            .unwrap()
            .unwrap()
            .etag
    };
    enrollments
        .declare(individual(json!({})), &[], NOW)
        .await
        .unwrap();
    let first = etag();
    enrollments
        .declare(individual(json!({})), &[], NOW)
        .await
        .unwrap();
    assert_eq!(etag(), first);

    let edited = individual(json!({ "deviceId": "by-hand" }));
    let _ = enrollments.put(edited, &IfMatch::Any, NOW).await.unwrap();
    let by_hand = etag();
    enrollments
        .declare(individual(json!({})), &[], NOW)
        .await
        .unwrap();
    assert_eq!(etag(), by_hand);

    enrollments
        .declare(individual(json!({ "deviceId": "declared" })), &[], NOW)
        .await
        .unwrap();
    assert_ne!(etag(), by_hand);
    let bad = enrollments
        .declare(individual(json!({ "iotHubs": ["c.net"] })), &[], NOW)
        .await;
    assert!(bad.unwrap_err().to_string().contains("`Dev-1`"));
    // One that is declared too may have been unlinked since.
    let declared = ["C.net".to_owned()];
    let good = individual(json!({ "iotHubs": ["c.net"] }));
    enrollments.declare(good, &declared, NOW).await.unwrap();
}

#[tokio::test]
async fn of_many_who_create_one_enrollment_one_does_and_many_who_replace_it_all_do() {
    let folder = std::env::temp_dir().join(format!("azimuth-enrollments-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir(&folder).unwrap();
    let store = azimuth_storage::open(&folder.join("dps.redb")).unwrap();
    let enrollments = Arc::new(enrollments(&store));
    for (condition, expected) in [(IfMatch::Absent, 1), (IfMatch::Any, 6)] {
        let writers = (0..6).map(|_| {
            let (enrollments, condition) = (enrollments.clone(), condition.clone());
            tokio::spawn(async move {
                enrollments
                    .put(individual(json!({})), &condition, NOW)
                    .await
            })
        });
        let mut done = 0;
        for writer in writers.collect::<Vec<_>>() {
            match writer.await.unwrap() {
                Ok(_) => done += 1,
                Err(error) => assert!(matches!(error, Error::AlreadyExists(_)), "{error}"),
            }
        }
        assert_eq!(done, expected, "{condition:?}");
    }
    store.close();
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn a_tpm_is_enrolled_alone_and_shown_as_it_was_given() {
    let store = azimuth_storage::memory();
    let enrollments = enrollments(&store);
    let keys = serde_json::to_value(shown()).unwrap();
    let attestation = json!({ "type": "tpm", "tpm": keys });
    let entry = individual(json!({ "attestation": attestation }));
    let kept = enrollments.put(entry, &IfMatch::Absent, NOW).await.unwrap();
    assert_eq!(
        serde_json::to_value(&kept.attestation).unwrap(),
        attestation
    );
    let body = json!({ "enrollmentGroupId": "fleet", "attestation": attestation });
    let group: EnrollmentGroup = serde_json::from_value(body).unwrap();
    let error = enrollments.put(group, &IfMatch::Absent, NOW).await;
    let error = error.unwrap_err();
    assert_eq!(error.code(), 400_004);
    assert!(error.to_string().contains("one by one"), "{error}");
}
