//! Blobs that a job reads and writes: in a container of Azure's Blob service, or in a folder of this machine.
//!
//! Files are read and written a piece at a time, and stand in their place only when they are whole. May not
//! enter: what is in a blob, what a job is. No URI and nothing of one is ever told, for it may hold a
//! signature.

mod azure;
mod folder;

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;

pub use azure::{AzureContainer, AzureWriter, client};
pub use folder::{FileWriter, Folder, FolderPlace};

/// Bytes that are read and written at once.
pub const PIECE: usize = 4 << 20;

/// Where blobs are.
pub enum Container {
    Azure(AzureContainer),
    Folder(Folder),
}

/// Where containers may be, and how they are reached.
pub struct Places {
    pub client: reqwest::Client,
    /// URIs of `file:` are below it.
    pub folder: PathBuf,
}

/// A blob as it was found. What is read of it later is still that blob, or nothing.
pub enum Source {
    Azure { blob: azure::Found },
    File { file: std::fs::File, size: u64 },
}

/// A blob that is being written.
pub enum Writer {
    Azure(AzureWriter),
    File(FileWriter),
}

/// Why a container did not do what was asked, without its URI.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The signature does not allow it.
    #[error("Unauthorized")]
    Unauthorized,
    /// No such container, blob or file.
    #[error("not found")]
    Missing,
    #[error("it is not the blob that was there when the job began")]
    Changed,
    #[error("{0}")]
    Other(String),
    /// Worth another try.
    #[error("{0}")]
    Passing(String),
}

impl Container {
    /// Understands a URI. Nothing is asked of the container yet.
    pub fn open(uri: &str, places: &Places) -> Result<Self, String> {
        let scheme = uri.split(':').next().unwrap_or_default();
        match scheme.to_ascii_lowercase().as_str() {
            "http" | "https" => AzureContainer::new(uri, places.client.clone()).map(Self::Azure),
            "file" => {
                let place = FolderPlace::parse(uri)?;
                Folder::new(&places.folder, &place).map(Self::Folder)
            }
            _ => Err("its URI begins with none of `https:`, `http:` and `file:`".into()),
        }
    }

    /// Finds a blob to read.
    pub async fn find(&self, blob: &str) -> Result<Source, Failure> {
        match self {
            Self::Azure(container) => {
                let blob = again(async || container.find(blob).await).await?;
                Ok(Source::Azure { blob })
            }
            Self::Folder(folder) => {
                let (file, size) = folder.find(blob)?;
                Ok(Source::File { file, size })
            }
        }
    }

    /// The bytes from `offset` on, at most [`PIECE`] of them; none behind the end.
    pub async fn read(&self, source: &Source, offset: u64) -> Result<Bytes, Failure> {
        match (self, source) {
            (_, Source::File { file, .. }) => folder::read(file, offset),
            (Self::Azure(container), Source::Azure { blob }) => {
                again(async || container.read(blob, offset).await).await
            }
            (Self::Folder(_), Source::Azure { .. }) => Err(Failure::Missing),
        }
    }

    /// Begins a blob. It replaces one of the same name when it is finished, and is nowhere until then.
    pub fn write(&self, blob: &str) -> Result<Writer, Failure> {
        match self {
            Self::Azure(container) => Ok(Writer::Azure(container.write(blob))),
            Self::Folder(folder) => folder.write(blob).map(Writer::File),
        }
    }

    pub async fn delete(&self, blob: &str) -> Result<(), Failure> {
        match self {
            Self::Azure(container) => again(async || container.delete(blob).await).await,
            Self::Folder(folder) => folder.delete(blob),
        }
    }
}

impl Source {
    pub fn size(&self) -> u64 {
        match self {
            Self::Azure { blob } => blob.size,
            Self::File { size, .. } => *size,
        }
    }
}

impl Writer {
    pub async fn add(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match self {
            Self::Azure(writer) => writer.add(bytes).await,
            Self::File(writer) => writer.add(bytes),
        }
    }

    /// Puts the whole blob in its place.
    pub async fn finish(self) -> Result<(), Failure> {
        match self {
            Self::Azure(writer) => writer.finish().await,
            Self::File(writer) => writer.finish(),
        }
    }
}

/// Asks a few times where the trouble may pass.
async fn again<T>(mut ask: impl AsyncFnMut() -> Result<T, Failure>) -> Result<T, Failure> {
    for wait in WAITS {
        match ask().await {
            Err(Failure::Passing(_)) => tokio::time::sleep(wait).await,
            done => return done,
        }
    }
    ask().await
}

const WAITS: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];
