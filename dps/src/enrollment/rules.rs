//! What an enrollment must be like to be taken.
//!
//! Pure. The names of the hubs that are linked are an argument. A refusal names the member and what it should be.

use azimuth_wire::enrollment::{AllocationPolicy, AttestationKind};

use super::entry::Entry;
use super::fields;
use super::tpm;
use super::x509;
use crate::allocation::webhook;
use crate::error::Error;

pub fn check<E: Entry>(entry: &E, linked: &[String]) -> Result<(), Error> {
    let attestation = entry.attestation();
    let given = [
        attestation.symmetric_key.is_some(),
        attestation.x509.is_some(),
        attestation.tpm.is_some(),
    ];
    if given.iter().filter(|given| **given).count() > 1 {
        return invalid("attestation holds more than one of symmetricKey, x509 and tpm");
    }
    match attestation.kind {
        AttestationKind::SymmetricKey if attestation.symmetric_key.is_none() => {
            return invalid("attestation of type symmetricKey needs the member symmetricKey");
        }
        AttestationKind::SymmetricKey => {}
        AttestationKind::X509 => x509::check(attestation, E::OWNS_REGISTRATION)?,
        AttestationKind::Tpm => tpm::check(attestation, E::OWNS_REGISTRATION)?,
        AttestationKind::None => {
            return invalid("attestation type must be symmetricKey, x509 or tpm");
        }
    }
    fields::check(entry)?;
    check_hubs(entry, linked)
}

fn check_hubs<E: Entry>(entry: &E, linked: &[String]) -> Result<(), Error> {
    let terms = entry.terms();
    for hub in &terms.hubs {
        if !linked.iter().any(|linked| linked.eq_ignore_ascii_case(hub)) {
            return invalid(&format!(
                "the hub `{hub}` is not linked to this Device Provisioning Service; linked are: {}",
                linked.join(", ")
            ));
        }
    }
    match terms.allocation {
        Some(AllocationPolicy::Custom) => match entry.custom_allocation() {
            None => invalid("allocationPolicy custom needs customAllocationDefinition"),
            Some(definition) => webhook::check(definition).map_err(Error::Invalid),
        },
        Some(AllocationPolicy::Static) if terms.hubs.len() != 1 => {
            invalid("allocationPolicy static needs exactly one hub in iotHubs")
        }
        Some(
            AllocationPolicy::Static | AllocationPolicy::Hashed | AllocationPolicy::GeoLatency,
        )
        | None => Ok(()),
    }
}

fn invalid(sentence: &str) -> Result<(), Error> {
    Err(Error::Invalid(sentence.into()))
}
