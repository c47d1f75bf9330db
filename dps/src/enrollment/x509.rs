//! The certificates of an enrollment: which a request may carry, how they are kept, what is shown of them.
//!
//! Kept as base64 of the DER; shown as `info`, never as they are. What may not enter: who may register.

use azimuth_certs::Certificate;
use azimuth_wire::enrollment::{
    Attestation, CaReferences, X509Attestation, X509CertificateWithInfo, X509Certificates,
};

use crate::attempt::Slot;
use crate::error::Error;

/// Exactly one way to name certificates, of those that fit an individual enrollment or a group.
pub fn check(attestation: &Attestation, individual: bool) -> Result<(), Error> {
    let invalid = |sentence: &str| Err(Error::Invalid(sentence.into()));
    let Some(x509) = &attestation.x509 else {
        return invalid("attestation of type x509 needs the member x509");
    };
    let filled = |certificates: &Option<X509Certificates>| {
        let slots = certificates.as_ref().map(X509Certificates::slots);
        slots.is_some_and(|slots| slots.iter().any(|(_, slot)| slot.is_some()))
    };
    let given = [
        filled(&x509.client_certificates),
        filled(&x509.signing_certificates),
        x509.ca_references
            .as_ref()
            .is_some_and(|names| names.names().next().is_some()),
    ];
    match given {
        [true, false, false] if individual => Ok(()),
        [false, true, false] if !individual => Ok(()),
        [false, false, true] => Ok(()),
        [true, ..] if !individual => invalid(
            "clientCertificates belong to individual enrollments; a group needs signingCertificates or caReferences",
        ),
        [_, true, _] if individual => invalid(
            "signingCertificates belong to groups; an individual enrollment needs clientCertificates or caReferences",
        ),
        [false, false, false] => invalid(
            "attestation of type x509 holds no certificate: at least a primary one is needed",
        ),
        _ => invalid(
            "attestation.x509 holds more than one of clientCertificates, signingCertificates and caReferences",
        ),
    }
}

/// Reads the certificates that were given; a slot without one keeps what `present` has there.
pub fn complete(attestation: &mut Attestation, present: Option<&Attestation>) -> Result<(), Error> {
    let Some(x509) = &mut attestation.x509 else {
        return Ok(());
    };
    let present = present.and_then(|present| present.x509.as_ref());
    let old = present.and_then(|present| present.client_certificates.as_ref());
    fill(&mut x509.client_certificates, old, "clientCertificates")?;
    let old = present.and_then(|present| present.signing_certificates.as_ref());
    fill(&mut x509.signing_certificates, old, "signingCertificates")
}

fn fill(
    given: &mut Option<X509Certificates>,
    old: Option<&X509Certificates>,
    member: &str,
) -> Result<(), Error> {
    let Some(given) = given else { return Ok(()) };
    let old = old.cloned().unwrap_or_default();
    for (name, slot, old) in [
        ("primary", &mut given.primary, old.primary),
        ("secondary", &mut given.secondary, old.secondary),
    ] {
        let Some(slot) = slot else { continue };
        let text = slot.certificate.take().filter(|text| !text.is_empty());
        *slot = match (text, old) {
            (Some(text), _) => {
                let read = Certificate::read_first(text.as_bytes());
                let certificate = read.map_err(|error| {
                    let sentence = format!(
                        "{member}.{name}.certificate must be PEM text or base64 of DER: {error}"
                    );
                    Error::Invalid(sentence)
                })?;
                kept(&certificate)
            }
            (None, Some(old)) => old,
            (None, None) => {
                let sentence = format!(
                    "{member}.{name} holds no certificate, and none is enrolled that could stay"
                );
                return Err(Error::Invalid(sentence));
            }
        };
    }
    Ok(())
}

fn kept(certificate: &Certificate) -> X509CertificateWithInfo {
    X509CertificateWithInfo {
        certificate: Some(certificate.base64()),
        info: None,
    }
}

/// The leaves of an individual enrollment.
pub fn client_certificates(attestation: &Attestation) -> Vec<(Slot, Certificate)> {
    certificates(attestation, |x509| x509.client_certificates.as_ref())
}

/// The authorities of a group.
pub fn signing_certificates(attestation: &Attestation) -> Vec<Certificate> {
    let both = certificates(attestation, |x509| x509.signing_certificates.as_ref());
    both.into_iter()
        .map(|(_, certificate)| certificate)
        .collect()
}

/// The names of the service's CA certificates that it refers to.
pub fn ca_references(attestation: &Attestation) -> Vec<&str> {
    let x509 = attestation.x509.as_ref();
    let names = x509.and_then(|x509| x509.ca_references.as_ref());
    names.into_iter().flat_map(CaReferences::names).collect()
}

fn certificates(
    attestation: &Attestation,
    member: fn(&X509Attestation) -> Option<&X509Certificates>,
) -> Vec<(Slot, Certificate)> {
    let Some(both) = attestation.x509.as_ref().and_then(member) else {
        return Vec::new();
    };
    let read = |(slot, held): (Slot, &Option<X509CertificateWithInfo>)| {
        let text = held.as_ref()?.certificate.as_ref()?;
        Some((slot, Certificate::read_first(text.as_bytes()).ok()?))
    };
    let slots = [
        (Slot::Primary, &both.primary),
        (Slot::Secondary, &both.secondary),
    ];
    slots.into_iter().filter_map(read).collect()
}

/// Each certificate's `info` in its place.
pub fn show(attestation: &mut Attestation) {
    let Some(x509) = &mut attestation.x509 else {
        return;
    };
    let both = [
        &mut x509.client_certificates,
        &mut x509.signing_certificates,
    ];
    for certificates in both.into_iter().flatten() {
        let slots = [&mut certificates.primary, &mut certificates.secondary];
        for slot in slots.into_iter().flatten() {
            let Some(text) = slot.certificate.take() else {
                continue;
            };
            let certificate = Certificate::read_first(text.as_bytes()).ok();
            let info = certificate.map(|certificate| serde_json::to_value(certificate.info()));
            slot.info = info.and_then(Result::ok);
        }
    }
}
