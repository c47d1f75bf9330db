//! All identities with their twins, a page at a time.
//!
//! May not enter: what they are read for.

use azimuth_storage::Key;
use azimuth_wire::registry::Device;
use azimuth_wire::twin::Twin;

use super::{Identity, ROOM, Registry};
use crate::error::Error;

/// Some identities in the order of their ids, as they were at one moment.
pub struct IdentityPage {
    pub rows: Vec<(Device, Twin)>,
    /// For the next page.
    pub next: Option<Key>,
}

impl Registry {
    pub fn page(&self, after: Option<&Key>, limit: usize) -> Result<IdentityPage, Error> {
        let page = self.store.scan(ROOM, "", after, limit)?;
        let rows = page.documents.iter().map(|(_, document)| {
            let identity: Identity = serde_json::from_slice(&document.body)?;
            Ok((self.answer(&identity)?, self.twin_of(&identity)?))
        });
        Ok(IdentityPage {
            rows: rows.collect::<Result<_, Error>>()?,
            next: page.next,
        })
    }
}
