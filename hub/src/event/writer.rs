//! The one place that writes to a partition: batches, seals, deletions, syncs.
//!
//! Sequence numbers count from 0 without gaps and are never given twice; enqueued times never go back.
//!
//! May not enter: devices, other partitions, what an envelope holds, when it is time to forget.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::RwLock;
use tokio::sync::watch;

use super::error::{Cut, Error};
use super::partition::{Segment, Shared};
use super::recovery;
use super::segment::{self, HEADER_BYTES, MAX_ENVELOPE_BYTES, Mark, RECORD_HEAD_BYTES, to_millis};

/// When appended bytes are forced to the disk itself. All three survive the death of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sync {
    /// When the operating system sees fit: a power cut may cost the last seconds.
    #[default]
    Never,
    /// Before a batch counts as appended: nothing acknowledged is lost in a power cut. Slow.
    EveryBatch,
    /// With the first batch after this much time, and when [`Appender::retain`](super::Appender::retain) is called.
    Interval(Duration),
}

/// The only one who writes to a partition.
pub(super) struct Writer {
    shared: Arc<Shared>,
    announce: watch::Sender<Mark>,
    active: Arc<File>,
    active_start: Mark,
    /// When the first record of the active segment was enqueued.
    active_since_ms: Option<i64>,
    mark: Mark,
    buffer: Vec<u8>,
    segment_bytes: u64,
    sync: Sync,
    synced_at: SystemTime,
    unsynced: bool,
    /// A failed batch may have left bytes behind the end that could not be cut off yet.
    leftovers: bool,
}

impl Writer {
    /// Opens the partition in `folder`, creating it if need be; adds to `cuts` what had to be cut off.
    pub fn open(
        folder: PathBuf,
        index: u16,
        segment_bytes: u64,
        sync: Sync,
        now: SystemTime,
        cuts: &mut Vec<Cut>,
    ) -> Result<(Self, Arc<Shared>), Error> {
        fs::create_dir_all(&folder).map_err(Error::io("creating", &folder))?;
        let mut starts = recovery::surviving_segments(&folder, index, cuts)?;
        let mut active_start = starts.pop_back().unwrap_or_default();
        let path = active_start.path_in(&folder);
        if let Some(sealed) = starts.back().filter(|_| !path.exists()) {
            // The header is rebuilt; what its name does not say, the records before it do.
            let before = recovery::last_of(&folder, *sealed)?;
            active_start = Mark {
                sequence: active_start.sequence,
                offset: active_start.offset,
                ..before
            };
        }
        let (active, mark, active_since_ms) = if path.exists() {
            recovery::open_tail(&path, index, active_start, cuts)?
        } else {
            (
                recovery::create(&folder, index, &active_start, sync != Sync::Never)?,
                active_start,
                None,
            )
        };
        let active = Arc::new(active);
        let (announce, end) = watch::channel(mark);
        let mut segments: VecDeque<_> = starts
            .into_iter()
            .map(|start| Segment { start, file: None })
            .collect();
        segments.push_back(Segment {
            start: active_start,
            file: Some(active.clone()),
        });
        let shared = Arc::new(Shared {
            index,
            folder,
            segments: RwLock::new(segments),
            end,
        });
        let writer = Self {
            shared: shared.clone(),
            announce,
            active,
            active_start,
            active_since_ms,
            mark,
            buffer: Vec::new(),
            segment_bytes,
            sync,
            synced_at: now,
            unsynced: false,
            leftovers: false,
        };
        Ok((writer, shared))
    }

