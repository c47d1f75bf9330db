//! What registering does to a device and its twin, in the old hub and in the new one.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]
use azimuth_wire::api_version::ApiVersion;
use azimuth_wire::enrollment::ReprovisionPolicy;
use azimuth_wire::registration::{RegistrationState, RegistrationStatus};
use serde_json::json;

use super::*;
use crate::assigner::tests::{Works, hubs};
use crate::records;
use crate::registration::seen_by;
use crate::stub_hub::{Fault, StubHub, Trust};

/// The initial twin of every enrollment here.
fn initial() -> Value {
    json!({ "tags": { "room": "12" }, "properties": { "desired": { "interval": 30, "$version": 9 } } })
}

fn policy(update_hub_assignment: bool, migrate_device_data: bool) -> Option<ReprovisionPolicy> {
    Some(ReprovisionPolicy {
        update_hub_assignment,
        migrate_device_data,
    })
}

struct Place {
    works: Works,
    a: Arc<StubHub>,
    b: Arc<StubHub>,
}

impl Place {
    async fn new() -> Self {
        let trust = Trust::new();
        let (a, b) = hubs(&trust).await;
        let works = Works::open(trust, &[a.link(), b.link()]).await;
        Self { works, a, b }
    }

    fn job(&self, hub: &str, reprovision: Option<ReprovisionPolicy>) -> Job {
        let mut job = self.works.job("dev-1", hub);
        let terms = Arc::get_mut(&mut job.terms).unwrap();
        terms.reprovision = reprovision;
        terms.initial_twin = Some(initial());
        job
    }

    async fn register(
        &self,
        hub: &str,
        reprovision: Option<ReprovisionPolicy>,
    ) -> Arc<RegistrationState> {
        self.works.submit(self.job(hub, reprovision)).await
    }

    /// In hub a, used there: its twin is not that of the beginning.
    async fn lived_in_a(&self) {
        let state = self.register("hub-a", None).await;
        assert_eq!(state.status, RegistrationStatus::Assigned);
        self.a.devices.lock().get_mut("dev-1").unwrap().1["properties"] = lived();
        self.forget_requests();
    }

    fn forget_requests(&self) {
        self.a.requests.lock().clear();
        self.b.requests.lock().clear();
    }

    fn requests(&self, hub: &StubHub) -> Vec<String> {
        std::mem::take(&mut *hub.requests.lock())
    }
}

fn lived() -> Value {
    json!({
        "desired": { "interval": 60, "$version": 4, "$metadata": { "$lastUpdated": "2026-01-02T03:04:05Z" } },
        "reported": { "fw": "1.2", "$version": 7, "$metadata": { "$lastUpdated": "2026-01-02T03:04:05Z" } }
    })
}

fn device(hub: &StubHub) -> Value {
    hub.devices.lock()["dev-1"].1.clone()
}

fn is_initial(device: &Value) -> bool {
    device["tags"] == json!({ "room": "12" })
        && device["properties"]["desired"] == json!({ "interval": 30 })
        && device["properties"]["reported"].is_null()
}

#[tokio::test]
async fn every_row_of_the_policy_table_does_what_azure_does() {
    let vectors: Value =
        serde_json::from_str(include_str!("../../../tests/vectors/dps.json")).unwrap();
    let rows = vectors["reprovisioning"].as_array().unwrap();
    assert_eq!(rows.len(), 9);
    for row in rows {
        let place = Place::new().await;
        let before = row["recordBefore"].as_str();
        if before.is_some() {
            place.lived_in_a().await;
        }
        if before.is_some_and(|before| before != "hub-a") {
            let store = &*place.works.assigner.store;
            let record = records::registration(store, "dev-1").unwrap().unwrap();
            let changes = records::delete("dev-1", &record, azimuth_storage::Expect::Anything);
            store.commit(changes).await.unwrap();
        }
        let yes = |name: &str| row[name].as_bool().unwrap();
        let policy = policy(yes("updateHubAssignment"), yes("migrateDeviceData"));
        let caller: ApiVersion = row["apiVersion"].as_str().unwrap().parse().unwrap();
        let chosen = row["allocationChooses"].as_str().unwrap();
        let mut job = place.job(chosen, policy);
        job.caller = caller;
        let state = place.works.submit(job).await;
        let expect = &row["expect"];
        let hub = format!(
            "{}.azure-devices.net",
            expect["assignedHub"].as_str().unwrap()
        );
        assert_eq!(state.assigned_hub, Some(hub), "{row}");
        let substatus = serde_json::to_value(seen_by(state.substatus.unwrap(), caller)).unwrap();
        assert_eq!(substatus, expect["substatus"], "{row}");
        let (a, b) = (&place.a, &place.b);
        match expect["twin"].as_str().unwrap() {
            "initial twin of the enrollment" => assert!(is_initial(&device(a)), "{row}"),
            "untouched" => {
                assert_eq!(device(a)["properties"], lived(), "{row}");
                assert_eq!(place.requests(a), ["GET dev-1"]);
                assert!(place.requests(b).is_empty() && !b.has("dev-1"));
            }
            "tags, desired, reported and versions copied; device deleted in hub-a" => {
                assert_eq!(device(b)["properties"], lived());
                assert_eq!(device(b)["tags"], json!({ "room": "12" }));
                assert!(!a.has("dev-1"));
                assert_eq!(place.requests(a), ["GET twin", "DELETE dev-1"]);
                assert_eq!(place.requests(b), ["POST bulk"]);
            }
            "initial twin of the enrollment; reported empty, version 1; device deleted in hub-a" => {
                assert!(is_initial(&device(b)) && !a.has("dev-1"), "{row}");
                assert_eq!(place.requests(a), ["DELETE dev-1"]);
                assert_eq!(place.requests(b), ["POST bulk"]);
            }
            "initial twin of the enrollment; device in hub-a stays" => {
                assert!(is_initial(&device(b)));
                assert_eq!(device(a)["properties"], lived());
            }
            other => panic!("what is {other}?"),
        }
        assert!(place.works.kinds().is_empty(), "{row}");
    }
}

