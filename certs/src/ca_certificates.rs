//! The CA certificates of a service: what chains of devices must lead to, once possession of the key is proven.
//!
//! Kept in the store under their folded name and, read, in memory. What may not enter: HTTP, who comes in by a chain,
//! the rules of writing one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use azimuth_storage::{Change, Expect, Key, Store};
use azimuth_wire::ca_certificate::{CaCertificate, CaCertificateBody};
use azimuth_wire::etag::{self, IfMatch};
use parking_lot::RwLock;

use crate::ca_certificate::{Ca, CaRecord, CaRefusal, MOST_CA_CERTIFICATES, Stamp};
use crate::possession::VerificationCode;

/// All CA certificates of a service.
pub struct CaCertificates {
    store: Arc<dyn Store>,
    /// As Azure calls the resource.
    resource: &'static str,
    live: RwLock<Arc<[Ca]>>,
    /// One writer at a time, so that the copy in memory follows the store.
    writing: tokio::sync::Mutex<()>,
    epoch: AtomicU64,
}

/// Why one was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    #[error(transparent)]
    Refused(#[from] CaRefusal),
    #[error(transparent)]
    Store(#[from] azimuth_storage::Error),
    #[error("the CA certificate in the store cannot be read")]
    Document(#[from] serde_json::Error),
}

impl CaCertificates {
    /// Opens what the store holds, to be shown as a resource of Azure's: [`azimuth_wire::ca_certificate`] has their names.
    pub fn open(store: Arc<dyn Store>, resource: &'static str) -> Result<Self, CaError> {
        let certificates = Self {
            store,
            resource,
            live: RwLock::new(Arc::from([])),
            writing: tokio::sync::Mutex::default(),
            epoch: AtomicU64::new(0),
        };
        certificates.reload()?;
        Ok(certificates)
    }

    /// Counts writes: a verdict on a chain holds while it stays the same.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// The set as it is now, by name.
    pub fn live(&self) -> Arc<[Ca]> {
        self.live.read().clone()
    }

    pub fn all(&self) -> Result<Vec<CaCertificate>, CaError> {
        Ok(self
            .kept()?
            .iter()
            .map(|record| self.shown(record))
            .collect())
    }

    pub fn get(&self, name: &str) -> Result<CaCertificate, CaError> {
        Ok(self.shown(&self.there(name)?.1))
    }

    /// Takes a certificate in, or replaces one.
    pub async fn put(
        &self,
        name: &str,
        body: &CaCertificateBody,
        condition: &IfMatch,
        now: SystemTime,
    ) -> Result<CaCertificate, CaError> {
        let _writing = self.writing.lock().await;
        let (expect, present) = match self.present(name)? {
            Some((expect, present)) => (expect, Some(present)),
            None => (Expect::Absent, None),
        };
        let others = self.live().len();
        let record =
            CaRecord::uploaded(name, present.as_ref(), others, body, condition, stamp(now))?;
        self.write(&record, expect).await
    }

    /// A new code for the owner to sign.
    pub async fn challenge(
        &self,
        name: &str,
        condition: &IfMatch,
        now: SystemTime,
    ) -> Result<CaCertificate, CaError> {
        let _writing = self.writing.lock().await;
        let (expect, present) = self.there(name)?;
        let code = VerificationCode::from_random(rand::random());
        let record = present.challenged(condition, code, stamp(now))?;
        self.write(&record, expect).await
    }

    /// Holds the owner's proof against the last code.
    pub async fn verify(
        &self,
        name: &str,
        proof: &CaCertificateBody,
        condition: &IfMatch,
        now: SystemTime,
    ) -> Result<CaCertificate, CaError> {
        let _writing = self.writing.lock().await;
        let (expect, present) = self.there(name)?;
        let record = present.verified(condition, proof, stamp(now))?;
        self.write(&record, expect).await
    }

    /// Devices below it no longer come in.
    pub async fn remove(&self, name: &str, condition: &IfMatch) -> Result<(), CaError> {
        let _writing = self.writing.lock().await;
        let (expect, present) = self.there(name)?;
        present.meets(condition)?;
        self.commit(Change::delete(key(name), expect)).await
    }

    async fn write(&self, record: &CaRecord, expect: Expect) -> Result<CaCertificate, CaError> {
        let key = key(&record.ca().name);
        let json = serde_json::to_vec(record)?;
        self.commit(Change::put(key, expect, json)).await?;
        Ok(self.shown(record))
    }

    async fn commit(&self, change: Change) -> Result<(), CaError> {
        match self.store.commit(vec![change]).await {
            Ok(_) => {}
            Err(azimuth_storage::Error::Conflict { .. }) => return Err(CaRefusal::Etag.into()),
            Err(error) => return Err(error.into()),
        }
        self.reload()?;
        self.epoch.fetch_add(1, Ordering::Release);
        Ok(())
    }

    fn there(&self, name: &str) -> Result<(Expect, CaRecord), CaError> {
        let present = self.present(name)?;
        Ok(present.ok_or_else(|| CaRefusal::NotFound(name.into()))?)
    }

    fn present(&self, name: &str) -> Result<Option<(Expect, CaRecord)>, CaError> {
        let Some(document) = self.store.get(&key(name))? else {
            return Ok(None);
        };
        let record = serde_json::from_slice(&document.body)?;
        Ok(Some((Expect::Version(document.version), record)))
    }

    fn kept(&self) -> Result<Vec<CaRecord>, CaError> {
        let page = self.store.scan(ROOM, "", None, MOST_CA_CERTIFICATES)?;
        let documents = page.documents.iter();
        documents
            .map(|(_, document)| Ok(serde_json::from_slice(&document.body)?))
            .collect()
    }

    fn reload(&self) -> Result<(), CaError> {
        let kept = self.kept()?;
        *self.live.write() = kept.iter().map(|record| record.ca().clone()).collect();
        Ok(())
    }

    fn shown(&self, record: &CaRecord) -> CaCertificate {
        record.shown(self.resource)
    }
}

fn stamp(now: SystemTime) -> Stamp {
    Stamp {
        now,
        etag: etag::of_guid(&uuid::Uuid::new_v4().to_string()),
    }
}

fn key(name: &str) -> Key {
    Key::new(ROOM, &name.to_ascii_lowercase())
}

const ROOM: &str = "caCertificates";
