//! A partition's folder at start: which segments can be used, where the stream goes on, and what has to be cut off.
//!
//! May not enter: anything done while the log is open, except that a new segment is created the way it is looked for here.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::error::{Cut, Error};
use super::segment::{self, End, Header, Mark, Walk};

/// Where the segments in a folder begin, in order. Those whose header a power cut took are deleted, except the last,
/// whose name tells where the stream goes on.
pub(super) fn surviving_segments(
    folder: &Path,
    index: u16,
    cuts: &mut Vec<Cut>,
) -> Result<VecDeque<Mark>, Error> {
    let mut found = Vec::new();
    let mut unnamed = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io("listing", folder))? {
        let path = entry.map_err(Error::io("listing", folder))?.path();
        if let Some(mark) = segment::named(&path)? {
            found.push((mark, path));
        } else if path
            .extension()
            .is_some_and(|extension| extension == UNNAMED)
        {
            unnamed.push(path);
        }
    }
    found.sort_by_key(|(mark, _)| mark.sequence);
    let mut headers = Vec::with_capacity(found.len());
    // All are looked at before any is touched: a foreign file must leave the folder as it is.
    for (named, path) in &found {
        let file = File::open(path).map_err(Error::io("opening", path))?;
        headers.push(segment::read_header(&file, path, index, named)?);
    }
    for path in unnamed {
        fs::remove_file(&path).map_err(Error::io("deleting", &path))?;
    }
    let last = found.len().saturating_sub(1);
    let mut starts = VecDeque::new();
    for (place, ((named, path), header)) in found.into_iter().zip(headers).enumerate() {
        match header {
            Header::Whole(start) => starts.push_back(start),
            Header::Torn => {
                let cut_bytes = fs::metadata(&path)
                    .map_err(Error::io("reading", &path))?
                    .len();
                fs::remove_file(&path).map_err(Error::io("deleting", &path))?;
                let reason = "its header was never written";
                cuts.push(Cut {
                    path,
                    kept_records: 0,
                    cut_bytes,
                    reason,
                });
                if place == last {
                    starts.push_back(named);
                }
            }
        }
    }
    Ok(starts)
}

/// Where the stream stood behind the last sound record of a sealed segment.
pub(super) fn last_of(folder: &Path, start: Mark) -> Result<Mark, Error> {
    let path = start.path_in(folder);
    let file = File::open(&path).map_err(Error::io("opening", &path))?;
    let mut walk = Walk::new(&file, start, u64::MAX);
    while walk.step().map_err(Error::io("reading", &path))?.is_ok() {}
    Ok(walk.next)
}

/// Opens the last segment, checks every record, and cuts off what does not belong.
pub(super) fn open_tail(
    path: &Path,
    index: u16,
    start: Mark,
    cuts: &mut Vec<Cut>,
) -> Result<(File, Mark, Option<i64>), Error> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(Error::io("opening", path))?;
    let length = file.metadata().map_err(Error::io("reading", path))?.len();
    let mut walk = Walk::new(&file, start, length);
    let mut since_ms = None;
    let end = loop {
        match walk.step().map_err(Error::io("reading", path))? {
            Ok(head) => since_ms = since_ms.or(Some(head.enqueued_ms)),
            Err(end) => break end,
        }
    };
    let mark = walk.next;
    if let End::Broken(reason) = end {
        let kept = start.position_of(mark.offset);
        file.set_len(kept).map_err(Error::io("truncating", path))?;
        cuts.push(Cut {
            path: path.to_path_buf(),
            kept_records: mark.sequence - start.sequence,
            cut_bytes: length.saturating_sub(kept),
            reason,
        });
    }
    tracing::debug!(
        partition = index,
        next.sequence = mark.sequence,
        "opened a partition of the event log"
    );
    Ok((file, mark, since_ms))
}

/// Creates an empty segment. It gets its name once its header is written, so no half header is ever found after a kill.
pub(super) fn create(
    folder: &Path,
    index: u16,
    start: &Mark,
    durable: bool,
) -> Result<File, Error> {
    let path = start.path_in(folder);
    let unnamed = path.with_extension(UNNAMED);
    let mut options = OpenOptions::new();
    let created = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&unnamed);
    let file = created.map_err(Error::io("creating", &unnamed))?;
    let finish = || {
        file.write_all_at(&segment::header(index, start), 0)?;
        if durable {
            file.sync_all()?;
        }
        fs::rename(&unnamed, &path)?;
        if durable {
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    };
    if let Err(error) = finish() {
        let _ = fs::remove_file(&unnamed);
        return Err(Error::io("creating", &path)(error));
    }
    Ok(file)
}

/// The extension of a segment being created.
const UNNAMED: &str = "new";
