//! Everything the fuzzers kept, and random bytes, through the fuzzers' own check.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use proptest::prelude::*;

#[path = "../../fuzz/checks/tpm.rs"]
mod tpm;

#[test]
fn the_corpus_of_tpm_structures_holds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/tpm");
    let mut replayed = 0;
    for entry in fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        // Shown only when the check fails.
        println!("{}", path.display());
        let data = fs::read(path).unwrap();
        tpm::check(&data);
        // Cut at every byte that a structure may end at, and changed at some.
        (0..data.len())
            .step_by(3)
            .for_each(|end| tpm::check(&data[..end]));
        for at in (0..data.len()).step_by(7) {
            let mut changed = data.clone();
            changed[at] ^= 0x80;
            tpm::check(&changed);
        }
        replayed += 1;
    }
    assert!(replayed > 10, "{replayed} inputs");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn no_bytes_break_a_reader(bytes: Vec<u8>) {
        tpm::check(&bytes);
    }
}
