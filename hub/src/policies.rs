//! The hub's shared access policies with their keys: published ones, or made once and kept.
//!
//! May not enter: tokens and who may do what with a right.

use azimuth_storage::{Change, Expect, Key, Store};
use azimuth_wire::connection_string::ConnectionString;
use azimuth_wire::policy::{HUB_POLICIES, HubRights, PolicyKeys};

use crate::config::PolicyKeySource;
use crate::error::Error;
use crate::keys;

/// The five policies of a new hub.
#[derive(Debug, Clone)]
pub struct Policies(Vec<Policy>);

#[derive(Debug, Clone)]
pub struct Policy {
    pub rights: HubRights,
    pub keys: PolicyKeys,
}

impl Policies {
    /// The policies whose keys follow from the hub's name.
    pub fn published(hub: &str) -> Self {
        let policy = |(name, rights): (&str, HubRights)| Policy {
            rights,
            keys: PolicyKeys {
                name: name.into(),
                primary_key: keys::published(hub, name, "primary"),
                secondary_key: keys::published(hub, name, "secondary"),
            },
        };
        Self(HUB_POLICIES.map(policy).into())
    }

    /// The built-in policies as far as `keys` has keys for them.
    pub fn with_keys(keys: &[PolicyKeys]) -> Self {
        let policies = HUB_POLICIES.iter().filter_map(|(name, rights)| {
            let keys = keys.iter().find(|keys| keys.name == *name)?.clone();
            Some(Policy {
                rights: *rights,
                keys,
            })
        });
        Self(policies.collect())
    }

    /// Derives the keys, or reads them from the store, where the first start leaves them.
    pub async fn open(
        source: PolicyKeySource,
        hub: &str,
        store: &dyn Store,
    ) -> Result<Self, Error> {
        match source {
            PolicyKeySource::Published => Ok(Self::published(hub)),
            PolicyKeySource::Kept => Self::kept(store).await,
        }
    }

    /// The policy of this very name.
    pub fn policy(&self, name: &str) -> Option<&Policy> {
        self.0.iter().find(|policy| policy.keys.name == name)
    }

    /// The names, for sentences.
    pub fn names(&self) -> String {
        let names: Vec<_> = self
            .0
            .iter()
            .map(|policy| policy.keys.name.as_str())
            .collect();
        names.join(", ")
    }

    /// The connection string of a policy under a name or address of the hub.
    pub fn connection_string(&self, policy: &str, host: &str) -> Option<ConnectionString> {
        let keys = &self.policy(policy)?.keys;
        Some(ConnectionString::policy(
            host,
            policy,
            keys.primary_key.clone(),
        ))
    }

    async fn kept(store: &dyn Store) -> Result<Self, Error> {
        let key = Key::new(ROOM, "policies");
        let kept: Vec<PolicyKeys> = match store.get(&key)? {
            Some(document) => serde_json::from_slice(&document.body)?,
            None => {
                let made: Vec<_> = HUB_POLICIES.iter().map(|(name, _)| random(name)).collect();
                let body = serde_json::to_vec(&made)?;
                let change = Change::put(key, Expect::Absent, body);
                store.commit(vec![change]).await?;
                made
            }
        };
        Ok(Self::with_keys(&kept))
    }
}

/// The connection string of `iothubowner` of a hub with published keys.
pub fn published_connection_string(hub: &str, host: &str) -> String {
    let string = Policies::published(hub).connection_string("iothubowner", host);
    string.expect("every hub has an owner").reveal()
}

fn random(name: &str) -> PolicyKeys {
    PolicyKeys {
        name: name.into(),
        primary_key: keys::random(),
        secondary_key: keys::random(),
    }
}

const ROOM: &str = "hub";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn keys_of(policies: &Policies) -> Vec<String> {
        let keys = |policy: &Policy| {
            let PolicyKeys {
                primary_key,
                secondary_key,
                ..
            } = &policy.keys;
            [
                primary_key.reveal().to_owned(),
                secondary_key.reveal().to_owned(),
            ]
        };
        policies.0.iter().flat_map(keys).collect()
    }

    #[test]
    fn published_keys_are_constants_and_all_different() {
        let string =
            published_connection_string("contoso-east-hub", "contoso-east-hub.azure-devices.net");
        assert_eq!(
            string,
            "HostName=contoso-east-hub.azure-devices.net;SharedAccessKeyName=iothubowner;\
             SharedAccessKey=cH699blIsd6therDo1weyqo5sCiddfOc0ZQpmMoxqM4="
        );
        let mut keys = keys_of(&Policies::published("contoso-east-hub"));
        keys.extend(keys_of(&Policies::published("contoso-west-hub")));
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 20);
    }

    #[tokio::test]
    async fn kept_keys_are_made_once_and_differ_from_hub_to_hub() {
        let (store, other) = (azimuth_storage::memory(), azimuth_storage::memory());
        let first = Policies::kept(&*store).await.unwrap();
        assert_eq!(
            keys_of(&first),
            keys_of(&Policies::kept(&*store).await.unwrap())
        );
        assert_ne!(
            keys_of(&first),
            keys_of(&Policies::kept(&*other).await.unwrap())
        );
        let owner = first.policy("iothubowner").unwrap();
        assert_eq!(
            owner.rights.to_string(),
            "RegistryRead, RegistryWrite, ServiceConnect, DeviceConnect"
        );
        assert!(first.policy("IotHubOwner").is_none());
    }
}
