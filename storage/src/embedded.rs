//! The store in one redb file: readers on their own threads, one writer thread.

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Mutex, RwLock};
use redb::{Database, ReadOnlyTable, ReadableDatabase};

use crate::format::{self, DOCUMENTS, unseal};
use crate::queue::{Queue, Refused};
use crate::{Change, Committed, Document, Error, Key, Page, Snapshot, Store, writer};

pub(crate) struct Embedded {
    /// Empty once closed. The lock is held for a pointer's copy only.
    database: RwLock<Option<Arc<Database>>>,
    queue: Arc<Queue>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Embedded {
    pub fn open(path: &Path) -> Result<Self, Error> {
        let database = Arc::new(format::open(path)?);
        let queue = Arc::new(Queue::new());
        let writer = std::thread::Builder::new()
            .name("azimuth-store".to_owned())
            .spawn({
                let (database, queue) = (database.clone(), queue.clone());
                move || writer::run(&database, &queue)
            })
            .map_err(|error| Error::storage(redb::Error::Io(error)))?;
        Ok(Self {
            database: RwLock::new(Some(database)),
            queue,
            writer: Mutex::new(Some(writer)),
        })
    }

    fn newest(&self) -> Result<State, Error> {
        let database = self.database.read().clone().ok_or(Error::Closed)?;
        let snapshot = database.begin_read().map_err(Error::storage)?;
        let documents = snapshot.open_table(DOCUMENTS).map_err(Error::storage)?;
        Ok(State(documents))
    }
}

/// One committed state, for as long as it is held.
struct State(ReadOnlyTable<&'static [u8], &'static [u8]>);

impl Snapshot for State {
    fn get(&self, key: &Key) -> Result<Option<Document>, Error> {
        let stored = self.0.get_owned(key.as_bytes()).map_err(Error::storage)?;
        stored.map(|stored| unseal(stored.value())).transpose()
    }

    fn scan(
        &self,
        room: &'static str,
        prefix: &str,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Page, Error> {
        let first = Key::new(room, prefix);
        let start = match after {
            Some(after) if *after >= first => Bound::Excluded(after.as_bytes()),
            _ => Bound::Included(first.as_bytes()),
        };
        let rows = self
            .0
            .range_owned::<&[u8]>((start, Bound::Unbounded))
            .map_err(Error::storage)?
            .map(|row| {
                let (key, value) = row.map_err(Error::storage)?;
                let key = Key::from_bytes(key.value()).ok_or_else(|| {
                    Error::storage(redb::Error::Corrupted("a key that is no key".to_owned()))
                })?;
                Ok((key, value))
            })
            .take_while(|row| match row {
                Ok((key, _)) => key.as_bytes().starts_with(first.as_bytes()),
                Err(_) => true,
            })
            .map(|row| row.and_then(|(key, value)| Ok((key, unseal(value.value())?))));
        Page::cut(rows, limit)
    }
}

impl Store for Embedded {
    fn get(&self, key: &Key) -> Result<Option<Document>, Error> {
        self.newest()?.get(key)
    }

    fn scan(
        &self,
        room: &'static str,
        prefix: &str,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Page, Error> {
        self.newest()?.scan(room, prefix, after, limit)
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>, Error> {
        Ok(Box::new(self.newest()?))
    }

    fn commit(&self, changes: Vec<Change>) -> Committed {
        match self.queue.try_commit(changes) {
            Ok(answered) => Box::pin(async { answered.await.unwrap_or(Err(Error::Closed)) }),
            Err(Refused::Closed) => Box::pin(std::future::ready(Err(Error::Closed))),
            Err(Refused::Full(changes)) => {
                let queue = self.queue.clone();
                Box::pin(async move {
                    queue
                        .commit(changes)
                        .await?
                        .await
                        .unwrap_or(Err(Error::Closed))
                })
            }
        }
    }

    fn commit_lazily(&self, changes: Vec<Change>) {
        if !self.queue.commit_lazily(changes) {
            tracing::warn!("a lazy write was not made: the store is closed or its queue is full");
        }
    }

    fn close(&self) {
        self.queue.close();
        // Held to the end, so that a second caller too returns only when all is done.
        let mut writer = self.writer.lock();
        if let Some(writer) = writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the store's writer had failed before it was closed");
        }
        drop(self.database.write().take());
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.close();
    }
}
