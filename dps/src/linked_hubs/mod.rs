//! The hubs that devices may be sent to, as they are at the moment.
//!
//! Kept in the store under their host name and, ready to be called, in memory. Whoever takes the set
//! keeps it as it was: a registration under way ends with the hub it chose. What may not enter:
//! which hub a device gets, HTTP of our own API.

mod declared;
mod link;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use azimuth_clock::Clock;
use azimuth_storage::{Change, Expect, Key, Store};
use azimuth_wire::etag::{self, IfMatch};
use azimuth_wire::linked_hub::{IotHubChange, IotHubDefinition};
use parking_lot::RwLock;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::config::LinkedHubConfig;
use crate::error::Error;
use crate::linked_hub::{HubError, LinkedHub};
use crate::records;

pub use link::masked;

/// The linked hubs at one moment, by host name.
pub type Hubs = Arc<[Arc<LinkedHub>]>;

/// All linked hubs of a DPS.
pub struct LinkedHubs {
    store: Arc<dyn Store>,
    tls: rustls::ClientConfig,
    timeout: Duration,
    clock: Arc<dyn Clock>,
    live: Arc<RwLock<Hubs>>,
    /// One writer at a time, so that the set in memory follows the store.
    writing: Arc<Mutex<()>>,
}

impl LinkedHubs {
    /// Opens what the store holds. `roots_pem` is the authority hubs are trusted by.
    pub fn open(
        store: Arc<dyn Store>,
        roots_pem: &str,
        timeout: Duration,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let tls = azimuth_certs::client_config(Some(roots_pem));
        let tls = tls.map_err(|error| Error::Roots(error.to_string()))?;
        let hubs = Self {
            store,
            tls,
            timeout,
            clock,
            live: Arc::new(RwLock::new(Arc::from([]))),
            writing: Arc::default(),
        };
        let mut live = Vec::new();
        for definition in hubs.definitions()? {
            live.push(Arc::new(hubs.hub(&link::of(definition, None)?)?));
        }
        *hubs.live.write() = live.into();
        Ok(hubs)
    }

    /// The set as it is now, and as it stays for the caller.
    pub fn live(&self) -> Hubs {
        self.live.read().clone()
    }

    pub fn hosts(&self) -> Vec<String> {
        let live = self.live();
        live.iter().map(|hub| hub.host().to_owned()).collect()
    }

    /// What a device that came by address is given instead of this hub's name.
    pub fn advertised(&self, host: &str) -> Option<IpAddr> {
        find(&self.live(), host).and_then(|hub| hub.link().advertised)
    }

    /// What is kept of each, with its key.
    pub fn definitions(&self) -> Result<Vec<IotHubDefinition>, Error> {
        records::all(&*self.store, ROOM)
    }

    /// What is kept of the one with this host name, with its key.
    pub fn definition(&self, host: &str) -> Result<IotHubDefinition, Error> {
        let (_, present) = self.present(&host.to_ascii_lowercase())?;
        present.ok_or_else(|| Error::LinkedHubNotFound(host.into()))
    }

    /// Links a hub, or replaces a link; `condition` says which, as for enrollments. The hub is asked
    /// once: a key it refuses is no link, a hub that cannot be asked is one with a warning.
    pub async fn put(
        &self,
        host: &str,
        definition: IotHubDefinition,
        condition: &IfMatch,
    ) -> Result<IotHubDefinition, Error> {
        let writing = self.writing.clone().lock_owned().await;
        let (expect, present) = self.present(&host.to_ascii_lowercase())?;
        match (&present, condition) {
            (Some(_), IfMatch::Absent) => {
                return Err(Error::AlreadyExists(format!("The linked hub `{host}`")));
            }
            (Some(present), IfMatch::Etag(etag)) if present.etag.as_ref() != Some(etag) => {
                return Err(Error::PreconditionFailed);
            }
            (None, IfMatch::Etag(_)) => return Err(Error::PreconditionFailed),
            _ => {}
        }
        let link = link::of(definition, present.as_ref())?;
        if !link.host().eq_ignore_ascii_case(host) {
            let sentence = format!(
                "the connection string is of the hub `{}`, the path names `{host}`",
                link.host()
            );
            return Err(Error::Invalid(sentence));
        }
        let hub = self.hub(&link)?;
        let warning = doubts(&hub).await?;
        let kept = self.write(hub, expect, Vec::new(), writing).await?;
        Ok(IotHubDefinition { warning, ..kept })
    }

    /// Changes what `change` names; the hub is asked when the way to it changed.
    pub async fn update(
        &self,
        host: &str,
        change: IotHubChange,
        condition: &IfMatch,
    ) -> Result<IotHubDefinition, Error> {
        let writing = self.writing.clone().lock_owned().await;
        let (expect, present) = self.present(&host.to_ascii_lowercase())?;
        let present = present.ok_or_else(|| Error::LinkedHubNotFound(host.into()))?;
        if matches!(condition, IfMatch::Etag(etag) if present.etag.as_ref() != Some(etag)) {
            return Err(Error::PreconditionFailed);
        }
        let before = link::of(present.clone(), None)?;
        let changed = IotHubDefinition {
            name: None,
            ..present.clone().changed(change)
        };
        let link = link::of(changed, Some(&present))?;
        if link.host() != before.host() {
            let sentence = format!(
                "the connection string is of the hub `{}`, not of `{host}`; remove the one and add the other",
                link.host()
            );
            return Err(Error::Invalid(sentence));
        }
        let way =
            |link: &LinkedHubConfig| (link.connection_string.clone(), link.dial, link.https_port);
        let hub = self.hub(&link)?;
        let warning = if way(&link) == way(&before) {
            None
        } else {
            doubts(&hub).await?
        };
        let kept = self.write(hub, expect, Vec::new(), writing).await?;
        Ok(IotHubDefinition { warning, ..kept })
    }

