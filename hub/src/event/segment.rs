//! One segment file: how its header and its records look, and how they are checked on the way back in.
//!
//! A header of 64 bytes, then records without gaps, all numbers little-endian:
//!
//! | header | bytes | | record | bytes |
//! |---|---|---|---|---|
//! | `AZEVENTS` | 8 | | length of all behind the checksum | 4 |
//! | format | 2 | | CRC-32 of all behind it | 4 |
//! | partition | 2 | | sequence number | 8 |
//! | zero | 4 | | enqueued time, ms since 1970 | 8 |
//! | sequence number and offset of the first record | 8 + 8 | | envelope | rest |
//! | offset and time of the record before it | 8 + 8 | | | |
//! | zero | 12 | | | |
//! | CRC-32 of the above | 4 | | | |
//!
//! The file is named after its first sequence number and offset, so that a header lost to a power cut can be rebuilt.
//! May not enter: several segments, who reads and who writes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::error::Error;

/// The newest format this version writes and reads.
pub(super) const FORMAT: u16 = 1;
pub(super) const HEADER_BYTES: usize = 64;
pub(super) const RECORD_HEAD_BYTES: usize = 24;

/// The longest envelope a record may hold. Far above Azure's 256 KiB per message, so that stamps and properties always
/// fit, and far below what a damaged length would make a reader allocate.
pub const MAX_ENVELOPE_BYTES: usize = 4 * 1024 * 1024;

/// Where a partition's stream stands: what the next record gets, and what the last one had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Mark {
    pub sequence: u64,
    /// Bytes of all records before, headers of segments not counted.
    pub offset: u64,
    pub last_offset: Option<u64>,
    pub last_enqueued_ms: Option<i64>,
}

impl Mark {
    pub fn advance(&mut self, record_bytes: u64, enqueued_ms: i64) {
        self.last_offset = Some(self.offset);
        self.last_enqueued_ms = Some(enqueued_ms);
        self.sequence += 1;
        self.offset += record_bytes;
    }

    /// Behind a record that cannot be read, and whose time is not known.
    fn pass_over(&mut self, record_bytes: u64) {
        let last_enqueued_ms = self.last_enqueued_ms;
        self.advance(record_bytes, 0);
        self.last_enqueued_ms = last_enqueued_ms;
    }

    /// Where in the file of the segment that begins here the record at `offset` lies.
    pub fn position_of(&self, offset: u64) -> u64 {
        HEADER_BYTES as u64 + offset.saturating_sub(self.offset)
    }

    pub fn file_name(&self) -> String {
        format!("{:020}-{:020}.{EXTENSION}", self.sequence, self.offset)
    }

    pub fn path_in(&self, folder: &Path) -> PathBuf {
        folder.join(self.file_name())
    }
}

/// What a file name says: `None` for files that are not segments, an error for one that only claims to be.
pub(super) fn named(path: &Path) -> Result<Option<Mark>, Error> {
    if path
        .extension()
        .is_none_or(|extension| extension != EXTENSION)
    {
        return Ok(None);
    }
    let numbers = path
        .file_stem()
        .and_then(|stem| stem.to_str())
        .and_then(|stem| stem.split_once('-'));
    let mark = numbers.and_then(|(sequence, offset)| {
        Some(Mark {
            sequence: sequence.parse().ok()?,
            offset: offset.parse().ok()?,
            ..Mark::default()
        })
    });
    let foreign = |reason| {
        Err(Error::Foreign {
            path: path.to_path_buf(),
            reason,
        })
    };
    match mark {
        Some(mark)
            if path
                .file_name()
                .is_none_or(|name| *name != *mark.file_name()) =>
        {
            foreign(NOT_A_NAME)
        }
        // Both are long integers on the wire, and far from the end they can be counted up without a thought.
        Some(mark) if mark.sequence.max(mark.offset) > i64::MAX as u64 / 2 => {
            foreign("its numbers are out of range")
        }
        Some(mark) => Ok(Some(mark)),
        None => foreign(NOT_A_NAME),
    }
}

