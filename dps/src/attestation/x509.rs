//! X.509: a leaf that is enrolled itself, or a chain that leads past a group to a verified CA.
//!
//! The order of Azure's lookup: an individual enrollment decides alone; only without one are the groups
//! looked at, from the leaf upwards, and the first group met decides. Whether it is disabled is looked at
//! afterwards. That the device holds the leaf's key was proven in the TLS handshake.

use std::sync::Arc;
use std::time::SystemTime;

use azimuth_certs::{Ca, Certificate, Refusal, Thumbprint, helpers, path_to_anchor};
use azimuth_wire::enrollment::{AttestationKind, EnrollmentGroup, IndividualEnrollment};
use azimuth_wire::{EnrollmentGroupId, RegistrationId};

use super::anchor::Anchor;
use crate::attempt::{CertificateProof, Few, Known};
use crate::enrollment::x509::{ca_references, client_certificates};

/// What a device showed, and when.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    pub registration_id: &'a RegistrationId,
    /// Leaf first.
    pub chain: &'a [Certificate],
    pub now: SystemTime,
}

/// A chain that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Of the leaf, by which the hub will know it.
    pub thumbprint: Thumbprint,
    /// The first of its certificates ends then.
    pub until: SystemTime,
    pub proof: CertificateProof,
}

/// Why a chain was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejection {
    /// The leaf's common name is not the registration id.
    CommonName { found: Option<String> },
    /// The individual enrollment wants another kind of proof.
    OtherKind { kind: &'static str },
    /// The individual enrollment holds other certificates.
    NotEnrolled {
        shown: Thumbprint,
        enrolled: Vec<Thumbprint>,
    },
    /// The individual enrollment refers to a CA certificate that the service does not have.
    NoSuchCa { name: String },
    /// A date, a signature, or an authority that is none; or the chain ends before any CA.
    Chain(Refusal),
    /// The chain leads to a CA certificate whose owner has not proven possession.
    Unverified { name: String },
    /// The chain passes a group, but above it no CA certificate of the service is reached.
    NoCaAbove {
        group: EnrollmentGroupId,
        refusal: Refusal,
    },
    /// The chain leads to a verified CA, but past no group.
    NoGroup { ca: String, passed: Vec<String> },
}

/// Holds a chain against the individual enrollment of its registration id.
pub fn individual(
    shown: Shown<'_>,
    enrollment: &IndividualEnrollment,
    cas: &[Ca],
) -> Result<Accepted, Rejection> {
    let leaf = leaf(shown)?;
    let attestation = &enrollment.attestation;
    let kind = match attestation.kind {
        AttestationKind::X509 => "",
        AttestationKind::SymmetricKey => "a SAS token made with its symmetric key",
        AttestationKind::Tpm => "a TPM",
        AttestationKind::None => "nothing at all",
    };
    if !kind.is_empty() {
        return Err(Rejection::OtherKind { kind });
    }
    let names = ca_references(attestation);
    if !names.is_empty() {
        return referred(shown, leaf, &names, cas);
    }
    let enrolled = client_certificates(attestation);
    let Some((slot, found)) = enrolled.iter().find(|(_, enrolled)| enrolled == leaf) else {
        return Err(Rejection::NotEnrolled {
            shown: leaf.sha256(),
            enrolled: enrolled.iter().map(|(_, one)| one.sha256()).collect(),
        });
    };
    // A path of one: the leaf's own dates are all that is left to look at.
    let path = path_to_anchor(leaf, &[], &[found], shown.now).map_err(Rejection::Chain)?;
    Ok(accepted(&path, Known::Leaf(*slot)))
}

fn referred(
    shown: Shown<'_>,
    leaf: &Certificate,
    names: &[&str],
    cas: &[Ca],
) -> Result<Accepted, Rejection> {
    let helpers = helpers(shown.chain, &[], cas);
    let mut last = None;
    for name in names {
        let ca = cas.iter().find(|ca| ca.name.eq_ignore_ascii_case(name));
        let why = match ca {
            None => Rejection::NoSuchCa {
                name: (*name).to_owned(),
            },
            Some(ca) => match path_to_anchor(leaf, &helpers, &[&ca.certificate], shown.now) {
                Err(refusal) => Rejection::Chain(refusal),
                Ok(_) if !ca.verified => Rejection::Unverified {
                    name: ca.name.clone(),
                },
                Ok(path) => return Ok(accepted(&path, Known::CaCertificate(ca.name.clone()))),
            },
        };
        last = last.or(Some(why));
    }
    Err(last.unwrap_or(Rejection::Chain(Refusal::Nothing)))
}

