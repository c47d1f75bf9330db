//! Connection strings: of a hub policy, a device, a module, and a DPS policy.
//!
//! `Debug` shows no key.

use std::fmt;
use std::str::FromStr;

use crate::device_id::{DeviceId, Identity, InvalidId};
use crate::key::{InvalidKey, SymmetricKey};

/// What a connection string says, whichever kind it is.
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectionString {
    pub host_name: String,
    pub gateway_host_name: Option<String>,
    /// `DeviceId` and `ModuleId`, for devices and modules.
    pub identity: Option<Identity>,
    /// `SharedAccessKeyName`, for policies.
    pub key_name: Option<String>,
    /// `SharedAccessKey`; absent with X.509.
    pub key: Option<SymmetricKey>,
    /// `x509=true`.
    pub x509: bool,
}

/// Why a text is not a connection string. Never repeats a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidConnectionString {
    #[error("`{0}` is not `Name=Value`; parts are separated by `;`")]
    Part(String),
    #[error(
        "`{0}` is not a member of a connection string; known are HostName, GatewayHostName, DeviceId, ModuleId, SharedAccessKeyName, SharedAccessKey, x509"
    )]
    Unknown(String),
    #[error("`{0}` stands twice")]
    Repeated(String),
    #[error("`{0}` is missing")]
    Missing(&'static str),
    #[error(transparent)]
    Key(#[from] InvalidKey),
    #[error(transparent)]
    Id(#[from] InvalidId),
}

impl ConnectionString {
    /// Of a policy, of a hub or of a DPS.
    pub fn policy(host_name: &str, key_name: &str, key: SymmetricKey) -> Self {
        Self {
            host_name: host_name.into(),
            gateway_host_name: None,
            identity: None,
            key_name: Some(key_name.into()),
            key: Some(key),
            x509: false,
        }
    }

    /// Of a device or module with a symmetric key.
    pub fn device(host_name: &str, identity: Identity, key: SymmetricKey) -> Self {
        Self {
            host_name: host_name.into(),
            gateway_host_name: None,
            identity: Some(identity),
            key_name: None,
            key: Some(key),
            x509: false,
        }
    }

    /// The text with its key, for start-up output and clients. Never for a log.
    pub fn reveal(&self) -> String {
        let mut text = format!("HostName={}", self.host_name);
        let mut add = |name: &str, value: &str| {
            text.push(';');
            text.push_str(name);
            text.push('=');
            text.push_str(value);
        };
        if let Some(gateway) = &self.gateway_host_name {
            add("GatewayHostName", gateway);
        }
        if let Some(identity) = &self.identity {
            add("DeviceId", identity.device.as_str());
            if let Some(module) = &identity.module {
                add("ModuleId", module.as_str());
            }
        }
        if let Some(name) = &self.key_name {
            add("SharedAccessKeyName", name);
        }
        if let Some(key) = &self.key {
            add("SharedAccessKey", key.reveal());
        }
        if self.x509 {
            add("x509", "true");
        }
        text
    }
}

impl FromStr for ConnectionString {
    type Err = InvalidConnectionString;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const NAMES: [&str; 7] = [
            "HostName",
            "GatewayHostName",
            "DeviceId",
            "ModuleId",
            "SharedAccessKeyName",
            "SharedAccessKey",
            "x509",
        ];
        let mut values: [Option<&str>; 7] = [None; 7];
        for part in text
            .trim()
            .split(';')
            .filter(|part| !part.trim().is_empty())
        {
            let Some((name, value)) = part.split_once('=') else {
                return Err(InvalidConnectionString::Part(
                    part.chars().take(20).collect(),
                ));
            };
            let slot = NAMES
                .iter()
                .position(|known| known.eq_ignore_ascii_case(name.trim()));
            let slot = slot
                .ok_or_else(|| InvalidConnectionString::Unknown(name.chars().take(40).collect()))?;
            if values[slot].replace(value.trim()).is_some() {
                return Err(InvalidConnectionString::Repeated(NAMES[slot].into()));
            }
        }
        let [host, gateway, device, module, key_name, key, x509] = values;
        let identity = match (device, module) {
            (Some(device), module) => Some(Identity {
                device: device.parse()?,
                module: module.map(str::parse).transpose()?,
            }),
            (None, Some(_)) => return Err(InvalidConnectionString::Missing("DeviceId")),
            (None, None) => None,
        };
        let host_name = host
            .filter(|host| !host.is_empty())
            .ok_or(InvalidConnectionString::Missing("HostName"))?;
        let x509 = x509.is_some_and(|value| value.eq_ignore_ascii_case("true"));
        if key.is_none() && !x509 {
            return Err(InvalidConnectionString::Missing("SharedAccessKey"));
        }
        if identity.is_none() && key_name.is_none() {
            return Err(InvalidConnectionString::Missing(
                "SharedAccessKeyName or DeviceId",
            ));
        }
        Ok(Self {
            host_name: host_name.into(),
            gateway_host_name: gateway.map(Into::into),
            identity,
            key_name: key_name.map(Into::into),
            key: key.map(str::parse).transpose()?,
            x509,
        })
    }
}

impl fmt::Debug for ConnectionString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionString")
            .field("host_name", &self.host_name)
            .field("identity", &self.identity)
            .field("key_name", &self.key_name)
            .finish_non_exhaustive()
    }
}

/// The device of a connection string that must name one.
impl ConnectionString {
    pub fn device_id(&self) -> Option<&DeviceId> {
        self.identity.as_ref().map(|identity| &identity.device)
    }
}
