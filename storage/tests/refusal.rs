//! A file we may not open is explained and left as it was.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod scratch;

use std::fs;
use std::path::Path;

use azimuth_storage::{Change, Error, Expect, Key, Store, open};
use redb::{Database, TableDefinition};
use scratch::Scratch;

const META: TableDefinition<&str, u64> = TableDefinition::new("azimuth.store");

fn fill(store: &dyn Store) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    for number in 0..50 {
        let change = Change::put(
            Key::new("rows", &number.to_string()),
            Expect::Absent,
            vec![number; 20_000],
        );
        runtime.block_on(store.commit(vec![change])).unwrap();
    }
}

/// A whole store, closed in peace.
fn stored(path: &Path) -> Vec<u8> {
    fill(&*open(path).unwrap());
    fs::read(path).unwrap()
}

/// A store as a process leaves it that is killed: copied from under the writer.
fn killed(path: &Path) -> Vec<u8> {
    let store = open(path).unwrap();
    fill(&*store);
    fs::read(path).unwrap()
}

fn refused(path: &Path) -> Error {
    match open(path) {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(error) => error,
    }
}

/// Opens `bytes` as a store; they must be refused, explained, and still be the same.
fn refuse(path: &Path, bytes: &[u8]) -> Error {
    fs::write(path, bytes).unwrap();
    let modified = fs::metadata(path).unwrap().modified().unwrap();
    let error = refused(path);
    assert!(
        fs::read(path).unwrap() == bytes,
        "the file was written to: {error}"
    );
    assert_eq!(fs::metadata(path).unwrap().modified().unwrap(), modified);
    let sentence = error.to_string();
    assert!(
        sentence.contains(path.to_str().unwrap()) && sentence.contains("untouched: "),
        "{sentence}"
    );
    error
}

#[test]
fn bytes_that_are_no_store_are_foreign() {
    let scratch = Scratch::new();
    let zeros = vec![0; 1 << 20];
    let text = b"{\"devices\":[]}".repeat(5000);
    for bytes in [&b"x"[..], b"redb", b"SQLite format 3\0", &text, &zeros] {
        assert!(matches!(
            refuse(&scratch.file(), bytes),
            Error::Foreign { .. }
        ));
    }
}

#[test]
fn a_truncated_store_is_damaged_whether_it_was_closed_or_killed() {
    let scratch = Scratch::new();
    for whole in [stored(&scratch.file()), {
        fs::remove_file(scratch.file()).unwrap();
        killed(&scratch.file())
    }] {
        for len in [
            9,
            64,
            320,
            512,
            4095,
            4096,
            4097,
            8192,
            whole.len() / 2,
            whole.len() / 4096 / 2 * 4096,
        ] {
            let error = refuse(&scratch.file(), &whole[..len]);
            assert!(
                matches!(error, Error::Damaged { .. } | Error::Foreign { .. }),
                "{len}: {error:?}"
            );
        }
    }
}

#[test]
fn a_store_left_by_a_killed_process_opens() {
    let scratch = Scratch::new();
    let bytes = killed(&scratch.file());
    fs::write(scratch.file(), bytes).unwrap();
    let store = open(&scratch.file()).unwrap();
    assert_eq!(
        store.scan("rows", "", None, 100).unwrap().documents.len(),
        50
    );
}

#[test]
fn a_newer_format_is_named() {
    let scratch = Scratch::new();
    stored(&scratch.file());
    let database = Database::open(scratch.file()).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction
        .open_table(META)
        .unwrap()
        .insert("format", 7)
        .unwrap();
    transaction.commit().unwrap();
    let unclean = fs::read(scratch.file()).unwrap();
    drop(database);
    let clean = fs::read(scratch.file()).unwrap();
    for bytes in [clean, unclean] {
        let error = refuse(&scratch.file(), &bytes);
        assert!(
            matches!(
                error,
                Error::Newer {
                    found: 7,
                    known: 1,
                    ..
                }
            ),
            "{error:?}"
        );
    }
}

#[test]
fn a_database_of_another_program_is_foreign() {
    let scratch = Scratch::new();
    for table in ["theirs", "azimuth.store"] {
        let database = Database::create(scratch.file()).unwrap();
        let transaction = database.begin_write().unwrap();
        let theirs: TableDefinition<u32, &str> = TableDefinition::new(table);
        transaction
            .open_table(theirs)
            .unwrap()
            .insert(1, "a")
            .unwrap();
        transaction.commit().unwrap();
        drop(database);
        let bytes = fs::read(scratch.file()).unwrap();
        assert!(matches!(
            refuse(&scratch.file(), &bytes),
            Error::Foreign { .. }
        ));
        fs::remove_file(scratch.file()).unwrap();
    }
}

#[test]
fn a_second_opener_hears_that_the_store_is_in_use() {
    let scratch = Scratch::new();
    let first = open(&scratch.file()).unwrap();
    let error = refused(&scratch.file());
    assert!(matches!(error, Error::Locked { .. }), "{error:?}");
    first.close();
    open(&scratch.file()).unwrap();
}

#[test]
fn an_empty_file_becomes_a_store_and_a_half_made_one_is_made_again() {
    let scratch = Scratch::new();
    fs::write(scratch.file(), b"").unwrap();
    fs::write(scratch.file().with_extension("redb.new"), b"half").unwrap();
    drop(open(&scratch.file()).unwrap());
    assert!(!scratch.file().with_extension("redb.new").exists());
    open(&scratch.file()).unwrap();
}

#[test]
fn a_path_that_can_hold_no_store_is_explained() {
    let scratch = Scratch::new();
    fs::write(scratch.file(), b"a file").unwrap();
    for path in [
        scratch.file().join("below.redb"),
        scratch.file().with_file_name("missing").join("a.redb"),
    ] {
        let error = refused(&path);
        assert!(matches!(error, Error::Unreadable { .. }), "{error:?}");
        assert!(error.to_string().contains("folder exists"));
    }
    assert!(matches!(
        refused(scratch.file().parent().unwrap()),
        Error::Foreign { .. }
    ));
}