#[tokio::test]
async fn callers_without_a_policy_stay_if_they_are_old_and_move_with_their_data_if_not() {
    for (caller, stays) in [("2018-04-01", true), ("2018-09-01-preview", false)] {
        let place = Place::new().await;
        place.lived_in_a().await;
        let mut job = place.job("hub-b", None);
        job.caller = caller.parse().unwrap();
        let state = place.works.submit(job).await;
        let substatus = match stays {
            true => Substatus::ReprovisionedToInitialAssignment,
            false => Substatus::DeviceDataMigrated,
        };
        assert_eq!(state.substatus, Some(substatus));
        assert_eq!(
            (place.a.has("dev-1"), place.b.has("dev-1")),
            (stays, !stays)
        );
    }
}

#[tokio::test]
async fn without_an_initial_twin_the_plain_request_is_enough() {
    let place = Place::new().await;
    let state = place.works.submit(place.works.job("dev-1", "hub-a")).await;
    assert_eq!(state.substatus, Some(Substatus::InitialAssignment));
    assert_eq!(place.requests(&place.a), ["PUT dev-1"]);
}

#[tokio::test]
async fn the_initial_twin_is_written_over_a_device_that_is_there_and_nothing_else_of_it() {
    let place = Place::new().await;
    let there =
        json!({ "etag": "1", "status": "disabled", "tags": { "old": 1 }, "properties": lived() });
    place.a.devices.lock().insert("dev-1".into(), (1, there));
    let state = place.register("hub-a", None).await;
    assert_eq!(state.substatus, Some(Substatus::InitialAssignment));
    let device = device(&place.a);
    assert_eq!(device["status"], "disabled");
    assert_eq!(device["authentication"]["type"], "sas");
    assert_eq!(device["properties"]["reported"], lived()["reported"]);
    assert_eq!(device["properties"]["desired"], json!({ "interval": 30 }));
    let requests = place.requests(&place.a);
    assert_eq!(requests, ["POST bulk", "GET dev-1", "POST bulk"]);
}

#[tokio::test]
async fn a_device_that_was_deleted_in_its_hub_comes_back_with_the_initial_twin() {
    let place = Place::new().await;
    place.lived_in_a().await;
    place.a.devices.lock().clear();
    let state = place.register("hub-a", None).await;
    let kept = Substatus::ReprovisionedToInitialAssignment;
    assert_eq!(state.substatus, Some(kept));
    assert!(is_initial(&device(&place.a)));
}

#[tokio::test]
async fn a_disabled_device_stays_disabled_where_it_moves() {
    let place = Place::new().await;
    place.lived_in_a().await;
    place.a.devices.lock().get_mut("dev-1").unwrap().1["status"] = "disabled".into();
    place.register("hub-b", None).await;
    assert_eq!(device(&place.b)["status"], "disabled");
}

/// Killed after the new identity was written, and after the old one was removed.
#[tokio::test]
async fn a_move_that_was_cut_off_is_finished_and_loses_nothing() {
    for removed in [false, true] {
        let place = Place::new().await;
        place.lived_in_a().await;
        let store = &*place.works.assigner.store;
        let record = records::registration(store, "dev-1").unwrap().unwrap();
        let state = place.register("hub-b", None).await;
        assert_eq!(state.substatus, Some(Substatus::DeviceDataMigrated));
        if !removed {
            let mut there = device(&place.b);
            place
                .a
                .devices
                .lock()
                .insert("dev-1".into(), (5, there.clone()));
            there["properties"] = json!({ "desired": { "half": "done" } });
            place.b.devices.lock().insert("dev-1".into(), (6, there));
        }
        let now = records::registration(store, "dev-1").unwrap();
        let changes = records::put("dev-1", now.as_ref(), &record);
        store.commit(changes).await.unwrap();

        let state = place.register("hub-b", None).await;
        assert_eq!(state.substatus, Some(Substatus::DeviceDataMigrated));
        assert_eq!(device(&place.b)["properties"], lived(), "{removed}");
        assert!(!place.a.has("dev-1"));
    }
}

