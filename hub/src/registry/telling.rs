//! What is told of identities that are made and removed: in the commit that does it, so that none is forgotten.
//!
//! May not enter: what is told, and to whom.

use azimuth_storage::Change;
use azimuth_wire::twin::TwinBody;

use super::{Identity, Registry};
use crate::error::Error;
use crate::notification::{Announcement, Happening};

impl Registry {
    /// What is told of a write. The first of those that are made has a twin with this content.
    pub(super) fn told(
        &self,
        made: &[&Identity],
        content: &TwinBody,
        gone: &[Identity],
    ) -> Result<Vec<Announcement>, Error> {
        let Some(notifier) = &self.notifier else {
            return Ok(Vec::new());
        };
        let mut told = Vec::new();
        for (place, identity) in made.iter().enumerate() {
            let twin = || {
                let (_, twin) = self.load_twin(identity)?;
                match place == 0 && !content.is_empty() {
                    true => twin.with_content(content),
                    false => Ok(twin),
                }
            };
            told.extend(notifier.lifecycle(Happening::Created, &identity.name(), twin)?);
        }
        for identity in gone {
            let twin = || Ok(self.load_twin(identity)?.1);
            told.extend(notifier.lifecycle(Happening::Deleted, &identity.name(), twin)?);
        }
        Ok(told)
    }

    /// Commits a write with what is told of it; false when another write was faster.
    pub(super) async fn commit_told(
        &self,
        mut changes: Vec<Change>,
        mut told: Vec<Announcement>,
    ) -> Result<bool, Error> {
        let notifier = self.notifier.clone().filter(|_| !told.is_empty());
        let Some(notifier) = notifier else {
            return self.commit(changes).await;
        };
        changes.extend(
            told.iter_mut()
                .flat_map(|one| std::mem::take(&mut one.changes)),
        );
        let committed = self.store.commit(changes);
        // A task of its own: a client that hangs up now does not keep anybody from being told.
        let telling = tokio::spawn(async move {
            committed.await?;
            notifier.committed(told).await;
            Ok(())
        });
        match telling.await {
            Ok(Ok(())) => Ok(true),
            Ok(Err(azimuth_storage::Error::Conflict { .. })) => Ok(false),
            Ok(Err(error)) => Err(error.into()),
            // The hub stops.
            Err(_) => Err(azimuth_storage::Error::Closed.into()),
        }
    }
}
