#![allow(clippy::unwrap_used, clippy::disallowed_methods)]
use azimuth_clock::SystemClock;
use azimuth_wire::SymmetricKey;
use azimuth_wire::enrollment::ReprovisionPolicy;
use azimuth_wire::etag::IfMatch;
use azimuth_wire::linked_hub::IotHubDefinition;
use azimuth_wire::registration::{RegistrationStatus, Substatus};

use super::*;
use crate::attempt::{Because, Fate, Few, HubAnswer, Left, Slot, TokenProof};
use crate::attestation::DeviceKeys;
use crate::config::LinkedHubConfig;
use crate::operation::Standing;
use crate::stub_hub::{Fault, SOON, StubHub, Trust, linked_hubs};

pub(super) struct Works {
    pub(super) assigner: Arc<Assigner>,
    pub(super) sender: mpsc::Sender<Job>,
    stop: CancellationToken,
    _trust: Trust,
}

pub(super) async fn hubs(trust: &Trust) -> (Arc<StubHub>, Arc<StubHub>) {
    let a = StubHub::start(trust, "hub-a.azure-devices.net").await;
    let b = StubHub::start(trust, "hub-b.azure-devices.net").await;
    (a, b)
}

impl Works {
    pub(super) async fn open(trust: Trust, links: &[LinkedHubConfig]) -> Self {
        Self::open_for(trust, links, Duration::from_millis(900)).await
    }

