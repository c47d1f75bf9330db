//! The CA certificates of a DPS: what chains of devices must lead to, once possession of the key is proven.
//!
//! Kept in the store under their folded name and, read, in memory. What may not enter: enrollments, HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use azimuth_certs::{Certificate, VerificationCode, check_possession};
use azimuth_storage::{Change, Expect, Key, Store};
use azimuth_wire::ca_certificate::{
    CA_CERTIFICATE_TYPE, CaCertificate, CaCertificateBody, CaCertificateProperties,
};
use azimuth_wire::etag::{self, IfMatch};
use azimuth_wire::time::Timestamp;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::records;

/// A CA certificate as chains are held against it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ca {
    pub name: String,
    pub certificate: Certificate,
    /// Only then does it let anybody in.
    pub verified: bool,
}

/// All CA certificates of a DPS.
pub struct CaCertificates {
    store: Arc<dyn Store>,
    live: RwLock<Arc<[Ca]>>,
    /// One writer at a time, so that the copy in memory follows the store.
    writing: tokio::sync::Mutex<()>,
    epoch: AtomicU64,
}

/// As it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    name: String,
    /// Base64 of the DER.
    certificate: String,
    verified: bool,
    created: Timestamp,
    updated: Timestamp,
    verification_code: Option<String>,
    etag: String,
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
        self.kept()?.into_iter().map(Kept::shown).collect()
    }

    pub fn get(&self, name: &str) -> Result<CaCertificate, Error> {
        self.present(name)?.1.shown()
    }

    /// Takes a certificate in, or replaces one; then possession has to be proven anew, unless its
    /// owner says that it need not be.
    pub async fn put(
        &self,
        name: &str,
        body: &CaCertificateBody,
        condition: &IfMatch,
        now: SystemTime,
    ) -> Result<CaCertificate, Error> {
        check_name(name)?;
        let certificate = read_certificate(body.certificate())?;
        let _writing = self.writing.lock().await;
        let present = match self.present(name) {
            Ok(present) => Some(present),
            Err(Error::CaCertificateNotFound(_)) => None,
            Err(error) => return Err(error),
        };
        let (expect, created) = match (present, condition) {
            (Some(_), IfMatch::Absent) => {
                return Err(Error::AlreadyExists(format!("The CA certificate `{name}`")));
            }
            (Some((expect, kept)), condition) => {
                kept.meets(condition)?;
                (expect, kept.created)
            }
            (None, IfMatch::Etag(_)) => return Err(Error::PreconditionFailed),
            (None, IfMatch::Absent | IfMatch::Any) => (Expect::Absent, now.into()),
        };
        let kept = Kept {
            name: name.to_owned(),
            certificate: certificate.base64(),
            verified: body.is_verified(),
            created,
            updated: now.into(),
            verification_code: None,
            etag: String::new(),
        };
        self.write(kept, expect).await
    }

    /// A new code for the owner to sign; an older one no longer counts.
    pub async fn challenge(
        &self,
        name: &str,
        condition: &IfMatch,
        now: SystemTime,
    ) -> Result<CaCertificate, Error> {
        let _writing = self.writing.lock().await;
        let (expect, mut kept) = self.present(name)?;
        kept.meets(condition)?;
        let code = VerificationCode::from_random(rand::random());
        kept.verification_code = Some(code.to_string());
        kept.updated = now.into();
        self.write(kept, expect).await
    }

    /// Holds the owner's proof against the last code.
    pub async fn verify(
        &self,
        name: &str,
        body: &CaCertificateBody,
        condition: &IfMatch,
        now: SystemTime,
    ) -> Result<CaCertificate, Error> {
        let proof = read_certificate(body.certificate())?;
        let _writing = self.writing.lock().await;
        let (expect, mut kept) = self.present(name)?;
        kept.meets(condition)?;
        let code = kept.verification_code.as_deref();
        let code = code.and_then(|code| code.parse::<VerificationCode>().ok());
        let code = code.ok_or_else(|| {
            let sentence = "no verification code was asked for; generate one first";
            Error::Invalid(sentence.into())
        })?;
        let ca = kept.ca()?;
        check_possession(&ca.certificate, &code, &proof, now)
            .map_err(|why| Error::Invalid(format!("possession is not proven: {why}")))?;
        kept.verified = true;
        kept.verification_code = None;
        kept.updated = now.into();
        self.write(kept, expect).await
    }

    /// Devices below it no longer come in.
    pub async fn remove(&self, name: &str, condition: &IfMatch) -> Result<(), Error> {
        let _writing = self.writing.lock().await;
        let (expect, kept) = self.present(name)?;
        kept.meets(condition)?;
        self.commit(Change::delete(key(name), expect)).await
    }

    async fn write(&self, mut kept: Kept, expect: Expect) -> Result<CaCertificate, Error> {
        kept.etag = etag::of_guid(&uuid::Uuid::new_v4().to_string());
        let change = Change::put(key(&kept.name), expect, records::write(&kept));
        self.commit(change).await?;
        kept.shown()
    }

    async fn commit(&self, change: Change) -> Result<(), Error> {
        match self.store.commit(vec![change]).await {
            Ok(_) => {}
            Err(azimuth_storage::Error::Conflict { .. }) => return Err(Error::PreconditionFailed),
            Err(error) => return Err(error.into()),
        }
        self.reload()?;
        self.epoch.fetch_add(1, Ordering::Release);
        Ok(())
    }

    fn present(&self, name: &str) -> Result<(Expect, Kept), Error> {
        let key = key(name);
        let document = self.store.get(&key)?;
        let document = document.ok_or_else(|| Error::CaCertificateNotFound(name.into()))?;
        Ok((
            Expect::Version(document.version),
            records::read(&key, &document.body)?,
        ))
    }

    fn kept(&self) -> Result<Vec<Kept>, Error> {
        records::all(&*self.store, ROOM)
    }

    fn reload(&self) -> Result<(), Error> {
        let live: Result<Vec<Ca>, Error> = self.kept()?.iter().map(Kept::ca).collect();
        *self.live.write() = live?.into();
        Ok(())
    }
}

