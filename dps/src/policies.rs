//! Shared access policies: whose token opens which routes of the service API.
//!
//! A new DPS has one, `provisioningserviceowner`; a configuration may add others. What may not enter:
//! tokens and requests.

use azimuth_storage::{Change, Expect, Key, Store};
use azimuth_wire::SymmetricKey;
use azimuth_wire::policy::{DPS_OWNER, DpsRights, PolicyKeys};

use crate::config::{DpsConfig, PolicyConfig, PolicyKeySource};
use crate::enrollment::random_key;
use crate::error::Error;
use crate::records;

/// A policy with its keys.
#[derive(Debug, Clone)]
pub struct Policy {
    pub keys: PolicyKeys,
    pub rights: DpsRights,
}

/// All policies of a DPS; the first is the owner.
#[derive(Debug, Clone)]
pub struct Policies(Vec<Policy>);

impl Policies {
    /// Those of the configuration beside the built-in one. Keys that are not given are made at first
    /// start, or follow from the name where they are published.
    pub async fn open(config: &DpsConfig, store: &dyn Store) -> Result<Self, Error> {
        check(&config.policies)?;
        let owner = PolicyConfig::new(DPS_OWNER.0, DPS_OWNER.1);
        let mut policies = Vec::new();
        for wanted in [&owner].into_iter().chain(&config.policies) {
            let kept = keys(config, &wanted.name, store).await?;
            policies.push(Policy {
                keys: PolicyKeys {
                    name: wanted.name.clone(),
                    primary_key: wanted.primary_key.clone().unwrap_or(kept.primary_key),
                    secondary_key: wanted.secondary_key.clone().unwrap_or(kept.secondary_key),
                },
                rights: wanted.rights,
            });
        }
        Ok(Self::new(policies))
    }

    /// The first is the owner.
    pub fn new(policies: Vec<Policy>) -> Self {
        Self(policies)
    }

    pub fn owner(&self) -> &Policy {
        &self.0[0]
    }

    pub fn named(&self, name: &str) -> Option<&Policy> {
        self.0.iter().find(|policy| policy.keys.name == name)
    }

    pub fn names(&self) -> String {
        let names = self.0.iter().map(|policy| policy.keys.name.as_str());
        names.collect::<Vec<_>>().join(", ")
    }

    pub fn all(&self) -> &[Policy] {
        &self.0
    }
}

fn check(policies: &[PolicyConfig]) -> Result<(), Error> {
    let invalid = |sentence: String| Err(Error::Invalid(sentence));
    let mut names = vec![DPS_OWNER.0];
    for PolicyConfig { name, rights, .. } in policies {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_-@.".contains(&byte);
        if !(1..=64).contains(&name.len()) || !name.bytes().all(legal) {
            return invalid(format!(
                "`{name}` is not the name of a policy: 1 to 64 characters from A-Z a-z 0-9 _ - @ ."
            ));
        }
        if names.contains(&name.as_str()) {
            return invalid(format!("the policy {name} stands twice"));
        }
        if *rights == DpsRights::default() {
            return invalid(format!("the policy {name} has no rights"));
        }
        names.push(name);
    }
    Ok(())
}

async fn keys(config: &DpsConfig, policy: &str, store: &dyn Store) -> Result<PolicyKeys, Error> {
    let keys = |primary_key, secondary_key| PolicyKeys {
        name: policy.into(),
        primary_key,
        secondary_key,
    };
    match config.keys {
        PolicyKeySource::Published => Ok(keys(
            published_key(&config.name, policy, "primary"),
            published_key(&config.name, policy, "secondary"),
        )),
        PolicyKeySource::Kept => {
            let key = match policy {
                name if name == DPS_OWNER.0 => Key::new("service", "policy"),
                name => Key::new("service", &format!("policy/{name}")),
            };
            if let Some(document) = store.get(&key)? {
                let kept = serde_json::from_slice(&document.body);
                return kept.map_err(|_| Error::Damaged(key.to_string()));
            }
            let made = keys(random_key(), random_key());
            let change = Change::put(key, Expect::Absent, records::write(&made));
            store.commit(vec![change]).await?;
            Ok(made)
        }
    }
}

/// Anybody can compute it: good for loopback and nothing else.
fn published_key(service: &str, policy: &str, which: &str) -> SymmetricKey {
    let seed = SymmetricKey::from_bytes(b"azimuth published keys, for loopback only");
    seed.derive(&format!("{service}/{policy}/{which}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_that_nobody_could_use_is_refused() {
        let read = DpsRights::EnrollmentRead;
        for (policies, refused) in [
            (vec![PolicyConfig::new("a_b-c@d.e", read)], None),
            (vec![PolicyConfig::new("", read)], Some("name")),
            (vec![PolicyConfig::new("a b", read)], Some("name")),
            (vec![PolicyConfig::new(DPS_OWNER.0, read)], Some("twice")),
            (vec![PolicyConfig::new("a", read); 2], Some("twice")),
            (
                vec![PolicyConfig::new("a", DpsRights::default())],
                Some("no rights"),
            ),
        ] {
            let error = check(&policies).err().map(|error| error.to_string());
            match (error, refused) {
                (None, None) => {}
                (Some(error), Some(part)) => assert!(error.contains(part), "{error}"),
                (got, _) => panic!("{policies:?}: {got:?}"),
            }
        }
    }
}
