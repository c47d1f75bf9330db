//! Identities of an IoT hub: devices and their modules.
//!
//! Ids are case-sensitive and never percent-decoded inside topics and user names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not a device or module id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a valid id: 1 to 128 characters from A-Z a-z 0-9 - : . + % _ # * ? ! ( ) , = @ $ ' ;"
)]
pub struct InvalidId(pub String);

/// The name of a device in its hub.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceId(Box<str>);

/// The name of a module on its device.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModuleId(Box<str>);

/// Who can be on the line of a hub: a device, or a module of a device.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    pub device: DeviceId,
    pub module: Option<ModuleId>,
}

impl Identity {
    pub fn device(device: DeviceId) -> Self {
        Self {
            device,
            module: None,
        }
    }

    /// A module's device; a device is its own.
    pub fn of_device(&self) -> Self {
        Self::device(self.device.clone())
    }
}

/// `device` or `device/module`, the MQTT client id of the identity.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.module {
            Some(module) => write!(f, "{}/{}", self.device, module),
            None => write!(f, "{}", self.device),
        }
    }
}

fn checked(text: &str) -> Result<Box<str>, InvalidId> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-:.+%_#*?!(),=@$';".contains(&byte);
    if (1..=128).contains(&text.len()) && text.bytes().all(legal) {
        Ok(text.into())
    } else {
        Err(InvalidId(text.chars().take(140).collect()))
    }
}

macro_rules! id {
    ($name:ident) => {
        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                checked(text).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
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

id!(DeviceId);
id!(ModuleId);
