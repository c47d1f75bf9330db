//! Which enrollment took a device, which were passed over, and what of it the device's proof fits.

use std::borrow::Cow;

use super::Facts;
use crate::attempt::{Attempt, CertificateProof, Few, Known, Proof, TokenProof};
use crate::registration::Record;

/// The enrollment that took a device.
pub enum Taken<'a> {
    Individual,
    Group(Cow<'a, str>),
    /// A group whose name is not known.
    SomeGroup,
}

impl<'a> Taken<'a> {
    pub fn by_record(record: Option<&'a Record>) -> Self {
        match record.and_then(|record| record.group.as_ref()) {
            Some(group) => Self::Group(group.as_str().into()),
            None => Self::Individual,
        }
    }

    /// Of a registration that is under way, which takes seconds: enrollments are as they were.
    pub fn by_now(facts: &Facts<'a>) -> Self {
        match (facts.individual, facts.groups) {
            (Some(_), _) => Self::Individual,
            (None, [only]) => Self::Group(only.enrollment_group_id.as_str().into()),
            (None, _) => Self::SomeGroup,
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Individual => "the individual enrollment".into(),
            Self::Group(group) => format!("the enrollment group {group}"),
            Self::SomeGroup => "its enrollment group".into(),
        }
    }
}

/// The enrollment that decided, and those that did not.
pub fn chosen(facts: &Facts<'_>, attempt: &Attempt, taken: &Taken<'_>) -> Vec<String> {
    let id = facts.id;
    let mut lines = Vec::new();
    match (&attempt.proof, taken) {
        (_, Taken::Individual) => lines.push(format!(
            "The individual enrollment {id} decided alone: where there is one, groups are not tried."
        )),
        (Proof::Token(proof), _) => {
            lines.push(format!(
                "There was no individual enrollment {id}, so the groups with symmetric keys were tried by their ids."
            ));
            lines.extend(passed(proof));
            lines.push(format!("{} took the device.", capital(&taken.name())));
        }
        (Proof::Certificate(proof), _) => {
            lines.push(format!(
                "There was no individual enrollment {id}, so the chain was followed up to the first certificate with a group."
            ));
            lines.extend(met(proof, taken));
        }
        // There are no groups of TPMs.
        (Proof::Tpm, _) => {}
    }
    lines.extend(since(facts, taken));
    lines
}

fn passed(proof: &TokenProof) -> Option<String> {
    let passed = &proof.passed;
    let sentence = || format!("Passed over, since no key derived from theirs signed: {passed}.");
    (!passed.is_empty()).then(sentence)
}

fn met(proof: &CertificateProof, taken: &Taken<'_>) -> Vec<String> {
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
    let group = capital(&taken.name());
    lines.push(format!("{group} is anchored at {subject}, and decided."));
    if !above.is_empty() {
        lines.push(format!(
            "Not asked, since the nearest to the device decides: {above}."
        ));
    }
    lines
}

/// What changed since then.
fn since(facts: &Facts<'_>, taken: &Taken<'_>) -> Option<String> {
    let is_here = match taken {
        Taken::Individual => facts.individual.is_some(),
        Taken::SomeGroup => true,
        Taken::Group(id) => {
            let mut groups = facts.groups.iter();
            groups.any(|group| group.enrollment_group_id.as_str().eq_ignore_ascii_case(id))
        }
    };
    let sentence = match (is_here, taken, facts.individual) {
        (false, _, _) => "It was deleted since: the device will not be let in by it again.",
        (true, Taken::Group(_) | Taken::SomeGroup, Some(_)) => {
            "There is an individual enrollment now, which will decide the next time."
        }
        (true, _, _) => return None,
    };
    Some(sentence.into())
}

/// What the device proved, and with what.
pub fn attestation(facts: &Facts<'_>, attempt: &Attempt, taken: &Taken<'_>) -> Vec<String> {
    let id = facts.id;
    match &attempt.proof {
        Proof::Token(proof) => {
            let key = proof.key.name();
            let sentence = match taken {
                Taken::Individual => {
                    format!("The token is signed with the {key} key of the individual enrollment.")
                }
                Taken::Group(_) | Taken::SomeGroup => {
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

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}
