//! Reading one partition: from anywhere, at the reader's own pace, without the writer noticing.
//!
//! A reader that was overtaken by retention, or met a damaged segment, goes on behind the gap and says so in its next batch.
//! May not enter: locks held while reading, anything the writer would have to wait for.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::watch;

use super::error::{Damage, Error};
use super::partition::{Located, Shared};
use super::segment::{
    Head, Mark, Parsed, RECORD_HEAD_BYTES, Walk, damaged_record, from_millis, head_of,
    parse_record, read_full_at, to_millis,
};

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    Earliest,
    /// With the event that has this sequence number.
    Sequence(u64),
    /// With the first event at or behind this offset, in bytes. After a checkpoint, one more than the offset kept.
    Offset(u64),
    /// With the first event held that was enqueued at this time or later; that older ones are gone is not told.
    Time(SystemTime),
    /// With the next event to come.
    Latest,
}

/// Reads one partition in order. Costs nothing while it does not read.
pub struct Reader {
    shared: Arc<Shared>,
    end: watch::Receiver<Mark>,
    sequence: u64,
    offset: u64,
    /// Left out before reading began.
    missed: u64,
    buffer: Vec<u8>,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>, from: From) -> Result<Self, Error> {
        let end = shared.end.clone();
        let mut reader = Self {
            shared,
            end,
            sequence: 0,
            offset: 0,
            missed: 0,
            buffer: Vec::new(),
        };
        reader.seek(from)?;
        Ok(reader)
    }

    /// The sequence number of the next event to be read.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The next events, of about `max_bytes` together, but one at least if there is any. Empty when caught up. Blocks for
    /// as long as a read from the page cache or the disk takes.
    pub fn next_batch(&mut self, max_bytes: usize) -> Result<Batch<'_>, Error> {
        let mut skipped = std::mem::take(&mut self.missed);
        let mut damage = Vec::new();
        let bytes = loop {
            // The end first: segments that appear after it are then simply not read yet.
            let end = *self.end.borrow_and_update();
            let sequence = self.sequence;
            let segment = self.shared.locate(|start| start.sequence <= sequence);
            if segment.start.sequence > sequence {
                skipped += self.jump(&segment.start);
            }
            if self.sequence >= end.sequence {
                break 0;
            }
            let limit = segment
                .next
                .map_or(end.offset, |next| next.offset.min(end.offset));
            let (reason, behind) = match self.read(&segment, limit, max_bytes)? {
                Found::Records(bytes) => break bytes,
                Found::Dropped => continue,
                Found::Damaged { reason, bytes } => {
                    let behind = Mark {
                        sequence: sequence + 1,
                        offset: self.offset + bytes,
                        ..Mark::default()
                    };
                    (reason, behind)
                }
                Found::Broken(reason) => (reason, segment.next.unwrap_or(end)),
            };
            let first_lost = self.sequence;
            let lost_records = self.jump(&behind);
            skipped += lost_records;
            let path = segment.start.path_in(&self.shared.folder);
            damage.push(Damage {
                path,
                sequence: first_lost,
                lost_records,
                reason,
            });
        };
        let bytes = self.buffer.get(..bytes).unwrap_or_default();
        let batch = Batch {
            offset: self.offset,
            bytes,
            skipped,
            damage,
        };
        self.sequence += batch.records().count() as u64;
        self.offset += bytes.len() as u64;
        Ok(batch)
    }

    /// Waits until there is something to read; false once the log was closed and all is read. May be dropped and called again.
    pub async fn wait(&mut self) -> bool {
        let sequence = self.sequence;
        self.end
            .wait_for(|end| end.sequence > sequence)
            .await
            .is_ok()
    }

    fn seek(&mut self, from: From) -> Result<(), Error> {
        let end = *self.end.borrow();
        let partition = self.shared.index;
        let beyond = |what, asked, end| {
            Err(Error::BeyondEnd {
                partition,
                what,
                asked,
                end,
            })
        };
        if let Some(place) = self.known_place(from, &end) {
            self.jump(&place);
            return Ok(());
        }
        match from {
            From::Earliest | From::Latest => Ok(()),
            From::Sequence(asked) if asked > end.sequence => {
                beyond("sequence number", asked, end.sequence)
            }
            From::Sequence(asked) => {
                let segment = self.shared.locate(|start| start.sequence <= asked);
                self.sequence = asked;
                if segment.start.sequence >= asked {
                    // Exactly here, or overtaken already, which the first batch will notice and tell.
                    self.offset = segment.start.offset;
                    return Ok(());
                }
                self.seek_in(&segment, &end, |next, _| next.sequence >= asked)
            }
            From::Offset(asked) if asked > end.offset => beyond("offset", asked, end.offset),
            From::Offset(asked) => {
                let segment = self.shared.locate(|start| start.offset <= asked);
                // An event at or behind `asked` was dropped. How many were is not known any more.
                self.missed = u64::from(
                    segment
                        .start
                        .last_offset
                        .is_some_and(|dropped| dropped >= asked),
                );
                self.seek_in(&segment, &end, |next, _| next.offset >= asked)
            }
            From::Time(time) => {
                let asked = to_millis(time);
                // A segment can hold the first such event if all before it are older.
                let older =
                    |start: &Mark| start.last_enqueued_ms.is_none_or(|before| before < asked);
                let segment = self.shared.locate(older);
                self.seek_in(&segment, &end, |_, enqueued_ms| enqueued_ms >= asked)
            }
        }
    }

    /// A place that is found without walking through a segment.
    fn known_place(&self, from: From, end: &Mark) -> Option<Mark> {
        let at_end = match from {
            From::Earliest => return Some(self.shared.first()),
            From::Sequence(asked) => asked == end.sequence,
            From::Offset(asked) => asked == end.offset,
            From::Time(time) => end
                .last_enqueued_ms
                .is_none_or(|last| last < to_millis(time)),
            From::Latest => true,
        };
        at_end.then_some(*end)
    }

    /// Steps through a segment to the first record for which `found` holds, given where it stands and when it was enqueued;
    /// to the segment's end if there is none, or to where it cannot be read any further.
    fn seek_in(
        &mut self,
        segment: &Located,
        end: &Mark,
        found: impl Fn(&Mark, i64) -> bool,
    ) -> Result<(), Error> {
        self.jump(&segment.start);
        let path = segment.start.path_in(&self.shared.folder);
        let file = match open(segment, &self.shared) {
            Ok(file) => file,
            // Dropped just now, or lost: reading will tell.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::io("opening", &path)(error)),
        };
        let limit = segment
            .next
            .map_or(end.offset, |next| next.offset.min(end.offset));
        let mut walk = Walk::new(&file, segment.start, segment.start.position_of(limit));
        loop {
            let before = walk.next;
            match walk.step().map_err(Error::io("reading", &path))? {
                Ok(head) if !found(&before, head.enqueued_ms) => {}
                _ => {
                    self.jump(&before);
                    return Ok(());
                }
            }
        }
    }

    /// Goes to a place in the stream; how many events that leaves out.
    fn jump(&mut self, to: &Mark) -> u64 {
        let skipped = to.sequence.saturating_sub(self.sequence);
        self.sequence = to.sequence;
        self.offset = to.offset;
        skipped
    }

    /// Reads whole records of one segment into the buffer, up to the stream offset `limit`.
    fn read(&mut self, segment: &Located, limit: u64, max_bytes: usize) -> Result<Found, Error> {
        let path = || segment.start.path_in(&self.shared.folder);
        let file = match open(segment, &self.shared) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let lost = self.shared.holds(&segment.start);
                return Ok(if lost {
                    Found::Broken("the file is gone")
                } else {
                    Found::Dropped
                });
            }
            Err(error) => return Err(Error::io("opening", &path())(error)),
        };
        let position = segment.start.position_of(self.offset);
        let left = usize::try_from(limit.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        let mut wanted = max_bytes
            .clamp(RECORD_HEAD_BYTES, MAX_BATCH_BYTES)
            .min(left);
        loop {
            if self.buffer.len() < wanted {
                self.buffer.resize(wanted, 0);
            }
            let room = self.buffer.get_mut(..wanted).unwrap_or_default();
            let filled =
                read_full_at(&file, room, position).map_err(Error::io("reading", &path()))?;
            let (whole, stop) =
                whole_records(room.get(..filled).unwrap_or_default(), self.sequence);
            if whole > 0 {
                return Ok(Found::Records(whole));
            }
            match stop {
                Parsed::Broken(reason) => {
                    let limit = segment.start.position_of(limit);
                    let damaged = damaged_record(&file, position, limit, self.sequence);
                    let damaged = damaged.map_err(Error::io("reading", &path()))?;
                    return Ok(
                        damaged.map_or(Found::Broken(reason), |bytes| Found::Damaged {
                            reason,
                            bytes,
                        }),
                    );
                }
                Parsed::Short(needed) if wanted < needed && needed <= left => wanted = needed,
                _ => return Ok(Found::Broken("the file ends too early")),
            }
        }
    }
}

