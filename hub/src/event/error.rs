//! What can go wrong in the event log, and what it found broken and repaired: each one sentence for a person.
//!
//! May not enter: wire codes. Whoever wraps [`Error`] decides what a device or a service client is told.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::segment::{FORMAT, MAX_ENVELOPE_BYTES};

/// Why the event log could not do what it was asked. Nothing of a batch that ended in an error was stored.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the disk that holds {} is full: nothing of this batch was stored", .path.display())]
    DiskFull { path: PathBuf },
    #[error("{} may not grow any further (file size limit or quota): nothing of this batch was stored", .path.display())]
    SizeLimit { path: PathBuf },
    #[error("{doing} {} failed", .path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the event log {} is open in another process", .folder.display())]
    InUse { folder: PathBuf },
    #[error("{} is not a file of this event log ({reason}); it was left untouched", .path.display())]
    Foreign { path: PathBuf, reason: &'static str },
    #[error("{} has event log format {found}, this version reads up to {FORMAT}; it was left untouched", .path.display())]
    Newer { path: PathBuf, found: u16 },
    #[error("the header of {} is damaged; it was left untouched, move it away to continue", .path.display())]
    DamagedHeader { path: PathBuf },
    #[error(
        "the event log {} has {found} partitions and cannot be opened with {asked}: the number is fixed at creation",
        .folder.display()
    )]
    PartitionCount {
        folder: PathBuf,
        found: u16,
        asked: u16,
    },
    #[error("an event log needs between 1 and 1024 partitions, not {asked}")]
    PartitionsOutOfRange { asked: u16 },
    #[error("there is no partition {asked}: this event log has {partitions}, counted from 0")]
    UnknownPartition { asked: u16, partitions: u16 },
    #[error("an event of {bytes} bytes is above the limit of {MAX_ENVELOPE_BYTES} bytes")]
    TooLarge { bytes: usize },
    #[error(
        "the supplied {what} {asked} is beyond the end of partition {partition}, where the next {what} is {end}"
    )]
    BeyondEnd {
        partition: u16,
        what: &'static str,
        asked: u64,
        end: u64,
    },
}

impl Error {
    /// Turns what the operating system said about `path` while `doing` something into an error of ours.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| {
            let path = path.to_path_buf();
            match source.kind() {
                io::ErrorKind::StorageFull => Self::DiskFull { path },
                io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                    Self::SizeLimit { path }
                }
                _ => Self::Io {
                    doing,
                    path,
                    source,
                },
            }
        }
    }
}

/// What opening a log cut off the end of a segment, because it was never wholly written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    pub path: PathBuf,
    /// Whole records before the cut, all kept.
    pub kept_records: u64,
    pub cut_bytes: u64,
    pub reason: &'static str,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            kept_records,
            cut_bytes,
            reason,
        } = self;
        let path = path.display();
        write!(
            f,
            "cut {cut_bytes} bytes off the end of {path} ({reason}); the {kept_records} records before are kept"
        )
    }
}

/// A place in a segment a reader could not read. It went on behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    pub path: PathBuf,
    /// The sequence number of the first record that could not be read.
    pub sequence: u64,
    /// How many records, from that one on, the reader stepped over.
    pub lost_records: u64,
    pub reason: &'static str,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            sequence,
            lost_records,
            reason,
        } = self;
        let path = path.display();
        write!(
            f,
            "{path} cannot be read from sequence number {sequence} on ({reason}); skipped {lost_records} records"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_a_clear_sentence() {
        let path = Path::new("/data/events/00/x.events");
        let rows = [
            (
                io::ErrorKind::StorageFull,
                "the disk that holds /data/events/00/x.events is full: nothing of this batch was stored",
            ),
            (
                io::ErrorKind::FileTooLarge,
                "/data/events/00/x.events may not grow any further (file size limit or quota): nothing of this batch was stored",
            ),
            (
                io::ErrorKind::PermissionDenied,
                "appending to /data/events/00/x.events failed",
            ),
        ];
        for (kind, sentence) in rows {
            assert_eq!(
                Error::io("appending to", path)(kind.into()).to_string(),
                sentence
            );
        }
    }

    #[test]
    fn what_was_cut_and_what_cannot_be_read_are_sentences() {
        let path = PathBuf::from("a.events");
        let cut = Cut {
            path: path.clone(),
            kept_records: 7,
            cut_bytes: 12,
            reason: "the last record is incomplete",
        };
        assert_eq!(
            cut.to_string(),
            "cut 12 bytes off the end of a.events (the last record is incomplete); the 7 records before are kept"
        );
        let damage = Damage {
            path,
            sequence: 3,
            lost_records: 2,
            reason: "checksum does not match",
        };
        assert_eq!(
            damage.to_string(),
            "a.events cannot be read from sequence number 3 on (checksum does not match); skipped 2 records"
        );
    }
}
