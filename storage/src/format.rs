//! How our documents lie in a redb file, and who may open it.
//!
//! A file is judged through a read-only handle, with redb's repairs kept in memory, before it is
//! opened for writing: so a refused file is one nobody has written to.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;
use std::sync::Arc;

use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, StorageError, TableDefinition, TableError,
};

use crate::overlay::Overlay;
use crate::{Document, Error};

pub(crate) const DOCUMENTS: TableDefinition<&[u8], &[u8]> =
    TableDefinition::new("azimuth.documents");
/// Name and shape of this table hold for every format, past and future.
pub(crate) const META: TableDefinition<&str, u64> = TableDefinition::new("azimuth.store");
/// The last version given out.
pub(crate) const VERSION: &str = "version";
const FORMAT: &str = "format";
const KNOWN_FORMAT: u64 = 1;
const CACHE_BYTES: usize = 128 << 20;

/// Opens the file at `path` for writing, or refuses it untouched.
pub(crate) fn open(path: &Path) -> Result<Database, Error> {
    match fs::metadata(path) {
        Ok(found) if found.len() > 0 => judge(path)?,
        Ok(_) => create(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(path)?,
        Err(error) => return Err(unreadable(path, error)),
    }
    builder().open(path).map_err(|error| refusal(path, error))
}

/// A stored value: version, eight bytes, most significant first; then the body.
pub(crate) fn seal(value: &mut [u8], version: u64, body: &[u8]) {
    let (head, tail) = value.split_at_mut(8);
    head.copy_from_slice(&version.to_be_bytes());
    tail.copy_from_slice(body);
}

pub(crate) fn version_of(value: &[u8]) -> Result<u64, Error> {
    Ok(u64::from_be_bytes(
        *value.first_chunk::<8>().ok_or_else(too_short)?,
    ))
}

pub(crate) fn unseal(value: &[u8]) -> Result<Document, Error> {
    let (version, body) = value.split_first_chunk::<8>().ok_or_else(too_short)?;
    Ok(Document {
        version: u64::from_be_bytes(*version),
        body: body.to_vec(),
    })
}

fn too_short() -> Error {
    Error::storage(redb::Error::Corrupted(
        "a document without a version".to_owned(),
    ))
}

/// Passes a file of our format, and says what is wrong with any other.
fn judge(path: &Path) -> Result<(), Error> {
    if !fs::metadata(path).is_ok_and(|found| found.is_file()) {
        return Err(Error::Foreign {
            path: path.into(),
            what: "not a file".to_owned(),
        });
    }
    let file = File::open(path).map_err(|error| unreadable(path, error))?;
    let overlay = Overlay::over(file).map_err(|error| unreadable(path, error))?;
    let database = builder()
        .create_with_backend(overlay)
        .map_err(|error| refusal(path, error))?;
    match format_of(&database) {
        Ok(Some(format)) if format == KNOWN_FORMAT => Ok(()),
        Ok(Some(format)) if format > KNOWN_FORMAT => Err(Error::Newer {
            path: path.into(),
            found: format,
            known: KNOWN_FORMAT,
        }),
        Ok(_) => Err(Error::Foreign {
            path: path.into(),
            what: "a redb database of another program".to_owned(),
        }),
        Err(error) => Err(Error::Damaged {
            path: path.into(),
            what: error.to_string(),
        }),
    }
}

fn format_of(database: &Database) -> Result<Option<u64>, redb::Error> {
    match database.begin_read()?.open_table(META) {
        Ok(meta) => Ok(meta.get(FORMAT)?.map(|format| format.value())),
        Err(TableError::Storage(error)) => Err(error.into()),
        Err(_) => Ok(None),
    }
}

/// Makes the store beside `path` and moves it there whole, so that a process killed meanwhile
/// leaves an empty file, never half a store. The lock on the empty file keeps two from doing it.
fn create(path: &Path) -> Result<(), Error> {
    let seat = private()
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(|error| unreadable(path, error))?;
    match seat.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(Error::Locked { path: path.into() }),
        Err(TryLockError::Error(error)) => return Err(unreadable(path, error)),
    }
    if fs::metadata(path)
        .map_err(|error| unreadable(path, error))?
        .len()
        > 0
    {
        return judge(path);
    }
    let mut draft_name = path.as_os_str().to_owned();
    draft_name.push(".new");
    let draft = Path::new(&draft_name);
    make(draft).map_err(|error| refusal(path, error))?;
    fs::rename(draft, path)
        .and_then(|()| sync_folder(path))
        .map_err(|error| unreadable(path, error))
}

fn make(draft: &Path) -> Result<(), DatabaseError> {
    let file = private().create(true).truncate(true).open(draft)?;
    let database = builder().create_file(file)?;
    stamp(&database).map_err(|error| match error {
        redb::Error::Io(error) => DatabaseError::from(error),
        error => DatabaseError::Storage(StorageError::Corrupted(error.to_string())),
    })
}

fn stamp(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(DOCUMENTS)?;
    transaction.open_table(META)?.insert(FORMAT, KNOWN_FORMAT)?;
    transaction.commit()?;
    Ok(())
}

/// Keys of devices lie in the store: nobody else's business.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// A rename is on disk when its folder is.
fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        _ if !cfg!(unix) => Ok(()),
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

fn unreadable(path: &Path, error: io::Error) -> Error {
    Error::Unreadable {
        path: path.into(),
        source: Arc::new(error),
    }
}

fn refusal(path: &Path, error: DatabaseError) -> Error {
    match error {
        DatabaseError::DatabaseAlreadyOpen => Error::Locked { path: path.into() },
        DatabaseError::UpgradeRequired(_) => Error::Foreign {
            path: path.into(),
            what: "a redb file of another version".to_owned(),
        },
        DatabaseError::Storage(StorageError::Io(error))
            if error.kind() == io::ErrorKind::InvalidData =>
        {
            Error::Foreign {
                path: path.into(),
                what: "not a redb database".to_owned(),
            }
        }
        DatabaseError::Storage(StorageError::Io(error))
            if error.kind() == io::ErrorKind::UnexpectedEof =>
        {
            Error::Damaged {
                path: path.into(),
                what: "it ends too early".to_owned(),
            }
        }
        DatabaseError::Storage(StorageError::Io(error)) => unreadable(path, error),
        error => Error::Damaged {
            path: path.into(),
            what: error.to_string(),
        },
    }
}
