//! Where groups of certificates are anchored, read once: reading a certificate costs more than following a chain past it.

use std::sync::Arc;

use azimuth_certs::{Ca, Certificate};
use azimuth_wire::enrollment::{AttestationKind, EnrollmentGroup};

use crate::enrollment::x509::{ca_references, signing_certificates};

/// What a group is anchored at.
pub struct Anchor {
    pub group: Arc<EnrollmentGroup>,
    /// Authorities that the enrollment itself holds.
    pub embedded: Vec<Certificate>,
    /// CA certificates of the service, by name.
    references: Vec<String>,
}

impl Anchor {
    /// Of those groups whose devices show certificates.
    pub fn of_all(groups: &[Arc<EnrollmentGroup>]) -> Arc<[Self]> {
        groups.iter().filter_map(Self::of).collect()
    }

    fn of(group: &Arc<EnrollmentGroup>) -> Option<Self> {
        let attestation = &group.attestation;
        let names = || ca_references(attestation).into_iter().map(str::to_owned);
        (attestation.kind == AttestationKind::X509).then(|| Self {
            group: group.clone(),
            embedded: signing_certificates(attestation),
            references: names().collect(),
        })
    }

    pub fn is_at(&self, certificate: &Certificate, cas: &[Ca]) -> bool {
        let refers = |name: &String| {
            let mut named = cas.iter().filter(|ca| ca.name.eq_ignore_ascii_case(name));
            named.any(|ca| ca.certificate == *certificate)
        };
        self.embedded.contains(certificate) || self.references.iter().any(refers)
    }
}
