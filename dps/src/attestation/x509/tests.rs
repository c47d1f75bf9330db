#![allow(clippy::unwrap_used)]
use std::time::{Duration, UNIX_EPOCH};

use azimuth_certs::{KeyKind, Made, Signer, Wish, root};
use serde_json::{Value, json};

use super::*;

const NOW: u64 = 1_800_000_000;

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../tests/vectors/x509.json")).unwrap()
}

fn read(name: &str) -> Certificate {
    let pem = vectors()["certificates"][name]["pem"].clone();
    Certificate::read_first(pem.as_str().unwrap().as_bytes()).unwrap()
}

fn chain(names: &str) -> Vec<Certificate> {
    names.split_whitespace().map(read).collect()
}

fn group_of(id: &str, x509: Value) -> Arc<EnrollmentGroup> {
    let body = json!({ "enrollmentGroupId": id, "attestation": { "type": "x509", "x509": x509 } });
    Arc::new(serde_json::from_value(body).unwrap())
}

fn signing(id: &str, certificate: &Certificate) -> Arc<EnrollmentGroup> {
    let certificate = json!({ "certificate": certificate.base64() });
    group_of(
        id,
        json!({ "signingCertificates": { "primary": certificate } }),
    )
}

fn referring(id: &str, name: &str) -> Arc<EnrollmentGroup> {
    group_of(id, json!({ "caReferences": { "primary": name } }))
}

fn individual_of(x509: Value) -> IndividualEnrollment {
    let body = json!({ "registrationId": "any", "attestation": { "type": "x509", "x509": x509 } });
    serde_json::from_value(body).unwrap()
}

fn ca(name: &str, certificate: Certificate, verified: bool) -> Ca {
    Ca {
        name: name.into(),
        certificate,
        verified,
    }
}

fn judged(
    id: &str,
    chain: &[Certificate],
    groups: &[Arc<EnrollmentGroup>],
    cas: &[Ca],
) -> Result<String, Rejection> {
    let shown = Shown {
        registration_id: &id.parse().unwrap(),
        chain,
        now: now(),
    };
    let (found, accepted) = group(shown, &Anchor::of_all(groups), cas)?;
    assert_eq!(accepted.thumbprint, chain[0].sha256());
    Ok(found.enrollment_group_id.to_string())
}

#[test]
fn the_cases_of_the_vectors() {
    let verified = [ca("root", read("root"), true)];
    let unverified = [ca("root", read("root"), false)];
    let by_root = referring("G-root", "ROOT");
    let by_int2 = signing("G-int2", &read("intermediate2"));
    let sent = chain("deviceUnderIntermediate2 intermediate2 intermediate1");
    let both = [by_root.clone(), by_int2];
    let only_root = [by_root];
    // Whether the group that was found is disabled is looked at afterwards: cases one and two.
    assert_eq!(
        judged("x509-device-01", &sent, &both, &verified).unwrap(),
        "G-int2"
    );
    assert_eq!(
        judged("x509-device-01", &sent, &only_root, &verified).unwrap(),
        "G-root"
    );
    let sent = chain("deviceUnderIntermediate1 intermediate1");
    let name = "root".to_owned();
    assert_eq!(
        judged("x509-device-02", &sent, &only_root, &unverified),
        Err(Rejection::Unverified { name })
    );
    let found = Some("x509-device-02".to_owned());
    assert_eq!(
        judged("another-name", &sent, &only_root, &verified),
        Err(Rejection::CommonName { found })
    );
    assert!(judged("X509-Device-02", &sent, &only_root, &verified).is_ok());
}

#[test]
fn what_the_service_holds_need_not_be_sent() {
    let cas = [
        ca("root", read("root"), true),
        ca("int1", read("intermediate1"), false),
    ];
    let by_int2 = [signing("G-int2", &read("intermediate2"))];
    let only_leaf = chain("deviceUnderIntermediate2");
    assert_eq!(
        judged("x509-device-01", &only_leaf, &by_int2, &cas).unwrap(),
        "G-int2"
    );
    let missing = judged("x509-device-01", &only_leaf, &by_int2, &cas[..1]);
    assert!(matches!(
        missing,
        Err(Rejection::NoCaAbove {
            refusal: Refusal::IssuerUnknown { .. },
            ..
        })
    ));
}

#[test]
fn the_nearest_group_wins_also_above_a_verified_intermediate() {
    let cas = [
        ca("int1", read("intermediate1"), true),
        ca("root", read("root"), true),
    ];
    let sent = chain("deviceUnderIntermediate2 intermediate2 intermediate1");
    let (high, low) = (referring("high", "root"), referring("low", "int1"));
    let judged = |groups: &[_]| judged("x509-device-01", &sent, groups, &cas);
    assert_eq!(judged(&[high.clone(), low]).unwrap(), "low");
    assert_eq!(judged(&[high]).unwrap(), "high");
    assert!(
        matches!(judged(&[]), Err(Rejection::NoGroup { ca, passed }) if ca == "int1" && passed.len() == 3)
    );
}

