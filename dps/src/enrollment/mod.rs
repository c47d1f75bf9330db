//! Enrollments: who may register, with which proof, and what becomes of them.
//!
//! Kept in the store under their folded id. Groups are few and also held in memory, since a device
//! of a group names none; individual enrollments are read by key, so their number does not count.
//! What may not enter: topics, HTTP, hubs.

mod declared;
mod entry;
mod fields;
mod rules;
mod tpm;
pub mod x509;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use azimuth_storage::{Change, Document, Expect, Key, Store};
use azimuth_wire::enrollment::{Attestation, EnrollmentGroup, IndividualEnrollment};
use azimuth_wire::etag::{self, IfMatch};
use azimuth_wire::{RegistrationId, SymmetricKey};
use parking_lot::RwLock;

use crate::attestation::DeviceKeys;
use crate::attestation::anchor::Anchor;
use crate::error::Error;
use crate::records;

pub use entry::{Entry, Terms};

/// All enrollments of a DPS.
pub struct Enrollments {
    store: Arc<dyn Store>,
    /// The names of the hubs that are linked at the moment.
    linked: Box<dyn Fn() -> Vec<String> + Send + Sync>,
    groups: RwLock<Groups>,
    /// One writer of groups at a time, so that the copy in memory follows the store. Individual enrollments
    /// are written side by side: of two writers of one, the store lets one through and the other looks again.
    writing: tokio::sync::Mutex<()>,
    epoch: AtomicU64,
}

/// The groups in memory.
struct Groups {
    all: Arc<[Arc<EnrollmentGroup>]>,
    anchors: Arc<[Anchor]>,
}

impl Groups {
    fn new(all: Vec<Arc<EnrollmentGroup>>) -> Self {
        Self {
            anchors: Anchor::of_all(&all),
            all: all.into(),
        }
    }
}

impl Enrollments {
    /// Opens what the store holds.
    pub fn open(
        store: Arc<dyn Store>,
        linked: impl Fn() -> Vec<String> + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let enrollments = Self {
            store,
            linked: Box::new(linked),
            groups: RwLock::new(Groups::new(Vec::new())),
            writing: tokio::sync::Mutex::new(()),
            epoch: AtomicU64::new(0),
        };
        enrollments.reload_groups()?;
        Ok(enrollments)
    }

