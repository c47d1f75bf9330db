//! Shared access policies: what the holder of a service key may do.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::key::SymmetricKey;

macro_rules! rights {
    ($(#[$doc:meta])* $name:ident { $($(#[$right_doc:meta])* $right:ident = $bit:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Default)]
        pub struct $name(u8);

        #[allow(non_upper_case_globals)]
        impl $name {
            $($(#[$right_doc])* pub const $right: Self = Self(1 << $bit);)+
            const NAMES: &[(&str, Self)] = &[$((stringify!($right), Self::$right)),+];

            pub const ALL: Self = Self($((1 << $bit))|+);

            /// The right of this name, in Azure's spelling.
            pub fn named(name: &str) -> Option<Self> {
                let found = Self::NAMES.iter().find(|(known, _)| *known == name);
                found.map(|(_, right)| *right)
            }

            pub const fn and(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// Whether any right of `needed` is held.
            pub const fn any_of(self, needed: Self) -> bool {
                self.0 & needed.0 != 0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        /// Comma and space between the names, as Azure writes rights.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let held = Self::NAMES.iter().filter(|(_, right)| self.any_of(*right));
                for (position, (name, _)) in held.enumerate() {
                    f.write_str(if position > 0 { ", " } else { "" })?;
                    f.write_str(name)?;
                }
                Ok(())
            }
        }
    };
}

rights! {
    /// Rights at an IoT hub.
    HubRights {
        RegistryRead = 0,
        /// Azure: implies RegistryRead; the built-in policies hold both.
        RegistryWrite = 1,
        ServiceConnect = 2,
        DeviceConnect = 3,
    }
}

rights! {
    /// Rights at a Device Provisioning Service, in the order in which Azure lists them.
    DpsRights {
        ServiceConfig = 0,
        DeviceConnect = 1,
        EnrollmentRead = 2,
        EnrollmentWrite = 3,
        RegistrationStatusRead = 4,
        RegistrationStatusWrite = 5,
    }
}

/// A policy's name and its two keys; both are valid at all times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyKeys {
    pub name: String,
    pub primary_key: SymmetricKey,
    pub secondary_key: SymmetricKey,
}

/// The policies of a new hub (Azure: control access to IoT Hub).
pub const HUB_POLICIES: [(&str, HubRights); 5] = [
    (
        "iothubowner",
        HubRights::RegistryRead
            .and(HubRights::RegistryWrite)
            .and(HubRights::ServiceConnect)
            .and(HubRights::DeviceConnect),
    ),
    ("service", HubRights::ServiceConnect),
    ("device", HubRights::DeviceConnect),
    ("registryRead", HubRights::RegistryRead),
    (
        "registryReadWrite",
        HubRights::RegistryRead.and(HubRights::RegistryWrite),
    ),
];

/// The policy of a new DPS. `ServiceConfig` opens every service route.
pub const DPS_OWNER: (&str, DpsRights) = (
    "provisioningserviceowner",
    DpsRights::ServiceConfig
        .and(DpsRights::DeviceConnect)
        .and(DpsRights::EnrollmentWrite),
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_policies_hold_what_azure_gives_them() {
        let rights: Vec<_> = HUB_POLICIES
            .iter()
            .map(|(name, rights)| (*name, rights.to_string()))
            .collect();
        let expected = [
            (
                "iothubowner",
                "RegistryRead, RegistryWrite, ServiceConnect, DeviceConnect",
            ),
            ("service", "ServiceConnect"),
            ("device", "DeviceConnect"),
            ("registryRead", "RegistryRead"),
            ("registryReadWrite", "RegistryRead, RegistryWrite"),
        ];
        assert_eq!(rights, expected.map(|(name, text)| (name, text.to_owned())));
        assert_eq!(
            DPS_OWNER.1.to_string(),
            "ServiceConfig, DeviceConnect, EnrollmentWrite"
        );
    }

    #[test]
    fn one_of_the_needed_rights_is_enough() {
        let needed = HubRights::RegistryRead.and(HubRights::RegistryWrite);
        assert!(HubRights::RegistryWrite.any_of(needed));
        assert!(!HubRights::ServiceConnect.any_of(needed));
        assert!(!HubRights::default().any_of(needed));
        assert!(!needed.any_of(HubRights::default()));
        assert_eq!(HubRights::default().to_string(), "");
        assert_eq!(
            HubRights::named("RegistryWrite"),
            Some(HubRights::RegistryWrite)
        );
        assert_eq!(HubRights::named("EnrollmentRead"), None);
    }

    #[test]
    fn debug_shows_no_key_of_a_policy() {
        let keys = PolicyKeys {
            name: "service".into(),
            primary_key: SymmetricKey::from_bytes(&[7; 32]),
            secondary_key: SymmetricKey::from_bytes(&[8; 32]),
        };
        let shown = format!("{keys:?}");
        assert!(!shown.contains(keys.primary_key.reveal()), "{shown}");
        assert!(!shown.contains(keys.secondary_key.reveal()), "{shown}");
    }
}
