//! Who is on the line. The newest connection of a principal wins.
//!
//! What may not enter: why somebody may connect, and what is sent.

use dashmap::DashMap;

use crate::backend::Owner;
use crate::line::{CloseReason, Line};
use crate::sessions::Sessions;

/// The lines of a service by the name of their principal.
#[derive(Debug, Default)]
pub struct Presence {
    lines: DashMap<Owner, Line>,
    pub(crate) sessions: Sessions,
}

impl Presence {
    pub fn new() -> Self {
        Self::default()
    }

    /// The live connection of a principal.
    pub fn line(&self, owner: &Owner) -> Option<Line> {
        self.lines.get(owner).map(|line| line.clone())
    }

    /// Throws a principal off the line; whether it was on it.
    pub fn close(&self, owner: &Owner, reason: CloseReason) -> bool {
        let Some(line) = self.line(owner) else {
            return false;
        };
        line.close(reason);
        true
    }

    /// Throws a principal that is no more off the line and forgets its stored session.
    pub fn forget(&self, owner: &Owner, reason: CloseReason) {
        self.close(owner, reason);
        self.sessions.forget(owner);
    }

    /// How many are on the line.
    pub fn count(&self) -> usize {
        self.lines.len()
    }

    /// Ends every connection.
    pub(crate) fn close_all(&self, reason: &CloseReason) {
        self.lines
            .iter()
            .for_each(|line| line.close(reason.clone()));
    }

    /// Puts a principal on the line and hands back the connection it takes over.
    pub(crate) fn arrive(&self, owner: &Owner, line: Line) -> Option<Line> {
        self.lines.insert(owner.clone(), line)
    }

    /// Takes a principal off the line, unless a newer connection is on it.
    pub(crate) fn leave(&self, owner: &Owner, line: &Line) {
        self.lines.remove_if(owner, |_, current| current.same(line));
    }
}
