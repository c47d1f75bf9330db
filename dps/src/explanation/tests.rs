#![allow(clippy::unwrap_used)]
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use azimuth_broker::{Ledger, Operation, Refusal};
use azimuth_wire::api_version::ApiVersion;
use azimuth_wire::enrollment::ReprovisionPolicy;
use serde_json::{Value, json};

use super::*;
use crate::allocation::Applicant;
use crate::allocation::weighed::weigh;
use crate::attempt::{
    Allocation, AtHub, Because, CertificateProof, Fate, Few, HubAnswer, Known, Left, Proof, Slot,
    TokenProof, Waits,
};
use crate::registration::{self, Outcome, decide};

const EAST: &str = "east.azure-devices.net";
const WEST: &str = "west.azure-devices.net";

/// What a DPS may know of `Dev-1`.
struct House {
    id: RegistrationId,
    record: Option<Record>,
    waiting: Option<Waits>,
    individual: Option<IndividualEnrollment>,
    groups: Vec<Arc<EnrollmentGroup>>,
    ledger: Ledger,
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
}

fn token(key: Slot, passed: &[&str]) -> Proof {
    Proof::Token(TokenProof {
        key,
        lower_case: false,
        passed: passed.iter().collect(),
    })
}

fn attempt(proof: Proof) -> Attempt {
    Attempt::begun(&proof, "127.0.1.7:4000".parse().unwrap())
}

/// By lowest latency from eastus, with the west hub kept out.
fn allocated(mut attempt: Attempt) -> Attempt {
    let linked = links();
    let applicant = Applicant {
        registration_id: "dev-1",
        region: "eastus",
    };
    let (policy, regions) = (AllocationPolicy::GeoLatency, Regions::new("eastus"));
    let (hubs, more) = weigh(policy, applicant, &linked, &[], &regions, Some(EAST));
    attempt.allocation = Some(Allocation {
        policy,
        of_service: true,
        region: Some("eastus".into()),
        webhook: None,
        hubs,
        more,
        chosen: Some(EAST.into()),
    });
    attempt.fate = Some(Fate::Initial);
    attempt.hub = Some(AtHub {
        host: EAST.into(),
        answer: HubAnswer::Made,
        tries: 1,
    });
    attempt.milliseconds = 12;
    attempt
}

fn links() -> [Candidate<'static>; 2] {
    let hub = |host, region, apply_allocation_policy| Candidate {
        host,
        region,
        weight: 1,
        apply_allocation_policy,
    };
    [hub(EAST, "eastus", true), hub(WEST, "westus", false)]
}

fn individual(attestation: &Value, extra: Value) -> IndividualEnrollment {
    let mut body = json!({ "registrationId": "Dev-1", "attestation": attestation });
    for (name, value) in extra.as_object().unwrap() {
        body[name] = value.clone();
    }
    serde_json::from_value(body).unwrap()
}

fn group(id: &str, kind: &str, status: &str) -> Arc<EnrollmentGroup> {
    let body = json!({ "enrollmentGroupId": id, "provisioningStatus": status,
        "attestation": { "type": kind, "symmetricKey": {} } });
    Arc::new(serde_json::from_value(body).unwrap())
}

impl House {
    fn new() -> Self {
        Self {
            id: "Dev-1".parse().unwrap(),
            record: None,
            waiting: None,
            individual: None,
            groups: Vec::new(),
            ledger: Ledger::new("dps"),
        }
    }

    fn ended(mut self, outcome: Outcome, group: Option<&str>, attempt: Option<Attempt>) -> Self {
        self.record = Some(Record {
            state: registration::after(None, &self.id, outcome, at(0), "g"),
            group: group.map(|group| group.parse().unwrap()),
            operation: String::new(),
            attempt: attempt.map(Box::new),
            tpm: None,
        });
        self
    }

    fn assigned(self, group: Option<&str>, attempt: Attempt) -> Self {
        let outcome = Outcome::Assigned {
            hub: EAST.into(),
            device: "Dev-1".parse().unwrap(),
            substatus: azimuth_wire::registration::Substatus::InitialAssignment,
        };
        self.ended(outcome, group, Some(attempt))
    }

    fn failed(self, code: u32, message: &str, attempt: Attempt) -> Self {
        let message = message.to_owned();
        self.ended(Outcome::Failed { code, message }, None, Some(attempt))
    }

