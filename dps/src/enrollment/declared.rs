//! Declared enrollments: made at start when absent, replaced when the declaration changed.
//!
//! The declaration is kept beside the enrollment, so that what was changed since over REST stays
//! until the declaration itself changes.

use std::time::SystemTime;

use azimuth_storage::{Change, Expect, Key};
use azimuth_wire::etag::IfMatch;

use super::{Enrollments, Entry, rules};
use crate::error::Error;
use crate::records::{self, DECLARATIONS};

impl Enrollments {
    /// `hubs` are those declared beside it: it may name one that somebody has unlinked since, as an
    /// enrollment from before may.
    pub async fn declare<E: Entry>(
        &self,
        entry: E,
        hubs: &[String],
        now: SystemTime,
    ) -> Result<(), Error> {
        let (what, name) = (E::ITEM_TYPE, entry.shown_id());
        let declared = self.apply(entry, hubs, now).await;
        declared.map_err(|source| Error::Declaration {
            what,
            name,
            source: source.into(),
        })
    }

    async fn apply<E: Entry>(
        &self,
        entry: E,
        hubs: &[String],
        now: SystemTime,
    ) -> Result<(), Error> {
        let id = entry.folded_id();
        let key = Key::new(DECLARATIONS, &format!("{}/{id}", E::ROOM));
        let declaration = records::write(&entry);
        let last = self.store.get(&key)?;
        let unchanged = last.is_some_and(|last| last.body == declaration);
        if unchanged && self.entry::<E>(&id)?.is_some() {
            return Ok(());
        }
        let known: Vec<_> = (self.linked)().into_iter().chain(hubs.to_vec()).collect();
        rules::check(&entry, &known)?;
        self.write(entry, &IfMatch::Any, now).await?;
        let change = Change::put(key, Expect::Anything, declaration);
        self.store.commit(vec![change]).await?;
        Ok(())
    }
}
