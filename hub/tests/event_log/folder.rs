//! A folder of its own for each test, gone afterwards, and short words for what the tests do with a log in it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use azimuth_hub::event::{Appended, Appender, Batch, Cut, From, Log, LogConfig, Reader};

pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("azimuth-event-log-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn open(&self, config: LogConfig) -> (Appender, Arc<Log>, Vec<Cut>) {
        Log::open(&self.0, config, at(0)).unwrap()
    }

    /// The segment files of a partition, oldest first.
    pub fn segments(&self, partition: u16) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.0.join(format!("{partition:04}"))).unwrap();
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// One partition, small segments.
pub fn small() -> LogConfig {
    LogConfig {
        partitions: 1,
        segment_bytes: 200,
        ..LogConfig::default()
    }
}

/// So many seconds after the tests' beginning of time.
pub fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_787_000_000 + seconds)
}

/// Appends one event to partition 0.
pub fn put(appender: &mut Appender, envelope: &str, now: SystemTime) -> u64 {
    let Appended {
        first_sequence,
        count,
    } = appender.append(0, [envelope.as_bytes()], now).unwrap();
    assert_eq!(count, 1);
    first_sequence
}

/// Everything a new reader of partition 0 finds, as (sequence number, envelope), and how much it had to skip.
pub fn read(log: &Log, from: From) -> (Vec<(u64, String)>, u64) {
    drain(&mut log.reader(0, from).unwrap())
}

pub fn drain(reader: &mut Reader) -> (Vec<(u64, String)>, u64) {
    let mut all = Vec::new();
    let mut skipped = 0;
    loop {
        let batch = reader.next_batch(100).unwrap();
        skipped += batch.skipped;
        if batch.is_empty() {
            return (all, skipped);
        }
        all.extend(texts(&batch));
    }
}

pub fn texts(batch: &Batch<'_>) -> Vec<(u64, String)> {
    let text = |envelope: &[u8]| String::from_utf8(envelope.to_vec()).unwrap();
    batch
        .records()
        .map(|record| (record.sequence, text(record.envelope)))
        .collect()
}

/// The events a test puts in by number.
pub fn numbered(numbers: impl IntoIterator<Item = u64>) -> Vec<(u64, String)> {
    numbers
        .into_iter()
        .map(|number| (number, format!("event {number}")))
        .collect()
}