pub(super) fn header(partition: u16, start: &Mark) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..10].copy_from_slice(&FORMAT.to_le_bytes());
    bytes[10..12].copy_from_slice(&partition.to_le_bytes());
    bytes[16..24].copy_from_slice(&start.sequence.to_le_bytes());
    bytes[24..32].copy_from_slice(&start.offset.to_le_bytes());
    bytes[32..40].copy_from_slice(&start.last_offset.unwrap_or(u64::MAX).to_le_bytes());
    bytes[40..48].copy_from_slice(&start.last_enqueued_ms.unwrap_or(i64::MIN).to_le_bytes());
    let checksum = crc32fast::hash(&bytes[..60]);
    bytes[60..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// What is at the beginning of a segment file.
pub(super) enum Header {
    Whole(Mark),
    /// Cut short or never flushed: what a power cut leaves behind.
    Torn,
}

/// Reads and checks the header of the segment at `path`, whose name said `named`.
pub(super) fn read_header(
    file: &File,
    path: &Path,
    partition: u16,
    named: &Mark,
) -> Result<Header, Error> {
    let mut bytes = [0; HEADER_BYTES];
    let filled = read_full_at(file, &mut bytes, 0).map_err(Error::io("reading", path))?;
    let foreign = |reason| Error::Foreign {
        path: path.to_path_buf(),
        reason,
    };
    if bytes.iter().all(|byte| *byte == 0)
        || (filled < HEADER_BYTES && begins_alike(&bytes, filled))
    {
        return Ok(Header::Torn);
    }
    if !bytes.starts_with(MAGIC) {
        return Err(foreign("it does not begin with AZEVENTS"));
    }
    match u16_at(&bytes, 8) {
        FORMAT => {}
        0 => return Err(foreign("its format is 0")),
        found => {
            return Err(Error::Newer {
                path: path.to_path_buf(),
                found,
            });
        }
    }
    if crc32fast::hash(&bytes[..60]) != u32_at(&bytes, 60) {
        return Err(Error::DamagedHeader {
            path: path.to_path_buf(),
        });
    }
    if u16_at(&bytes, 10) != partition {
        return Err(foreign("it belongs to another partition"));
    }
    let start = Mark {
        sequence: u64_at(&bytes, 16),
        offset: u64_at(&bytes, 24),
        last_offset: Some(u64_at(&bytes, 32)).filter(|offset| *offset != u64::MAX),
        last_enqueued_ms: Some(u64_at(&bytes, 40) as i64).filter(|ms| *ms != i64::MIN),
    };
    if (start.sequence, start.offset) != (named.sequence, named.offset) {
        return Err(foreign("it was renamed"));
    }
    Ok(Header::Whole(start))
}

/// Appends one record to `out`. `envelope` is at most [`MAX_ENVELOPE_BYTES`] long.
pub(super) fn put_record(out: &mut Vec<u8>, sequence: u64, enqueued_ms: i64, envelope: &[u8]) {
    let begin = out.len();
    let length = (RECORD_HEAD_BYTES - LENGTH_AND_CHECKSUM + envelope.len()) as u32;
    let mut head = [0; RECORD_HEAD_BYTES];
    head[..4].copy_from_slice(&length.to_le_bytes());
    head[8..16].copy_from_slice(&sequence.to_le_bytes());
    head[16..].copy_from_slice(&enqueued_ms.to_le_bytes());
    out.extend_from_slice(&head);
    out.extend_from_slice(envelope);
    let checksum = crc32fast::hash(&out[begin + LENGTH_AND_CHECKSUM..]);
    out[begin + 4..begin + LENGTH_AND_CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
}

/// The head of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub sequence: u64,
    pub enqueued_ms: i64,
    /// Of the whole record, this head and the envelope.
    pub record_bytes: usize,
}

/// What lies at the beginning of some bytes of a segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    Record(Head),
    /// Not all there: this many bytes are needed to tell.
    Short(usize),
    Broken(&'static str),
}

/// Reads one record, which must be the one with this sequence number.
pub(super) fn parse_record(bytes: &[u8], sequence: u64) -> Parsed {
    if bytes.len() < RECORD_HEAD_BYTES {
        return Parsed::Short(RECORD_HEAD_BYTES);
    }
    let record_bytes = u32_at(bytes, 0) as usize + LENGTH_AND_CHECKSUM;
    if !is_record_length(record_bytes) {
        return Parsed::Broken("the length of a record is out of range");
    }
    let Some(checked) = bytes.get(LENGTH_AND_CHECKSUM..record_bytes) else {
        return Parsed::Short(record_bytes);
    };
    if crc32fast::hash(checked) != u32_at(bytes, 4) {
        return Parsed::Broken("the checksum of a record does not match");
    }
    let head = Head {
        record_bytes,
        ..head_of(bytes)
    };
    if head.sequence != sequence {
        return Parsed::Broken("a record has an unexpected sequence number");
    }
    Parsed::Record(head)
}

/// The head of a record that [`parse_record`] accepted before. `bytes` holds a head at least.
pub(super) fn head_of(bytes: &[u8]) -> Head {
    Head {
        sequence: u64_at(bytes, 8),
        enqueued_ms: u64_at(bytes, 16) as i64,
        record_bytes: u32_at(bytes, 0) as usize + LENGTH_AND_CHECKSUM,
    }
}

/// Goes through the records of one segment, checking each. Steps over single damaged ones, see [`damaged_record`].
pub(super) struct Walk<'f> {
    file: &'f File,
    /// Where the stream stands before the record to come.
    pub next: Mark,
    /// Where in the file the bytes not yet in the buffer begin, and where to stop.
    unread: u64,
    limit: u64,
    buffer: Vec<u8>,
    used: usize,
}