    /// With so much time for each assignment.
    async fn open_for(trust: Trust, links: &[LinkedHubConfig], longest: Duration) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let store = azimuth_storage::memory();
        let hubs = linked_hubs(&store, &trust, links).await;
        let pace = Pace {
            hub_retry: Duration::from_millis(20),
            assignment_timeout: longest,
            webhook_timeout: Duration::from_millis(600),
            webhook_retry: Duration::from_micros(100),
            ..Pace::default()
        };
        let assigner = Arc::new(Assigner {
            store,
            operations: Arc::new(Operations::new(Duration::from_secs(60), 0, 1000)),
            hubs,
            webhooks: Webhooks::new(trust.authority.certificate_pem(), pace.webhook_timeout),
            regions: Regions::new("eastus"),
            allocation: AllocationPolicy::Hashed,
            pace,
            ledger: Arc::new(Ledger::new("dps")),
            waiting: Arc::default(),
            clock: clock.clone(),
        });
        let (sender, jobs) = mpsc::channel(1000);
        let stop = CancellationToken::new();
        tokio::spawn(assigner.clone().run(jobs, stop.clone()));
        Self {
            assigner,
            sender,
            stop,
            _trust: trust,
        }
    }

    pub(super) fn job(&self, id: &str, hub: &str) -> Job {
        let operation = OperationId::new("0ne", id, uuid::Uuid::new_v4());
        let now = self.assigner.clock.now();
        self.assigner.operations.begin(id, operation, now).unwrap();
        let key = SymmetricKey::from_bytes(&[1; 32]);
        let hubs = if hub.is_empty() {
            Vec::new()
        } else {
            vec![format!("{hub}.azure-devices.net")]
        };
        Job {
            key: id.into(),
            registration_id: id.parse().unwrap(),
            terms: Arc::new(Terms {
                enabled: true,
                device_id: None,
                iot_edge: false,
                allocation: None,
                hubs,
                reprovision: None,
                group: None,
                initial_twin: None,
                custom: None,
            }),
            attested: Attested::Credential(HubCredential::Keys(DeviceKeys {
                primary: key.clone(),
                secondary: key,
            })),
            proof: Arc::new(Proof::Token(TokenProof {
                key: Slot::Primary,
                lower_case: false,
                passed: Few::default(),
            })),
            caller: ApiVersion::new(2021, 6, 1),
            remote: "127.0.0.1:1".parse().unwrap(),
            payload: None,
            certificate: None,
            operations: vec![operation],
            begun: now,
        }
    }

    pub(super) async fn submit(&self, job: Job) -> Arc<RegistrationState> {
        let (key, operation) = (job.key.clone(), *job.operations.last().unwrap());
        self.sender.send(job).await.unwrap();
        self.result(&key, operation).await
    }

    pub(super) async fn result(&self, key: &str, operation: OperationId) -> Arc<RegistrationState> {
        let waiting = async {
            loop {
                if let Standing::Done(state) = self.assigner.operations.poll(key, operation) {
                    return state;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(SOON, waiting).await.expect("a result")
    }

    /// How the last registration went, as it is kept.
    pub(super) fn attempt(&self, key: &str) -> Attempt {
        let record = records::registration(&*self.assigner.store, key).unwrap();
        *record.unwrap().attempt.unwrap()
    }

    pub(super) fn kinds(&self) -> Vec<&'static str> {
        let records = self.assigner.ledger.since(0);
        records.iter().map(|record| record.refusal.kind).collect()
    }
}

#[tokio::test]
async fn a_device_gets_a_hub_an_identity_and_a_record() {
    let trust = Trust::new();
    let (a, b) = hubs(&trust).await;
    let works = Works::open(trust, &[a.link(), b.link()]).await;
    let state = works.submit(works.job("dev-1", "")).await;
    assert_eq!(
        (state.status, state.substatus),
        (
            RegistrationStatus::Assigned,
            Some(Substatus::InitialAssignment)
        )
    );
    assert!(a.has("dev-1") ^ b.has("dev-1"));
    let record = records::registration(&*works.assigner.store, "dev-1")
        .unwrap()
        .unwrap();
    assert_eq!(record.state, *state);
    let attempt = works.attempt("dev-1");
    let host = state.assigned_hub.clone();
    assert_eq!(attempt.fate, Some(Fate::Initial));
    assert_eq!(at_hub(&attempt), (HubAnswer::Made, 1));
    let allocation = attempt.allocation.unwrap();
    assert_eq!((&allocation.chosen, allocation.hubs.len()), (&host, 2));
    assert!(allocation.of_service && allocation.region.is_none());
    assert_eq!(Some(&allocation.hubs[0].host), host.as_ref());
    let again = works.submit(works.job("dev-1", "")).await;
    assert_eq!(
        again.substatus,
        Some(Substatus::ReprovisionedToInitialAssignment)
    );
    assert_eq!(
        (&again.assigned_hub, again.created_date_time_utc),
        (&state.assigned_hub, state.created_date_time_utc)
    );
    let attempt = works.attempt("dev-1");
    assert_eq!(attempt.fate, Some(Fate::Kept(Because::SameHub)));
    let unchanged = HubAnswer::Unchanged;
    assert_eq!(at_hub(&attempt), (unchanged, 1));
    let mut job = works.job("dev-1", "");
    let other = SymmetricKey::from_bytes(&[2; 32]);
    job.attested = Attested::Credential(HubCredential::Keys(DeviceKeys {
        primary: other.clone(),
        secondary: other,
    }));
    let _ = works.submit(job).await;
    let updated = HubAnswer::Updated;
    assert_eq!(at_hub(&works.attempt("dev-1")), (updated, 1));
    assert!(works.kinds().is_empty());
    works.stop.cancel();
}

#[tokio::test]
async fn a_device_id_of_its_own_and_the_edge_capability_are_written_to_the_hub() {
    let trust = Trust::new();
    let (a, _) = hubs(&trust).await;
    let works = Works::open(trust, &[a.link()]).await;
    let edge = |iot_edge| {
        let mut job = works.job("reg-1", "");
        let terms = Arc::get_mut(&mut job.terms).unwrap();
        terms.device_id = Some("Device:1".parse().unwrap());
        terms.iot_edge = iot_edge;
        job
    };
    for iot_edge in [true, true, false] {
        let state = works.submit(edge(iot_edge)).await;
        assert_eq!(state.status, RegistrationStatus::Assigned);
        assert_eq!(state.registration_id.as_str(), "reg-1");
        assert_eq!(state.device_id, Some("Device:1".parse().unwrap()));
        let device = a.devices.lock()["Device:1"].1.clone();
        assert_eq!(device["capabilities"]["iotEdge"], iot_edge);
    }
    assert!(!a.has("reg-1"));
}

#[tokio::test]
async fn a_device_moves_when_its_enrollment_says_so() {
    let trust = Trust::new();
    let (a, b) = hubs(&trust).await;
    let works = Works::open(trust, &[a.link(), b.link()]).await;
    let _ = works.submit(works.job("dev-1", "hub-a")).await;
    let mut stays = works.job("dev-1", "hub-b");
    let never = ReprovisionPolicy {
        update_hub_assignment: false,
        migrate_device_data: false,
    };
    Arc::get_mut(&mut stays.terms).unwrap().reprovision = Some(never);
    let state = works.submit(stays).await;
    assert_eq!(
        state.assigned_hub.as_deref(),
        Some("hub-a.azure-devices.net")
    );
    assert!(a.has("dev-1") && !b.has("dev-1"));
    let attempt = works.attempt("dev-1");
    assert_eq!(attempt.fate, Some(Fate::Kept(Because::Policy)));
    assert_eq!(attempt.allocation.unwrap().chosen.as_ref(), Some(&b.host));

    let state = works.submit(works.job("dev-1", "hub-b")).await;
    assert_eq!(state.substatus, Some(Substatus::DeviceDataMigrated));
    assert_eq!(
        state.assigned_hub.as_deref(),
        Some("hub-b.azure-devices.net")
    );
    assert!(!a.has("dev-1") && b.has("dev-1"));
    let moved = Fate::Moved {
        from: a.host.clone(),
        migrate: true,
        left: Some(Left::Removed),
    };
    assert_eq!(works.attempt("dev-1").fate, Some(moved));
}

#[tokio::test]
async fn a_hub_that_comes_back_is_found_again_and_one_that_does_not_fails_the_registration() {
    let trust = Trust::new();
    let (a, _) = hubs(&trust).await;
    let works = Works::open(trust, &[a.link()]).await;
    *a.fault.lock() = Some(Fault::Status(503, 3));
    let state = works.submit(works.job("dev-1", "")).await;
    assert_eq!(state.status, RegistrationStatus::Assigned);
    assert_eq!(works.kinds(), ["hub-unreachable"]);
    assert_eq!(at_hub(&works.attempt("dev-1")).1, 4);

    *a.fault.lock() = Some(Fault::Status(503, 1_000_000));
    let job = works.job("dev-2", "");
    let operation = job.operations[0];
    works.sender.send(job).await.unwrap();
    // As long as it waits, it can be told what for.
    let told = async {
        while works.assigner.waiting.of("dev-2").is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        works.assigner.waiting.of("dev-2").unwrap()
    };
    let waiting = tokio::time::timeout(SOON, told).await.unwrap();
    let unreachable = HubAnswer::Unreachable("it answered 503".into());
    assert_eq!(at_hub(&waiting.attempt).0, unreachable);
    assert!(works.assigner.operations.under_way("dev-2"));
    let state = works.result("dev-2", operation).await;
    assert!(!works.assigner.operations.under_way("dev-2"));
    assert_eq!(works.assigner.waiting.of("dev-2"), None);
    let attempt = works.attempt("dev-2");
    assert_eq!(at_hub(&attempt).0, unreachable);
    assert!(attempt.milliseconds >= 500, "{attempt:?}");
    assert_eq!(
        (state.status, state.error_code),
        (RegistrationStatus::Failed, Some(500_001))
    );
    assert_eq!(works.kinds().len(), 3);
    let sentence = &works.assigner.ledger.since(2)[0].refusal.sentence;
    assert!(
        sentence.contains("it answered 503; the registration failed"),
        "{sentence}"
    );
}

#[tokio::test]
async fn a_wrong_key_of_the_link_fails_with_the_hubs_own_words() {
    let trust = Trust::new();
    let (a, _) = hubs(&trust).await;
    let works = Works::open(trust, &[a.link_with(SymmetricKey::from_bytes(&[7; 32]))]).await;
    let state = works.submit(works.job("dev-1", "")).await;
    assert_eq!(
        (state.status, state.error_code),
        (RegistrationStatus::Failed, Some(401_002))
    );
    assert_eq!(
        state.error_message.as_deref(),
        Some(
            r#"{"ExceptionMessage":"Tracking ID:1","Message":"ErrorCode:IotHubUnauthorizedAccess;Unauthorized"}"#
        )
    );
    assert_eq!(works.kinds(), ["hub-key-refused"]);
    assert_eq!(
        at_hub(&works.attempt("dev-1")),
        (HubAnswer::Refused(401), 1)
    );
}

#[tokio::test]
async fn without_a_hub_to_choose_the_registration_fails_as_azures_does() {
    let works = Works::open(Trust::new(), &[]).await;
    let state = works.submit(works.job("dev-1", "")).await;
    assert_eq!(
        (state.error_code, state.error_message.as_deref()),
        (Some(401_001), Some("IoTHub not found."))
    );
    assert_eq!(works.kinds(), ["no-hub"]);
    let attempt = works.attempt("dev-1");
    assert_eq!((&attempt.fate, &attempt.hub), (&None, &None));
    assert_eq!(attempt.allocation.unwrap().hubs, []);
    assert!(
        works.assigner.ledger.since(0)[0]
            .refusal
            .sentence
            .contains("no hub is linked")
    );
}

#[tokio::test]
async fn a_silent_hub_holds_up_nobody_else() {
    let trust = Trust::new();
    let (a, b) = hubs(&trust).await;
    let works = Works::open(trust, &[a.link(), b.link()]).await;
    *a.fault.lock() = Some(Fault::Silent);
    for number in 0..80 {
        let job = works.job(&format!("stuck-{number}"), "hub-a");
        works.sender.send(job).await.unwrap();
    }
    let state = works.submit(works.job("dev-1", "hub-b")).await;
    assert_eq!(state.status, RegistrationStatus::Assigned);
}

#[tokio::test]
async fn a_slow_hub_makes_its_own_hundred_wait_and_not_the_hundred_of_a_quick_one() {
    let trust = Trust::new();
    let (slow, quick) = hubs(&trust).await;
    let works = Works::open_for(trust, &[slow.link(), quick.link()], SOON).await;
    *slow.fault.lock() = Some(Fault::Held);
    let jobs = |name: &str, hub: &str| -> Vec<_> {
        let one = |number| works.job(&format!("{name}-{number}"), hub);
        (0..100).map(one).collect()
    };
    let (waiting, others) = (jobs("slow", "hub-a"), jobs("quick", "hub-b"));
    let ends = |jobs: &[Job]| -> Vec<_> {
        let end = |job: &Job| (job.key.clone(), job.operations[0]);
        jobs.iter().map(end).collect()
    };
    let (slow_ends, quick_ends) = (ends(&waiting), ends(&others));
    for job in waiting.into_iter().chain(others) {
        works.sender.send(job).await.unwrap();
    }
    for (key, operation) in &quick_ends {
        let state = works.result(key, *operation).await;
        assert_eq!(state.assigned_hub.as_ref(), Some(&quick.host));
    }
    // All hundred still wait, and none of them was given anything.
    assert_eq!(slow.devices.lock().len(), 0);
    for (key, operation) in &slow_ends {
        let standing = works.assigner.operations.poll(key, *operation);
        assert_eq!(standing, Standing::Assigning, "{key}");
    }
    *slow.fault.lock() = None;
    for (key, operation) in &slow_ends {
        let state = works.result(key, *operation).await;
        assert_eq!(state.assigned_hub.as_ref(), Some(&slow.host));
    }
    assert_eq!(
        (slow.devices.lock().len(), quick.devices.lock().len()),
        (100, 100)
    );
}

#[tokio::test]
async fn whoever_waits_behind_others_of_a_silent_hub_is_told_so_in_time() {
    let trust = Trust::new();
    let (a, _) = hubs(&trust).await;
    let works = Works::open(trust, &[a.link()]).await;
    *a.fault.lock() = Some(Fault::Silent);
    let jobs: Vec<_> = (0..150)
        .map(|number| works.job(&format!("dev-{number}"), ""))
        .collect();
    let (last, operation) = (jobs[149].key.clone(), jobs[149].operations[0]);
    for job in jobs {
        works.sender.send(job).await.unwrap();
    }
    // The hub is given five seconds for each of the sixty-four that it is asked at once.
    let begun = std::time::Instant::now();
    let state = works.result(&last, operation).await;
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(state.error_code, Some(500_001));
    assert!(state.error_message.as_ref().unwrap().contains("in time"));
}

#[tokio::test]
async fn registrations_of_one_device_that_would_be_in_two_hubs_leave_it_in_one() {
    let trust = Trust::new();
    let (a, b) = hubs(&trust).await;
    let works = Works::open_for(trust, &[a.link(), b.link()], SOON).await;
    let mut last = None;
    for turn in 0..40 {
        let hub = ["hub-a", "hub-b"][turn % 2];
        let job = works.job("dev-1", hub);
        last = Some((hub, job.operations[0]));
        works.sender.send(job).await.unwrap();
        if turn % 7 == 0 {
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }
    let (hub, operation) = last.unwrap();
    let state = works.result("dev-1", operation).await;
    let chosen = format!("{hub}.azure-devices.net");
    assert_eq!(state.assigned_hub, Some(chosen));
    assert_eq!((a.has("dev-1"), b.has("dev-1")), (false, true));
    let record = records::registration(&*works.assigner.store, "dev-1").unwrap();
    assert_eq!(record.unwrap().state, *state);
}

#[tokio::test]
async fn registrations_of_one_device_happen_one_after_the_other_and_all_end() {
    let trust = Trust::new();
    let (a, _) = hubs(&trust).await;
    let works = Works::open(trust, &[a.link()]).await;
    let jobs: Vec<_> = (0..20).map(|_| works.job("dev-1", "")).collect();
    let operations: Vec<_> = jobs.iter().map(|job| job.operations[0]).collect();
    for job in jobs {
        works.sender.send(job).await.unwrap();
    }
    for operation in operations {
        assert_eq!(
            works.result("dev-1", operation).await.status,
            RegistrationStatus::Assigned
        );
    }
    // Those that waited were carried out together.
    assert!(a.requests.lock().len() <= 4, "{:?}", a.requests.lock());
}

#[tokio::test]
async fn a_hub_linked_later_gets_its_share_and_one_unlinked_gets_nobody_new() {
    let trust = Trust::new();
    let (a, b) = hubs(&trust).await;
    let works = Works::open(trust, &[a.link()]).await;
    let linked = works.assigner.hubs.clone();
    let register = |name: &'static str| {
        let works = &works;
        async move {
            for number in 0..20 {
                let job = works.job(&format!("{name}-{number}"), "");
                let _ = works.submit(job).await;
            }
        }
    };
    let of = |hub: &StubHub, name: &str| {
        let devices = hub.devices.lock();
        devices.keys().filter(|id| id.starts_with(name)).count()
    };
    register("early").await;
    assert_eq!((of(&a, "early"), of(&b, "early")), (20, 0));
    let link = link_of(&b);
    let _ = linked.put(&b.host, link, &IfMatch::Absent).await.unwrap();
    register("between").await;
    // Fair would be 10; the names decide, always alike.
    assert!((4..=16).contains(&of(&b, "between")));
    assert_eq!(of(&a, "between") + of(&b, "between"), 20);
    linked.remove(&a.host, &IfMatch::Absent).await.unwrap();
    register("late").await;
    assert_eq!((of(&a, "late"), of(&b, "late")), (0, 20));

    // Whoever may not move still has the hub that is linked no more, which nobody asks; others move,
    // and stay behind in it.
    a.requests.lock().clear();
    let mut stays = works.job("early-1", "");
    let never = ReprovisionPolicy {
        update_hub_assignment: false,
        migrate_device_data: false,
    };
    Arc::get_mut(&mut stays.terms).unwrap().reprovision = Some(never);
    let state = works.submit(stays).await;
    assert_eq!(
        (state.status, state.assigned_hub.as_deref()),
        (RegistrationStatus::Assigned, Some(a.host.as_str()))
    );
    assert_eq!(at_hub(&works.attempt("early-1")), (HubAnswer::NotLinked, 0));
    let state = works.submit(works.job("early-2", "")).await;
    assert_eq!(state.assigned_hub.as_deref(), Some(b.host.as_str()));
    assert!(a.has("early-2") && b.has("early-2"));
    assert!(a.requests.lock().is_empty());
    assert!(works.kinds().is_empty());
}

#[tokio::test]
async fn a_registration_under_way_ends_with_the_hub_it_chose() {
    let trust = Trust::new();
    let (a, b) = hubs(&trust).await;
    let works = Works::open(trust, &[a.link()]).await;
    let linked = works.assigner.hubs.clone();
    *a.fault.lock() = Some(Fault::Status(503, 1_000_000));
    let job = works.job("dev-1", "");
    let operation = job.operations[0];
    works.sender.send(job).await.unwrap();
    while a.requests.lock().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let _ = linked
        .put(&b.host, link_of(&b), &IfMatch::Absent)
        .await
        .unwrap();
    linked.remove(&a.host, &IfMatch::Absent).await.unwrap();
    *a.fault.lock() = None;
    let state = works.result("dev-1", operation).await;
    assert_eq!(state.assigned_hub.as_deref(), Some(a.host.as_str()));
    assert!(a.has("dev-1") && !b.has("dev-1"));
}

fn at_hub(attempt: &Attempt) -> (HubAnswer, u32) {
    let hub = attempt.hub.as_ref().expect("a hub was asked");
    (hub.answer.clone(), hub.tries)
}

fn link_of(hub: &StubHub) -> IotHubDefinition {
    let link = hub.link();
    serde_json::from_value(serde_json::json!({
        "connectionString": link.connection_string.reveal(), "location": link.region,
        "dialAddress": link.dial, "httpsPort": link.https_port }))
    .unwrap()
}
