//! The modules of a device: how many there are, and the two that an edge device is made with.
//!
//! A module stands under `device/module` in a room of its own, so a prefix finds those of a device. Beside a
//! device that has any stands their number: whoever makes or removes a module, or the device with them all,
//! does so while that number is what it was read as. May not enter: what a write does to one identity.

use azimuth_storage::{Change, Document, Expect, Key};
use azimuth_wire::{DeviceId, Identity as Name};

use super::{Identity, MODULES, Registry, key};
use crate::error::Error;

/// How many modules a device has, as read.
pub(super) struct Tally {
    key: Key,
    expect: Expect,
    count: usize,
}

/// What a write of an identity does to others.
#[derive(Default)]
pub(super) struct Kin {
    pub changes: Vec<Change>,
    /// Made with it.
    pub made: Vec<Identity>,
    /// Removed with it.
    pub gone: Vec<Identity>,
}

/// Azure's limit, system modules and all.
const MOST: usize = 50;

const SYSTEM: [&str; 2] = ["$edgeAgent", "$edgeHub"];

impl Registry {
    /// What goes with a write: a module is made beside a device that is there, and has its place among fifty;
    /// a device that becomes an edge device gets two modules, and loses them with that.
    pub(super) fn kin(&self, before: Option<&Identity>, after: &Identity) -> Result<Kin, Error> {
        if after.module_id.is_some() {
            return match before {
                Some(_) => Ok(Kin::default()),
                None => self.beside_device(&after.device_id),
            };
        }
        let had = before.is_some_and(|before| before.own_scope().is_some());
        let system = SYSTEM.into_iter().map(|module| Name {
            device: after.device_id.clone(),
            module: Some(module.parse().expect("it is an id")),
        });
        match (had, after.own_scope().is_some()) {
            (false, true) => {
                let mut kin = Kin {
                    changes: vec![self.tally(&after.device_id)?.more(SYSTEM.len())?],
                    ..Kin::default()
                };
                for name in system {
                    // Where one is there already, which should not be, it is replaced: to wait until it is gone
                    // would be to wait for ever.
                    let expect = match self.store.get(&key(&name))? {
                        None => Expect::Absent,
                        Some(stray) => Expect::Version(stray.version),
                    };
                    let module = Identity::system_module(name, self.fresh());
                    kin.changes.push(Self::made(&module, expect)?);
                    kin.made.push(module);
                }
                Ok(kin)
            }
            (true, false) => {
                let mut kin = Kin::default();
                for name in system {
                    if let Some((document, identity)) = self.load(&name)? {
                        let expect = Expect::Version(document.version);
                        kin.changes.extend(Self::removed(&identity, expect));
                        kin.gone.push(identity);
                    }
                }
                let tally = self.tally(&after.device_id)?;
                kin.changes.push(tally.fewer(kin.gone.len()));
                Ok(kin)
            }
            (true, true) | (false, false) => Ok(Kin::default()),
        }
    }

    /// All modules of a device, each as it is stored.
    pub(super) fn modules_of(&self, device: &DeviceId) -> Result<Vec<(Document, Identity)>, Error> {
        // `/` stands in no id.
        let prefix = format!("{device}/");
        let page = self.store.scan(MODULES, &prefix, None, MOST)?;
        let documents = page.documents.into_iter();
        documents
            .map(|(_, document)| {
                let identity = serde_json::from_slice(&document.body)?;
                Ok((document, identity))
            })
            .collect()
    }

    pub(super) fn tally(&self, device: &DeviceId) -> Result<Tally, Error> {
        let key = Key::new("modules-of", device.as_str());
        let stored = self.store.get(&key)?;
        Ok(match stored {
            None => Tally {
                key,
                expect: Expect::Absent,
                count: 0,
            },
            Some(document) => Tally {
                key,
                expect: Expect::Version(document.version),
                count: serde_json::from_slice(&document.body)?,
            },
        })
    }

    fn beside_device(&self, device: &DeviceId) -> Result<Kin, Error> {
        let name = Name::device(device.clone());
        let beside = self.load(&name)?;
        let (beside, _) = beside.ok_or_else(|| Error::not_found(&name))?;
        Ok(Kin {
            changes: vec![
                Change::require(key(&name), Expect::Version(beside.version)),
                self.tally(device)?.more(1)?,
            ],
            ..Kin::default()
        })
    }
}

impl Tally {
    pub fn more(self, modules: usize) -> Result<Change, Error> {
        let count = self.count + modules;
        match count > MOST {
            true => Err(Error::TooManyModules(MOST)),
            false => Ok(self.put(count)),
        }
    }

    pub fn fewer(self, modules: usize) -> Change {
        match self.count.saturating_sub(modules) {
            0 => self.none(),
            count => self.put(count),
        }
    }

    /// The device has none, or is no more itself.
    pub fn none(self) -> Change {
        Change::delete(self.key, self.expect)
    }

    fn put(self, count: usize) -> Change {
        Change::put(self.key, self.expect, count.to_string().into_bytes())
    }
}