/// Why a walk ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// At the limit, just behind a whole record.
    Clean,
    Broken(&'static str),
}

impl<'f> Walk<'f> {
    /// A walk through the segment that begins at `start`, up to the file position `limit`.
    pub fn new(file: &'f File, start: Mark, limit: u64) -> Self {
        Self {
            file,
            next: start,
            unread: HEADER_BYTES as u64,
            limit,
            buffer: Vec::new(),
            used: 0,
        }
    }

    /// The next record's head, after which [`next`](Self::next) stands behind it.
    pub fn step(&mut self) -> io::Result<Result<Head, End>> {
        loop {
            let rest = self.buffer.get(self.used..).unwrap_or_default();
            match parse_record(rest, self.next.sequence) {
                Parsed::Record(head) => {
                    self.used += head.record_bytes;
                    self.next
                        .advance(head.record_bytes as u64, head.enqueued_ms);
                    return Ok(Ok(head));
                }
                Parsed::Broken(reason) => {
                    let position = self.unread - rest.len() as u64;
                    let Some(bytes) =
                        damaged_record(self.file, position, self.limit, self.next.sequence)?
                    else {
                        return Ok(Err(End::Broken(reason)));
                    };
                    self.unread = position + bytes;
                    self.buffer.clear();
                    self.used = 0;
                    self.next.pass_over(bytes);
                }
                Parsed::Short(needed) => {
                    let had = rest.len();
                    if self.fill(needed)? {
                        continue;
                    }
                    return Ok(Err(if had == 0 {
                        End::Clean
                    } else {
                        End::Broken("the last record is incomplete")
                    }));
                }
            }
        }
    }

    /// Brings more bytes in; false when there are none.
    fn fill(&mut self, needed: usize) -> io::Result<bool> {
        self.buffer.drain(..self.used);
        self.used = 0;
        let had = self.buffer.len();
        let left = usize::try_from(self.limit.saturating_sub(self.unread)).unwrap_or(usize::MAX);
        self.buffer
            .resize(had + left.min(needed.max(WALK_BYTES) - had), 0);
        let filled = read_full_at(
            self.file,
            self.buffer.get_mut(had..).unwrap_or_default(),
            self.unread,
        )?;
        self.buffer.truncate(had + filled);
        self.unread += filled as u64;
        Ok(filled > 0)
    }
}