    /// Counts writes: a verdict on a credential holds while it stays the same.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    pub fn individual(&self, id: &RegistrationId) -> Result<Option<IndividualEnrollment>, Error> {
        self.entry(&id.folded())
    }

    pub fn groups(&self) -> Arc<[Arc<EnrollmentGroup>]> {
        self.groups.read().all.clone()
    }

    /// Where the groups are anchored whose devices show certificates.
    pub fn anchors(&self) -> Arc<[Anchor]> {
        self.groups.read().anchors.clone()
    }

    /// An enrollment with its keys, by folded id.
    pub fn entry<E: Entry>(&self, id: &str) -> Result<Option<E>, Error> {
        let key = Key::new(E::ROOM, id);
        self.store
            .get(&key)?
            .map(|document| read(&key, &document))
            .transpose()
    }

    /// Enrollments with their keys, by id, behind the folded id `after`; and the id to go on from when
    /// there are more.
    pub fn page<E: Entry>(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<E>, Option<String>), Error> {
        let after = after.map(|id| Key::new(E::ROOM, id));
        let page = self.store.scan(E::ROOM, "", after.as_ref(), limit)?;
        let entries = page.documents.iter();
        let entries = entries.map(|(key, document)| read(key, document));
        let next = page.next.map(|key| key.name().to_owned());
        Ok((entries.collect::<Result<_, _>>()?, next))
    }

    /// Creates or replaces; see Azure's preconditions for which of the two `condition` allows.
    /// Keys that are absent stay as they are, or are made.
    pub async fn put<E: Entry>(
        &self,
        entry: E,
        condition: &IfMatch,
        now: SystemTime,
    ) -> Result<E, Error> {
        rules::check(&entry, &(self.linked)())?;
        self.write(entry, condition, now).await
    }

    async fn write<E: Entry>(
        &self,
        entry: E,
        condition: &IfMatch,
        now: SystemTime,
    ) -> Result<E, Error> {
        let _writing = self.alone::<E>().await;
        undisturbed(|| self.write_once(entry.clone(), condition, now)).await
    }

    async fn alone<E: Entry>(&self) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        match E::ROOM == EnrollmentGroup::ROOM {
            true => Some(self.writing.lock().await),
            false => None,
        }
    }

    async fn write_once<E: Entry>(
        &self,
        mut entry: E,
        condition: &IfMatch,
        now: SystemTime,
    ) -> Result<E, Error> {
        let key = Key::new(E::ROOM, &entry.folded_id());
        let document = self.store.get(&key)?;
        let present: Option<E> = document
            .as_ref()
            .map(|found| read(&key, found))
            .transpose()?;
        let expect = match (&document, &present) {
            (Some(document), Some(present)) => {
                match condition {
                    IfMatch::Absent => return Err(Error::AlreadyExists(entry.shown_id())),
                    IfMatch::Etag(etag) if present.etag() != Some(etag) => {
                        return Err(Error::PreconditionFailed);
                    }
                    IfMatch::Any | IfMatch::Etag(_) => {}
                }
                Expect::Version(document.version)
            }
            _ if matches!(condition, IfMatch::Etag(_)) => return Err(Error::PreconditionFailed),
            _ => Expect::Absent,
        };
        let old = present.as_ref().map(Entry::attestation);
        fill_keys(entry.attestation_mut(), old);
        x509::complete(entry.attestation_mut(), old)?;
        let created = present
            .and_then(|present| present.created())
            .unwrap_or_else(|| now.into());
        let tag = etag::of_guid(&uuid::Uuid::new_v4().to_string());
        entry.stamp(tag, created, now.into());
        let change = Change::put(key, expect, records::write(&entry));
        self.commit::<E>(vec![change]).await?;
        Ok(entry)
    }

    /// Removes an enrollment; with an individual one goes the record of its registration.
    pub async fn delete<E: Entry>(&self, id: &str, condition: &IfMatch) -> Result<(), Error> {
        let _writing = self.alone::<E>().await;
        undisturbed(|| self.delete_once::<E>(id, condition)).await
    }

    async fn delete_once<E: Entry>(&self, id: &str, condition: &IfMatch) -> Result<(), Error> {
        let key = Key::new(E::ROOM, id);
        let document = self.store.get(&key)?.ok_or(Error::EnrollmentNotFound)?;
        let present: E = read(&key, &document)?;
        if matches!(condition, IfMatch::Etag(etag) if present.etag() != Some(etag)) {
            return Err(Error::PreconditionFailed);
        }
        let mut changes = vec![Change::delete(key, Expect::Version(document.version))];
        if E::OWNS_REGISTRATION
            && let Some(record) = records::registration(&*self.store, id)?
        {
            changes.extend(records::delete(id, &record, Expect::Anything));
        }
        self.commit::<E>(changes).await
    }

    async fn commit<E: Entry>(&self, changes: Vec<Change>) -> Result<(), Error> {
        self.store.commit(changes).await?;
        if E::ROOM == EnrollmentGroup::ROOM {
            self.reload_groups()?;
        }
        self.epoch.fetch_add(1, Ordering::Release);
        Ok(())
    }

    fn reload_groups(&self) -> Result<(), Error> {
        let mut groups = Vec::new();
        let mut after = None;
        loop {
            let page = self
                .store
                .scan(EnrollmentGroup::ROOM, "", after.as_ref(), 500)?;
            for (key, document) in &page.documents {
                groups.push(Arc::new(read(key, document)?));
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        *self.groups.write() = Groups::new(groups);
        Ok(())
    }
}

/// Tries again while somebody else changes the record between reading and writing it. Who always comes second is
/// told that it is another by now.
async fn undisturbed<T, F: Future<Output = Result<T, Error>>>(
    attempt: impl Fn() -> F,
) -> Result<T, Error> {
    for _ in 0..RACES {
        match attempt().await {
            Err(Error::Storage(azimuth_storage::Error::Conflict { .. })) => {}
            ended => return ended,
        }
    }
    Err(Error::PreconditionFailed)
}

const RACES: usize = 8;

/// Both keys of a symmetric attestation. In the store there are always two.
pub fn keys_of(attestation: &Attestation) -> Option<DeviceKeys> {
    let keys = attestation.symmetric_key.as_ref()?;
    let primary = keys.primary_key.clone()?;
    let secondary = keys
        .secondary_key
        .clone()
        .unwrap_or_else(|| primary.clone());
    Some(DeviceKeys { primary, secondary })
}

fn fill_keys(attestation: &mut Attestation, present: Option<&Attestation>) {
    let Some(keys) = &mut attestation.symmetric_key else {
        return;
    };
    let old = present
        .and_then(|present| present.symmetric_key.clone())
        .unwrap_or_default();
    let fill = |key: &mut Option<SymmetricKey>, old| {
        let given = key.take().or(old);
        *key = Some(given.unwrap_or_else(random_key));
    };
    fill(&mut keys.primary_key, old.primary_key);
    fill(&mut keys.secondary_key, old.secondary_key);
}

/// 64 random bytes, as the service makes them.
pub fn random_key() -> SymmetricKey {
    SymmetricKey::from_bytes(&rand::random::<[u8; 64]>())
}

fn read<E: Entry>(key: &Key, document: &Document) -> Result<E, Error> {
    records::read(key, &document.body)
}

#[cfg(test)]
mod tests;
