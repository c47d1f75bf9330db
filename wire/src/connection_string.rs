//! Connection strings: of a hub policy, a device, a module, and a DPS policy.
//!
//! `Debug` shows no key. Values end at `;`, so an id with a `;` in it cannot stand here, as with
//! Azure's own clients.

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

/// Why a text is not a connection string. Never repeats a key, nor what may be one: a part that
/// does not look like a name is shown by its place, as `part 2`.
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

    /// The device it names, if any.
    pub fn device_id(&self) -> Option<&DeviceId> {
        self.identity.as_ref().map(|identity| &identity.device)
    }

    /// The text with its key, for start-up output and clients. Never for a log.
    pub fn reveal(&self) -> String {
        self.text(SymmetricKey::reveal)
    }

    /// The text with `****` for its key, as Azure's management API shows it.
    pub fn masked(&self) -> String {
        self.text(|_| MASK)
    }

    fn text(&self, shown: impl Fn(&SymmetricKey) -> &str) -> String {
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
            add("SharedAccessKey", shown(key));
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
        for (position, part) in text.split(';').map(str::trim).enumerate() {
            if part.is_empty() {
                continue;
            }
            let Some((name, value)) = part.split_once('=') else {
                return Err(InvalidConnectionString::Part(showable(part, position)));
            };
            let known = NAMES
                .iter()
                .zip(&mut values)
                .find(|(known, _)| known.eq_ignore_ascii_case(name.trim()));
            let Some((known, slot)) = known else {
                return Err(InvalidConnectionString::Unknown(showable(name, position)));
            };
            if slot.replace(value.trim()).is_some() {
                return Err(InvalidConnectionString::Repeated((*known).into()));
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
        let filled = |value: &&str| !value.is_empty();
        let key_name = key_name.filter(filled);
        let host_name = host
            .filter(filled)
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
            gateway_host_name: gateway.filter(filled).map(Into::into),
            identity,
            key_name: key_name.map(Into::into),
            key: key.map(str::parse).transpose()?,
            x509,
        })
    }
}

/// What stands for a key that is not shown.
pub const MASK: &str = "****";

/// A name short and plain enough to be no key: base64 of 16 bytes has 22 characters before its `=`.
fn showable(name: &str, position: usize) -> String {
    let name = name.trim();
    if name.len() <= 21 && name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        name.into()
    } else {
        format!("part {}", position + 1)
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    fn refusal(text: &str) -> String {
        text.parse::<ConnectionString>().unwrap_err().to_string()
    }

    #[test]
    fn every_kind_reads_back_what_it_shows() {
        for text in [
            format!(
                "HostName=h.azure-devices.net;SharedAccessKeyName=iothubowner;SharedAccessKey={KEY}"
            ),
            format!("HostName=h.azure-devices.net;DeviceId=dev=1;SharedAccessKey={KEY}"),
            format!(
                "HostName=h.azure-devices.net;DeviceId=dev1;ModuleId=mod1;SharedAccessKey={KEY}"
            ),
            format!(
                "HostName=h;GatewayHostName=edge;DeviceId=dev1;SharedAccessKeyName=device;SharedAccessKey={KEY}"
            ),
            "HostName=h.azure-devices.net;DeviceId=dev1;x509=true".into(),
        ] {
            let parsed: ConnectionString = text.parse().unwrap();
            assert_eq!(parsed.reveal(), text);
            assert_eq!(parsed.masked(), text.replace(KEY, "****"));
        }
    }

    #[test]
    fn blanks_letter_case_order_and_empty_parts_do_not_matter() {
        let text =
            format!(" sharedaccesskey={KEY} ; DEVICEID=dev1;; hostname=h ;GatewayHostName=;\n");
        let parsed: ConnectionString = text.parse().unwrap();
        assert_eq!(
            parsed,
            ConnectionString::device(
                "h",
                Identity::device("dev1".parse().unwrap()),
                KEY.parse().unwrap()
            )
        );
        assert_eq!(parsed.device_id().unwrap().as_str(), "dev1");
    }

    #[test]
    fn every_refusal_says_what_is_wrong() {
        for (text, sentence) in [
            (
                "HostName",
                "`HostName` is not `Name=Value`; parts are separated by `;`",
            ),
            ("", "`HostName` is missing"),
            (
                "HostName=;SharedAccessKeyName=p;SharedAccessKey=K",
                "`HostName` is missing",
            ),
            ("HostName=h;HostName=i", "`HostName` stands twice"),
            (
                "HostName=h;SharedAccessSignature=x",
                "`SharedAccessSignature` is not a member of a connection string; known are HostName, GatewayHostName, DeviceId, ModuleId, SharedAccessKeyName, SharedAccessKey, x509",
            ),
            (
                "HostName=h;ModuleId=m;SharedAccessKey=K",
                "`DeviceId` is missing",
            ),
            ("HostName=h;DeviceId=d", "`SharedAccessKey` is missing"),
            (
                "HostName=h;DeviceId=d;x509=false",
                "`SharedAccessKey` is missing",
            ),
            (
                "HostName=h;SharedAccessKey=K",
                "`SharedAccessKeyName or DeviceId` is missing",
            ),
            (
                "HostName=h;SharedAccessKeyName=;SharedAccessKey=K",
                "`SharedAccessKeyName or DeviceId` is missing",
            ),
            (
                "HostName=h;DeviceId=d;SharedAccessKey=?",
                "the key is not base64",
            ),
            (
                "HostName=h;DeviceId=d;SharedAccessKey=c2VjcmV0",
                "the key decodes to 6 bytes; 16 to 64 are allowed",
            ),
            (
                "HostName=h;DeviceId=a b;SharedAccessKey=K",
                "`a b` is not a valid id: 1 to 128 characters from A-Z a-z 0-9 - : . + % _ # * ? ! ( ) , = @ $ ' ;",
            ),
        ] {
            assert_eq!(
                refusal(&text.replace("=K", &format!("={KEY}"))),
                sentence,
                "{text}"
            );
        }
    }

    #[test]
    fn no_refusal_and_no_debug_shows_a_key_wherever_it_was_pasted() {
        let bare = KEY.trim_end_matches('=');
        for text in [
            KEY.to_owned(),
            bare.to_owned(),
            format!("HostName=h;{KEY}"),
            format!("HostName=h;{bare}"),
            format!("HostName=h;DeviceId=d;SharedAccessKey;{bare}"),
            format!("HostName=h;DeviceId=d;SharedAccessKey={KEY}x"),
            format!("HostName=h;DeviceId=d;SharedAccessKey={KEY};SharedAccessKey={KEY}"),
            "HostName=h;abcdefghijklmnopqrstuv==".to_owned(),
        ] {
            let error = text.parse::<ConnectionString>().unwrap_err();
            for shown in [error.to_string(), format!("{error:?}")] {
                assert!(
                    !shown.contains(&KEY[..8]) && !shown.contains("abcdefgh"),
                    "{shown}"
                );
            }
        }
        assert_eq!(
            refusal(&format!("HostName=h;{bare}")),
            "`part 2` is not `Name=Value`; parts are separated by `;`"
        );
        let policy = ConnectionString::policy("h", "service", KEY.parse().unwrap());
        assert!(!format!("{policy:?}").contains(&KEY[..8]));
    }
}
