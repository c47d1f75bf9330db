//! Static allocation: the one hub the enrollment names.

use super::Candidate;

pub(super) fn choose<'a>(candidates: &[Candidate<'a>]) -> Option<Candidate<'a>> {
    match candidates {
        [only] => Some(*only),
        _ => None,
    }
}