/// Holds a chain against all groups: the one nearest to the leaf decides.
pub fn group(
    shown: Shown<'_>,
    anchors: &[Anchor],
    cas: &[Ca],
) -> Result<(Arc<EnrollmentGroup>, Accepted), Rejection> {
    let leaf = leaf(shown)?;
    let embedded: Vec<&Certificate> = anchors.iter().flat_map(|anchor| &anchor.embedded).collect();
    let helpers = helpers(shown.chain, &embedded, cas);
    let mut nearest: Option<Nearest<'_>> = None;
    let mut past_no_group = None;
    for ca in cas.iter().filter(|ca| ca.verified) {
        let Ok(path) = path_to_anchor(leaf, &helpers, &[&ca.certificate], shown.now) else {
            continue;
        };
        match first_group(&path, anchors, cas) {
            Some((at, group)) => {
                if nearest.as_ref().is_none_or(|nearest| at < nearest.at) {
                    nearest = Some(Nearest {
                        at,
                        group,
                        ca,
                        path,
                    });
                }
            }
            None => past_no_group = past_no_group.or(Some((ca, path))),
        }
    }
    if let Some(Nearest {
        at,
        group,
        ca,
        path,
    }) = nearest
    {
        let known = Known::Group {
            at,
            ca: ca.name.clone(),
            above: above(at, group, &path, anchors, cas),
        };
        return Ok((group.clone(), accepted(&path, known)));
    }
    Err(match past_no_group {
        Some((ca, path)) => Rejection::NoGroup {
            ca: ca.name.clone(),
            passed: path
                .iter()
                .map(|one| one.subject_name().to_owned())
                .collect(),
        },
        None => why_no_path(shown, leaf, &helpers, anchors, cas),
    })
}

fn first_group<'a>(
    path: &[&Certificate],
    anchors: &'a [Anchor],
    cas: &[Ca],
) -> Option<(usize, &'a Arc<EnrollmentGroup>)> {
    path.iter().enumerate().find_map(|(at, certificate)| {
        let found = anchors.iter().find(|anchor| anchor.is_at(certificate, cas));
        found.map(|anchor| (at, &anchor.group))
    })
}

/// The group met first on the way to a verified CA.
struct Nearest<'a> {
    at: usize,
    group: &'a Arc<EnrollmentGroup>,
    ca: &'a Ca,
    path: Vec<&'a Certificate>,
}

/// Groups that the path passes behind the one that decides, or at the same certificate.
fn above(
    at: usize,
    nearest: &Arc<EnrollmentGroup>,
    path: &[&Certificate],
    anchors: &[Anchor],
    cas: &[Ca],
) -> Few {
    let others = anchors
        .iter()
        .filter(|anchor| !Arc::ptr_eq(&anchor.group, nearest));
    let passed = others.filter(|anchor| path[at..].iter().any(|one| anchor.is_at(one, cas)));
    passed
        .map(|anchor| anchor.group.enrollment_group_id.as_str())
        .collect()
}

/// The path that would have been, to say what is missing on it.
fn why_no_path(
    shown: Shown<'_>,
    leaf: &Certificate,
    helpers: &[&Certificate],
    anchors: &[Anchor],
    cas: &[Ca],
) -> Rejection {
    let leads_to = |anchor| path_to_anchor(leaf, helpers, &[anchor], shown.now).is_ok();
    let mut unverified = cas.iter().filter(|ca| !ca.verified);
    if let Some(ca) = unverified.find(|ca| leads_to(&ca.certificate)) {
        let name = ca.name.clone();
        return Rejection::Unverified { name };
    }
    let verified = cas.iter().filter(|ca| ca.verified);
    let verified: Vec<_> = verified.map(|ca| &ca.certificate).collect();
    let refusal = match path_to_anchor(leaf, helpers, &verified, shown.now) {
        Err(refusal) => refusal,
        Ok(_) => Refusal::Nothing,
    };
    let passed = anchors
        .iter()
        .find(|anchor| anchor.embedded.iter().any(leads_to));
    match passed {
        Some(anchor) => Rejection::NoCaAbove {
            group: anchor.group.enrollment_group_id.clone(),
            refusal,
        },
        None => Rejection::Chain(refusal),
    }
}

fn leaf(shown: Shown<'_>) -> Result<&Certificate, Rejection> {
    let leaf = shown.chain.first();
    let leaf = leaf.ok_or(Rejection::Chain(Refusal::Nothing))?;
    match names(leaf, shown.registration_id) {
        true => Ok(leaf),
        false => Err(Rejection::CommonName {
            found: leaf.common_name().map(str::to_owned),
        }),
    }
}

/// Whether a leaf is one for this registration id: ids compare without regard to case.
pub fn names(leaf: &Certificate, id: &RegistrationId) -> bool {
    let name = leaf.common_name();
    name.is_some_and(|name| name.eq_ignore_ascii_case(id.as_str()))
}

fn accepted(path: &[&Certificate], known: Known) -> Accepted {
    let ends = path.iter().map(|one| one.validity().not_after);
    Accepted {
        thumbprint: Thumbprint::sha256(path.first().map_or(&[], |leaf| leaf.der())),
        until: ends.min().unwrap_or(SystemTime::UNIX_EPOCH),
        proof: CertificateProof {
            path: path
                .iter()
                .map(|one| one.subject_name().to_owned())
                .collect(),
            known,
        },
    }
}

#[cfg(test)]
mod tests;