    /// Unlinks a hub. Devices in it stay there; none is sent to it any more.
    pub async fn remove(&self, host: &str, condition: &IfMatch) -> Result<(), Error> {
        let writing = self.writing.clone().lock_owned().await;
        let folded = host.to_ascii_lowercase();
        let (expect, present) = self.present(&folded)?;
        let present = present.ok_or_else(|| Error::LinkedHubNotFound(host.into()))?;
        if matches!(condition, IfMatch::Etag(etag) if present.etag.as_ref() != Some(etag)) {
            return Err(Error::PreconditionFailed);
        }
        let change = Change::delete(Key::new(ROOM, &folded), expect);
        self.commit(vec![change], folded, None, writing).await
    }

    fn present(&self, folded: &str) -> Result<(Expect, Option<IotHubDefinition>), Error> {
        let key = Key::new(ROOM, folded);
        match self.store.get(&key)? {
            Some(document) => Ok((
                Expect::Version(document.version),
                Some(records::read(&key, &document.body)?),
            )),
            None => Ok((Expect::Absent, None)),
        }
    }

    /// A hub ready to be called, with the connections there are where it did not move.
    fn hub(&self, link: &LinkedHubConfig) -> Result<LinkedHub, Error> {
        link::check(link)?;
        let live = self.live();
        let relinked = find(&live, &link.host()).and_then(|hub| hub.relinked(link));
        relinked.unwrap_or_else(|| {
            LinkedHub::new(link, self.tls.clone(), self.timeout, self.clock.clone())
        })
    }

    async fn write(
        &self,
        hub: LinkedHub,
        expect: Expect,
        mut changes: Vec<Change>,
        writing: OwnedMutexGuard<()>,
    ) -> Result<IotHubDefinition, Error> {
        let host = hub.host().to_owned();
        let etag = etag::of_guid(&uuid::Uuid::new_v4().to_string());
        let kept = IotHubDefinition {
            etag: Some(etag),
            ..link::definition(hub.link())
        };
        let key = Key::new(ROOM, &host);
        changes.push(Change::put(key, expect, records::write(&kept)));
        self.commit(changes, host, Some(Arc::new(hub)), writing)
            .await?;
        Ok(kept)
    }

    /// Commits, then has the set in memory follow. On a task of its own: what is queued in the store
    /// happens even when the caller hangs up, and the set must not miss it.
    async fn commit(
        &self,
        changes: Vec<Change>,
        host: String,
        hub: Option<Arc<LinkedHub>>,
        writing: OwnedMutexGuard<()>,
    ) -> Result<(), Error> {
        let (committed, live) = (self.store.commit(changes), self.live.clone());
        let follow = tokio::spawn(async move {
            committed.await?;
            let mut live = live.write();
            let others = live.iter().filter(|hub| hub.host() != host).cloned();
            let mut hubs: Vec<_> = others.chain(hub).collect();
            hubs.sort_by(|one, other| one.host().cmp(other.host()));
            *live = hubs.into();
            drop(writing);
            Ok::<_, azimuth_storage::Error>(())
        });
        match follow.await {
            Ok(Err(azimuth_storage::Error::Conflict { .. })) => Err(Error::PreconditionFailed),
            Ok(done) => done.map_err(Error::Storage),
            Err(error) => Err(Error::Thread(std::io::Error::other(error))),
        }
    }
}

/// The one with this host name.
pub fn find<'a>(hubs: &'a [Arc<LinkedHub>], host: &str) -> Option<&'a Arc<LinkedHub>> {
    let same = |hub: &&Arc<LinkedHub>| hub.host().eq_ignore_ascii_case(host);
    hubs.iter().find(same)
}

/// Asks the hub once. `Some` is why the link may not work, in a sentence.
async fn doubts(hub: &LinkedHub) -> Result<Option<String>, Error> {
    let host = hub.host();
    match hub.probe().await {
        Ok(()) => Ok(None),
        Err(HubError::Refused { status: 401, .. }) => Err(Error::HubKeyRefused(host.into())),
        Err(HubError::Refused { status, .. }) => Ok(Some(format!(
            "the hub {host} answered {status} when it was asked; devices sent to it may not be taken"
        ))),
        Err(HubError::Unreachable(cause)) => Ok(Some(format!(
            "the hub {host} cannot be reached: {cause}; it is linked, and devices sent to it wait until it answers"
        ))),
    }
}

/// Where links are kept.
const ROOM: &str = "linkedHubs";

#[cfg(test)]
mod tests;
