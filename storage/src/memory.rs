//! The store without a disk: the same promises, minus surviving the process.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::change::versions;
use crate::{Action, Change, Committed, Document, Error, Key, Page, Snapshot, Store};

#[derive(Default)]
pub(crate) struct Memory(RwLock<State>);

#[derive(Default, Clone)]
struct Documents(BTreeMap<Key, Document>);

#[derive(Default)]
struct State {
    /// Shared with snapshots; a write that finds one held copies.
    documents: Arc<Documents>,
    latest: u64,
    closed: bool,
}

impl Store for Memory {
    fn get(&self, key: &Key) -> Result<Option<Document>, Error> {
        self.0.read().open()?.documents.get(key)
    }

    fn scan(
        &self,
        room: &'static str,
        prefix: &str,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Page, Error> {
        self.0
            .read()
            .open()?
            .documents
            .scan(room, prefix, after, limit)
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>, Error> {
        Ok(Box::new(Arc::clone(&self.0.read().open()?.documents)))
    }

    fn commit(&self, changes: Vec<Change>) -> Committed {
        Box::pin(std::future::ready(self.0.write().apply(changes)))
    }

    fn commit_lazily(&self, changes: Vec<Change>) {
        if let Err(error) = self.0.write().apply(changes) {
            tracing::warn!(%error, "a lazy write was not made");
        }
    }

    fn close(&self) {
        self.0.write().closed = true;
    }
}

impl Snapshot for Arc<Documents> {
    fn get(&self, key: &Key) -> Result<Option<Document>, Error> {
        Ok(self.0.get(key).cloned())
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
            Some(after) if *after >= first => Bound::Excluded(after),
            _ => Bound::Included(&first),
        };
        let rows = self
            .0
            .range((start, Bound::Unbounded))
            .take_while(|(key, _)| key.as_bytes().starts_with(first.as_bytes()))
            .map(|(key, document)| Ok((key.clone(), document.clone())));
        Page::cut(rows, limit)
    }
}

impl State {
    fn open(&self) -> Result<&Self, Error> {
        if self.closed {
            Err(Error::Closed)
        } else {
            Ok(self)
        }
    }

    fn apply(&mut self, changes: Vec<Change>) -> Result<Vec<u64>, Error> {
        self.open()?;
        let documents = &mut Arc::make_mut(&mut self.documents).0;
        let given = versions(&changes, &mut self.latest, |key| {
            Ok(documents.get(key).map(|document| document.version))
        })?;
        for (change, &version) in changes.into_iter().zip(&given) {
            match change.action {
                Action::Put(body) => {
                    documents.insert(change.key, Document { version, body });
                }
                Action::Delete => drop(documents.remove(&change.key)),
                Action::Leave => {}
            }
        }
        Ok(given)
    }
}
