//! Writes of identities: each is one commit, with the twin, the modules and the counts that belong to it.
//!
//! An identity is made in [`Registry::made`] and goes in [`Registry::removed`], and nowhere else. May not
//! enter: what a write does to an identity.

use azimuth_storage::{Change, Expect};
use azimuth_wire::Identity as Name;
use azimuth_wire::etag::IfMatch;
use azimuth_wire::registry::regeneration::PolicyKey;
use azimuth_wire::registry::{IdentityBody, Status};
use azimuth_wire::twin::TwinBody;

use super::{Identity, Live, Registry, Shown, key, scope, twins};
use crate::error::Error;
use crate::keys;
use crate::twin::DesiredChange;

/// What a write did beside being stored.
#[derive(Debug)]
pub struct Written {
    pub identity: Shown,
    /// Who may not be on the line any more.
    pub shut_out: Vec<Name>,
    /// Who is no more.
    pub gone: Vec<Name>,
    /// Of its twin.
    pub desired: Option<DesiredChange>,
}

impl Registry {
    /// Creates or replaces an identity; Azure's preconditions stand in [`Identity::put`].
    pub async fn put(
        &self,
        name: &Name,
        if_match: &IfMatch,
        body: IdentityBody,
    ) -> Result<Written, Error> {
        let condition = |_: bool| if_match.clone();
        self.write(name, condition, body, &TwinBody::default())
            .await
    }

    /// Writes an identity and, where `content` says something of it, its twin, as one. The condition
    /// is asked for again where another write was faster; it is told whether the identity is there.
    pub(super) async fn write(
        &self,
        name: &Name,
        condition: impl Fn(bool) -> IfMatch,
        body: IdentityBody,
        content: &TwinBody,
    ) -> Result<Written, Error> {
        loop {
            let present = self.load(name)?;
            let before = present.as_ref().map(|(_, identity)| identity);
            let if_match = condition(before.is_some());
            let is_edge = |scope: &str| self.is_edge(scope);
            let (body, fresh) = (body.clone(), self.fresh());
            let after = Identity::put(before, name, &if_match, body, fresh, is_edge)?;
            if present.is_none() && name.module.is_none() {
                self.has_room()?;
            }
            let mut changes = vec![match &present {
                None => Self::made(&after, Expect::Absent)?,
                Some((document, _)) => {
                    let expect = Expect::Version(document.version);
                    Change::put(key(name), expect, serde_json::to_vec(&after)?)
                }
            }];
            let twin = self.twin_beside(before, &after, content)?;
            let (twin, desired) =
                twin.map_or((None, None), |(change, desired)| (Some(change), desired));
            changes.extend(twin);
            let kin = self.kin(before, &after)?;
            changes.extend(kin.changes);
            let mut made = Vec::from_iter(before.is_none().then_some(&after));
            made.extend(&kin.made);
            let told = self.told(&made, content, &kin.gone)?;
            if !self.commit_told(changes, told).await? {
                continue;
            }
            self.count(before, Some(&after));
            return Ok(Written {
                identity: self.shown(&after)?,
                shut_out: self.shut_out(&after)?,
                gone: self.forget(&kin.gone),
                desired,
            });
        }
    }

    /// Gives an identity new keys.
    pub async fn rekey(&self, name: &Name, which: PolicyKey) -> Result<Identity, Error> {
        loop {
            let present = self.load(name)?;
            let (document, before) = present.ok_or_else(|| Error::not_found(name))?;
            let after = before.rekeyed(which, keys::random)?;
            let expect = Expect::Version(document.version);
            let json = serde_json::to_vec(&after)?;
            if self
                .commit(vec![Change::put(key(name), expect, json)])
                .await?
            {
                return Ok(after);
            }
        }
    }

    /// Removes an identity, and with a device its modules. Hands out who is no more.
    pub async fn delete(&self, name: &Name, if_match: &IfMatch) -> Result<Vec<Name>, Error> {
        loop {
            let present = self.load(name)?;
            let before = present.as_ref().map(|(_, identity)| identity);
            Identity::delete(before, name, if_match)?;
            let tally = self.tally(&name.device)?;
            let mut leaving: Vec<_> = present.into_iter().collect();
            let mut changes = match &name.module {
                Some(_) => vec![tally.fewer(1)],
                None => {
                    leaving.extend(self.modules_of(&name.device)?);
                    vec![tally.none()]
                }
            };
            for (document, identity) in &leaving {
                let expect = Expect::Version(document.version);
                changes.extend(Self::removed(identity, expect));
            }
            let gone: Vec<_> = leaving.into_iter().map(|(_, identity)| identity).collect();
            let told = self.told(&[], &TwinBody::default(), &gone)?;
            if !self.commit_told(changes, told).await? {
                continue;
            }
            for identity in &gone {
                self.count(Some(identity), None);
            }
            return Ok(self.forget(&gone));
        }
    }

    /// The change that makes an identity.
    pub(super) fn made(identity: &Identity, expect: Expect) -> Result<Change, Error> {
        let json = serde_json::to_vec(identity)?;
        Ok(Change::put(key(&identity.name()), expect, json))
    }

    /// The changes that remove an identity and all that is kept of it.
    pub(super) fn removed(identity: &Identity, expect: Expect) -> [Change; 3] {
        let name = identity.name();
        [
            Change::delete(key(&name), expect),
            Live::erase(&name),
            twins::erase(&name),
        ]
    }

    /// Commits; false when another write was faster and all is to be looked at again.
    pub(super) async fn commit(&self, changes: Vec<Change>) -> Result<bool, Error> {
        match self.store.commit(changes).await {
            Ok(_) => Ok(true),
            Err(azimuth_storage::Error::Conflict { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Who is refused since a write: a disabled device, and its modules with it.
    fn shut_out(&self, after: &Identity) -> Result<Vec<Name>, Error> {
        if after.status == Status::Enabled {
            return Ok(Vec::new());
        }
        let modules = self.modules_of(&after.device_id)?.into_iter();
        let modules = modules.map(|(_, module)| module.name());
        Ok([after.name()].into_iter().chain(modules).collect())
    }

    fn forget(&self, gone: &[Identity]) -> Vec<Name> {
        let forget = |identity: &Identity| {
            let name = identity.name();
            self.live.forget(&name, &identity.generation_id);
            name
        };
        gone.iter().map(forget).collect()
    }

    fn is_edge(&self, scope: &str) -> Result<bool, Error> {
        let Some(device) = scope::device_of(scope) else {
            return Ok(false);
        };
        let device = self.identity(&Name::device(device))?;
        Ok(device.is_some_and(|device| device.own_scope() == Some(scope)))
    }
}
