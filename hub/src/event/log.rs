//! The whole log: its partitions, which device goes where, and when old events go.
//!
//! The writing half, [`Appender`], exists once and is not shared; the reading half, [`Log`], is shared by everyone.
//! May not enter: consumer groups and checkpoints (a reader is told where to begin), reading of records.

use std::fmt;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::error::{Cut, Error};
use super::partition::{Properties, Shared};
use super::reader::{From, Reader};
use super::segment::to_millis;
use super::writer::{Sync, Writer};

/// How a log is laid out and how long it keeps events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// 1 to 1024, fixed when the log is created: a device's partition depends on it.
    pub partitions: u16,
    /// A segment that would grow above this is sealed.
    pub segment_bytes: u64,
    /// Above this many bytes in all partitions together the oldest sealed segments go. The active segments always stay, so
    /// this is kept to only if it is above `partitions` × `segment_bytes`.
    pub retain_bytes: u64,
    /// A segment goes once its newest event is older than this. Segments are sealed after an eighth of this time, so an event
    /// is kept for nine eighths of it at most.
    pub retain_for: Duration,
    pub sync: Sync,
}

impl Default for LogConfig {
    /// As Azure's built-in endpoint by default: 4 partitions, one day. 1 GiB at most.
    fn default() -> Self {
        Self {
            partitions: 4,
            segment_bytes: 16 << 20,
            retain_bytes: 1 << 30,
            retain_for: Duration::from_secs(24 * 60 * 60),
            sync: Sync::Never,
        }
    }
}

/// What one call of [`Appender::append`] stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    pub first_sequence: u64,
    pub count: u64,
}

/// The reading half of an event log.
pub struct Log {
    partitions: Vec<Arc<Shared>>,
}

impl Log {
    /// Opens the log in `folder`, creating it if need be. Also answers what had to be cut off because it was never wholly
    /// written; after `kill -9` that can only be events nobody was told of.
    pub fn open(
        folder: &Path,
        config: LogConfig,
        now: SystemTime,
    ) -> Result<(Appender, Arc<Self>, Vec<Cut>), Error> {
        if !(1..=1024).contains(&config.partitions) {
            return Err(Error::PartitionsOutOfRange {
                asked: config.partitions,
            });
        }
        fs::create_dir_all(folder).map_err(Error::io("creating", folder))?;
        let lock = lock(folder)?;
        fix_partition_count(folder, config.partitions)?;
        let mut cuts = Vec::new();
        let mut writers = Vec::with_capacity(usize::from(config.partitions));
        let mut partitions = Vec::with_capacity(usize::from(config.partitions));
        for index in 0..config.partitions {
            let folder = folder.join(format!("{index:04}"));
            let (writer, shared) = Writer::open(
                folder,
                index,
                config.segment_bytes,
                config.sync,
                now,
                &mut cuts,
            )?;
            writers.push(writer);
            partitions.push(shared);
        }
        Ok((
            Appender {
                writers,
                config,
                lock,
            },
            Arc::new(Self { partitions }),
            cuts,
        ))
    }

    pub fn partitions(&self) -> u16 {
        self.partitions.len() as u16
    }

    /// The partition of this device's events, see [`partition_for`].
    pub fn partition_of(&self, device_id: &str) -> u16 {
        partition_for(device_id, self.partitions())
    }

    pub fn properties(&self, partition: u16) -> Result<Properties, Error> {
        Ok(self.partition(partition)?.properties())
    }

    /// A new reader of one partition. Beginning before the oldest event held is no error, the first batch says how many were
    /// missed; beginning beyond the next event to come is.
    pub fn reader(&self, partition: u16, from: From) -> Result<Reader, Error> {
        Reader::new(self.partition(partition)?.clone(), from)
    }

    fn partition(&self, asked: u16) -> Result<&Arc<Shared>, Error> {
        let partitions = self.partitions();
        self.partitions
            .get(usize::from(asked))
            .ok_or(Error::UnknownPartition { asked, partitions })
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("partitions", &self.partitions())
            .finish_non_exhaustive()
    }
}

/// The partition, of so many, that a device's events go to: CRC-32 (IEEE) of the device id, scaled down. It must never
/// change, for the events of a device are in order within its partition only.
pub fn partition_for(device_id: &str, partitions: u16) -> u16 {
    let hash = u64::from(crc32fast::hash(device_id.as_bytes()));
    ((hash * u64::from(partitions)) >> 32) as u16
}

/// The writing half of an event log. There is one, and dropping it tells waiting readers that no more will come.
pub struct Appender {
    writers: Vec<Writer>,
    config: LogConfig,
    /// Held for as long as the log may be written to; the operating system lets go of it however the process ends.
    lock: File,
}

