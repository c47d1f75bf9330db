//! What a commit asks for, and the one rule both backends decide it by.
//!
//! May not enter: files, locks, threads.

use std::collections::HashMap;

use crate::{Error, Key};

/// A stored value and its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Opaque. Changes with every write of its key and is never used again for that key, not even
    /// after a delete.
    pub version: u64,
    pub body: Vec<u8>,
}

/// What must be true of a key for its change to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    Anything,
    Absent,
    Present,
    Version(u64),
}

/// What happens to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Put(Vec<u8>),
    Delete,
    /// Nothing: the key is a condition of the others.
    Leave,
}

/// One key, its condition and its action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub key: Key,
    pub expect: Expect,
    pub action: Action,
}

impl Change {
    /// Stores `body` under `key`.
    pub fn put(key: Key, expect: Expect, body: Vec<u8>) -> Self {
        Self {
            key,
            expect,
            action: Action::Put(body),
        }
    }

    /// Removes `key`; removing what is not there is no error unless `expect` says so.
    pub fn delete(key: Key, expect: Expect) -> Self {
        Self {
            key,
            expect,
            action: Action::Delete,
        }
    }

    /// Leaves `key` as it is; the set happens only while it is as expected.
    pub fn require(key: Key, expect: Expect) -> Self {
        Self {
            key,
            expect,
            action: Action::Leave,
        }
    }
}

/// A stretch of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    pub documents: Vec<(Key, Document)>,
    /// Pass as `after` for the next page; `None` when this is the last.
    pub next: Option<Key>,
}

impl Page {
    /// Cuts a page out of documents in order; reads one more than `limit` to know if it is the last.
    pub(crate) fn cut(
        rows: impl Iterator<Item = Result<(Key, Document), Error>>,
        limit: usize,
    ) -> Result<Self, Error> {
        let limit = limit.max(1);
        let mut documents = Vec::new();
        for row in rows {
            let row = row?;
            if documents.len() == limit {
                let next = documents
                    .last()
                    .map(|(key, _): &(Key, Document)| key.clone());
                return Ok(Self { documents, next });
            }
            documents.push(row);
        }
        Ok(Self {
            documents,
            next: None,
        })
    }
}

/// Decides a whole set before anything is written: the version each change leaves behind (0 for
/// nothing), or the conflict. `latest` is the last version given out and only moves on success.
pub(crate) fn versions(
    changes: &[Change],
    latest: &mut u64,
    mut stored: impl FnMut(&Key) -> Result<Option<u64>, Error>,
) -> Result<Vec<u64>, Error> {
    let mut planned: HashMap<&Key, Option<u64>> = HashMap::new();
    let mut next = *latest;
    let mut versions = Vec::with_capacity(changes.len());
    for (index, change) in changes.iter().enumerate() {
        let found = match planned.get(&change.key) {
            Some(found) => *found,
            None => stored(&change.key)?,
        };
        if !change.expect.holds(found) {
            return Err(Error::Conflict {
                key: change.key.clone(),
                found,
                index,
            });
        }
        let left = match change.action {
            Action::Put(_) => {
                next += 1;
                Some(next)
            }
            Action::Delete => None,
            Action::Leave => found,
        };
        planned.insert(&change.key, left);
        versions.push(left.unwrap_or(0));
    }
    *latest = next;
    Ok(versions)
}

impl Expect {
    fn holds(self, found: Option<u64>) -> bool {
        match self {
            Self::Anything => true,
            Self::Absent => found.is_none(),
            Self::Present => found.is_some(),
            Self::Version(version) => found == Some(version),
        }
    }
}