/// The bytes of the unsound record at `position`, if it is no worse than that: the one behind it is sound and has the number
/// after `sequence`. So a flipped bit costs one event, and is not taken for a torn tail.
pub(super) fn damaged_record(
    file: &File,
    position: u64,
    limit: u64,
    sequence: u64,
) -> io::Result<Option<u64>> {
    let record_at = |position: u64| {
        let mut head = [0; RECORD_HEAD_BYTES];
        let filled = read_full_at(file, &mut head, position)?;
        let bytes = u32_at(&head, 0) as usize + LENGTH_AND_CHECKSUM;
        let whole = filled == RECORD_HEAD_BYTES
            && is_record_length(bytes)
            && position + bytes as u64 <= limit;
        Ok::<_, io::Error>(whole.then_some(bytes))
    };
    let Some(damaged) = record_at(position)? else {
        return Ok(None);
    };
    let behind = position + damaged as u64;
    let Some(bytes) = record_at(behind)? else {
        return Ok(None);
    };
    let mut record = vec![0; bytes];
    read_full_at(file, &mut record, behind)?;
    let sound = matches!(parse_record(&record, sequence + 1), Parsed::Record(_));
    Ok(sound.then_some(damaged as u64))
}

/// Reads at `position` until the buffer is full or the file ends; how much came.
pub(super) fn read_full_at(file: &File, buffer: &mut [u8], position: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, position + filled as u64) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Milliseconds since 1970, as records hold the time.
pub(super) fn to_millis(time: SystemTime) -> i64 {
    let whole = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => whole(after),
        Err(before) => -whole(before.duration()),
    }
}

pub(super) fn from_millis(millis: i64) -> SystemTime {
    let distance = Duration::from_millis(millis.unsigned_abs());
    let time = if millis < 0 {
        UNIX_EPOCH.checked_sub(distance)
    } else {
        UNIX_EPOCH.checked_add(distance)
    };
    time.unwrap_or(UNIX_EPOCH)
}

fn is_record_length(bytes: usize) -> bool {
    (RECORD_HEAD_BYTES..=RECORD_HEAD_BYTES + MAX_ENVELOPE_BYTES).contains(&bytes)
}

/// Whether the first `filled` bytes could be the beginning of a header of ours.
fn begins_alike(bytes: &[u8], filled: usize) -> bool {
    let compared = filled.min(MAGIC.len());
    bytes.get(..compared) == MAGIC.get(..compared)
}

// Fixed places within a head or header whose length the caller has checked.
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    array_at(bytes, at).map_or(0, u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    array_at(bytes, at).map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    array_at(bytes, at).map_or(0, u64::from_le_bytes)
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

const MAGIC: &[u8; 8] = b"AZEVENTS";
const NOT_A_NAME: &str = "its name is not two numbers of 20 digits";
const EXTENSION: &str = "events";
const LENGTH_AND_CHECKSUM: usize = 8;
const WALK_BYTES: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_survive_the_round_trip_to_the_millisecond() {
        for millis in [0, 1, -1, 1_787_000_000_123, -62_135_596_800_000] {
            assert_eq!(to_millis(from_millis(millis)), millis);
        }
    }

    #[test]
    fn a_record_with_any_bit_flipped_is_refused() {
        let mut record = Vec::new();
        put_record(&mut record, 9, 1_000, b"hello");
        assert_eq!(
            parse_record(&record, 9),
            Parsed::Record(Head {
                sequence: 9,
                enqueued_ms: 1_000,
                record_bytes: record.len()
            })
        );
        for bit in 0..record.len() * 8 {
            let mut damaged = record.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(
                !matches!(parse_record(&damaged, 9), Parsed::Record(_)),
                "bit {bit}"
            );
        }
    }

    #[test]
    fn only_names_we_write_are_segments() {
        let name = Mark {
            sequence: 12,
            offset: 3456,
            ..Mark::default()
        }
        .file_name();
        assert_eq!(name, "00000000000000000012-00000000000000003456.events");
        let rows = [
            (name.as_str(), Some(Ok(12))),
            ("lock", None),
            ("00000000000000000012-00000000000000003456.events.new", None),
            ("12-3456.events", Some(Err(()))),
            ("letters.events", Some(Err(()))),
            (
                "18446744073709551615-00000000000000003456.events",
                Some(Err(())),
            ),
            (
                "00000000000000000012-18446744073709551615.events",
                Some(Err(())),
            ),
            (
                "99999999999999999999-00000000000000003456.events",
                Some(Err(())),
            ),
        ];
        for (name, expected) in rows {
            let found = named(Path::new(name))
                .map(|mark| mark.map(|mark| mark.sequence))
                .map_err(|_| ())
                .transpose();
            assert_eq!(found, expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_parsing_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), sequence: u64) {
            let _ = parse_record(&bytes, sequence);
        }
    }
}
