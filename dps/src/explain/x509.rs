//! Why a certificate is refused.

use azimuth_broker::{Answer, Refusal};
use azimuth_certs::{Certificate, Refusal as Broken};
use azimuth_wire::RegistrationId;

use super::{NOT_AUTHORIZED, UNAUTHORIZED};
use crate::attestation::x509::Rejection;

/// At CONNECT.
pub fn unreadable_certificate() -> Refusal {
    let sentence = "the first certificate the device showed cannot be read";
    Refusal::new("unreadable-certificate", NOT_AUTHORIZED, sentence)
}

/// At CONNECT, as Azure does it.
pub fn other_common_name(id: &RegistrationId, leaf: &Certificate) -> Refusal {
    common_name(id, leaf.common_name(), NOT_AUTHORIZED)
}

fn common_name(id: &RegistrationId, found: Option<&str>, answer: Answer) -> Refusal {
    let found: String = found.unwrap_or("none").chars().take(140).collect();
    let sentence = format!(
        "the common name of the device's certificate is `{found}`, the registration id is {id}; they must be the same"
    );
    Refusal::new("common-name-mismatch", answer, sentence)
        .fact("common name", found)
        .fact("registration id", id)
}

/// At register.
pub fn certificate_rejected(id: &RegistrationId, rejection: Rejection) -> Refusal {
    let refusal = |kind, sentence: String| Refusal::new(kind, UNAUTHORIZED, sentence);
    match rejection {
        Rejection::CommonName { found } => common_name(id, found.as_deref(), UNAUTHORIZED),
        Rejection::OtherKind { kind } => refusal(
            "wrong-attestation",
            format!("the individual enrollment {id} wants {kind}, the device showed a certificate"),
        ),
        Rejection::NotEnrolled { shown, enrolled } => {
            let enrolled: Vec<_> = enrolled.iter().map(ToString::to_string).collect();
            let sentence = format!(
                "the device's certificate is neither the primary nor the secondary one of the individual enrollment {id}; an individual enrollment decides alone, groups are not tried"
            );
            refusal("certificate-not-enrolled", sentence)
                .fact("SHA-256 shown", shown)
                .fact("SHA-256 enrolled", enrolled.join(", "))
        }
        Rejection::NoSuchCa { name } => refusal(
            "unknown-ca",
            format!("the individual enrollment {id} refers to the CA certificate `{name}`, which this service does not have"),
        ),
        Rejection::Chain(broken) => chain(&broken),
        Rejection::Unverified { name } => refusal(
            "unverified-ca",
            format!(
                "the chain leads to the CA certificate `{name}`, whose owner has not proven to hold its key; generate a verification code, sign it, and verify"
            ),
        ),
        Rejection::NoCaAbove { group, refusal: broken } => refusal(
            "unverified-ca",
            format!(
                "the chain passes the signing certificate of the enrollment group {group}, but does not go on to a verified CA certificate of this service: {broken}. Add the root to the CA certificates and verify it"
            ),
        )
        .fact("enrollment group", group),
        Rejection::NoGroup { ca, passed } => refusal(
            "no-group",
            format!(
                "there is no individual enrollment {id}, and no enrollment group is anchored at a certificate between the device and the CA certificate `{ca}`"
            ),
        )
        .fact("chain", passed.join(" < ")),
    }
}

fn chain(broken: &Broken) -> Refusal {
    let kind = match broken {
        Broken::Expired { .. } => "expired-certificate",
        Broken::NotYetValid { .. } => "certificate-not-yet-valid",
        Broken::WrongSignature { .. } => "wrong-signature",
        Broken::IssuerNotAuthority { .. } => "issuer-no-authority",
        Broken::PathTooLong { .. } => "path-too-long",
        Broken::IssuerUnknown { .. } | Broken::UntrustedRoot { .. } => "unknown-ca",
        Broken::Nothing | Broken::TooManySteps { .. } | Broken::WrongCommonName { .. } => {
            "no-chain"
        }
    };
    let next = match kind {
        "unknown-ca" => {
            ". A device sends the certificates between its own and the anchor; the anchor's root is a verified CA certificate of this service"
        }
        "expired-certificate" => ". Issue a new one, or set the clock",
        _ => "",
    };
    let refusal = Refusal::new(kind, UNAUTHORIZED, format!("{broken}{next}"));
    match broken {
        Broken::Expired { not_after, now, .. } => refusal
            .fact("valid until", not_after)
            .fact("time here", now),
        Broken::NotYetValid {
            not_before, now, ..
        } => refusal
            .fact("valid from", not_before)
            .fact("time here", now),
        Broken::PathTooLong { allowed, found, .. } => refusal
            .fact("authorities allowed below", allowed)
            .fact("authorities found below", found),
        _ => refusal,
    }
}
