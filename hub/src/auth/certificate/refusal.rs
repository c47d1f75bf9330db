//! The sentences of refused client certificates, each with its rule and its arithmetic.

use std::time::SystemTime;

use azimuth_broker::Refusal;
use azimuth_certs::{Ca, Certificate, Refusal as Broken};
use azimuth_wire::registry::Thumbprint;
use azimuth_wire::time::Timestamp;

use crate::auth::refusal::{connack, subject};
use crate::registry::Identity;

pub fn unreadable_certificate() -> Refusal {
    connack(
        "unreadable-certificate",
        "the first certificate the client showed cannot be read",
    )
}

pub fn not_by_certificate(identity: &Identity) -> Refusal {
    let (who, kind) = (subject(identity), identity.authentication.kind());
    let sentence = format!(
        "the client showed a certificate and no password, but the {who} proves itself by \
         token (authentication type {kind})"
    );
    connack("wrong-authentication", sentence).fact("authentication type", kind)
}

/// In Azure's words as far as they are known.
pub fn wrong_thumbprint(
    identity: &Identity,
    leaf: &Certificate,
    configured: [&Option<Thumbprint>; 2],
) -> Refusal {
    let sentence = format!(
        "the certificate the client showed has neither of the two thumbprints of the {}; show another \
         one, or write its thumbprint to the registry",
        subject(identity)
    );
    let text = |thumbprint: &Option<Thumbprint>| {
        thumbprint.as_ref().map_or("none".into(), |t| t.to_string())
    };
    let [primary, secondary] = configured;
    connack("wrong-thumbprint", sentence)
        .fact("SHA-1 shown", leaf.sha1())
        .fact("SHA-256 shown", leaf.sha256())
        .fact("primaryThumbprint", text(primary))
        .fact("secondaryThumbprint", text(secondary))
}

pub fn certificate_out_of_time(leaf: &Certificate, now: SystemTime) -> Refusal {
    let validity = leaf.validity();
    let shown = leaf.info();
    let (kind, rule, apart) = match now < validity.not_before {
        true => (
            "certificate-not-yet-valid",
            format!("is not valid before {}", shown.not_before_utc),
            validity.not_before.duration_since(now),
        ),
        false => (
            "expired-certificate",
            format!("expired at {}", shown.not_after_utc),
            now.duration_since(validity.not_after),
        ),
    };
    let seconds = apart.unwrap_or_default().as_secs();
    let sentence = format!(
        "the client's certificate `{}` {rule}, {seconds} s from the hub's clock",
        shown.subject_name
    );
    connack(kind, sentence)
        .fact("valid from", shown.not_before_utc)
        .fact("valid until", shown.not_after_utc)
        .fact("hub's clock", Timestamp::from(now))
        .fact("seconds apart", seconds)
}

/// `name` is the one it had to bear.
pub fn other_common_name(name: &str, leaf: &Certificate) -> Refusal {
    let found = leaf.common_name().unwrap_or("none");
    let sentence = format!(
        "the common name of the client's certificate is `{found}`, it must be `{name}` to the letter; issue one \
         with that name"
    );
    connack("wrong-common-name", sentence)
        .fact("common name wanted", name)
        .fact("common name shown", found)
        .fact("subject shown", leaf.subject_name())
}

/// The chain is whole, but nobody has proven that the key at its top is theirs.
pub fn unverified_ca(name: &str, ca: &Ca) -> Refusal {
    let (ca, subject) = (&ca.name, ca.certificate.subject_name());
    let sentence = format!(
        "the certificate of `{name}` leads to the CA certificate `{ca}`, whose owner has not proven to hold its \
         key; `azimuth hub certificate verify {ca}` does"
    );
    connack("unverified-ca", sentence)
        .fact("CA certificate", ca)
        .fact("its subject", subject)
}

/// Why no path led from the leaf to one of the CA certificates with these names.
pub fn broken_chain(name: &str, shown: &[Certificate], cas: &[&str], broken: &Broken) -> Refusal {
    let (kind, next) = match broken {
        Broken::Expired { .. } => ("expired-certificate", "issue a new one, or set the clock"),
        Broken::NotYetValid { .. } => ("certificate-not-yet-valid", "set the clock, or wait"),
        _ if cas.is_empty() => (
            "untrusted-chain",
            "the hub has no verified CA certificate; `azimuth hub certificate upload` and `verify` give it one",
        ),
        _ => (
            "untrusted-chain",
            "a device sends the certificates between its own and a CA certificate of the hub",
        ),
    };
    let sentence = format!(
        "the certificate of `{name}` leads to no verified CA certificate of this hub: {broken}; {next}"
    );
    let subjects: Vec<_> = shown.iter().map(Certificate::subject_name).collect();
    let none = || "none".to_owned();
    connack(kind, sentence)
        .fact("certificates shown", subjects.join("; "))
        .fact(
            "verified CA certificates",
            if cas.is_empty() {
                none()
            } else {
                cas.join(", ")
            },
        )
}
