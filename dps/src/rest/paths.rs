//! The paths of the service API. Names compare without regard to case; ids are percent-decoded.

use azimuth_wire::percent;

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Path {
    Enrollment(String),
    EnrollmentKeys(String),
    Group(String),
    GroupKeys(String),
    Registration(String),
    /// Query and bulk, of any collection.
    Collection,
    Refusals,
    LinkedHubs,
    /// By host name.
    LinkedHub(String),
    CaCertificates,
    /// By name.
    CaCertificate(String),
    /// A new verification code for the one of this name.
    CaCertificateCode(String),
    /// The proof for the one of this name.
    CaCertificateProof(String),
}

impl Path {
    /// Reads the path of a URL, without its query.
    pub fn parse(path: &str) -> Option<Self> {
        let path = path.strip_prefix('/')?;
        let path = path.strip_suffix('/').unwrap_or(path);
        let segments: Vec<_> = path.split('/').collect();
        let [collection, rest @ ..] = segments.as_slice() else {
            return None;
        };
        let last = |name: &str| {
            rest.last()
                .is_some_and(|last| last.eq_ignore_ascii_case(name))
        };
        let id = |at: usize| rest.get(at).map(|id| percent::decode(id).into_owned());
        let shape = (collection.to_ascii_lowercase(), rest.len());
        match (shape.0.as_str(), shape.1) {
            ("enrollments" | "enrollmentgroups", 0) => Some(Self::Collection),
            ("enrollments" | "enrollmentgroups", 1) if last("query") => Some(Self::Collection),
            ("enrollments", 1) => id(0).map(Self::Enrollment),
            ("enrollmentgroups", 1) => id(0).map(Self::Group),
            ("enrollments", 2) if last("attestationmechanism") => id(0).map(Self::EnrollmentKeys),
            ("enrollmentgroups", 2) if last("attestationmechanism") => id(0).map(Self::GroupKeys),
            ("registrations", 1) => id(0).map(Self::Registration),
            ("registrations", 2) if last("query") => Some(Self::Collection),
            ("azimuth", 1) if last("refusals") => Some(Self::Refusals),
            ("azimuth", 1) if last("linkedhubs") => Some(Self::LinkedHubs),
            ("azimuth", 1) if last("certificates") => Some(Self::CaCertificates),
            ("azimuth", 2) if rest[0].eq_ignore_ascii_case("certificates") => {
                id(1).map(Self::CaCertificate)
            }
            ("azimuth", 3) if rest[0].eq_ignore_ascii_case("certificates") => {
                if last("generateverificationcode") {
                    id(1).map(Self::CaCertificateCode)
                } else if last("verify") {
                    id(1).map(Self::CaCertificateProof)
                } else {
                    None
                }
            }
            ("azimuth", 2) if rest[0].eq_ignore_ascii_case("linkedhubs") => {
                id(1).map(Self::LinkedHub)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_as_clients_write_them() {
        let id = || "a:b".to_owned();
        for (path, expected) in [
            ("/enrollments/a%3Ab", Some(Path::Enrollment(id()))),
            ("/Enrollments/a:b/", Some(Path::Enrollment(id()))),
            (
                "/enrollmentgroups/a:b/attestationMechanism",
                Some(Path::GroupKeys(id())),
            ),
            (
                "/enrollments/a:b/attestationmechanism",
                Some(Path::EnrollmentKeys(id())),
            ),
            ("/enrollmentGroups/a:b", Some(Path::Group(id()))),
            ("/registrations/a:b", Some(Path::Registration(id()))),
            ("/registrations/a:b/query", Some(Path::Collection)),
            ("/enrollments/", Some(Path::Collection)),
            ("/enrollments/query", Some(Path::Collection)),
            ("/azimuth/refusals", Some(Path::Refusals)),
            ("/azimuth/linkedHubs", Some(Path::LinkedHubs)),
            (
                "/azimuth/linkedhubs/h.net",
                Some(Path::LinkedHub("h.net".into())),
            ),
            (
                "/azimuth/certificates/a%3Ab",
                Some(Path::CaCertificate(id())),
            ),
            (
                "/azimuth/certificates/a:b/generateVerificationCode",
                Some(Path::CaCertificateCode(id())),
            ),
            (
                "/azimuth/certificates/a:b/verify",
                Some(Path::CaCertificateProof(id())),
            ),
            ("/azimuth/certificates/a:b/other", None),
            ("/azimuth/others/h.net", None),
            ("/", None),
            ("/registrations", None),
            ("/enrollments/a/b", None),
        ] {
            assert_eq!(Path::parse(path), expected, "{path}");
        }
    }
}
