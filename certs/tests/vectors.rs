//! Known certificates: thumbprints, names, chains and the proof of possession.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use azimuth_certs::{
    Certificate, Refusal, Thumbprint, VerificationCode, check_possession, path_to_anchor,
    verify_chain,
};
use serde_json::Value;

#[test]
fn every_spelling_of_a_thumbprint_finds_its_certificate() {
    let row = &vectors()["thumbprints"];
    let certificate = read(row["certificatePem"].as_str().unwrap());
    assert_eq!(certificate.common_name().unwrap(), row["subjectCommonName"]);
    assert_eq!(certificate.sha1().to_string(), row["sha1"]);
    assert_eq!(certificate.sha256().to_string(), row["sha256"]);
    for spelling in row["acceptedSpellings"].as_array().unwrap() {
        let thumbprint: Thumbprint = spelling.as_str().unwrap().parse().unwrap();
        assert!(thumbprint.matches(certificate.der()), "{spelling}");
    }
}

#[test]
fn info_is_written_as_the_service_writes_it() {
    let vectors = vectors();
    for (name, row) in vectors["certificates"].as_object().unwrap() {
        let certificate = read(row["pem"].as_str().unwrap());
        let info = serde_json::to_value(certificate.info()).unwrap();
        assert_eq!(info, row["expectedInfo"], "{name}");
        assert_eq!(
            certificate.common_name().unwrap(),
            row["commonName"],
            "{name}"
        );
    }
}

#[test]
fn a_chain_leads_to_the_anchor_through_what_is_at_hand() {
    let [root, one, two] = ["root", "intermediate1", "intermediate2"].map(named);
    let [deep, shallow, lone, expired] = [
        "deviceUnderIntermediate2",
        "deviceUnderIntermediate1",
        "selfSignedDevice",
        "expiredDeviceUnderIntermediate1",
    ]
    .map(named);
    let path = |leaf, helpers: &[&_], anchors: &[&_]| {
        path_to_anchor(leaf, helpers, anchors, now()).map(|path| path.len())
    };
    assert_eq!(path(&deep, &[&two, &one], &[&root]), Ok(4));
    assert_eq!(path(&deep, &[&one, &two], &[&root]), Ok(4));
    assert_eq!(path(&deep, &[&two, &one], &[&two]), Ok(2));
    assert_eq!(path(&shallow, &[&one], &[&root]), Ok(3));
    assert_eq!(path(&lone, &[], &[&lone]), Ok(1));
    for (result, rule) in [
        (path(&deep, &[&two], &[&root]), "issuer unknown"),
        (path(&lone, &[], &[&root]), "untrusted root"),
        (
            path(&deep, &[&two, &one, &root], &[&lone]),
            "untrusted root",
        ),
        (path(&expired, &[&one], &[&root]), "expired"),
    ] {
        let found = match result.unwrap_err() {
            Refusal::IssuerUnknown { .. } => "issuer unknown",
            Refusal::UntrustedRoot { .. } => "untrusted root",
            Refusal::Expired { .. } => "expired",
            other => panic!("{other}"),
        };
        assert_eq!(found, rule);
    }
    let sent = [deep.clone(), two, one];
    assert_eq!(verify_chain(&sent, &[root], now()).unwrap().len(), 4);
    assert_eq!(verify_chain(&[], &[deep], now()), Err(Refusal::Nothing));
}

#[test]
fn possession_is_shown_by_the_authoritys_signature_over_the_code() {
    let [root, one, proof, lone] = [
        "root",
        "intermediate1",
        "rootPossessionProof",
        "selfSignedDevice",
    ]
    .map(named);
    let code: VerificationCode = vectors()["verificationCode"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(check_possession(&root, &code, &proof, now()), Ok(()));
    let other = VerificationCode::from_random([7; 24]);
    assert_eq!(other.as_str().len(), 48);
    assert!(matches!(
        check_possession(&root, &other, &proof, now()),
        Err(Refusal::WrongCommonName { .. })
    ));
    for (authority, shown) in [(&one, &proof), (&root, &lone)] {
        assert!(matches!(
            check_possession(authority, &code, shown, now()),
            Err(Refusal::IssuerUnknown { .. })
        ));
    }
    let late = now() + Duration::from_secs(30 * 365 * 86_400);
    assert!(matches!(
        check_possession(&root, &code, &proof, late),
        Err(Refusal::Expired { .. })
    ));
}

#[test]
fn certificates_are_read_from_every_form_people_store_them_in() {
    let [root, one] = ["root", "intermediate1"].map(named);
    let pem = vectors()["certificates"]["root"]["pem"]
        .as_str()
        .unwrap()
        .to_owned();
    let pem_one = vectors()["certificates"]["intermediate1"]["pem"]
        .as_str()
        .unwrap()
        .to_owned();
    let bare: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let both = vec![root.clone(), one.clone()];
    let only = vec![root.clone()];
    for (bytes, expected) in [
        (pem.clone().into_bytes(), &only),
        (pem.replace('\n', "\r\n").into_bytes(), &only),
        (
            format!("subject=x\n{pem}\nissuer=y\n{pem_one}").into_bytes(),
            &both,
        ),
        (root.der().to_vec(), &only),
        ([root.der(), one.der()].concat(), &both),
        ([root.der(), pem_one.as_bytes()].concat(), &both),
        (bare.clone().into_bytes(), &only),
        (format!(" {bare}\n").into_bytes(), &only),
    ] {
        assert_eq!(&Certificate::read_all(&bytes).unwrap(), expected);
    }
    let cut = &pem[..pem.len() / 2];
    let torn = &root.der()[..root.der().len() - 1];
    for bytes in [b"".as_slice(), b"hello", cut.as_bytes(), torn] {
        assert!(Certificate::read_all(bytes).is_err());
    }
}

fn vectors() -> Value {
    serde_json::from_str(include_str!("vectors/x509.json")).unwrap()
}

fn named(name: &str) -> Certificate {
    read(vectors()["certificates"][name]["pem"].as_str().unwrap())
}

fn read(pem: &str) -> Certificate {
    Certificate::read_first(pem.as_bytes()).unwrap()
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_000_000)
}

proptest::proptest! {
    #[test]
    fn a_certificate_with_damaged_bytes_never_panics(
        which in 0..6_usize,
        hits in proptest::collection::vec((0..600_usize, 0..=255_u8), 1..4),
    ) {
        let root = named("root");
        let vectors = vectors();
        let rows = vectors["certificates"].as_object().unwrap();
        let pem = rows.values().nth(which).unwrap()["pem"].as_str().unwrap();
        let mut der = read(pem).der().to_vec();
        for (at, byte) in hits {
            let at = at % der.len();
            der[at] = byte;
        }
        if let Ok(certificate) = Certificate::from_der(&der) {
            let _ = certificate.info();
            let _ = certificate.common_name();
            let _ = verify_chain(&[certificate.clone(), root.clone()], std::slice::from_ref(&root), now());
            let _ = verify_chain(&[root.clone(), certificate.clone()], std::slice::from_ref(&certificate), now());
        }
    }
}