impl Kept {
    fn meets(&self, condition: &IfMatch) -> Result<(), Error> {
        match condition {
            IfMatch::Etag(etag) if *etag != self.etag => Err(Error::PreconditionFailed),
            _ => Ok(()),
        }
    }

    fn ca(&self) -> Result<Ca, Error> {
        let certificate = Certificate::read_first(self.certificate.as_bytes());
        Ok(Ca {
            name: self.name.clone(),
            certificate: certificate.map_err(|_| Error::Damaged(key(&self.name).to_string()))?,
            verified: self.verified,
        })
    }

    fn shown(self) -> Result<CaCertificate, Error> {
        let certificate = self.ca()?.certificate;
        let info = certificate.info();
        Ok(CaCertificate {
            name: self.name,
            kind: CA_CERTIFICATE_TYPE,
            etag: self.etag,
            properties: CaCertificateProperties {
                subject: certificate
                    .common_name()
                    .map_or(info.subject_name, str::to_owned),
                expiry: certificate.validity().end_text(),
                thumbprint: info.sha1_thumbprint,
                is_verified: self.verified,
                created: self.created,
                updated: self.updated,
                certificate: None,
                verification_code: self.verification_code,
            },
        })
    }
}

fn read_certificate(text: &str) -> Result<Certificate, Error> {
    Certificate::read_first(text.as_bytes()).map_err(|error| {
        let sentence = format!("certificate must be PEM text, or base64 of PEM or DER: {error}");
        Error::Invalid(sentence)
    })
}

fn check_name(name: &str) -> Result<(), Error> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if !name.is_empty() && name.len() <= MOST_NAME_BYTES && name.bytes().all(allowed) {
        return Ok(());
    }
    Err(Error::Invalid(
        "the name of a CA certificate has 1 to 64 letters, digits, `-`, `.` and `_`".into(),
    ))
}

fn key(name: &str) -> Key {
    Key::new(ROOM, &name.to_ascii_lowercase())
}

const ROOM: &str = "caCertificates";
const MOST_NAME_BYTES: usize = 64;
