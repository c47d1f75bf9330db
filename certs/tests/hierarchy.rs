//! Hierarchies made for trying out: what comes out holds, also before openssl.
#![allow(clippy::unwrap_used)]

mod common;

use azimuth_certs::{
    Certificate, Error, KeyKind, Made, Refusal, Signer, VerificationCode, Wish, check_possession,
    root, self_signed_leaf, verify_chain,
};
use common::{Folder, now, openssl};

#[test]
fn a_leaf_leads_to_its_root_by_way_of_the_chain_it_is_handed_out_with() {
    for key in [KeyKind::P256, KeyKind::Rsa2048] {
        let (top, middle, leaf) = hierarchy(key);
        let chain = Certificate::read_all(leaf.chain_pem.as_bytes()).unwrap();
        assert_eq!(chain.len(), 2, "leaf and intermediate, without the root");
        assert_eq!(chain[0].common_name(), Some("dev-1"));
        let anchor = [top.certificate().unwrap()];
        let path = verify_chain(&chain, &anchor, now()).unwrap();
        assert_eq!(path[1], &middle.certificate().unwrap());
        let end = |made: &Made| made.certificate().unwrap().validity().not_after;
        assert!(end(&leaf) <= end(&middle) && end(&middle) <= end(&top));
    }
}

#[test]
fn what_breaks_a_rule_can_be_made_too() {
    let top = root(wish("root", 365)).unwrap();
    let signer = Signer::of(&top, now()).unwrap();
    let narrow = signer.intermediate(wish("narrow", 365), Some(0)).unwrap();
    let below = Signer::of(&narrow, now()).unwrap();
    let below = below.intermediate(wish("below", 365), None).unwrap();
    let too_deep = Signer::of(&below, now())
        .unwrap()
        .leaf(wish("dev", 365))
        .unwrap();
    let expired = signer.leaf(wish("dev", 0)).unwrap();
    let device = signer.leaf(wish("device", 365)).unwrap();
    let by_device = Signer::of(&device, now())
        .unwrap()
        .leaf(wish("dev", 365))
        .unwrap();
    for (made, rule) in [
        (too_deep, "allows 0 authorities below it, the chain has 1"),
        (expired, "expired at"),
        (by_device, "its basic constraints do not say CA:TRUE"),
    ] {
        let chain = Certificate::read_all(made.chain_pem.as_bytes()).unwrap();
        let anchors = [top.certificate().unwrap()];
        let refusal = verify_chain(&chain, &anchors, now()).unwrap_err();
        assert!(refusal.to_string().contains(rule), "{refusal}");
    }
}

#[test]
fn a_proof_is_signed_by_the_root_over_the_code() {
    let (top, ..) = hierarchy(KeyKind::P256);
    let code = VerificationCode::from_random([0xa3; 24]);
    let other = VerificationCode::from_random([7; 24]);
    let signer = Signer::of(&top, now()).unwrap();
    let proof = signer.proof(&code, KeyKind::P256, now()).unwrap();
    let proof = proof.certificate().unwrap();
    let check = |code| check_possession(signer.certificate(), code, &proof, now());
    assert_eq!(check(&code), Ok(()));
    assert!(matches!(
        check(&other),
        Err(Refusal::WrongCommonName { .. })
    ));
}

#[test]
fn an_issuer_needs_its_own_key_and_must_not_be_over() {
    let (top, middle, _) = hierarchy(KeyKind::P256);
    let mixed = Signer::read(&top.certificate_pem, &middle.key_pem, "", now());
    assert!(matches!(mixed, Err(Error::OtherKey)), "{mixed:?}");
    let years = std::time::Duration::from_secs(400 * 24 * 3600);
    let late = Signer::of(&top, now() + years);
    assert!(
        matches!(late, Err(Error::Issuer(Refusal::Expired { .. }))),
        "{late:?}"
    );
}

#[test]
fn openssl_accepts_the_hierarchy_strictly() {
    let folder = Folder::new();
    for key in [KeyKind::P256, KeyKind::Rsa2048] {
        let (top, middle, leaf) = hierarchy(key);
        for (name, made) in [("top", &top), ("middle", &middle), ("leaf", &leaf)] {
            std::fs::write(folder.join(format!("{name}.pem")), &made.certificate_pem).unwrap();
        }
        let line = "verify -x509_strict -check_ss_sig -purpose sslclient -attime 1795000000 -CAfile top.pem -untrusted middle.pem leaf.pem";
        let Some((content, text)) = openssl(&folder, line) else {
            eprintln!("openssl is not installed: nothing was checked");
            return;
        };
        assert!(content, "{key:?}: {text}");
    }
}

#[test]
fn a_leaf_that_signed_itself_is_its_own_anchor() {
    let made = self_signed_leaf(wish("dev-1", 30)).unwrap();
    let chain = [made.certificate().unwrap()];
    assert!(chain[0].is_self_issued() && !chain[0].is_authority());
    assert_eq!(verify_chain(&chain, &chain, now()).unwrap().len(), 1);
}

fn hierarchy(key: KeyKind) -> (Made, Made, Made) {
    let wish = |name, days| Wish {
        key,
        ..wish(name, days)
    };
    let top = root(wish("root", 365)).unwrap();
    let signer = Signer::of(&top, now()).unwrap();
    let middle = signer.intermediate(wish("middle", 3650), Some(0)).unwrap();
    let leaf = Signer::of(&middle, now())
        .unwrap()
        .leaf(wish("dev-1", 30))
        .unwrap();
    (top, middle, leaf)
}

fn wish(common_name: &str, days: u32) -> Wish<'_> {
    Wish {
        common_name,
        key: KeyKind::P256,
        days,
        now: now(),
    }
}
