//! The CA certificates of a DPS: what chains of devices must lead to, once possession of the key is proven.
//!
//! Kept in the store under their folded name and, read, in memory. What may not enter: enrollments, HTTP,
//! the rules of writing one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use azimuth_certs::{Ca, CaRecord, CaRefusal, Stamp, VerificationCode};
use azimuth_storage::{Change, Expect, Key, Store};
use azimuth_wire::ca_certificate::{CA_CERTIFICATE_OF_DPS, CaCertificate, CaCertificateBody};
use azimuth_wire::etag::{self, IfMatch};
use parking_lot::RwLock;

use crate::error::Error;
use crate::records;

/// All CA certificates of a DPS.
pub struct CaCertificates {
    store: Arc<dyn Store>,
    live: RwLock<Arc<[Ca]>>,
    /// One writer at a time, so that the copy in memory follows the store.
    writing: tokio::sync::Mutex<()>,
    epoch: AtomicU64,
}

impl CaCertificates {
    /// Opens what the store holds.
    pub fn open(store: Arc<dyn Store>) -> Result<Self, Error> {
        let certificates = Self {
            store,
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

    pub fn all(&self) -> Result<Vec<CaCertificate>, Error> {
        Ok(self.kept()?.iter().map(shown).collect())
    }

    pub fn get(&self, name: &str) -> Result<CaCertificate, Error> {
        Ok(shown(&self.present(name)?.1))
    }

    /// Takes a certificate in, or replaces one.
    pub async fn put(
        &self,
        name: &str,
        body: &CaCertificateBody,
        condition: &IfMatch,
        now: SystemTime,
    ) -> Result<CaCertificate, Error> {
        let _writing = self.writing.lock().await;
        let (expect, present) = match self.present(name) {
            Ok((expect, present)) => (expect, Some(present)),
            Err(Error::CaCertificate(CaRefusal::NotFound(_))) => (Expect::Absent, None),
            Err(error) => return Err(error),
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
    ) -> Result<CaCertificate, Error> {
        let _writing = self.writing.lock().await;
        let (expect, present) = self.present(name)?;
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
    ) -> Result<CaCertificate, Error> {
        let _writing = self.writing.lock().await;
        let (expect, present) = self.present(name)?;
        let record = present.verified(condition, proof, stamp(now))?;
        self.write(&record, expect).await
    }

    /// Devices below it no longer come in.
    pub async fn remove(&self, name: &str, condition: &IfMatch) -> Result<(), Error> {
        let _writing = self.writing.lock().await;
        let (expect, present) = self.present(name)?;
        present.meets(condition)?;
        self.commit(Change::delete(key(name), expect)).await
    }

    async fn write(&self, record: &CaRecord, expect: Expect) -> Result<CaCertificate, Error> {
        let key = key(&record.ca().name);
        self.commit(Change::put(key, expect, records::write(record)))
            .await?;
        Ok(shown(record))
    }

    async fn commit(&self, change: Change) -> Result<(), Error> {
        match self.store.commit(vec![change]).await {
            Ok(_) => {}
            Err(azimuth_storage::Error::Conflict { .. }) => return Err(CaRefusal::Etag.into()),
            Err(error) => return Err(error.into()),
        }
        self.reload()?;
        self.epoch.fetch_add(1, Ordering::Release);
        Ok(())
    }

    fn present(&self, name: &str) -> Result<(Expect, CaRecord), Error> {
        let key = key(name);
        let document = self.store.get(&key)?;
        let document = document.ok_or_else(|| CaRefusal::NotFound(name.into()))?;
        Ok((
            Expect::Version(document.version),
            records::read(&key, &document.body)?,
        ))
    }

    fn kept(&self) -> Result<Vec<CaRecord>, Error> {
        records::all(&*self.store, ROOM)
    }

    fn reload(&self) -> Result<(), Error> {
        let kept = self.kept()?;
        *self.live.write() = kept.iter().map(|record| record.ca().clone()).collect();
        Ok(())
    }
}

fn shown(record: &CaRecord) -> CaCertificate {
    record.shown(CA_CERTIFICATE_OF_DPS)
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
