//! Everything the fuzzers of queries and of imports kept, through their own checks, also cut at every byte.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

#[path = "../../fuzz/checks/import.rs"]
mod import;
#[path = "../../fuzz/checks/query.rs"]
mod query;

#[test]
fn the_corpus_of_queries_holds() {
    assert!(replay("query", query::check) > 20);
}

#[test]
fn the_corpus_of_imports_holds() {
    assert!(replay("import", import::check) > 15);
}

fn replay(corpus: &str, check: fn(&[u8])) -> usize {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let mut replayed = 0;
    for entry in fs::read_dir(all.join(corpus)).unwrap() {
        let path = entry.unwrap().path();
        // Shown only when the check fails.
        println!("{}", path.display());
        let data = fs::read(path).unwrap();
        (0..=data.len()).for_each(|end| check(&data[..end]));
        replayed += 1;
    }
    replayed
}
