//! Why a store did not do what it was asked, in sentences its user can act on.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::Key;

/// What went wrong, for the caller.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The change at `index` did not find what it expected; nothing of its set happened.
    #[error("`{key}` is {}, not as expected", state(.found))]
    Conflict {
        key: Key,
        found: Option<u64>,
        index: usize,
    },

    #[error(
        "the store `{}` cannot be opened or created: check that its folder exists and that this user may write there, or name another path", .path.display()
    )]
    Unreadable {
        path: PathBuf,
        #[source]
        source: Arc<io::Error>,
    },

    #[error(
        "`{}` is not a store of Azimuth ({what}); it was left untouched: name another path, or move the file away", .path.display()
    )]
    Foreign { path: PathBuf, what: String },

    #[error(
        "the store `{}` has format {found}, this Azimuth reads up to {known}; it was left untouched: run a newer Azimuth, or name another path", .path.display()
    )]
    Newer {
        path: PathBuf,
        found: u64,
        known: u64,
    },

    #[error(
        "the store `{}` is damaged ({what}); it was left untouched: restore a copy, or move the file away to start empty", .path.display()
    )]
    Damaged { path: PathBuf, what: String },

    #[error(
        "the store `{}` is in use by another process: stop that one, or name another path", .path.display()
    )]
    Locked { path: PathBuf },

    #[error("the store is closed")]
    Closed,

    #[error("reading or writing the store failed")]
    Storage(#[source] Arc<redb::Error>),
}

impl Error {
    pub(crate) fn storage(error: impl Into<redb::Error>) -> Self {
        match error.into() {
            redb::Error::DatabaseClosed => Self::Closed,
            error => Self::Storage(Arc::new(error)),
        }
    }
}

fn state(found: &Option<u64>) -> String {
    match found {
        Some(version) => format!("at version {version}"),
        None => "absent".to_owned(),
    }
}
