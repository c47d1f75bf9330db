//! What would happen if a device registered now, for ids that nobody came with, or that were refused.

use azimuth_wire::enrollment::{AllocationPolicy, AttestationKind, EnrollmentGroup};

use super::{Facts, allocation};
use crate::allocation::weighed::weigh;
use crate::allocation::{Applicant, choose};
use crate::attempt::{Allocation, Few};
use crate::enrollment::{Entry, Terms};

pub fn of(facts: &Facts<'_>) -> Vec<String> {
    let id = facts.id;
    let Some(entry) = facts.individual else {
        return by_group(facts);
    };
    let mut lines = vec![format!(
        "The individual enrollment {id} alone decides; groups are not tried."
    )];
    lines.push(match entry.attestation.kind {
        AttestationKind::SymmetricKey => {
            "It takes a token signed with its primary or secondary key.".into()
        }
        AttestationKind::X509 => {
            format!("It takes a certificate with the common name {id} that it holds, or that leads to the CA it refers to.")
        }
        AttestationKind::Tpm => "It takes the proof of its TPM.".into(),
        AttestationKind::None => "It names no proof, so nobody can register.".into(),
    });
    let terms = entry.terms();
    if terms.enabled {
        lines.extend(hub(facts, &terms));
    } else {
        lines.push(DISABLED.into());
    }
    lines
}

fn by_group(facts: &Facts<'_>) -> Vec<String> {
    let id = facts.id;
    let of_kind = |kind: AttestationKind| {
        let groups = facts.groups.iter();
        let of_kind = groups.filter(move |group| group.attestation.kind == kind);
        of_kind.map(shown).collect::<Few>()
    };
    let mut lines = vec![format!("There is no individual enrollment {id}.")];
    let symmetric = of_kind(AttestationKind::SymmetricKey);
    if !symmetric.is_empty() {
        lines.push(format!("Groups with symmetric keys: {symmetric}."));
        lines.push(format!(
            "Of those it needs a token signed with base64(HMAC-SHA256(group key, \"{id}\"))."
        ));
    }
    let x509 = of_kind(AttestationKind::X509);
    if !x509.is_empty() {
        lines.push(format!("Groups by certificate: {x509}."));
        lines.push(format!(
            "Of those it needs a certificate with the common name {id}, and the chain up to theirs."
        ));
    }
    match facts.groups {
        [] => lines.push(
            "There is no enrollment group either: `azimuth dps enrollment create` makes one for this device.".into(),
        ),
        [only] if only.terms().enabled => lines.extend(hub(facts, &only.terms())),
        [_] => lines.push(DISABLED.into()),
        _ => {}
    }
    lines
}

fn shown(group: &std::sync::Arc<EnrollmentGroup>) -> String {
    let id = &group.enrollment_group_id;
    match group.terms().enabled {
        true => id.to_string(),
        false => format!("{id} (disabled)"),
    }
}

/// The hubs it might get; the one where that can be said without knowing where it calls from.
fn hub(facts: &Facts<'_>, terms: &Terms) -> Vec<String> {
    let policy = terms.allocation.unwrap_or(facts.allocation);
    let folded = facts.id.folded();
    let applicant = Applicant {
        registration_id: &folded,
        region: "",
    };
    let certain = matches!(policy, AllocationPolicy::Hashed | AllocationPolicy::Static);
    let chosen = choose(policy, applicant, facts.linked, &terms.hubs, facts.regions);
    let chosen = chosen.ok().filter(|_| certain).map(|hub| hub.host);
    let (hubs, more) = weigh(
        policy,
        applicant,
        facts.linked,
        &terms.hubs,
        facts.regions,
        chosen,
    );
    let custom = terms.custom.as_ref();
    let webhook = custom.map(|custom| azimuth_webhook::masked(&custom.definition.webhook_url));
    let allocation = Allocation {
        policy,
        of_service: terms.allocation.is_none(),
        region: None,
        webhook,
        hubs,
        more,
        chosen: None,
    };
    let mut lines = vec![format!(
        "Allocation is {}: {}.",
        policy.name(),
        allocation::meaning(&allocation)
    )];
    if let Some(chosen) = chosen {
        lines.push(format!("It would get {chosen}."));
        return lines;
    }
    let open = allocation.hubs.iter().filter(|hub| hub.excluded.is_none());
    let open: Few = open.map(|hub| &hub.host).collect();
    lines.push(match open.is_empty() {
        true => "No hub could be chosen: it would fail with 401001, IoTHub not found.".into(),
        false => format!("It would get one of {open}."),
    });
    lines
}

const DISABLED: &str =
    "It is disabled: the device would be answered `disabled`, with status 200, and get no hub.";
