//! Stores that differ in a thing or two from the store below them.

use std::sync::Arc;

use azimuth_storage::{Change, Committed, Document, Error, Key, Page, Snapshot, Store};

/// What differs.
pub trait Layer: Send + Sync + 'static {
    fn below(&self) -> &Arc<dyn Store>;

    fn snapshot(&self) -> Result<Box<dyn Snapshot>, Error> {
        self.below().snapshot()
    }

    fn commit(&self, changes: Vec<Change>) -> Committed {
        self.below().commit(changes)
    }
}

/// The store that a layer makes of the one below.
pub struct Over<L>(pub L);

impl<L: Layer> Store for Over<L> {
    fn get(&self, key: &Key) -> Result<Option<Document>, Error> {
        self.0.below().get(key)
    }

    fn scan(
        &self,
        room: &'static str,
        prefix: &str,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Page, Error> {
        self.0.below().scan(room, prefix, after, limit)
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>, Error> {
        self.0.snapshot()
    }

    fn commit(&self, changes: Vec<Change>) -> Committed {
        self.0.commit(changes)
    }

    fn commit_lazily(&self, changes: Vec<Change>) {
        self.0.below().commit_lazily(changes);
    }

    fn close(&self) {
        self.0.below().close();
    }
}
