//! Identities with their twins for a query: one state of the store, read a stretch at a time.
//!
//! A document is made no further than the query looks at it. May not enter: the hub's own thread, pages.

use std::sync::Arc;

use azimuth_storage::{Document, Key, Page, Snapshot};
use azimuth_wire::twin;
use serde_json::{Map, Value};

use super::{Identity, Liveness, ROOM, Registry, twins};
use crate::error::Error;
use crate::query::{Keys, Limits, Part, Query, Wanted};
use crate::twin::TwinPart;

/// What a query is asked of.
pub struct Rows {
    registry: Arc<Registry>,
    snapshot: Box<dyn Snapshot>,
    query: Query,
    keys: Keys,
    looked_at: LookedAt,
}

/// What must be read of a document for its filter and its columns.
struct LookedAt {
    nothing: bool,
    live: bool,
    twin: Option<TwinPart>,
}

/// Identities as they are stored, and where the next stretch begins.
pub type Documents = Page;

impl Rows {
    pub fn open(registry: Arc<Registry>, query: Query) -> Result<Self, Error> {
        let snapshot = registry.store.snapshot()?;
        let (keys, wanted) = (query.keys(), query.wanted());
        Ok(Self {
            registry,
            snapshot,
            keys,
            looked_at: LookedAt::new(&wanted),
            query,
        })
    }

    /// The key of a row.
    pub fn key(&self, name: &str) -> Key {
        Key::new(ROOM, name)
    }

    /// Up to `most` identities behind a key, of those that the query can be true of.
    pub fn stretch(&self, behind: Option<&Key>, most: usize) -> Result<Documents, Error> {
        let ids = match &self.keys {
            Keys::All => return Ok(self.snapshot.scan(ROOM, "", behind, most)?),
            Keys::Prefix(prefix) => return Ok(self.snapshot.scan(ROOM, prefix, behind, most)?),
            Keys::These(ids) => ids,
        };
        let mut documents = Vec::new();
        for id in ids {
            let key = Key::new(ROOM, id);
            if behind.is_some_and(|behind| key <= *behind) {
                continue;
            }
            if documents.len() >= most {
                let next = documents
                    .last()
                    .map(|(key, _): &(Key, Document)| key.clone());
                return Ok(Page { documents, next });
            }
            let found = self.snapshot.get(&key)?;
            documents.extend(found.map(|document| (key, document)));
        }
        Ok(Page {
            documents,
            next: None,
        })
    }

    /// What a stretch comes to, as far as it can be on one page.
    pub fn part(&self, stretch: &Documents, limits: Limits) -> Result<Part, Error> {
        let mut part = Part::new(&self.query);
        for (key, document) in &stretch.documents {
            if part.is_enough(limits) {
                break;
            }
            self.judge(key, document, &mut part)?;
        }
        Ok(part)
    }

    fn judge(&self, key: &Key, document: &Document, part: &mut Part) -> Result<(), Error> {
        let nothing = Value::Object(Map::new());
        let looked_at = match self.looked_at.nothing {
            true => nothing,
            false => serde_json::to_value(self.part_of_twin(document)?)?,
        };
        if !self.query.passes(&looked_at) {
            return Ok(());
        }
        if self.query.selects_everything() {
            part.push(key.name(), serde_json::to_vec(&self.whole_twin(document)?)?);
        } else {
            part.add(&self.query, key.name(), &looked_at)?;
        }
        Ok(())
    }

    fn whole_twin(&self, document: &Document) -> Result<twin::Twin, Error> {
        let identity: Identity = serde_json::from_slice(&document.body)?;
        let stored = self.snapshot.get(&twins::twin_key(&identity.device_id))?;
        let stored = stored.map(|stored| serde_json::from_slice(&stored.body));
        let twin = twins::own(&identity, stored.transpose()?);
        twins::shown(&identity, &twin, self.liveness(&identity)?)
    }

    fn part_of_twin(&self, document: &Document) -> Result<twin::Twin, Error> {
        let identity: Identity = serde_json::from_slice(&document.body)?;
        let stored = match &self.looked_at.twin {
            Some(part) => {
                let stored = self.snapshot.get(&twins::twin_key(&identity.device_id))?;
                stored.map(|stored| part.read(&stored.body)).transpose()?
            }
            None => None,
        };
        let live = match self.looked_at.live {
            true => self.liveness(&identity)?,
            false => Liveness::default(),
        };
        twins::shown(&identity, &twins::own(&identity, stored), live)
    }

    fn liveness(&self, identity: &Identity) -> Result<Liveness, Error> {
        let (device, generation) = (&identity.device_id, &identity.generation_id);
        let read = |key: &Key| self.snapshot.get(key);
        Ok(self.registry.live.liveness_in(&read, device, generation)?)
    }
}

impl LookedAt {
    fn new(wanted: &Wanted) -> Self {
        let any = |names: &[&str]| names.iter().any(|name| wanted.of(name).is_some());
        Self {
            nothing: wanted.is_nothing(),
            live: any(&["connectionState", "lastActivityTime"]),
            twin: any(&["etag", "version", "tags", "properties"]).then(|| TwinPart::new(wanted)),
        }
    }
}
