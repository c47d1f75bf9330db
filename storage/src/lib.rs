//! Documents by key, with versions, behind one small trait.
//!
//! ```text
//!  get, scan, snapshot ────► the newest committed state     (never wait for a writer)
//!  commit ────────► queue ─► writer thread: one transaction for all that is queued,
//!  commit_lazily ─►           one flush to disk, then every answer
//! ```
//!
//! May not enter: devices, twins, enrollments, anything that knows what a document says; an async
//! runtime of its own; events (they are a log, not documents).

mod change;
mod embedded;
mod error;
mod format;
mod key;
mod memory;
mod overlay;
mod queue;
mod writer;

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

pub use change::{Action, Change, Document, Expect, Page};
pub use error::Error;
pub use key::Key;

/// The answer to [`Store::commit`]: the version that each change leaves behind, 0 for none.
pub type Committed = Pin<Box<dyn Future<Output = Result<Vec<u64>, Error>> + Send>>;

/// Where documents live. Cheap to share, safe from any thread.
pub trait Store: Send + Sync + 'static {
    /// The document under `key`, as last committed. Never waits for a writer.
    fn get(&self, key: &Key) -> Result<Option<Document>, Error>;

    /// The documents of `room` whose names begin with `prefix`, ordered by the bytes of their
    /// names, starting behind `after`. At most `limit` of them; a limit of 0 reads as 1, so that
    /// a loop over pages always ends. Each page is one snapshot, two pages are two.
    fn scan(
        &self,
        room: &'static str,
        prefix: &str,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Page, Error>;

    /// The newest committed state, to be read in many steps as if no time passed between them.
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, Error>;

    /// Applies all of `changes` or none, and resolves when they would survive a power cut.
    ///
    /// Changes of one set see each other in order. The set is queued at once while there is room,
    /// and then happens even if the future is dropped; when the queue is full the future waits
    /// for room, and dropping it withdraws the set. Await one commit before sending what must
    /// come after it.
    fn commit(&self, changes: Vec<Change>) -> Committed;

    /// Like [`commit`](Self::commit) for what may be lost: visible within about 50 ms, on disk
    /// with the next commit or after about a second. Failures, and a full queue, are logged.
    fn commit_lazily(&self, changes: Vec<Change>);

    /// Writes everything queued to disk, releases the file and refuses what comes later with
    /// [`Error::Closed`]. Waits for the disk. May be called twice; dropping the store does it too.
    fn close(&self);
}

/// One committed state. Hold it for moments only: while it is held, the file grows with every write.
pub trait Snapshot: Send + Sync + 'static {
    /// Like [`Store::get`].
    fn get(&self, key: &Key) -> Result<Option<Document>, Error>;

    /// Like [`Store::scan`].
    fn scan(
        &self,
        room: &'static str,
        prefix: &str,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Page, Error>;
}

/// Opens the store in the file at `path`, or creates it when the file is missing or empty.
///
/// A file that is not a store, is damaged, or was written by a newer Azimuth is refused, untouched.
pub fn open(path: &Path) -> Result<Arc<dyn Store>, Error> {
    Ok(Arc::new(embedded::Embedded::open(path)?))
}

/// A store that lives and dies with the process.
pub fn memory() -> Arc<dyn Store> {
    Arc::new(memory::Memory::default())
}