enum Found {
    /// So many bytes of whole records, one at least.
    Records(usize),
    /// One unsound record of so many bytes, with a sound one behind it.
    Damaged { reason: &'static str, bytes: u64 },
    /// Nothing more can be made of this segment.
    Broken(&'static str),
    /// Retention was faster.
    Dropped,
}

/// Events in order, borrowed from their reader.
#[derive(Debug)]
pub struct Batch<'r> {
    offset: u64,
    bytes: &'r [u8],
    /// How many events between the last batch (or where reading was to begin) and this one the reader had to leave out. For
    /// one that began at an [`Offset`](From::Offset) dropped long ago, that there are some is all that is known: then 1.
    pub skipped: u64,
    /// Why, as far as it was not retention.
    pub damage: Vec<Damage>,
}

impl<'r> Batch<'r> {
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn records(&self) -> Records<'r> {
        Records {
            offset: self.offset,
            bytes: self.bytes,
        }
    }
}

impl<'r> IntoIterator for Batch<'r> {
    type Item = Record<'r>;
    type IntoIter = Records<'r>;

    fn into_iter(self) -> Records<'r> {
        self.records()
    }
}

/// One event and what the log gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'r> {
    pub sequence: u64,
    /// Byte position in the partition's stream; on the wire decimal text.
    pub offset: u64,
    pub enqueued: SystemTime,
    /// An encoded [`Event`](super::Event).
    pub envelope: &'r [u8],
}