#[test]
fn an_individual_enrollment_knows_its_own_certificates_alone() {
    let slot = |name: &str| json!({ "certificate": read(name).base64() });
    let secondary = json!({ "primary": slot("root"), "secondary": slot("selfSignedDevice") });
    let by_leaf = individual_of(json!({ "clientCertificates": secondary }));
    let by_ca = individual_of(json!({ "caReferences": { "primary": "root" } }));
    let cas = [ca("root", read("root"), true)];
    let judged = |id: &str, sent: &str, enrollment, cas: &[Ca]| {
        let shown = Shown {
            registration_id: &id.parse().unwrap(),
            chain: &chain(sent),
            now: now(),
        };
        individual(shown, enrollment, cas)
    };
    let accepted = judged("x509-self-01", "selfSignedDevice", &by_leaf, &[]).unwrap();
    assert_eq!(accepted.thumbprint, read("selfSignedDevice").sha256());
    assert_eq!(
        accepted.until,
        read("selfSignedDevice").validity().not_after
    );
    let sent = "deviceUnderIntermediate1 intermediate1";
    let other = judged("x509-device-02", sent, &by_leaf, &cas);
    assert!(matches!(other, Err(Rejection::NotEnrolled { enrolled, .. }) if enrolled.len() == 2));
    assert!(judged("x509-device-02", sent, &by_ca, &cas).is_ok());
    let unverified = [ca("root", read("root"), false)];
    let refused = judged("x509-device-02", sent, &by_ca, &unverified);
    assert!(matches!(refused, Err(Rejection::Unverified { .. })));
    let refused = judged("x509-device-02", sent, &by_ca, &[]);
    assert!(matches!(refused, Err(Rejection::NoSuchCa { .. })));
    let expired =
        json!({ "clientCertificates": { "primary": slot("expiredDeviceUnderIntermediate1") } });
    let expired = individual_of(expired);
    let sent = "expiredDeviceUnderIntermediate1";
    let refused = judged("x509-expired-01", sent, &expired, &[]);
    assert!(matches!(
        refused,
        Err(Rejection::Chain(Refusal::Expired { .. }))
    ));
    let mut keys = by_leaf.clone();
    keys.attestation.kind = AttestationKind::SymmetricKey;
    let refused = judged("x509-self-01", "selfSignedDevice", &keys, &[]);
    assert!(matches!(refused, Err(Rejection::OtherKind { .. })));
}

#[test]
fn a_chain_is_refused_for_the_rule_it_breaks() {
    let wish = |common_name, days| Wish {
        common_name,
        key: KeyKind::P256,
        days,
        now: now() - Duration::from_secs(2 * 24 * 3600),
    };
    let late = |days| Wish {
        now: now() + Duration::from_secs(2 * 24 * 3600),
        ..wish("dev", days)
    };
    let signer = |made: &Made| Signer::of(made, now()).unwrap();
    let top = root(wish("root", 365)).unwrap();
    let stranger = root(wish("stranger", 365)).unwrap();
    let namesake = root(wish("root", 365)).unwrap();
    let narrow = signer(&top)
        .intermediate(wish("narrow", 300), Some(0))
        .unwrap();
    let below = signer(&narrow)
        .intermediate(wish("below", 300), None)
        .unwrap();
    let device = signer(&top).leaf(wish("device", 300)).unwrap();
    let cas = [ca("root", top.certificate().unwrap(), true)];
    let groups = [referring("all", "root")];
    let refused = |leaf: Made| {
        let chain = Certificate::read_all(leaf.chain_pem.as_bytes()).unwrap();
        match judged("dev", &chain, &groups, &cas) {
            Err(Rejection::Chain(refusal)) => refusal,
            other => panic!("{other:?}"),
        }
    };
    let leaf = |by: &Made, wish| signer(by).leaf(wish).unwrap();
    assert!(matches!(
        refused(leaf(&top, wish("dev", 1))),
        Refusal::Expired { .. }
    ));
    assert!(matches!(
        refused(leaf(&top, late(9))),
        Refusal::NotYetValid { .. }
    ));
    assert!(matches!(
        refused(leaf(&stranger, wish("dev", 9))),
        Refusal::IssuerUnknown { .. }
    ));
    assert!(matches!(
        refused(leaf(&namesake, wish("dev", 9))),
        Refusal::WrongSignature { .. }
    ));
    assert!(matches!(
        refused(leaf(&below, wish("dev", 9))),
        Refusal::PathTooLong {
            allowed: 0,
            found: 1,
            ..
        }
    ));
    assert!(matches!(
        refused(leaf(&device, wish("dev", 9))),
        Refusal::IssuerNotAuthority { .. }
    ));
    let own = azimuth_certs::self_signed_leaf(wish("dev", 9)).unwrap();
    assert!(matches!(refused(own), Refusal::UntrustedRoot { .. }));
}
