//! Identities with their twins for a query: one state of the store, read a stretch at a time.
//!
//! A document is made no further than the query looks at it. May not enter: the hub's own thread, pages.

use std::collections::BTreeSet;
use std::sync::Arc;

use azimuth_storage::{Document, Key, Page, Snapshot};
use azimuth_wire::registry::Capabilities;
use azimuth_wire::twin;
use serde_json::{Map, Value};

use super::{DEVICES, Identity, Liveness, MODULES, Registry, members, twins};
use crate::error::Error;
use crate::query::{Collection, Keys, Limits, Part, Query, Wanted};
use crate::twin::{Twin, TwinPart};

/// What a query is asked of.
pub struct Rows {
    registry: Arc<Registry>,
    snapshot: Box<dyn Snapshot>,
    room: &'static str,
    query: Query,
    keys: Keys,
    looked_at: LookedAt,
}

/// What must be read of a document for its filter and its columns.
struct LookedAt {
    /// Names of the document's own members.
    members: Vec<String>,
    live: bool,
    twin: Option<TwinPart>,
}

/// Each is some ten microseconds.
const FEW: usize = 4;

/// Identities as they are stored, and where the next stretch begins.
pub type Documents = Page;

impl Rows {
    /// `None` where the collection is empty whatever is stored.
    pub fn open(registry: Arc<Registry>, query: Query) -> Result<Option<Self>, Error> {
        let room = match query.collection {
            Collection::Devices => DEVICES,
            Collection::Modules => MODULES,
            // No job is carried out device by device.
            Collection::Jobs => return Ok(None),
        };
        let snapshot = registry.store.snapshot()?;
        let (keys, wanted) = (query.keys(), query.wanted());
        Ok(Some(Self {
            registry,
            snapshot,
            room,
            keys,
            looked_at: LookedAt::new(&wanted),
            query,
        }))
    }

    /// The key of a row.
    pub fn key(&self, name: &str) -> Key {
        Key::new(self.room, name)
    }

    /// Whether a query can be true of a handful of devices at most, whatever is stored.
    pub fn are_few(query: &Query) -> bool {
        query.collection == Collection::Devices
            && matches!(query.keys(), Keys::These(ids) if ids.len() <= FEW)
    }

    /// Up to `most` identities behind a key, of those that the query can be true of.
    pub fn stretch(&self, behind: Option<&Key>, most: usize) -> Result<Documents, Error> {
        let ids = match &self.keys {
            Keys::All => return self.beginning_with("", behind, most),
            Keys::Prefix(prefix) => return self.beginning_with(prefix, behind, most),
            Keys::These(ids) => ids,
        };
        let mut documents = Vec::new();
        for begin in ids.iter().map(|id| self.begin(id)).collect::<BTreeSet<_>>() {
            let some = match self.room {
                // Other ids may begin like it, and come behind it.
                DEVICES => 1,
                _ => most - documents.len(),
            };
            let mut some = self.beginning_with(&begin, behind, some)?.documents;
            some.retain(|(key, _)| self.room != DEVICES || key.name() == begin);
            documents.append(&mut some);
            if documents.len() >= most {
                let next = documents.last().map(|(key, _)| key.clone());
                return Ok(Page { documents, next });
            }
        }
        Ok(Page {
            documents,
            next: None,
        })
    }

    /// How the keys of a device's rows begin: in this order they come.
    fn begin(&self, id: &str) -> String {
        match self.room {
            MODULES => format!("{id}/"),
            _ => id.to_owned(),
        }
    }

    fn beginning_with(
        &self,
        begin: &str,
        behind: Option<&Key>,
        most: usize,
    ) -> Result<Documents, Error> {
        Ok(self.snapshot.scan(self.room, begin, behind, most)?)
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
        let looked_at = self.looked_at(document)?;
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
        let stored = self.snapshot.get(&twins::twin_key(&identity.name()))?;
        let stored = stored.map(|stored| serde_json::from_slice(&stored.body));
        let twin = twins::own(&identity, stored.transpose()?);
        shown(&identity, &twin, self.liveness(&identity)?)
    }

    /// The members that the query looks at, and nothing else.
    fn looked_at(&self, document: &Document) -> Result<Value, Error> {
        let mut shown = Map::new();
        if self.looked_at.members.is_empty() {
            return Ok(Value::Object(shown));
        }
        let identity: Identity = serde_json::from_slice(&document.body)?;
        let live = match self.looked_at.live {
            true => self.liveness(&identity)?,
            false => Liveness::default(),
        };
        for name in &self.looked_at.members {
            let member = members::of_identity(&identity, live, name);
            member.map(|member| shown.insert(name.clone(), member));
        }
        if let Some(part) = &self.looked_at.twin {
            let stored = self.snapshot.get(&twins::twin_key(&identity.name()))?;
            let own = match stored {
                Some(stored) => part.show(&stored.body, &identity.generation_id, &mut shown)?,
                None => false,
            };
            if !own {
                let first = self::shown(&identity, &twins::own(&identity, None), live)?;
                let mut first = serde_json::to_value(first)?;
                for name in TwinPart::MEMBERS {
                    let member = first.get_mut(name).map(Value::take);
                    member.map(|member| shown.insert(name.into(), member));
                }
            }
        }
        Ok(Value::Object(shown))
    }

    fn liveness(&self, identity: &Identity) -> Result<Liveness, Error> {
        let (name, generation) = (identity.name(), &identity.generation_id);
        let read = |key: &Key| self.snapshot.get(key);
        Ok(self.registry.live.liveness_in(&read, &name, generation)?)
    }
}

/// A twin as queries show it: that of a module has capabilities too.
fn shown(identity: &Identity, twin: &Twin, live: Liveness) -> Result<twin::Twin, Error> {
    let mut shown = twins::shown(identity, twin, live)?;
    shown.capabilities.get_or_insert(Capabilities::default());
    Ok(shown)
}

impl LookedAt {
    fn new(wanted: &Wanted) -> Self {
        let any = |names: &[&str]| names.iter().any(|name| wanted.of(name).is_some());
        Self {
            members: wanted.names().map(ToOwned::to_owned).collect(),
            live: any(&["connectionState", "lastActivityTime"]),
            twin: any(&TwinPart::MEMBERS).then(|| TwinPart::new(wanted)),
        }
    }
}
