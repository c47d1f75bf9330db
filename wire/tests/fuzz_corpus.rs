//! Everything the fuzzers kept, and random texts, through the fuzzers' own checks.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use proptest::prelude::*;

#[path = "../../fuzz/checks/connection_string.rs"]
mod connection_string;
#[path = "../../fuzz/checks/sas.rs"]
mod sas;
#[path = "../../fuzz/checks/topic.rs"]
mod topic;

fn replay(target: &str, check: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let mut replayed = 0;
    for entry in fs::read_dir(corpus.join(target)).unwrap() {
        let path = entry.unwrap().path();
        // Shown only when the check fails.
        println!("{}", path.display());
        let data = fs::read(path).unwrap();
        check(&data);
        // A packet may be cut anywhere, and so may a text.
        (0..data.len()).for_each(|end| check(&data[..end]));
        replayed += 1;
    }
    assert!(replayed > 10, "{replayed} inputs for {target}");
}

#[test]
fn the_corpus_of_topics_holds() {
    replay("topic", topic::check);
}

#[test]
fn the_corpus_of_tokens_holds() {
    replay("sas", sas::check);
}

#[test]
fn the_corpus_of_connection_strings_holds() {
    replay("connection_string", connection_string::check);
}

/// Pieces that mean something to some parser, in any order, with anything between.
fn near_miss() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            "devices/", "dev1", "/modules/", "mod1", "/messages/events/", "/messages/devicebound/",
            "/inputs/", "$iothub/", "twin/GET/", "twin/res/", "twin/PATCH/properties/reported/",
            "twin/PATCH/properties/desired/", "methods/res/", "methods/POST/", "200", "/?$rid=",
            "&$version=", "$dps/registrations/", "PUT/iotdps-register", "res/202", "&retry-after=",
            "GET/iotdps-get-operationstatus", "&operationId=", "h/", "/?api-version=2021-04-12",
            "/api-version=2020-09-30", "&DeviceClientType=", "/registrations/", "\n", "#", "+",
            "SharedAccessSignature ", "sr=", "&sig=", "&se=1", "&skn=", "%2F", "%25", "%", "=", "&",
            "/", "?", "://", "HostName=", ";DeviceId=", ";ModuleId=", ";SharedAccessKeyName=",
            ";SharedAccessKey=AAECAwQFBgcICQoLDA0ODw==", ";x509=true", ";", " ",
        ]).prop_map(str::to_owned),
        1 => "\\PC{0,4}",
        1 => any::<String>(),
    ];
    prop::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn no_text_and_no_bytes_break_a_parser(text in near_miss(), bytes: Vec<u8>) {
        for data in [text.as_bytes(), &bytes] {
            topic::check(data);
            sas::check(data);
            connection_string::check(data);
        }
    }
}