/// Walks the records of a [`Batch`].
#[derive(Debug, Clone)]
pub struct Records<'r> {
    offset: u64,
    bytes: &'r [u8],
}

impl<'r> Iterator for Records<'r> {
    type Item = Record<'r>;

    fn next(&mut self) -> Option<Record<'r>> {
        let head = self.bytes.get(..RECORD_HEAD_BYTES)?;
        let Head {
            sequence,
            enqueued_ms,
            record_bytes,
        } = head_of(head);
        let (record, rest) = self.bytes.split_at_checked(record_bytes)?;
        let offset = self.offset;
        self.offset += record_bytes as u64;
        self.bytes = rest;
        let envelope = record.get(RECORD_HEAD_BYTES..)?;
        Some(Record {
            sequence,
            offset,
            enqueued: from_millis(enqueued_ms),
            envelope,
        })
    }
}

/// How many bytes hold whole, sound records that follow one another from `sequence` on, and what comes then.
fn whole_records(bytes: &[u8], mut sequence: u64) -> (usize, Parsed) {
    let mut whole = 0;
    loop {
        match parse_record(bytes.get(whole..).unwrap_or_default(), sequence) {
            Parsed::Record(head) => {
                whole += head.record_bytes;
                sequence += 1;
            }
            stop => return (whole, stop),
        }
    }
}

fn open(segment: &Located, shared: &Shared) -> io::Result<Arc<File>> {
    match &segment.file {
        Some(active) => Ok(active.clone()),
        None => File::open(segment.start.path_in(&shared.folder)).map(Arc::new),
    }
}

/// However much a caller asks for, a reader's buffer stays within bounds.
const MAX_BATCH_BYTES: usize = 8 * 1024 * 1024;
