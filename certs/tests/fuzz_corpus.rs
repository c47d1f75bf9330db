//! Everything the fuzzer of certificates kept, through its own check, also cut and with a byte changed.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

#[path = "../../fuzz/checks/certificates.rs"]
mod certificates;

#[test]
fn the_corpus_of_certificates_holds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/certificates");
    let mut replayed = 0;
    for entry in fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        // Shown only when the check fails.
        println!("{}", path.display());
        let data = fs::read(path).unwrap();
        certificates::check(&data);
        for at in (0..data.len()).step_by(7) {
            certificates::check(&data[..at]);
            let mut changed = data.clone();
            changed[at] = changed[at].wrapping_add(1);
            certificates::check(&changed);
        }
        replayed += 1;
    }
    assert!(replayed > 10, "{replayed} inputs");
}
