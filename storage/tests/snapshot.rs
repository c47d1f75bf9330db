//! A snapshot is one state, whatever is written meanwhile.
#![allow(clippy::unwrap_used)]

mod scratch;

use std::sync::Arc;

use azimuth_storage::{Change, Error, Expect, Key, Store, memory, open};
use scratch::Scratch;

const ROOM: &str = "rows";

fn key(name: &str) -> Key {
    Key::new(ROOM, name)
}

async fn put(store: &dyn Store, name: &str, body: &str) {
    let change = Change::put(key(name), Expect::Anything, body.into());
    store.commit(vec![change]).await.unwrap();
}

async fn check(store: Arc<dyn Store>) {
    for name in ["a", "b", "c"] {
        put(&*store, name, "before").await;
    }
    let snapshot = store.snapshot().unwrap();
    let first = snapshot.scan(ROOM, "", None, 1).unwrap();
    put(&*store, "b", "after").await;
    put(&*store, "bb", "after").await;
    let gone = Change::delete(key("c"), Expect::Present);
    store.commit(vec![gone]).await.unwrap();

    let rest = snapshot.scan(ROOM, "", first.next.as_ref(), 10).unwrap();
    let rest: Vec<_> = rest
        .documents
        .iter()
        .map(|(key, document)| (key.name(), document.body.as_slice()))
        .collect();
    assert_eq!(rest, [("b", b"before".as_slice()), ("c", b"before")]);
    let found = snapshot.get(&key("c")).unwrap().unwrap();
    assert_eq!(found.body, b"before");
    assert_eq!(snapshot.get(&key("bb")).unwrap(), None);

    let newest = store.snapshot().unwrap();
    assert_eq!(newest.get(&key("c")).unwrap(), None);
    assert_eq!(newest.get(&key("b")).unwrap().unwrap().body, b"after");
    store.close();
    assert!(matches!(store.snapshot(), Err(Error::Closed)));
}

#[tokio::test]
async fn a_snapshot_stays_as_it_is_while_others_write() {
    check(memory()).await;
    let scratch = Scratch::new();
    check(open(&scratch.file()).unwrap()).await;
}