    fn refused(self, seconds: u64, status: u16, sentence: &str) -> Self {
        let refusal = Refusal::new("some-rule", Answer::Response(status), sentence);
        let who = Some("dev-1");
        self.ledger
            .record(at(seconds), Operation::Registration, who, None, refusal);
        self
    }

    fn with_groups(mut self, groups: &[Arc<EnrollmentGroup>]) -> Self {
        self.groups = groups.to_vec();
        self
    }

    fn explained(&self) -> (Standing, String) {
        let explanation = of(&Facts {
            id: &self.id,
            record: self.record.as_ref(),
            waiting: self.waiting.as_ref(),
            under_way: false,
            individual: self.individual.as_ref(),
            groups: &self.groups,
            linked: &links(),
            regions: &Regions::new("eastus"),
            allocation: AllocationPolicy::GeoLatency,
            refusals: &self.ledger.of("DEV-1", 5),
        });
        let mut text = explanation.answer;
        for section in explanation.sections {
            text += &format!("\n[{}] {}", section.about, section.lines.join("\n"));
        }
        (explanation.standing, text)
    }
}

#[test]
fn a_success_is_told_from_the_enrollment_to_the_hub() {
    let fleet = group("fleet", "symmetricKey", "enabled");
    let attempt = allocated(attempt(token(Slot::Secondary, &["alpha", "beta"])));
    let house = House::new().assigned(Some("fleet"), attempt);
    let (standing, text) = house.with_groups(&[fleet]).explained();
    assert_eq!(standing, Standing::Assigned);
    assert_eq!(
        text,
        "Dev-1 was assigned to east.azure-devices.net at 2027-01-15T08:00:00Z.\n\
        [Enrollment] There was no individual enrollment Dev-1, so the groups with symmetric keys were tried in the order of their ids.\n\
        Passed over, since no key derived from theirs signed: alpha, beta.\n\
        The enrollment group fleet took the device.\n\
        [Attestation] The token is signed with base64(HMAC-SHA256(secondary key of the group, \"Dev-1\")), the key derived for this device.\n\
        [Allocation] The policy geoLatency is that of the service, since its enrollment has none: the hub nearest to the device.\n\
        The device called from 127.0.1.7, which lies in eastus.\n  \
          east.azure-devices.net  0 ms  weight 1  chosen\n  \
          west.azure-devices.net  excluded: its link has applyAllocationPolicy false\n\
        [Registered before] It had no hub: this is its first assignment.\n\
        [In the hub] east.azure-devices.net made the device Dev-1.\n\
        That took 12 ms from register on."
    );
}

#[test]
fn a_chain_is_told_certificate_by_certificate() {
    let known = Known::Group {
        at: 1,
        ca: "contoso-root".into(),
        above: ["everything"].iter().collect(),
    };
    let proof = Proof::Certificate(CertificateProof {
        path: ["CN=Dev-1", "CN=Line", "CN=Root"].iter().collect(),
        known,
    });
    let house = House::new().assigned(Some("line"), allocated(attempt(proof)));
    let (_, text) = house.explained();
    for sentence in [
        "Met without a group: CN=Dev-1.",
        "The enrollment group line is anchored at CN=Line, and decided.",
        "Not asked, since the nearest to the device decides: everything.",
        "It was deleted since",
        "signed by the next: CN=Dev-1 < CN=Line < CN=Root.",
        "The last is the CA certificate `contoso-root`, whose owner has proven",
        "in the TLS handshake that it holds the key of its own",
    ] {
        assert!(text.contains(sentence), "{sentence}\n{text}");
    }
    for (known, sentence) in [
        (
            Known::Leaf(Slot::Secondary),
            "CN=Dev-1 is the secondary certificate of the individual enrollment.",
        ),
        (
            Known::CaCertificate("mine".into()),
            "the CA certificate `mine`, to which the enrollment refers",
        ),
    ] {
        let path = ["CN=Dev-1"].iter().collect();
        let proof = Proof::Certificate(CertificateProof { path, known });
        let house = House::new().assigned(None, allocated(attempt(proof)));
        let (_, text) = house.explained();
        assert!(text.contains(sentence), "{text}");
        assert!(text.contains("decided alone"), "{text}");
    }
}

