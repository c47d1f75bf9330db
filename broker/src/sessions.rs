//! Sessions of principals that are off the line: their subscriptions and unacknowledged messages.
//!
//! In memory, as long as the service runs. What may not enter: live connections.

use dashmap::DashMap;

use crate::backend::Owner;
use crate::session::Kept;

/// Stored sessions by the name of their principal.
#[derive(Debug, Default)]
pub struct Sessions {
    kept: DashMap<Owner, Kept>,
}

impl Sessions {
    /// The session of a client that asks for its stored one; `None` when there is none.
    pub fn resume(&self, owner: &Owner) -> Option<Kept> {
        self.kept.remove(owner).map(|(_, kept)| kept)
    }

    /// Forgets the session: clean session 1 [MQTT-3.1.2-6], or the principal is no more.
    pub fn forget(&self, owner: &Owner) {
        self.kept.remove(owner);
    }

    /// Keeps the session of a connection that is over.
    pub fn keep(&self, owner: &Owner, kept: Kept) {
        self.kept.insert(owner.clone(), kept);
    }
}