impl Appender {
    /// Appends encoded events to one partition, all or none: one write, after which they survive the end of the process and
    /// readers see them. After an error nothing of the batch is stored and the log can be used as before.
    pub fn append<'e>(
        &mut self,
        partition: u16,
        envelopes: impl IntoIterator<Item = &'e [u8]>,
        now: SystemTime,
    ) -> Result<Appended, Error> {
        let partitions = self.config.partitions;
        let writer = self.writers.get_mut(usize::from(partition));
        let writer = writer.ok_or(Error::UnknownPartition {
            asked: partition,
            partitions,
        })?;
        let (before, count, sealed) = writer.append(envelopes.into_iter(), now)?;
        if sealed {
            // The batch is stored whatever becomes of old segments, so their trouble must not look like its own.
            if let Err(error) = self.retain(now) {
                tracing::warn!(error = %error, "old events could not be dropped from the event log");
            }
        }
        Ok(Appended {
            first_sequence: before.sequence,
            count,
        })
    }

    /// Drops segments that are too old or too many, and syncs what [`Sync::Interval`] owes. To be called now and then, a few
    /// times in `retain_for` at least; sealing a segment calls it too.
    pub fn retain(&mut self, now: SystemTime) -> Result<(), Error> {
        let now_ms = to_millis(now);
        let kept_ms = i64::try_from(self.config.retain_for.as_millis()).unwrap_or(i64::MAX);
        for writer in &mut self.writers {
            writer.sync_if_due(now)?;
            if writer
                .active_since_ms()
                .is_some_and(|since| now_ms.saturating_sub(since) > kept_ms / 8)
            {
                writer.roll()?;
            }
            while writer
                .oldest_sealed_ms()
                .is_some_and(|newest| now_ms.saturating_sub(newest) > kept_ms)
            {
                writer.drop_oldest()?;
            }
        }
        self.shrink()
    }

    /// Ends writing. Dropping the appender does the same, except that errors go unheard.
    pub fn close(mut self) -> Result<(), Error> {
        self.writers.iter_mut().try_for_each(Writer::finish)
    }

    /// Drops the oldest sealed segments of whichever partition until the whole is small enough.
    fn shrink(&mut self) -> Result<(), Error> {
        let mut bytes: u64 = self.writers.iter().map(Writer::bytes).sum();
        while bytes > self.config.retain_bytes {
            let sealed = self
                .writers
                .iter_mut()
                .filter_map(|writer| Some((writer.oldest_sealed_ms()?, writer)));
            let Some((_, writer)) = sealed.min_by_key(|(newest_ms, _)| *newest_ms) else {
                break;
            };
            let before = writer.bytes();
            writer.drop_oldest()?;
            bytes = bytes.saturating_sub(before - writer.bytes());
        }
        Ok(())
    }
}

impl Drop for Appender {
    fn drop(&mut self) {
        for writer in &mut self.writers {
            // Nobody is left to tell; what was acknowledged is written either way.
            let _ = writer.finish();
        }
        // Closing would do, were it not for a child just being forked, which shares the lock until it becomes its program.
        let _ = self.lock.unlock();
    }
}

impl fmt::Debug for Appender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Appender")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// Two writers would destroy each other's records.
fn lock(folder: &Path) -> Result<File, Error> {
    let path = folder.join("lock");
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path);
    let file = file.map_err(Error::io("opening", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(Error::InUse {
            folder: folder.to_path_buf(),
        }),
        Err(fs::TryLockError::Error(error)) => Err(Error::io("locking", &path)(error)),
    }
}

/// Writes down how many partitions a new log has, and holds an old one to it.
fn fix_partition_count(folder: &Path, asked: u16) -> Result<(), Error> {
    let path = folder.join("partitions");
    match fs::read_to_string(&path) {
        Ok(text) => {
            let foreign = || Error::Foreign {
                path: path.clone(),
                reason: "it does not hold a number",
            };
            let found = text.trim().parse().map_err(|_| foreign())?;
            if found == asked {
                return Ok(());
            }
            Err(Error::PartitionCount {
                folder: folder.to_path_buf(),
                found,
                asked,
            })
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let unnamed = folder.join("partitions.new");
            fs::write(&unnamed, format!("{asked}\n")).map_err(Error::io("writing", &unnamed))?;
            fs::rename(&unnamed, &path).map_err(Error::io("writing", &path))
        }
        Err(error) => Err(Error::io("reading", &path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_keeps_its_partition_for_all_time() {
        let rows = [
            ("contoso-simdevice-east", 4, 1),
            ("contoso-simdevice-west", 4, 2),
            ("device-1", 4, 2),
            ("device-1", 32, 22),
            ("Device-1", 32, 9),
            ("", 4, 0),
        ];
        for (device, partitions, expected) in rows {
            assert_eq!(
                partition_for(device, partitions),
                expected,
                "{device} of {partitions}"
            );
        }
    }

    #[test]
    fn numbered_devices_spread_evenly() {
        for (pattern, partitions) in [("device-", 4), ("sim", 32), ("", 7)] {
            let mut counts = vec![0u32; partitions];
            for number in 0..10_000 {
                counts[usize::from(partition_for(
                    &format!("{pattern}{number:06}"),
                    partitions as u16,
                ))] += 1;
            }
            let fair = 10_000 / partitions as u32;
            assert!(
                counts
                    .iter()
                    .all(|count| (fair * 7 / 10..=fair * 13 / 10).contains(count)),
                "{counts:?}"
            );
        }
    }
}
