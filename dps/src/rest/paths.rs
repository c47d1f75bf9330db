//! The paths of the service API. Names compare without regard to case; ids are percent-decoded.

use axum::http::Method;
use azimuth_wire::percent;
use azimuth_wire::policy::DpsRights;

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Path {
    /// The collection itself: several at once.
    Enrollments,
    EnrollmentQuery,
    Enrollment(String),
    EnrollmentKeys(String),
    Groups,
    GroupQuery,
    Group(String),
    GroupKeys(String),
    /// A route that lacks its id.
    Registrations,
    Registration(String),
    /// By group.
    RegistrationQuery(String),
    Refusals,
    /// Why this registration is as it is.
    Why(String),
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
    /// Reads the path of a URL, without its query. A record may be called `query`: only POST asks.
    pub fn parse(method: &Method, path: &str) -> Option<Self> {
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
        let query = *method == Method::POST && last("query");
        let id = |at: usize| rest.get(at).map(|id| percent::decode(id).into_owned());
        let shape = (collection.to_ascii_lowercase(), rest.len());
        match (shape.0.as_str(), shape.1) {
            ("enrollments", 0) => Some(Self::Enrollments),
            ("enrollmentgroups", 0) => Some(Self::Groups),
            ("enrollments", 1) if query => Some(Self::EnrollmentQuery),
            ("enrollmentgroups", 1) if query => Some(Self::GroupQuery),
            ("enrollments", 1) => id(0).map(Self::Enrollment),
            ("enrollmentgroups", 1) => id(0).map(Self::Group),
            ("enrollments", 2) if last("attestationmechanism") => id(0).map(Self::EnrollmentKeys),
            ("enrollmentgroups", 2) if last("attestationmechanism") => id(0).map(Self::GroupKeys),
            ("registrations", 0) => Some(Self::Registrations),
            ("registrations", 1) => id(0).map(Self::Registration),
            ("registrations", 2) if last("query") => id(0).map(Self::RegistrationQuery),
            ("azimuth", 1) if last("refusals") => Some(Self::Refusals),
            ("azimuth", 3)
                if rest[0].eq_ignore_ascii_case("why")
                    && rest[1].eq_ignore_ascii_case("registrations") =>
            {
                id(2).map(Self::Why)
            }
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

    /// The rights of which one is enough, beside `ServiceConfig`, which opens everything.
    pub fn needs(&self, method: &Method) -> DpsRights {
        let reads = *method == Method::GET;
        match self {
            Self::EnrollmentQuery | Self::GroupQuery => ENROLLMENTS_READ,
            Self::Enrollment(_) | Self::Group(_) if reads => ENROLLMENTS_READ,
            Self::RegistrationQuery(_) => REGISTRATIONS_READ,
            Self::Registration(_) if reads => REGISTRATIONS_READ,
            Self::Registration(_) | Self::Registrations => DpsRights::RegistrationStatusWrite,
            Self::LinkedHubs
            | Self::LinkedHub(_)
            | Self::CaCertificates
            | Self::CaCertificate(_)
            | Self::CaCertificateCode(_)
            | Self::CaCertificateProof(_) => DpsRights::ServiceConfig,
            Self::Enrollments
            | Self::Enrollment(_)
            | Self::EnrollmentKeys(_)
            | Self::Groups
            | Self::Group(_)
            | Self::GroupKeys(_)
            | Self::Refusals
            | Self::Why(_) => DpsRights::EnrollmentWrite,
        }
    }
}

const ENROLLMENTS_READ: DpsRights = DpsRights::EnrollmentRead.and(DpsRights::EnrollmentWrite);
const REGISTRATIONS_READ: DpsRights =
    DpsRights::RegistrationStatusRead.and(DpsRights::RegistrationStatusWrite);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_as_clients_write_them() {
        let id = || "a:b".to_owned();
        for (path, expected) in [
            ("/enrollments/a%3Ab", Some(Path::Enrollment(id()))),
            ("/Enrollments/a:b/", Some(Path::Enrollment(id()))),
            ("/enrollments/a%2Fb", Some(Path::Enrollment("a/b".into()))),
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
            (
                "/registrations/a%3ab/query",
                Some(Path::RegistrationQuery(id())),
            ),
            ("/registrations", Some(Path::Registrations)),
            ("/enrollments/", Some(Path::Enrollments)),
            ("/enrollmentgroups", Some(Path::Groups)),
            ("/enrollments/query", Some(Path::EnrollmentQuery)),
            ("/enrollmentgroups/Query", Some(Path::GroupQuery)),
            ("/azimuth/refusals", Some(Path::Refusals)),
            ("/azimuth/why/registrations/a%3Ab", Some(Path::Why(id()))),
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
            ("/enrollments/a/b", None),
        ] {
            assert_eq!(Path::parse(&Method::POST, path), expected, "{path}");
        }
        let named = Path::Group("query".into());
        assert_eq!(
            Path::parse(&Method::GET, "/enrollmentGroups/query"),
            Some(named)
        );
    }

    #[test]
    fn each_route_needs_what_azure_asks() {
        for (method, path, rights) in [
            (
                Method::GET,
                "/enrollments/a",
                "EnrollmentRead, EnrollmentWrite",
            ),
            (
                Method::POST,
                "/enrollments/query",
                "EnrollmentRead, EnrollmentWrite",
            ),
            (Method::PUT, "/enrollments/a", "EnrollmentWrite"),
            (Method::DELETE, "/enrollmentGroups/a", "EnrollmentWrite"),
            (Method::POST, "/enrollments", "EnrollmentWrite"),
            (
                Method::POST,
                "/enrollmentGroups/a/attestationmechanism",
                "EnrollmentWrite",
            ),
            (
                Method::GET,
                "/registrations/a",
                "RegistrationStatusRead, RegistrationStatusWrite",
            ),
            (
                Method::POST,
                "/registrations/a/query",
                "RegistrationStatusRead, RegistrationStatusWrite",
            ),
            (
                Method::DELETE,
                "/registrations/a",
                "RegistrationStatusWrite",
            ),
            (Method::GET, "/azimuth/linkedHubs", "ServiceConfig"),
        ] {
            let needed = Path::parse(&method, path).map(|path| path.needs(&method).to_string());
            assert_eq!(needed.as_deref(), Some(rights), "{method} {path}");
        }
    }
}
