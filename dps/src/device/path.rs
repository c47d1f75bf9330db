//! The paths of the device API over HTTPS: `/{idScope}/registrations/{registrationId}…`.
//!
//! Names compare without regard to case; ids are percent-decoded, for some clients escape them.

use azimuth_wire::{IdScope, percent};

/// What a device asks for, about which registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevicePath {
    pub id_scope: IdScope,
    pub registration_id: String,
    pub asked: Asked,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    Register,
    Operation(String),
    Lookup,
}

impl DevicePath {
    /// Reads the path of a URL, without its query. `None` is a path of the service API, or of nobody.
    pub fn parse(path: &str) -> Option<Self> {
        let path = path.strip_prefix('/')?;
        let path = path.strip_suffix('/').unwrap_or(path);
        let segments: Vec<_> = path.split('/').collect();
        let [scope, registrations, id, rest @ ..] = segments.as_slice() else {
            return None;
        };
        let named = |name: &&str| scope.eq_ignore_ascii_case(name);
        if SERVICE_COLLECTIONS.iter().any(named) || !is(registrations, "registrations") {
            return None;
        }
        let asked = match rest {
            [] => Asked::Lookup,
            [register] if is(register, "register") => Asked::Register,
            [operations, id] if is(operations, "operations") => {
                Asked::Operation(percent::decode(id).into_owned())
            }
            _ => return None,
        };
        Some(Self {
            id_scope: scope.parse().ok()?,
            registration_id: percent::decode(id).into_owned(),
            asked,
        })
    }
}

fn is(segment: &str, name: &str) -> bool {
    segment.eq_ignore_ascii_case(name)
}

/// An enrollment may be called `registrations`; no id scope is called like these.
const SERVICE_COLLECTIONS: [&str; 4] = [
    "enrollments",
    "enrollmentGroups",
    "registrations",
    "azimuth",
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn paths_are_read_as_clients_write_them() {
        let path = |id: &str, asked| {
            Some(DevicePath {
                id_scope: "0ne00002193".parse().unwrap(),
                registration_id: id.into(),
                asked,
            })
        };
        let operation = "5.316aac5bdc130deb.b1e02da8-c3a0-4ff2-a121-7ea7a6b7f550";
        for (text, expected) in [
            (
                "/0ne00002193/registrations/dev-1/register",
                path("dev-1", Asked::Register),
            ),
            (
                "/0NE00002193/Registrations/a%3Ab/Register/",
                path("a:b", Asked::Register),
            ),
            ("/0ne00002193/registrations/a:b", path("a:b", Asked::Lookup)),
            (
                &format!("/0ne00002193/registrations/a/operations/{operation}"),
                path("a", Asked::Operation(operation.into())),
            ),
            ("/0ne00002193/registrations/a/operations", None),
            ("/0ne00002193/registrations/a/register/b", None),
            ("/0ne00002193/registrations", None),
            ("/0ne_/registrations/a/register", None),
            ("/enrollments/registrations/attestationmechanism", None),
            ("/enrollmentGroups/registrations/attestationmechanism", None),
            ("/registrations/registrations/query", None),
            ("/registrations/a", None),
            ("/", None),
        ] {
            assert_eq!(DevicePath::parse(text), expected, "{text}");
        }
    }
}
