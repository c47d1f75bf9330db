//! A file that redb believes it writes to: the writes stay in memory.
//!
//! May not enter: a handle that could write.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io;
use std::ops::Bound;

use parking_lot::Mutex;
use redb::backends::FileBackend;
use redb::{BackendError, DatabaseError, StorageBackend};

#[derive(Debug)]
pub(crate) struct Overlay {
    file: FileBackend,
    file_len: u64,
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    len: u64,
    /// Whole pages, by number.
    pages: HashMap<u64, Box<[u8]>>,
}

impl Overlay {
    /// Over `file`, which need not be open for writing.
    pub fn over(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        let file = FileBackend::new(file).map_err(|error| match error {
            DatabaseError::Storage(redb::StorageError::Io(error)) => error,
            error => io::Error::other(error),
        })?;
        Ok(Self {
            file,
            file_len: len,
            written: Mutex::new(Written {
                len,
                pages: HashMap::new(),
            }),
        })
    }

    /// The file's own bytes; beyond its end, zeros.
    fn underneath(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        out.fill(0);
        let there = self.file_len.saturating_sub(offset).min(out.len() as u64) as usize;
        match out.get_mut(..there) {
            Some(out) if there > 0 => self.file.read(offset, out),
            _ => Ok(()),
        }
    }
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.written.lock().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let written = self.written.lock();
        if offset
            .checked_add(out.len() as u64)
            .is_none_or(|end| end > written.len)
        {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.underneath(offset, out)?;
        for piece in pieces(offset, out.len()) {
            if let Some(page) = written.pages.get(&piece.page) {
                out[piece.outside].copy_from_slice(&page[piece.inside]);
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.written.lock().len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut written = self.written.lock();
        for piece in pieces(offset, data.len()) {
            let page = match written.pages.entry(piece.page) {
                Entry::Occupied(page) => page.into_mut(),
                Entry::Vacant(place) => {
                    let mut page = vec![0; PAGE].into_boxed_slice();
                    self.underneath(piece.page * PAGE as u64, &mut page)?;
                    place.insert(page)
                }
            };
            page[piece.inside].copy_from_slice(&data[piece.outside]);
        }
        Ok(())
    }

    /// Shared, where redb asks for all: enough to notice a writer, and all a read-only handle may have.
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}

/// The part of a stretch of bytes that lies in one page.
struct Piece {
    page: u64,
    inside: std::ops::Range<usize>,
    outside: std::ops::Range<usize>,
}

fn pieces(offset: u64, len: usize) -> impl Iterator<Item = Piece> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = offset + done as u64;
        let start = (at % PAGE as u64) as usize;
        let take = (PAGE - start).min(len - done);
        let piece = Piece {
            page: at / PAGE as u64,
            inside: start..start + take,
            outside: done..done + take,
        };
        done += take;
        Some(piece)
    })
}

const PAGE: usize = 4096;