#[test]
fn each_end_has_its_sentences() {
    let primary = || allocated(attempt(token(Slot::Primary, &[])));
    let with = |answer, tries| {
        let mut attempt = primary();
        attempt.hub = Some(AtHub {
            host: EAST.into(),
            answer,
            tries,
        });
        attempt
    };
    let nobody = || {
        let mut attempt = primary();
        (attempt.fate, attempt.hub) = (None, None);
        let allocation = attempt.allocation.as_mut().unwrap();
        (allocation.chosen, allocation.hubs) = (None, Vec::new());
        attempt
    };
    let unreachable = HubAnswer::Unreachable("it answered 503".into());
    type Row = (House, Standing, &'static [&'static str]);
    let rows: [Row; 9] = [
        (
            House::new()
                .assigned(None, primary())
                .refused(9, 202, "it is asked again"),
            Standing::Assigned,
            &["was assigned to"],
        ),
        (
            House::new().failed(401_002, "Unauthorized", with(HubAnswer::Refused(401), 1)),
            Standing::Failed,
            &[
                "failed at 2027-01-15T08:00:00Z with 401002: Unauthorized",
                "refused the key of its link (401)",
            ],
        ),
        (
            House::new()
                .refused(0, 200, "asked for the last time")
                .failed(500_001, "cannot be reached", with(unreachable.clone(), 4)),
            Standing::Failed,
            &[
                "with 500001: cannot be reached",
                "east.azure-devices.net cannot be reached: it answered 503.",
                "It was asked 4 times in 12 ms.",
                "[Last refusals] 2027-01-15T08:00:00Z  some-rule (response 200): asked",
            ],
        ),
        (
            House::new().failed(401_001, "IoTHub not found.", nobody()),
            Standing::Failed,
            &["IoTHub not found.", "No hub is linked"],
        ),
        (
            House::new().ended(
                Outcome::Disabled,
                None,
                Some(attempt(token(Slot::Primary, &[]))),
            ),
            Standing::Disabled,
            &[
                "was told at 2027-01-15T08:00:00Z that it is disabled",
                "signed with the primary key of the individual enrollment",
                "No hub was looked for: the enrollment is disabled.",
            ],
        ),
        (
            House::new()
                .assigned(None, primary())
                .refused(9, 401, "the token expired 9 s ago"),
            Standing::Refused,
            &[
                "refused at 2027-01-15T08:00:09Z (response 401): the token expired 9 s ago.",
                "It still has the hub east.azure-devices.net from before.",
                "[If it registers now]",
                "[Registered before]",
            ],
        ),
        (
            House::new().refused(0, 401, "x").assigned(None, primary()),
            Standing::Assigned,
            &["was assigned to", "some-rule (response 401): x"],
        ),
        (
            House {
                waiting: Some(Waits {
                    group: Some("fleet".parse().unwrap()),
                    attempt: with(unreachable, 2),
                }),
                ..House::new().refused(1, 202, "it is asked again")
            },
            Standing::Assigning,
            &[
                "is being assigned, and waits for east.azure-devices.net.",
                "The enrollment group fleet took the device.",
                "It was asked 2 times",
            ],
        ),
        (
            House::new().ended(Outcome::Disabled, None, None),
            Standing::Disabled,
            &["did not keep how"],
        ),
    ];
    for (house, expected, sentences) in rows {
        let (standing, text) = house.explained();
        assert_eq!(standing, expected, "{text}");
        for sentence in sentences {
            assert!(text.contains(sentence), "{sentence}\n{text}");
        }
    }
}

