//! The CA certificates of a hub: what chains of devices must lead to, once possession of the key is proven.
//!
//! Kept in the store under their folded name and, read, in memory. What may not enter: identities, HTTP,
//! the rules of writing one.

use std::sync::Arc;
use std::time::SystemTime;

use azimuth_certs::{Ca, CaRecord, CaRefusal, MOST_CA_CERTIFICATES, Stamp, VerificationCode};
use azimuth_storage::{Change, Expect, Key, Store};
use azimuth_wire::ca_certificate::{CA_CERTIFICATE_OF_HUB, CaCertificate, CaCertificateBody};
use azimuth_wire::etag::{self, IfMatch};
use parking_lot::RwLock;
use uuid::Uuid;

use crate::error::Error;

/// All CA certificates of a hub.
pub struct CaCertificates {
    store: Arc<dyn Store>,
    live: RwLock<Arc<[Ca]>>,
    /// One writer at a time, so that the copy in memory follows the store.
    writing: tokio::sync::Mutex<()>,
}

impl CaCertificates {
    /// Opens what the store holds.
    pub fn open(store: Arc<dyn Store>) -> Result<Self, Error> {
        let certificates = Self {
            store,
            live: RwLock::new(Arc::from([])),
            writing: tokio::sync::Mutex::default(),
        };
        certificates.reload()?;
        Ok(certificates)
    }

    /// The set as it is now, by name.
    pub fn live(&self) -> Arc<[Ca]> {
        self.live.read().clone()
    }

    pub fn all(&self) -> Result<Vec<CaCertificate>, Error> {
        Ok(self.kept()?.iter().map(shown).collect())
    }

    pub fn get(&self, name: &str) -> Result<CaCertificate, Error> {
        let (_, record) = self.there(name)?;
        Ok(shown(&record))
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
    ) -> Result<CaCertificate, Error> {
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
    ) -> Result<CaCertificate, Error> {
        let _writing = self.writing.lock().await;
        let (expect, present) = self.there(name)?;
        let record = present.verified(condition, proof, stamp(now))?;
        self.write(&record, expect).await
    }

    /// Devices below it no longer come in.
    pub async fn remove(&self, name: &str, condition: &IfMatch) -> Result<(), Error> {
        let _writing = self.writing.lock().await;
        let (expect, present) = self.there(name)?;
        present.meets(condition)?;
        self.commit(Change::delete(key(name), expect)).await
    }

    async fn write(&self, record: &CaRecord, expect: Expect) -> Result<CaCertificate, Error> {
        let json = serde_json::to_vec(record)?;
        let key = key(&record.ca().name);
        self.commit(Change::put(key, expect, json)).await?;
        Ok(shown(record))
    }

    async fn commit(&self, change: Change) -> Result<(), Error> {
        match self.store.commit(vec![change]).await {
            Ok(_) => self.reload(),
            Err(azimuth_storage::Error::Conflict { .. }) => Err(CaRefusal::Etag.into()),
            Err(error) => Err(error.into()),
        }
    }

    fn there(&self, name: &str) -> Result<(Expect, CaRecord), Error> {
        let present = self.present(name)?;
        Ok(present.ok_or_else(|| CaRefusal::NotFound(name.into()))?)
    }

    fn present(&self, name: &str) -> Result<Option<(Expect, CaRecord)>, Error> {
        let Some(document) = self.store.get(&key(name))? else {
            return Ok(None);
        };
        let record = serde_json::from_slice(&document.body)?;
        Ok(Some((Expect::Version(document.version), record)))
    }

    fn kept(&self) -> Result<Vec<CaRecord>, Error> {
        let page = self.store.scan(ROOM, "", None, MOST_CA_CERTIFICATES)?;
        let documents = page.documents.iter();
        documents
            .map(|(_, document)| Ok(serde_json::from_slice(&document.body)?))
            .collect()
    }

    fn reload(&self) -> Result<(), Error> {
        let kept = self.kept()?;
        *self.live.write() = kept.iter().map(|record| record.ca().clone()).collect();
        Ok(())
    }
}

fn shown(record: &CaRecord) -> CaCertificate {
    record.shown(CA_CERTIFICATE_OF_HUB)
}

fn stamp(now: SystemTime) -> Stamp {
    Stamp {
        now,
        etag: etag::of_guid(&Uuid::new_v4().to_string()),
    }
}

fn key(name: &str) -> Key {
    Key::new(ROOM, &name.to_ascii_lowercase())
}

const ROOM: &str = "caCertificate";
