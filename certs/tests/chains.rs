//! Chains that should not hold, made for the purpose.
#![allow(clippy::unwrap_used)]

mod common;

use azimuth_certs::{Certificate, Refusal, path_to_anchor};
use common::now;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

#[test]
fn a_chain_is_refused_for_the_rule_it_breaks() {
    let root = Party::root("root", unlimited());
    let narrow = Party::root("narrow", IsCa::Ca(BasicConstraints::Constrained(0)));
    let middle = root.issue("middle", unlimited());
    let below_narrow = narrow.issue("below", unlimited());
    let device = root.issue("device", IsCa::ExplicitNoCa);
    let namesake = Party::root("root", unlimited());
    // What they issued is in time still.
    let over = root.issue_until("over", unlimited(), 2026);
    let leaf = |issuer: &Party| issuer.issue("leaf", IsCa::ExplicitNoCa).certificate;
    let rows = [
        ("good", leaf(&middle), vec![&middle], &root, None),
        (
            "issued by a device",
            leaf(&device),
            vec![&device],
            &root,
            Some("not an authority"),
        ),
        (
            "deeper than allowed",
            leaf(&below_narrow),
            vec![&below_narrow],
            &narrow,
            Some("too long"),
        ),
        (
            "signed by a namesake",
            leaf(&namesake),
            vec![],
            &root,
            Some("wrong signature"),
        ),
        (
            "the anchor is below the root",
            leaf(&middle),
            vec![],
            &middle,
            None,
        ),
        (
            "the anchor is a device",
            leaf(&device),
            vec![],
            &device,
            None,
        ),
        (
            "both namesakes at hand",
            leaf(&namesake),
            vec![&root],
            &namesake,
            None,
        ),
        (
            "the authority between is over",
            leaf(&over),
            vec![&over],
            &root,
            Some("expired"),
        ),
        (
            "the anchor is over",
            leaf(&over),
            vec![],
            &over,
            Some("expired"),
        ),
    ];
    for (what, leaf, helpers, anchor, expected) in rows {
        let helpers: Vec<&Certificate> = helpers.iter().map(|party| &party.certificate).collect();
        let found = path_to_anchor(&leaf, &helpers, &[&anchor.certificate], now());
        let found = found.err().map(|refusal| match refusal {
            Refusal::IssuerNotAuthority { .. } => "not an authority",
            Refusal::PathTooLong { .. } => "too long",
            Refusal::WrongSignature { .. } => "wrong signature",
            Refusal::Expired { subject, .. } if subject == "CN=over" => "expired",
            other => panic!("{what}: {other}"),
        });
        assert_eq!(found, expected, "{what}");
    }
}

#[test]
fn a_heap_of_look_alikes_is_given_up() {
    let leaf = Party::root("same", unlimited())
        .issue("leaf", IsCa::ExplicitNoCa)
        .certificate;
    let alikes: Vec<Party> = (0..40).map(|_| Party::root("same", unlimited())).collect();
    let helpers: Vec<&Certificate> = alikes.iter().map(|party| &party.certificate).collect();
    let anchor = Party::root("other", unlimited()).certificate;
    assert_eq!(
        path_to_anchor(&leaf, &helpers, &[&anchor], now()),
        Err(Refusal::TooManySteps { limit: 32 })
    );
}

struct Party {
    certificate: Certificate,
    params: CertificateParams,
    key: KeyPair,
}

impl Party {
    fn root(name: &str, is_ca: IsCa) -> Self {
        let (params, key) = params(name, is_ca);
        let made = params.self_signed(&key).unwrap();
        Self {
            certificate: Certificate::from_der(made.der()).unwrap(),
            params,
            key,
        }
    }

    fn issue(&self, name: &str, is_ca: IsCa) -> Self {
        self.issue_until(name, is_ca, 4000)
    }

    /// It ends with this year's first day.
    fn issue_until(&self, name: &str, is_ca: IsCa, year: i32) -> Self {
        let (mut params, key) = params(name, is_ca);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let issuer = Issuer::from_params(&self.params, &self.key);
        let made = params.signed_by(&key, &issuer).unwrap();
        Self {
            certificate: Certificate::from_der(made.der()).unwrap(),
            params,
            key,
        }
    }
}

fn params(name: &str, is_ca: IsCa) -> (CertificateParams, KeyPair) {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    if matches!(is_ca, IsCa::Ca(_)) {
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    }
    params.is_ca = is_ca;
    (params, KeyPair::generate().unwrap())
}

fn unlimited() -> IsCa {
    IsCa::Ca(BasicConstraints::Unconstrained)
}
