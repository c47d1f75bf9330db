//! Everything the fuzzer of queries kept, through its own check, also cut at every byte.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

#[path = "../../fuzz/checks/query.rs"]
mod query;

#[test]
fn the_corpus_of_queries_holds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/query");
    let mut replayed = 0;
    for entry in fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        // Shown only when the check fails.
        println!("{}", path.display());
        let data = fs::read(path).unwrap();
        (0..=data.len()).for_each(|end| query::check(&data[..end]));
        replayed += 1;
    }
    assert!(replayed > 20, "{replayed} inputs");
}
