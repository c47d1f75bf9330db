//! A certificate and its key as two files that appear together or not at all.
//!
//! Both are written beside their place, synced, then renamed: the key first, so that whoever sees a
//! certificate finds its key. May not enter: what the certificate says.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::Error;

/// Where one pair lies: `<stem>.pem` and `<stem>.key`.
#[derive(Debug, Clone)]
pub(crate) struct PairFiles {
    folder: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// What of a pair is there.
pub(crate) enum Found {
    Nothing,
    Certificate,
    Key(String),
    Both(Pair),
}

pub(crate) struct Pair {
    pub certificate_pem: String,
    pub key_pem: String,
}

impl PairFiles {
    pub fn new(folder: &Path, stem: &str) -> Self {
        Self {
            folder: folder.to_owned(),
            certificate: folder.join(format!("{stem}.pem")),
            key: folder.join(format!("{stem}.key")),
        }
    }

    pub fn read(&self) -> Result<Found, Error> {
        // The certificate first: its key was in place before it.
        let certificate = read_if_there(&self.certificate)?;
        let key = read_if_there(&self.key)?;
        Ok(match (certificate, key) {
            (None, None) => Found::Nothing,
            (Some(_), None) => Found::Certificate,
            (None, Some(key)) => Found::Key(key),
            (Some(certificate_pem), Some(key_pem)) => Found::Both(Pair {
                certificate_pem,
                key_pem,
            }),
        })
    }

    /// A certificate whose writing was cut off after its key had found its place.
    pub fn left_over_certificate(&self) -> Result<Option<String>, Error> {
        read_if_there(&unfinished(&self.certificate))
    }

    pub fn finish_left_over(&self) -> Result<(), Error> {
        rename(&unfinished(&self.certificate), &self.certificate)?;
        self.sync_folder()
    }

    pub fn write(&self, certificate_pem: &str, key_pem: &str) -> Result<(), Error> {
        write_unfinished(&self.key, key_pem, KEY_MODE)?;
        write_unfinished(&self.certificate, certificate_pem, CERTIFICATE_MODE)?;
        rename(&unfinished(&self.key), &self.key)?;
        rename(&unfinished(&self.certificate), &self.certificate)?;
        self.sync_folder()
    }

    fn sync_folder(&self) -> Result<(), Error> {
        let synced = File::open(&self.folder).and_then(|folder| folder.sync_all());
        synced.map_err(|source| Error::Write {
            path: self.folder.clone(),
            source,
        })
    }
}

/// Keeps other processes from making certificates in the same folder meanwhile; released when
/// dropped. Makes the folder if it is missing.
pub(crate) fn lock(folder: &Path) -> Result<File, Error> {
    let path = folder.join(".lock");
    let fail = |source| Error::Write {
        path: path.clone(),
        source,
    };
    fs::create_dir_all(folder).map_err(fail)?;
    let mut options = OpenOptions::new();
    let file = options.create(true).truncate(false).write(true);
    let file = file.open(&path).map_err(fail)?;
    match file.lock() {
        Ok(()) => Ok(file),
        // Some network file systems have no locks; two first starts at once are rarer than those.
        Err(e) if e.kind() == io::ErrorKind::Unsupported => Ok(file),
        Err(source) => Err(fail(source)),
    }
}

fn read_if_there(path: &Path) -> Result<Option<String>, Error> {
    match fs::read(path) {
        // A pair is text; what is not will be found damaged by whoever parses it.
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

fn write_unfinished(path: &Path, text: &str, mode: u32) -> Result<(), Error> {
    let path = unfinished(path);
    let written = write_with_mode(&path, text, mode);
    written.map_err(|source| Error::Write { path, source })
}

fn write_with_mode(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        Ok(()) | Err(_) => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    // From its first byte on no one else may read a key.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    let mut file = options.open(path)?;
    #[cfg(unix)]
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
    #[cfg(not(unix))]
    let _ = mode;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).map_err(|source| Error::Write {
        path: to.to_owned(),
        source,
    })
}

fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

const KEY_MODE: u32 = 0o600;
const CERTIFICATE_MODE: u32 = 0o644;
