//! One partition as its readers see it: which segments there are, and where the stream ends.
//!
//! There is always one segment at least, the active one, so sequence numbers outlive retention and restarts.
//!
//! May not enter: writing and deleting files (see [`writer`](super::writer)), other partitions, what an envelope holds.

use std::collections::VecDeque;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::RwLock;
use tokio::sync::watch;

use super::segment::{Mark, from_millis};

/// What a partition holds. An emptied partition still knows what its last event had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Properties {
    /// Of the oldest event held; when there is none, of the next one to come.
    pub first_sequence: u64,
    pub last_sequence: Option<u64>,
    pub last_offset: Option<u64>,
    pub last_enqueued: Option<SystemTime>,
    pub is_empty: bool,
}

/// What the writer shares with the readers of one partition.
pub(super) struct Shared {
    pub index: u16,
    pub folder: PathBuf,
    /// In order. Never empty; the last one is being written to.
    pub(super) segments: RwLock<VecDeque<Segment>>,
    /// Where the stream ends; what lies behind is not yet, or not to be, read.
    pub end: watch::Receiver<Mark>,
}

#[derive(Clone)]
pub(super) struct Segment {
    pub start: Mark,
    /// Kept open while active only. Readers open sealed ones for each read, so that a reader that stopped keeps neither
    /// a descriptor nor the blocks of a file retention has dropped.
    pub file: Option<Arc<File>>,
}

/// The segment a reader's next record is in.
pub(super) struct Located {
    pub start: Mark,
    /// Where the following segment begins, if there is one.
    pub next: Option<Mark>,
    pub file: Option<Arc<File>>,
}

impl Shared {
    pub fn properties(&self) -> Properties {
        // In this order: the first segment never begins behind an end read after it.
        let first_sequence = self.first().sequence;
        let end = *self.end.borrow();
        Properties {
            first_sequence,
            last_sequence: end.sequence.checked_sub(1),
            last_offset: end.last_offset,
            last_enqueued: end.last_enqueued_ms.map(from_millis),
            is_empty: first_sequence >= end.sequence,
        }
    }

    /// Where the oldest segment begins.
    pub fn first(&self) -> Mark {
        self.segments
            .read()
            .front()
            .map(|segment| segment.start)
            .unwrap_or_default()
    }

    /// The last segment for whose start `not_after` holds, or else the oldest.
    pub fn locate(&self, not_after: impl Fn(&Mark) -> bool) -> Located {
        let segments = self.segments.read();
        let at = segments
            .partition_point(|segment| not_after(&segment.start))
            .saturating_sub(1);
        Located {
            start: segments
                .get(at)
                .map(|segment| segment.start)
                .unwrap_or_default(),
            next: segments.get(at + 1).map(|segment| segment.start),
            file: segments.get(at).and_then(|segment| segment.file.clone()),
        }
    }

    /// Whether the segment that begins here has not been dropped.
    pub fn holds(&self, start: &Mark) -> bool {
        self.segments
            .read()
            .binary_search_by_key(&start.sequence, |segment| segment.start.sequence)
            .is_ok()
    }
}