#[test]
fn every_reason_to_keep_or_leave_a_hub_is_told() {
    let (now, old) = (ApiVersion::new(2021, 6, 1), ApiVersion::new(2018, 4, 1));
    let policy = |update_hub_assignment, migrate_device_data| {
        Some(ReprovisionPolicy {
            update_hub_assignment,
            migrate_device_data,
        })
    };
    for (present, policy, caller, expected, sentence) in [
        (None, None, now, Fate::Initial, "first assignment"),
        (
            Some("EAST.azure-devices.net"),
            None,
            now,
            Fate::Kept(Because::SameHub),
            "the same one was chosen",
        ),
        (
            Some(WEST),
            policy(false, true),
            now,
            Fate::Kept(Because::Policy),
            "updateHubAssignment false",
        ),
        (
            Some(WEST),
            None,
            old,
            Fate::Kept(Because::OldCaller),
            "from before re-provisioning",
        ),
        (
            Some(WEST),
            policy(true, false),
            now,
            Fate::Moved {
                from: WEST.into(),
                migrate: false,
                left: None,
            },
            "moves from west.azure-devices.net, since another hub was chosen and its enrollment lets it; it starts anew",
        ),
    ] {
        let fate = decide(present, EAST, policy, caller).fate(EAST, policy);
        assert_eq!(fate, expected);
        let mut attempt = allocated(attempt(token(Slot::Primary, &[])));
        attempt.fate = Some(fate);
        let text = allocation::fate(&attempt).join("\n");
        assert!(text.contains(sentence), "{text}");
    }
    for (left, sentence) in [
        (Left::Removed, "It was removed from west.azure-devices.net."),
        (Left::NotLinked, "that hub is linked no more"),
        (Left::Failed("gone".into()), "could not be removed: gone."),
    ] {
        let mut attempt = attempt(token(Slot::Primary, &[]));
        attempt.fate = Some(Fate::Moved {
            from: WEST.into(),
            migrate: true,
            left: Some(left),
        });
        let text = allocation::fate(&attempt).join("\n");
        assert!(text.contains(sentence), "{text}");
    }
}

#[test]
fn whoever_was_never_seen_is_told_what_would_happen() {
    let symmetric = json!({ "type": "symmetricKey", "symmetricKey": {} });
    let of_own = |extra| House {
        individual: Some(individual(&symmetric, extra)),
        ..House::new()
    };
    let (a, b) = (
        group("a", "symmetricKey", "enabled"),
        group("b", "symmetricKey", "disabled"),
    );
    let c = group("c", "x509", "enabled");
    for (house, sentences) in [
        (
            of_own(json!({})),
            &[
                "Dev-1 never registered here",
                "The individual enrollment Dev-1 alone decides",
                "signed with its primary or secondary key",
                "It would get one of east.azure-devices.net.",
            ][..],
        ),
        (
            of_own(json!({ "allocationPolicy": "static", "iotHubs": [WEST] })),
            &["It would get west.azure-devices.net."],
        ),
        (
            of_own(json!({ "iotHubs": ["gone.net"] })),
            &["it would fail with 401001"],
        ),
        (
            of_own(json!({ "provisioningStatus": "disabled" })),
            &["It is disabled"],
        ),
        (
            House::new(),
            &[
                "There is no individual enrollment Dev-1.",
                "`azimuth dps enrollment create`",
            ],
        ),
        (
            House::new().with_groups(&[a, b.clone(), c]),
            &[
                "Groups with symmetric keys: a, b (disabled).",
                "base64(HMAC-SHA256(group key, \"Dev-1\"))",
                "Groups by certificate: c.",
                "the common name Dev-1",
            ],
        ),
        (House::new().with_groups(&[b]), &["It is disabled"]),
    ] {
        let (standing, text) = house.explained();
        assert_eq!(standing, Standing::NeverSeen);
        for sentence in sentences {
            assert!(text.contains(sentence), "{sentence}\n{text}");
        }
    }
}

#[test]
fn names_that_are_left_out_are_counted() {
    let few: Few = (0..9).map(|number| format!("group-{number}")).collect();
    let proof = Proof::Token(TokenProof {
        key: Slot::Primary,
        lower_case: true,
        passed: few,
    });
    let house = House::new().assigned(Some("last"), allocated(attempt(proof)));
    let (_, text) = house.explained();
    assert!(text.contains("group-4 and 4 more."), "{text}");
    assert!(text.contains("key of the group, \"dev-1\")"), "{text}");
}

#[test]
fn a_tpm_has_an_enrollment_of_its_own_and_opened_its_challenge() {
    let house = House::new().assigned(None, allocated(attempt(Proof::Tpm)));
    let (standing, text) = house.explained();
    assert_eq!(standing, Standing::Assigned);
    for sentence in [
        "The individual enrollment Dev-1 decided alone",
        "signed with the key of a challenge, which only the TPM with the enrolled endorsement key could unwrap",
    ] {
        assert!(text.contains(sentence), "{sentence}\n{text}");
    }
}
