//! Which enrollment took a device, which were passed over, and what of it the device's proof fits.

use azimuth_wire::EnrollmentGroupId;

use super::Facts;
use crate::attempt::{Attempt, CertificateProof, Few, Known, Proof, TokenProof};

/// The enrollment that decided, and those that did not.
pub fn chosen(
    facts: &Facts<'_>,
    attempt: &Attempt,
    group: Option<&EnrollmentGroupId>,
) -> Vec<String> {
    let id = facts.id;
    let mut lines = Vec::new();
    match (&attempt.proof, group) {
        (_, None) => lines.push(format!(
            "The individual enrollment {id} decided alone: where there is one, groups are not tried."
        )),
        (Proof::Token(proof), Some(group)) => {
            lines.push(format!(
                "There was no individual enrollment {id}, so the groups with symmetric keys were tried in the order of their ids."
            ));
            lines.extend(passed(proof));
            lines.push(format!("The enrollment group {group} took the device."));
        }
        (Proof::Certificate(proof), Some(group)) => {
            lines.push(format!(
                "There was no individual enrollment {id}, so the chain was followed up to the first certificate with a group."
            ));
            lines.extend(met(proof, group));
        }
        // There are no groups of TPMs.
        (Proof::Tpm, _) => {}
    }
    lines.extend(since(facts, group));
    lines
}

fn passed(proof: &TokenProof) -> Option<String> {
    let passed = &proof.passed;
    let sentence = || format!("Passed over, since no key derived from theirs signed: {passed}.");
    (!passed.is_empty()).then(sentence)
}

fn met(proof: &CertificateProof, group: &EnrollmentGroupId) -> Vec<String> {
    let Known::Group { at, above, .. } = &proof.known else {
        return Vec::new();
    };
    let names = &proof.path.names;
    let mut lines = Vec::new();
    let below: Few = names.iter().take(*at).collect();
    if !below.is_empty() {
        lines.push(format!("Met without a group: {below}."));
    }
    let subject = names.get(*at).map_or("a certificate", String::as_str);
    lines.push(format!(
        "The enrollment group {group} is anchored at {subject}, and decided."
    ));
    if !above.is_empty() {
        lines.push(format!(
            "Not asked, since the nearest to the device decides: {above}."
        ));
    }
    lines
}

/// What changed since then.
fn since(facts: &Facts<'_>, group: Option<&EnrollmentGroupId>) -> Option<String> {
    let is_here = match group {
        None => facts.individual.is_some(),
        Some(id) => {
            let mut groups = facts.groups.iter();
            groups.any(|group| group.enrollment_group_id == *id)
        }
    };
    let sentence = match (is_here, group, facts.individual) {
        (false, _, _) => "It was deleted since: the device will not be let in by it again.",
        (true, Some(_), Some(_)) => {
            "There is an individual enrollment now, which will decide the next time."
        }
        (true, _, _) => return None,
    };
    Some(sentence.into())
}

/// What the device proved, and with what.
pub fn attestation(
    facts: &Facts<'_>,
    attempt: &Attempt,
    group: Option<&EnrollmentGroupId>,
) -> Vec<String> {
    let id = facts.id;
    match &attempt.proof {
        Proof::Token(proof) => {
            let key = proof.key.name();
            let sentence = match group {
                None => {
                    format!("The token is signed with the {key} key of the individual enrollment.")
                }
                Some(_) => {
                    let folded = id.folded();
                    let over = if proof.lower_case {
                        folded.as_str()
                    } else {
                        id.as_str()
                    };
                    format!(
                        "The token is signed with base64(HMAC-SHA256({key} key of the group, \"{over}\")), the key derived for this device."
                    )
                }
            };
            vec![sentence]
        }
        Proof::Certificate(proof) => certificate(proof),
        Proof::Tpm => vec![
            "The token is signed with the key of a challenge, which only the TPM with the enrolled endorsement key could unwrap."
                .into(),
        ],
    }
}

fn certificate(proof: &CertificateProof) -> Vec<String> {
    let leaf = proof.path.names.first().map_or("", String::as_str);
    let mut chain = proof.path.names.join(" < ");
    if proof.path.more > 0 {
        chain.push_str(&format!(" < {} more", proof.path.more));
    }
    let mut lines = match &proof.known {
        Known::Leaf(slot) => vec![format!(
            "{leaf} is the {} certificate of the individual enrollment.",
            slot.name()
        )],
        Known::CaCertificate(ca) => vec![
            format!("Each certificate is signed by the next: {chain}."),
            format!("The last is the CA certificate `{ca}`, to which the enrollment refers."),
        ],
        Known::Group { ca, .. } => vec![
            format!("Each certificate is signed by the next: {chain}."),
            format!(
                "The last is the CA certificate `{ca}`, whose owner has proven to hold its key."
            ),
        ],
    };
    lines.push("The device proved in the TLS handshake that it holds the key of its own.".into());
    lines
}
