//! From a leaf to a trusted certificate: signature by signature, at a given time.
//!
//! Our own walk, because the hub's and the DPS's rules are Azure's, not a browser's: any certificate may
//! be an anchor (also an intermediate, also one of version 1), end certificates need no extended key
//! usage, no revocation lists are consulted. Name constraints are not enforced.

use std::time::SystemTime;

use crate::validity::utc_text;
use crate::{Certificate, Refusal};

/// The path from `chain`'s leaf (its first certificate) to one of `anchors`, both included, with the rest of
/// `chain` as the only helpers. See [`path_to_anchor`].
pub fn verify_chain<'a>(
    chain: &'a [Certificate],
    anchors: &'a [Certificate],
    now: SystemTime,
) -> Result<Vec<&'a Certificate>, Refusal> {
    let (leaf, helpers) = chain.split_first().ok_or(Refusal::Nothing)?;
    let helpers: Vec<&Certificate> = helpers.iter().collect();
    let anchors: Vec<&Certificate> = anchors.iter().collect();
    path_to_anchor(leaf, &helpers, &anchors, now)
}

/// The shortest-first path from `leaf` to one of `anchors`, both included.
///
/// Between the two stand `helpers`: what the client sent, and what the service holds. Every certificate must be
/// valid at `now`; every issuer must be an authority, except that an anchor is trusted as it is. A leaf that
/// is itself an anchor is a path of one. At most [`MOST_STEPS`] signatures are looked at, so that a
/// client's heap of look-alikes costs little.
pub fn path_to_anchor<'a>(
    leaf: &'a Certificate,
    helpers: &[&'a Certificate],
    anchors: &[&'a Certificate],
    now: SystemTime,
) -> Result<Vec<&'a Certificate>, Refusal> {
    let mut walk = Walk {
        helpers,
        anchors,
        now,
        path: Vec::new(),
        steps: 0,
        refusal: None,
    };
    if walk.climb(leaf) {
        return Ok(walk.path);
    }
    Err(walk
        .refusal
        .map_or(Refusal::Nothing, |(_, refusal)| refusal))
}

struct Walk<'w, 'a> {
    helpers: &'w [&'a Certificate],
    anchors: &'w [&'a Certificate],
    now: SystemTime,
    path: Vec<&'a Certificate>,
    steps: usize,
    /// The last word of the attempt that came furthest.
    refusal: Option<(usize, Refusal)>,
}

impl<'a> Walk<'_, 'a> {
    /// Puts `certificate` on the path and goes on from it; takes it off again if that leads nowhere.
    fn climb(&mut self, certificate: &'a Certificate) -> bool {
        if let Err(refusal) = self.admit(certificate) {
            return self.note(refusal);
        }
        self.path.push(certificate);
        if self.anchors.contains(&certificate) || self.climb_to_issuer(certificate) {
            return true;
        }
        self.path.pop();
        false
    }

    fn climb_to_issuer(&mut self, certificate: &'a Certificate) -> bool {
        let (anchors, helpers) = (self.anchors, self.helpers);
        let mut named = false;
        for issuer in anchors.iter().chain(helpers).copied() {
            if self.path.contains(&issuer) || !certificate.names_as_issuer(issuer) {
                continue;
            }
            named = true;
            self.steps += 1;
            if self.steps > MOST_STEPS {
                return self.note(Refusal::TooManySteps { limit: MOST_STEPS });
            }
            if !certificate.is_signed_by(issuer) {
                self.note(Refusal::WrongSignature {
                    subject: certificate.subject_name().to_owned(),
                    issuer: issuer.subject_name().to_owned(),
                });
                continue;
            }
            if self.climb(issuer) {
                return true;
            }
        }
        if named {
            return false;
        }
        let info = certificate.info();
        self.note(match certificate.is_self_issued() {
            true => Refusal::UntrustedRoot {
                subject: info.subject_name,
            },
            false => Refusal::IssuerUnknown {
                subject: info.subject_name,
                issuer: info.issuer_name,
            },
        })
    }

    fn admit(&self, certificate: &Certificate) -> Result<(), Refusal> {
        check_validity(certificate, self.now)?;
        if self.path.is_empty() {
            return Ok(());
        }
        let subject = || certificate.subject_name().to_owned();
        if let Some(because) = certificate.why_no_authority()
            && !self.anchors.contains(&certificate)
        {
            return Err(Refusal::IssuerNotAuthority {
                subject: subject(),
                because,
            });
        }
        // RFC 5280 §4.2.1.9: authorities that issued themselves do not count, nor does the leaf.
        let below = self.path.iter().skip(1);
        let found = below.filter(|one| !one.is_self_issued()).count();
        match certificate.path_length() {
            Some(allowed) if found > usize::try_from(allowed).unwrap_or(usize::MAX) => {
                Err(Refusal::PathTooLong {
                    subject: subject(),
                    allowed,
                    found,
                })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Always false, so that a caller can give up and say why in one word.
    fn note(&mut self, refusal: Refusal) -> bool {
        let depth = self.path.len();
        if self.refusal.as_ref().is_none_or(|(best, _)| depth >= *best) {
            self.refusal = Some((depth, refusal));
        }
        false
    }
}

pub(crate) fn check_validity(certificate: &Certificate, now: SystemTime) -> Result<(), Refusal> {
    let validity = certificate.validity();
    if validity.contains(now) {
        return Ok(());
    }
    let subject = certificate.subject_name().to_owned();
    let now_text = utc_text(now);
    Err(if now < validity.not_before {
        Refusal::NotYetValid {
            subject,
            not_before: utc_text(validity.not_before),
            now: now_text,
        }
    } else {
        Refusal::Expired {
            subject,
            not_after: utc_text(validity.not_after),
            now: now_text,
        }
    })
}

/// Signatures looked at for one leaf.
pub const MOST_STEPS: usize = 32;
