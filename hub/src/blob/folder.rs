//! A folder of this machine in the place of a container: `file:` URIs, of this simulator and not of Azure.
//!
//! Whoever may write identities may name one, so all of them are below one folder that the hub was given, and
//! no link leads out of it. May not enter: networks.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use azimuth_wire::percent;
use bytes::Bytes;

use super::{Failure, PIECE};

/// Where a `file:` URI points to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FolderPlace {
    /// `file:name`: below the folder for jobs.
    Below(PathBuf),
    /// `file:///path`: must be below it all the same.
    Absolute(PathBuf),
}

impl FolderPlace {
    /// Understands a URI; one that climbs is refused.
    pub fn parse(uri: &str) -> Result<Self, String> {
        let (_, rest) = uri.split_once(':').unwrap_or_default();
        if rest.contains(['?', '#']) {
            return Err("a `file:` URI has no query".into());
        }
        let absolute = rest.strip_prefix("//");
        let path = match absolute {
            Some(rest) => {
                let rest = rest.strip_prefix("localhost").unwrap_or(rest);
                rest.strip_prefix('/')
                    .ok_or("a `file:` URI names a folder of this machine, not of another")?
            }
            None if rest.starts_with('/') => &rest[1..],
            None => rest,
        };
        let is_absolute = absolute.is_some() || rest.starts_with('/');
        let mut folder = PathBuf::new();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            let part = percent::decode(part);
            if matches!(&*part, "." | "..") || part.contains(['/', '\\', '\0']) {
                return Err("its URI climbs out of its folder".into());
            }
            folder.push(&*part);
        }
        Ok(match is_absolute {
            true => Self::Absolute(Path::new("/").join(folder)),
            false => Self::Below(folder),
        })
    }
}

/// A folder that is there.
pub struct Folder {
    root: PathBuf,
    path: PathBuf,
}

/// A file on its way: under another name until it is whole.
pub struct FileWriter {
    file: File,
    unfinished: PathBuf,
    path: PathBuf,
    finished: bool,
}

impl Folder {
    /// Makes what is missing below `root`.
    pub fn new(root: &Path, place: &FolderPlace) -> Result<Self, String> {
        std::fs::create_dir_all(root).map_err(|error| format!("the folder for jobs: {error}"))?;
        let root = root
            .canonicalize()
            .map_err(|error| format!("the folder for jobs: {error}"))?;
        let below = match place {
            FolderPlace::Below(path) => path.clone(),
            FolderPlace::Absolute(path) => {
                let below = path.strip_prefix(&root);
                below
                    .map_err(|_| {
                        "it is not below the folder that this hub has for jobs: name a folder below it, such as \
                         `file:backup`, or set `job-folder` of the hub"
                    })?
                    .to_owned()
            }
        };
        let mut folder = Self {
            path: root.clone(),
            root,
        };
        for part in &below {
            folder.path.push(part);
            match std::fs::create_dir(&folder.path) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(format!("its folder cannot be made: {error}")),
            }
            // Before going deeper: nothing is made behind a link.
            folder.stays(&folder.path)?;
        }
        Ok(folder)
    }

    pub fn find(&self, blob: &str) -> Result<(File, u64), Failure> {
        let path = self.file(blob)?;
        let mut options = OpenOptions::new();
        // Nothing that waits for somebody, and no link.
        options
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let file = options.open(path).map_err(failure)?;
        let found = file.metadata().map_err(failure)?;
        match found.is_file() {
            true => Ok((file, found.len())),
            false => Err(Failure::Other("it is not a file".into())),
        }
    }

    pub fn write(&self, blob: &str) -> Result<FileWriter, Failure> {
        let path = self.file(blob)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let unfinished = path.with_file_name(format!(".{name}.unfinished"));
        // Of a job that was killed.
        match std::fs::remove_file(&unfinished) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failure(error)),
            Ok(()) | Err(_) => {}
        }
        let mut options = OpenOptions::new();
        // Exports hold keys.
        options.write(true).create_new(true).mode(0o600);
        Ok(FileWriter {
            file: options.open(&unfinished).map_err(failure)?,
            unfinished,
            path,
            finished: false,
        })
    }

    pub fn delete(&self, blob: &str) -> Result<(), Failure> {
        std::fs::remove_file(self.file(blob)?).map_err(failure)
    }

    fn file(&self, blob: &str) -> Result<PathBuf, Failure> {
        let path = self.path.join(blob);
        let folder = path.parent().unwrap_or(&self.path);
        self.stays(folder).map_err(Failure::Other)?;
        Ok(path)
    }

    fn stays(&self, path: &Path) -> Result<(), String> {
        let real = path
            .canonicalize()
            .map_err(|error| format!("its folder: {error}"))?;
        match real.starts_with(&self.root) {
            true => Ok(()),
            false => Err("a link leads out of the folder that this hub has for jobs".into()),
        }
    }
}

/// At most [`PIECE`] bytes.
pub fn read(file: &File, offset: u64) -> Result<Bytes, Failure> {
    let mut piece = vec![0; PIECE];
    let mut filled = 0;
    while filled < piece.len() {
        match file.read_at(&mut piece[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(failure(error)),
        }
    }
    piece.truncate(filled);
    Ok(piece.into())
}

impl FileWriter {
    pub fn add(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.file.write_all(bytes).map_err(failure)
    }

    /// On disk before it takes its place.
    pub fn finish(mut self) -> Result<(), Failure> {
        self.file.sync_all().map_err(failure)?;
        std::fs::rename(&self.unfinished, &self.path).map_err(failure)?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        if !self.finished {
            let _ = std::fs::remove_file(&self.unfinished);
        }
    }
}

fn failure(error: std::io::Error) -> Failure {
    match error.kind() {
        ErrorKind::NotFound => Failure::Missing,
        ErrorKind::PermissionDenied => Failure::Unauthorized,
        _ => Failure::Other(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
