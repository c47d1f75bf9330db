//! Files of imports: they have the same lines however they are cut, no line panics, what a line leaves behind can be
//! exported and read again, and what is wrong is told in one line with a number of Azure's. The first byte says how
//! the file is cut.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::UNIX_EPOCH;

use azimuth_clock::ManualClock;
use azimuth_hub::job::lines::{Line, Lines};
use azimuth_hub::job::{export_line, import_line};
use azimuth_hub::registry::{Collection, Registry};

pub fn check(data: &[u8]) {
    let Some((size, file)) = data.split_first() else {
        return;
    };
    let lines = cut(file, usize::from(*size).max(1));
    assert_eq!(lines, cut(file, file.len().max(1)));
    let clock = Arc::new(ManualClock::at(UNIX_EPOCH));
    let registry = Registry::open("hub", azimuth_storage::memory(), clock);
    let registry = registry.expect("an empty store opens");
    for line in &lines {
        match import_line::read(line) {
            Ok(item) => {
                let name = item.name.clone();
                match at_once(registry.apply(item)) {
                    Ok(_) => {}
                    Err(error) => assert!(error.code().status() < 500, "{name}: {error}"),
                }
            }
            Err(error) => {
                let told = serde_json::to_string(&error).expect("texts and numbers are JSON");
                assert!(!told.contains('\n'));
                let number = error.error_code.as_u64().expect("it is a number");
                assert!((400_000..500_000).contains(&number), "{told}");
            }
        }
    }
    for collection in [Collection::Devices, Collection::Modules] {
        let page = registry
            .page(collection, None, 1000)
            .expect("it can be read");
        for pair in &page.pairs {
            let twin = registry.twin_of(pair).expect("it can be read");
            let mut file = Vec::new();
            let written = export_line::write(&pair.identity, &twin, false, &mut file);
            written.expect("an identity is JSON");
            for line in cut(&file, 64) {
                let item = import_line::read(&line).expect("what was exported can be imported");
                assert_eq!(item.name, pair.identity.name());
            }
        }
    }
}

fn cut(file: &[u8], size: usize) -> Vec<Line> {
    let mut lines = Lines::default();
    let pieces = file.chunks(size);
    let mut all: Vec<_> = pieces.flat_map(|piece| lines.feed(piece)).collect();
    all.extend(lines.finish());
    all
}

/// In memory nothing is waited for.
fn at_once<T>(work: impl Future<Output = T>) -> T {
    match pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => unreachable!("the store in memory answers at once"),
    }
}
