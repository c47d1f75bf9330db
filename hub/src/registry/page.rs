//! All identities with their twins, a page at a time in the order of their keys.
//!
//! Two ranges of the store walk side by side, so a page costs two scans however few of its identities have a
//! twin that anybody wrote. May not enter: what is done with them.

use std::collections::HashMap;

use azimuth_storage::{Document, Key};
use azimuth_wire::{Identity as Name, twin};

use super::{DEVICES, Identity, MODULES, Registry, key, twins};
use crate::error::Error;
use crate::twin::Twin;

/// Which identities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collection {
    Devices,
    Modules,
}

/// An identity and its twin, both as they are stored.
#[derive(Debug)]
pub struct Pair {
    pub identity: Identity,
    twin: Twin,
}

/// A stretch of a collection.
#[derive(Debug)]
pub struct Page {
    pub pairs: Vec<Pair>,
    /// Pass as `after` for the next page; `None` when this is the last.
    pub next: Option<Name>,
}

impl Registry {
    /// Up to `limit` identities behind `after`. What is there from before the first page to the last comes
    /// once; of what comes or goes meanwhile, some. Reads the store: not for the hub's own thread.
    pub fn page(
        &self,
        collection: Collection,
        after: Option<&Name>,
        limit: usize,
    ) -> Result<Page, Error> {
        let (room, twin_room) = match collection {
            Collection::Devices => (DEVICES, twins::OF_DEVICES),
            Collection::Modules => (MODULES, twins::OF_MODULES),
        };
        let from = after.map(key);
        let page = self.store.scan(room, "", from.as_ref(), limit)?;
        let from = after.map(twins::twin_key);
        let mut twins = self.twins_until(twin_room, from, page.documents.last(), limit)?;
        let mut pairs = Vec::with_capacity(page.documents.len());
        for (key, document) in &page.documents {
            let identity: Identity = serde_json::from_slice(&document.body)?;
            let stored = twins.remove(key.name());
            let (_, twin) = twins::of(&identity, stored)?;
            pairs.push(Pair { identity, twin });
        }
        let last = pairs.last().map(|pair| pair.identity.name());
        Ok(Page {
            pairs,
            next: last.filter(|_| page.next.is_some()),
        })
    }

    /// The twin of a pair as a service sees it.
    pub fn twin_of(&self, pair: &Pair) -> Result<twin::Twin, Error> {
        self.shown_twin(&pair.identity, &pair.twin)
    }

    /// The twins that stand up to an identity.
    fn twins_until(
        &self,
        room: &'static str,
        mut from: Option<Key>,
        last: Option<&(Key, Document)>,
        limit: usize,
    ) -> Result<HashMap<String, Document>, Error> {
        let mut found = HashMap::new();
        let Some((last, _)) = last else {
            return Ok(found);
        };
        loop {
            let page = self.store.scan(room, "", from.as_ref(), limit)?;
            let named = page.documents.into_iter();
            found.extend(named.map(|(key, document)| (key.name().to_owned(), document)));
            match page.next {
                Some(next) if next.name() < last.name() => from = Some(next),
                Some(_) | None => return Ok(found),
            }
        }
    }
}