#[tokio::test]
async fn nothing_is_called_migrated_that_was_not() {
    // The old hub has the device no more.
    let place = Place::new().await;
    place.lived_in_a().await;
    place.a.devices.lock().clear();
    let state = place.register("hub-b", None).await;
    assert_eq!(state.substatus, Some(Substatus::DeviceDataReset));
    assert!(is_initial(&device(&place.b)));

    // The old hub is linked no more.
    let place = Place::new().await;
    place.lived_in_a().await;
    let linked = place.works.assigner.hubs.clone();
    let any = azimuth_wire::etag::IfMatch::Absent;
    linked.remove(&place.a.host, &any).await.unwrap();
    let state = place.register("hub-b", None).await;
    assert_eq!(state.substatus, Some(Substatus::DeviceDataReset));
    assert!(is_initial(&device(&place.b)) && place.a.has("dev-1"));
    assert!(place.requests(&place.a).is_empty());
}

#[tokio::test]
async fn an_old_hub_that_cannot_be_asked_for_the_twin_fails_the_move_and_changes_nothing() {
    let place = Place::new().await;
    place.lived_in_a().await;
    *place.a.fault.lock() = Some(Fault::Status(503, 1_000_000));
    let state = place.register("hub-b", None).await;
    assert_eq!(
        (state.status, state.error_code),
        (RegistrationStatus::Failed, Some(500_001))
    );
    assert!(!place.b.has("dev-1") && place.requests(&place.b).is_empty());
    let record = place.works.assigner.ledger.since(0).pop().unwrap();
    let sentence = record.refusal.sentence;
    assert!(
        sentence.contains("when that hub is gone for good, unlink it"),
        "{sentence}"
    );

    // It comes back, and so does the device.
    *place.a.fault.lock() = Some(Fault::Status(503, 2));
    let state = place.register("hub-b", None).await;
    assert_eq!(state.substatus, Some(Substatus::DeviceDataMigrated));
    assert_eq!(device(&place.b)["properties"], lived());
}

#[tokio::test]
async fn a_reset_does_not_wait_for_the_old_hub_which_keeps_the_device() {
    let place = Place::new().await;
    place.lived_in_a().await;
    *place.a.fault.lock() = Some(Fault::Status(503, 1_000_000));
    let state = place.register("hub-b", policy(true, false)).await;
    assert_eq!(state.substatus, Some(Substatus::DeviceDataReset));
    assert!(place.a.has("dev-1") && is_initial(&device(&place.b)));
    let record = place.works.assigner.ledger.since(0).pop().unwrap();
    assert!(record.refusal.sentence.contains("stays in both"));
}

#[tokio::test]
async fn a_move_resets_what_lies_about_in_the_new_hub() {
    let place = Place::new().await;
    place.lived_in_a().await;
    let there =
        json!({ "etag": "1", "status": "enabled", "tags": { "old": 1 }, "properties": lived() });
    place.b.devices.lock().insert("dev-1".into(), (1, there));
    place.register("hub-b", policy(true, false)).await;
    assert!(is_initial(&device(&place.b)));
}

#[tokio::test]
async fn a_device_under_another_id_is_made_new_and_the_old_one_stays() {
    for (hub, reprovision, to) in [
        ("hub-a", None, "hub-a"),
        ("hub-b", None, "hub-b"),
        ("hub-b", policy(true, false), "hub-b"),
        ("hub-b", policy(false, false), "hub-a"),
    ] {
        let place = Place::new().await;
        place.lived_in_a().await;
        let mut job = place.job(hub, reprovision);
        Arc::get_mut(&mut job.terms).unwrap().device_id = Some("other".parse().unwrap());
        let state = place.works.submit(job).await;
        assert_eq!(state.substatus, Some(Substatus::InitialAssignment), "{hub}");
        assert_eq!(state.assigned_hub, Some(format!("{to}.azure-devices.net")));
        assert_eq!(device(&place.a)["properties"], lived(), "{hub}");
        let new = if to == "hub-a" { &place.a } else { &place.b };
        assert!(is_initial(&new.devices.lock()["other"].1));
    }
}

/// Enrollments from before twins were checked, and webhooks, may have such.
#[tokio::test]
async fn an_initial_twin_that_no_hub_takes_fails_the_registration_before_a_hub_is_asked() {
    let place = Place::new().await;
    let bad = || {
        let mut job = place.job("hub-a", None);
        let twin = json!({ "tags": { "a b": 1 } });
        Arc::get_mut(&mut job.terms).unwrap().initial_twin = Some(twin);
        job
    };
    let state = place.works.submit(bad()).await;
    assert_eq!(state.error_code, Some(400_004));
    assert!(place.requests(&place.a).is_empty());
    assert_eq!(place.works.kinds(), ["initial-twin"]);
    // Who has its twin needs none.
    place.lived_in_a().await;
    let state = place.works.submit(bad()).await;
    assert_eq!(state.status, RegistrationStatus::Assigned);
}
