//! Names in a Device Provisioning Service: registrations, enrollment groups and the id scope.
//!
//! Compared without regard to case, shown as they were first written.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not a registration or enrollment group id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a valid registration id: 1 to 128 characters from A-Z a-z 0-9 - . _ :, the last a letter, digit or dash"
)]
pub struct InvalidRegistrationId(pub String);

/// The name under which a device registers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RegistrationId(Box<str>);

/// The name of an enrollment group.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EnrollmentGroupId(Box<str>);

fn checked(text: &str) -> Result<Box<str>, InvalidRegistrationId> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    let last = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let ok = text.len() <= 128 && text.bytes().all(legal) && text.bytes().last().is_some_and(last);
    if ok {
        Ok(text.into())
    } else {
        Err(InvalidRegistrationId(text.chars().take(140).collect()))
    }
}

macro_rules! folded_id {
    ($name:ident) => {
        impl $name {
            /// As it was written.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Lower case: what keys of maps and stores are made of.
            pub fn folded(&self) -> String {
                self.0.to_ascii_lowercase()
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.0.eq_ignore_ascii_case(&other.0)
            }
        }

        impl Eq for $name {}

        impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                for byte in self.0.bytes() {
                    state.write_u8(byte.to_ascii_lowercase());
                }
            }
        }

        impl FromStr for $name {
            type Err = InvalidRegistrationId;

            fn from_str(text: &str) -> Result<Self, InvalidRegistrationId> {
                checked(text).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidRegistrationId;

            fn try_from(text: String) -> Result<Self, InvalidRegistrationId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

folded_id!(RegistrationId);
folded_id!(EnrollmentGroupId);

/// The id scope of a DPS: opaque letters and digits, compared without regard to case.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IdScope(Box<str>);

/// Why a text is not an id scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a valid id scope: letters and digits only, at most 32")]
pub struct InvalidIdScope(pub String);

impl IdScope {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PartialEq for IdScope {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for IdScope {}

impl FromStr for IdScope {
    type Err = InvalidIdScope;

    fn from_str(text: &str) -> Result<Self, InvalidIdScope> {
        let ok = (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric());
        if ok {
            Ok(Self(text.into()))
        } else {
            Err(InvalidIdScope(text.chars().take(40).collect()))
        }
    }
}

impl TryFrom<String> for IdScope {
    type Error = InvalidIdScope;

    fn try_from(text: String) -> Result<Self, InvalidIdScope> {
        text.parse()
    }
}

impl From<IdScope> for String {
    fn from(scope: IdScope) -> String {
        scope.0.into()
    }
}

impl fmt::Display for IdScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
