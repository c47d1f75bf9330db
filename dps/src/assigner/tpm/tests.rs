#![allow(clippy::unwrap_used, clippy::disallowed_methods)]
use std::sync::Arc;

use azimuth_tpm::{ActivationBlob, SoftwareTpm};
use azimuth_wire::enrollment::ReprovisionPolicy;
use azimuth_wire::registration::{RegistrationState, RegistrationStatus};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::assigner::Job;
use crate::assigner::tests::{Works, hubs};
use crate::attestation::Attested;
use crate::attestation::tpm::TpmKeys;
use crate::attestation::tpm::tests::TPM;
use crate::records;
use crate::stub_hub::{Fault, StubHub, Trust};

fn keys_of(tpm: &SoftwareTpm) -> Attested {
    Attested::Tpm(Arc::new(TpmKeys {
        endorsement: tpm.endorsement_key().clone(),
        storage_root: tpm.storage_root_key().clone(),
    }))
}

fn job(works: &Works, hub: &str) -> Job {
    Job {
        attested: keys_of(&TPM),
        ..works.job("tpm-1", hub)
    }
}

/// The key that a TPM finds in its registration, base64, and what it is for.
fn opened(tpm: &SoftwareTpm, state: &Arc<RegistrationState>) -> (String, String) {
    assert_eq!(state.status, RegistrationStatus::Assigned, "{state:?}");
    let blob = &state.tpm.as_ref().unwrap().authentication_key;
    let blob = ActivationBlob::parse(&STANDARD.decode(blob).unwrap()).unwrap();
    let found = tpm.activate(&blob).unwrap();
    let key = STANDARD.encode(found.reveal());
    (key, found.uri().unwrap().to_owned())
}

fn key_in(hub: &StubHub) -> String {
    let device = hub.devices.lock()["tpm-1"].1.clone();
    let authentication = &device["authentication"];
    assert_eq!(authentication["type"], "sas");
    let keys = &authentication["symmetricKey"];
    assert_ne!(keys["primaryKey"], keys["secondaryKey"]);
    keys["primaryKey"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_tpm_is_given_the_key_that_its_hub_has_now_and_when_it_registers_again() {
    let trust = Trust::new();
    let (a, _) = hubs(&trust).await;
    let works = Works::open(trust, &[a.link()]).await;
    let first = works.submit(job(&works, "")).await;
    let (key, uri) = opened(&TPM, &first);
    assert_eq!(uri, format!("{}/tpm-1", a.host));
    assert_eq!(STANDARD.decode(&key).unwrap().len(), 32);
    assert_eq!(key_in(&a), key);

    let again = works.submit(job(&works, "")).await;
    assert_ne!(again.tpm, first.tpm, "wrapped anew");
    assert_eq!(opened(&TPM, &again).0, key);
    // An operator changed the key in the hub: the service's is written again.
    a.devices.lock().get_mut("tpm-1").unwrap().1["authentication"]["symmetricKey"]["primaryKey"] =
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".into();
    let again = works.submit(job(&works, "")).await;
    assert_eq!((opened(&TPM, &again).0, key_in(&a)), (key.clone(), key));
}

#[tokio::test]
async fn the_record_keeps_the_key_and_shows_it_to_the_device_alone() {
    let trust = Trust::new();
    let (a, _) = hubs(&trust).await;
    let works = Works::open(trust, &[a.link()]).await;
    let state = works.submit(job(&works, "")).await;
    let record = records::registration(&*works.assigner.store, "tpm-1");
    let record = record.unwrap().unwrap();
    assert_eq!(record.for_device(), *state);
    let shown = serde_json::to_string(&record.state).unwrap();
    assert!(!shown.contains("tpm\""), "{shown}");
    let (key, _) = opened(&TPM, &state);
    let blob = &state.tpm.as_ref().unwrap().authentication_key;
    let debug = format!("{record:?} {state:?} {:?}", job(&works, ""));
    assert!(!debug.contains(&key) && !debug.contains(blob));

    // A failure keeps the key for later and shows nothing.
    *a.fault.lock() = Some(Fault::Status(400, 9));
    let failed = works.submit(job(&works, "")).await;
    assert_eq!(
        (failed.status, &failed.tpm),
        (RegistrationStatus::Failed, &None)
    );
    *a.fault.lock() = None;
    let later = works.submit(job(&works, "")).await;
    assert_eq!(opened(&TPM, &later).0, key);
}

#[tokio::test]
async fn a_move_takes_the_key_along_and_a_reset_makes_another() {
    let trust = Trust::new();
    let (a, b) = hubs(&trust).await;
    let works = Works::open(trust, &[a.link(), b.link()]).await;
    let (key, _) = opened(&TPM, &works.submit(job(&works, "hub-a")).await);
    let (moved, uri) = opened(&TPM, &works.submit(job(&works, "hub-b")).await);
    assert_eq!((&moved, &key_in(&b)), (&key, &key));
    assert_eq!(uri, format!("{}/tpm-1", b.host));
    let mut reset = job(&works, "hub-a");
    Arc::get_mut(&mut reset.terms).unwrap().reprovision = Some(ReprovisionPolicy {
        update_hub_assignment: true,
        migrate_device_data: false,
    });
    let (made, _) = opened(&TPM, &works.submit(reset).await);
    assert_ne!(made, key);
    assert_eq!(key_in(&a), made);
}

#[tokio::test]
async fn another_tpm_or_another_proof_inherits_no_key() {
    let trust = Trust::new();
    let (a, _) = hubs(&trust).await;
    let works = Works::open(trust, &[a.link()]).await;
    let (key, _) = opened(&TPM, &works.submit(job(&works, "")).await);
    let other = SoftwareTpm::generate().unwrap();
    let replaced = Job {
        attested: keys_of(&other),
        ..works.job("tpm-1", "")
    };
    let (others, _) = opened(&other, &works.submit(replaced).await);
    assert_ne!(others, key);
    assert_eq!(key_in(&a), others);
    // Symmetric keys from now on: nothing of the TPM stays.
    let state = works.submit(works.job("tpm-1", "")).await;
    assert_eq!(state.tpm, None);
    let record = records::registration(&*works.assigner.store, "tpm-1");
    assert_eq!(record.unwrap().unwrap().tpm, None);
}
