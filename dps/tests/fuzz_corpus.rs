//! Everything the fuzzer of bodies kept, through its own check, also cut at every byte.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

#[path = "../../fuzz/checks/bodies.rs"]
mod bodies;

#[test]
fn the_corpus_of_bodies_holds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/bodies");
    let mut replayed = 0;
    for entry in fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        // Shown only when the check fails.
        println!("{}", path.display());
        let data = fs::read(path).unwrap();
        (0..=data.len()).for_each(|end| bodies::check(&data[..end]));
        // A body of one may be sent to another.
        for kind in b"rigwhc" {
            let mut other = data.clone();
            other[0] = *kind;
            bodies::check(&other);
        }
        replayed += 1;
    }
    assert!(replayed > 10, "{replayed} inputs");
}
