#![allow(clippy::unwrap_used)]
use std::time::Duration;

use super::*;
use crate::{KeyKind, Signer, Wish, root};

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

fn stamp(etag: &str) -> Stamp {
    Stamp {
        now: now(),
        etag: etag.into(),
    }
}

fn body(pem: &str) -> CaCertificateBody {
    serde_json::from_value(serde_json::json!({ "certificate": pem })).unwrap()
}

fn wish(common_name: &str) -> Wish<'_> {
    Wish {
        common_name,
        key: KeyKind::P256,
        days: 30,
        now: now(),
    }
}

fn code() -> VerificationCode {
    VerificationCode::from_random([7; 24])
}

#[test]
fn a_code_counts_once_and_a_new_certificate_is_to_be_proven_anew() {
    let made = root(wish("root")).unwrap();
    let body = body(&made.certificate_pem);
    let any = IfMatch::Absent;
    let uploaded = CaRecord::uploaded("Root", None, 0, &body, &any, stamp("a")).unwrap();
    let unasked = uploaded.clone().verified(&any, &body, stamp("b"));
    assert!(matches!(unasked, Err(CaRefusal::NoCode)));
    let signer = Signer::of(&made, now()).unwrap();
    let proof = signer.proof(&code(), KeyKind::P256, now()).unwrap();
    let proof = self::body(&proof.certificate_pem);
    let other = VerificationCode::from_random([8; 24]);
    let challenged = uploaded.challenged(&any, other, stamp("b")).unwrap();
    let wrong = challenged.clone().verified(&any, &proof, stamp("c"));
    assert!(matches!(wrong, Err(CaRefusal::Possession(_))));
    let challenged = challenged.challenged(&any, code(), stamp("c")).unwrap();
    let stale = IfMatch::Etag("b".into());
    let refused = challenged.clone().verified(&stale, &proof, stamp("d"));
    assert!(matches!(refused, Err(CaRefusal::Etag)));
    let proven = challenged.verified(&any, &proof, stamp("d")).unwrap();
    assert!(proven.ca().verified);
    let again = proven.clone().verified(&any, &proof, stamp("e"));
    assert!(matches!(again, Err(CaRefusal::NoCode)));

    let present = IfMatch::Etag("d".into());
    let replaced = CaRecord::uploaded("root", Some(&proven), 25, &body, &present, stamp("e"));
    assert!(!replaced.unwrap().ca().verified);
}

#[test]
fn what_is_kept_is_found_again() {
    let made = root(wish("root")).unwrap();
    let body = body(&made.certificate_pem);
    let record = CaRecord::uploaded("r", None, 0, &body, &IfMatch::Absent, stamp("a")).unwrap();
    let record = record
        .challenged(&IfMatch::Any, code(), stamp("b"))
        .unwrap();
    let text = serde_json::to_string(&record).unwrap();
    let read: CaRecord = serde_json::from_str(&text).unwrap();
    assert_eq!(read.shown("t"), record.shown("t"));
    assert_eq!(
        read.shown("t").properties.created,
        "Tue, 14 Nov 2023 22:13:20 GMT"
    );
    let damaged = text.replace("\"certificate\":\"", "\"certificate\":\"?");
    assert!(serde_json::from_str::<CaRecord>(&damaged).is_err());
}

#[test]
fn names_and_numbers_are_bounded() {
    let body = body(&root(wish("root")).unwrap().certificate_pem);
    let long = "a".repeat(65);
    for (name, others, good) in [
        ("a.B-c_9", 24, true),
        ("a", 25, false),
        ("", 0, false),
        ("a b", 0, false),
        ("ä", 0, false),
        (&long, 0, false),
    ] {
        let made = CaRecord::uploaded(name, None, others, &body, &IfMatch::Absent, stamp("a"));
        assert_eq!(made.is_ok(), good, "{name}");
    }
}