    /// Appends a batch with one write; where the stream stood before, how many came, and whether a segment was sealed.
    pub fn append<'e>(
        &mut self,
        envelopes: impl Iterator<Item = &'e [u8]>,
        now: SystemTime,
    ) -> Result<(Mark, u64, bool), Error> {
        let enqueued_ms = self
            .mark
            .last_enqueued_ms
            .map_or(to_millis(now), |last| last.max(to_millis(now)));
        let after = self.fill_buffer(envelopes, enqueued_ms)?;
        let before = self.mark;
        if after.sequence == before.sequence {
            return Ok((before, 0, false));
        }
        self.remove_leftovers()?;
        let used = before.offset - self.active_start.offset;
        let rolled = used > 0 && used + self.buffer.len() as u64 > self.segment_bytes;
        if rolled {
            self.roll()?;
        }
        let written = self.write_buffer(now);
        if self.buffer.capacity() > KEPT_BUFFER_BYTES {
            self.buffer = Vec::new();
        }
        if let Err(error) = written {
            self.leftovers = true;
            // Tried again before the next batch, so a second failure here loses nothing.
            let _ = self.remove_leftovers();
            return Err(error);
        }
        self.active_since_ms.get_or_insert(enqueued_ms);
        self.mark = after;
        self.announce.send_replace(after);
        Ok((before, after.sequence - before.sequence, rolled))
    }

    /// Seals the active segment, unless it is empty, and begins a new one.
    pub fn roll(&mut self) -> Result<(), Error> {
        if self.mark.sequence == self.active_start.sequence {
            return Ok(());
        }
        self.remove_leftovers()?;
        if self.sync != Sync::Never {
            self.force()?;
        }
        let durable = self.sync != Sync::Never;
        let active = recovery::create(&self.shared.folder, self.shared.index, &self.mark, durable)?;
        let active = Arc::new(active);
        let mut segments = self.shared.segments.write();
        if let Some(sealed) = segments.back_mut() {
            sealed.file = None;
        }
        segments.push_back(Segment {
            start: self.mark,
            file: Some(active.clone()),
        });
        drop(segments);
        self.active = active;
        self.active_start = self.mark;
        self.active_since_ms = None;
        Ok(())
    }

    /// When the first record of the active segment was enqueued, if it has any.
    pub fn active_since_ms(&self) -> Option<i64> {
        self.active_since_ms
    }

    /// When the newest record of the oldest sealed segment was enqueued; `None` when nothing is sealed.
    pub fn oldest_sealed_ms(&self) -> Option<i64> {
        let segments = self.shared.segments.read();
        // The next segment's header knows it; where a power cut took that header, the time counts as long ago.
        segments
            .get(1)
            .map(|next| next.start.last_enqueued_ms.unwrap_or(i64::MIN))
    }

    /// Deletes the oldest sealed segment.
    pub fn drop_oldest(&mut self) -> Result<(), Error> {
        let mut segments = self.shared.segments.write();
        if segments.len() < 2 {
            return Ok(());
        }
        let Some(oldest) = segments.pop_front() else {
            return Ok(());
        };
        drop(segments);
        let path = oldest.start.path_in(&self.shared.folder);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                self.shared.segments.write().push_front(oldest);
                Err(Error::io("deleting", &path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Bytes on disk, headers included.
    pub fn bytes(&self) -> u64 {
        let segments = self.shared.segments.read();
        let first = segments.front().map_or(0, |segment| segment.start.offset);
        self.mark.offset - first + (segments.len() * HEADER_BYTES) as u64
    }

    /// Forces what is written to the disk, if the setting owes it at this time.
    pub fn sync_if_due(&mut self, now: SystemTime) -> Result<(), Error> {
        match self.sync {
            Sync::Never => Ok(()),
            Sync::EveryBatch => self.force(),
            Sync::Interval(interval) => {
                // A clock set back counts as time passed.
                if now
                    .duration_since(self.synced_at)
                    .is_ok_and(|passed| passed < interval)
                {
                    return Ok(());
                }
                self.force()?;
                self.synced_at = now;
                Ok(())
            }
        }
    }

    /// Cuts off what a failed batch left, and forces the rest to the disk unless that is never asked for.
    pub fn finish(&mut self) -> Result<(), Error> {
        self.remove_leftovers()?;
        if self.sync == Sync::Never {
            Ok(())
        } else {
            self.force()
        }
    }

    fn fill_buffer<'e>(
        &mut self,
        envelopes: impl Iterator<Item = &'e [u8]>,
        enqueued_ms: i64,
    ) -> Result<Mark, Error> {
        self.buffer.clear();
        let mut mark = self.mark;
        for envelope in envelopes {
            if envelope.len() > MAX_ENVELOPE_BYTES {
                return Err(Error::TooLarge {
                    bytes: envelope.len(),
                });
            }
            segment::put_record(&mut self.buffer, mark.sequence, enqueued_ms, envelope);
            mark.advance((RECORD_HEAD_BYTES + envelope.len()) as u64, enqueued_ms);
        }
        Ok(mark)
    }

    fn write_buffer(&mut self, now: SystemTime) -> Result<(), Error> {
        let position = self.active_start.position_of(self.mark.offset);
        let written = self.active.write_all_at(&self.buffer, position);
        written.map_err(Error::io("appending to", &self.active_path()))?;
        self.unsynced = true;
        self.sync_if_due(now)
    }

    /// Whole records of a failed batch behind the end would come to life at the next start, so they must be gone before
    /// anything else is written.
    fn remove_leftovers(&mut self) -> Result<(), Error> {
        if !self.leftovers {
            return Ok(());
        }
        let length = self.active_start.position_of(self.mark.offset);
        self.active
            .set_len(length)
            .map_err(Error::io("truncating", &self.active_path()))?;
        self.leftovers = false;
        Ok(())
    }

    fn force(&mut self) -> Result<(), Error> {
        if self.unsynced {
            self.active
                .sync_data()
                .map_err(Error::io("syncing", &self.active_path()))?;
            self.unsynced = false;
        }
        Ok(())
    }

    fn active_path(&self) -> PathBuf {
        self.active_start.path_in(&self.shared.folder)
    }
}

/// A batch above this does not keep its memory.
const KEPT_BUFFER_BYTES: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::event::segment::from_millis;

    #[test]
    fn a_batch_that_could_not_be_written_leaves_nothing_behind() {
        let folder = std::env::temp_dir().join(format!("azimuth-partition-{}", std::process::id()));
        let now = from_millis(1_000);
        let open = || {
            Writer::open(
                folder.clone(),
                0,
                1 << 20,
                Sync::Never,
                now,
                &mut Vec::new(),
            )
            .unwrap()
        };
        let (mut writer, shared) = open();
        let three: [&[u8]; 3] = [b"one", b"two", b"three"];
        writer.append(three.into_iter(), now).unwrap();

        // Whole records behind the end, in a file that can neither be written nor truncated any more.
        let writable = writer.active.clone();
        let mut ghost = Vec::new();
        segment::put_record(&mut ghost, 3, 1_000, b"never acknowledged");
        writable
            .write_all_at(&ghost, writer.active_start.position_of(writer.mark.offset))
            .unwrap();
        writer.active = Arc::new(File::open(writer.active_path()).unwrap());
        assert!(writer.append(three.into_iter(), now).is_err());
        assert_eq!(shared.end.borrow().sequence, 3);

        writer.active = writable;
        let (before, count, _) = writer.append(std::iter::once(&b"four"[..]), now).unwrap();
        assert_eq!((before.sequence, count), (3, 1));
        let length = fs::metadata(writer.active_path()).unwrap().len();
        assert_eq!(
            length,
            writer.active_start.position_of(writer.mark.offset),
            "the ghost is gone"
        );
        drop(writer);
        assert_eq!(open().0.mark.sequence, 4);
        fs::remove_dir_all(&folder).unwrap();
    }
}
