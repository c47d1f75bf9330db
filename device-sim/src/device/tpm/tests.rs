#![allow(clippy::unwrap_used, clippy::disallowed_methods)]
use std::sync::LazyLock;
use std::time::Duration;

use azimuth_tpm::Seeds;
use azimuth_wire::sas::SasToken;
use rumqttc::mqttbytes::v4::Packet;

use super::*;
use crate::error::PlanError;
use crate::plan::{Credential, Dps, Who};
use crate::step::Step;

static TPM: LazyLock<Arc<SoftwareTpm>> =
    LazyLock::new(|| Arc::new(SoftwareTpm::generate().unwrap()));
const RESOURCE: &str = "0ne00002193/registrations/tpm-1";

fn plan(tpms: usize) -> Plan {
    let dps = Dps {
        host: "dps.test.net".into(),
        port: 8883,
        address: None,
        id_scope: "0ne00002193".parse().unwrap(),
    };
    let credential = Credential::Tpms(vec![TPM.clone(); tpms]);
    Plan::new(Who::Named(vec!["tpm-1".into()]), credential, Some(dps))
}

fn key(number: u8) -> SymmetricKey {
    SymmetricKey::from_bytes(&[number; 32])
}

fn wrapped(number: u8, tpm: &SoftwareTpm) -> String {
    let (ek, srk) = (tpm.endorsement_key(), tpm.storage_root_key());
    let seeds = Seeds::from([number; Seeds::BYTES]);
    let blob = ActivationBlob::wrap(&[number; 32], ek, srk, "u", &seeds).unwrap();
    STANDARD.encode(blob.to_bytes())
}

struct Bench {
    device: Device,
    now: Now,
}

impl Bench {
    fn new() -> Self {
        let at = Instant::now();
        let mut bench = Self {
            device: Device::new(Arc::new(plan(1)), 0, at).unwrap(),
            now: Now { at, unix: 1_000 },
        };
        bench.device.handle_timeout(bench.now);
        bench
    }

    /// What the device asks next; the steps before it are passed over.
    fn asks(&mut self) -> Request {
        let mut outputs = std::iter::from_fn(|| self.device.poll());
        let found = outputs.find_map(|output| match output {
            Output::Ask(request) => Some(request),
            _ => None,
        });
        found.expect("a request")
    }

    fn hears(&mut self, status: u16, body: impl Into<Vec<u8>>) {
        let reply = Reply {
            status,
            retry_after: Some(3),
            body: body.into(),
        };
        self.device.handle_reply(&reply, self.now);
    }

    fn challenged(&mut self, tpm: &SoftwareTpm) {
        let body = json!({ "message": "…", "authenticationKey": wrapped(1, tpm),
            "unencryptedAuthenticationKey": null, "keyName": "registration" });
        self.hears(401, body.to_string());
    }

    fn later(&mut self, seconds: u64) {
        self.now.at += Duration::from_secs(seconds);
        self.device.handle_timeout(self.now);
    }

    fn failure(&mut self) -> Option<FaultKind> {
        std::iter::from_fn(|| self.device.poll()).find_map(|output| match output {
            Output::Step(Step::Failed { fault, .. }) => Some(fault.kind),
            _ => None,
        })
    }
}

#[test]
fn a_device_opens_its_challenge_polls_and_speaks_with_the_key_of_the_hub() {
    let mut bench = Bench::new();
    let first = bench.asks();
    let target = format!("/{RESOURCE}/register?api-version=2021-06-01");
    assert_eq!((first.method, &first.target), ("PUT", &target));
    assert_eq!(first.authorization, None);
    let body: serde_json::Value = serde_json::from_str(&first.body).unwrap();
    assert_eq!(body["registrationId"], "tpm-1");
    let ek = STANDARD.encode(TPM.endorsement_key().bytes());
    assert_eq!(body["tpm"]["endorsementKey"], ek);

    bench.challenged(&TPM);
    let second = bench.asks();
    assert_eq!((&second.target, &second.body), (&target, &first.body));
    let token = SasToken::parse(&second.authorization.unwrap()).unwrap();
    assert!(token.signed_by(&key(1)) && token.names(RESOURCE));
    assert_eq!(token.key_name(), Some("registration"));
    assert!(!format!("{:?}", first).contains("endorsementKey"));

    bench.hears(202, r#"{"operationId":"5.1.2","status":"assigning"}"#);
    bench.later(2);
    assert!(bench.failure().is_none());
    bench.later(1);
    let poll = bench.asks();
    assert_eq!(poll.method, "GET");
    assert!(
        poll.target.contains("/operations/5.1.2?"),
        "{}",
        poll.target
    );
    assert!(poll.authorization.is_some());
    let state = json!({ "assignedHub": "h.net", "deviceId": "d",
        "tpm": { "authenticationKey": wrapped(2, &TPM) } });
    let body = json!({ "operationId": "5.1.2", "status": "assigned", "registrationState": state });
    bench.hears(200, body.to_string());
    while bench.device.poll().is_some() {}
    bench.device.handle_line(bench.now);
    let Some(Output::Send(Packet::Connect(connect))) = bench.device.poll() else {
        panic!("no CONNECT");
    };
    let token = SasToken::parse(&connect.login.unwrap().password).unwrap();
    assert!(token.signed_by(&key(2)));
    assert_eq!(token.resource(), "h.net%2Fdevices%2Fd");
}

#[test]
fn what_is_not_for_this_tpm_ends_the_device_with_a_sentence() {
    let other = SoftwareTpm::generate().unwrap();
    let mut bench = Bench::new();
    bench.challenged(&other);
    assert_eq!(bench.failure(), Some(FaultKind::Protocol));
    // A second challenge is a refusal, and so is a 401 that holds no key.
    let mut bench = Bench::new();
    bench.challenged(&TPM);
    bench.challenged(&TPM);
    assert_eq!(bench.failure(), Some(FaultKind::ProvisioningStatus(401)));
    let mut bench = Bench::new();
    bench.hears(401, r#"{"errorCode":401002,"message":"Unauthorized"}"#);
    assert_eq!(bench.failure(), Some(FaultKind::ProvisioningStatus(401)));
    // An assignment without a key is none for a TPM.
    let mut bench = Bench::new();
    bench.challenged(&TPM);
    bench.hears(200, r#"{"operationId":"5","status":"assigned","registrationState":{"assignedHub":"h.net","deviceId":"d"}}"#);
    assert_eq!(bench.failure(), Some(FaultKind::Protocol));
}

#[test]
fn a_lost_line_begins_with_another_challenge() {
    let mut bench = Bench::new();
    bench.asks();
    bench.challenged(&TPM);
    assert!(bench.asks().authorization.is_some());
    let fault = Fault::new(FaultKind::Closed, "gone");
    bench.device.handle_lost(fault, bench.now);
    bench.later(60);
    assert_eq!(bench.asks().authorization, None);
}

#[test]
fn each_device_needs_a_tpm_of_its_own_and_a_dps() {
    assert_eq!(plan(1).check(), Ok(()));
    let found = plan(2).check();
    assert_eq!(
        found,
        Err(PlanError::Tpms {
            tpms: 2,
            devices: 1
        })
    );
    let mut alone = plan(1);
    alone.provisioning = None;
    assert_eq!(alone.check(), Err(PlanError::NeedsDps("TPM")));
}
