//! What every backend promises, run on each of them.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod scratch;

use std::collections::BTreeMap;
use std::sync::Arc;

use azimuth_storage::{Change, Error, Expect, Key, Store, memory, open};
use proptest::prelude::*;
use scratch::Scratch;

const ROOM: &str = "rows";
const BEFORE: &str = "row";
const BEHIND: &str = "rows2";

/// Runs `check` on a new store of each backend.
fn on_each(check: impl Fn(Arc<dyn Store>)) {
    check(memory());
    let scratch = Scratch::new();
    check(open(&scratch.file()).unwrap());
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

fn key(name: &str) -> Key {
    Key::new(ROOM, name)
}

fn put(store: &dyn Store, name: &str, body: &str) -> u64 {
    wait(store.commit(vec![Change::put(key(name), Expect::Anything, body.into())])).unwrap()[0]
}

fn body(store: &dyn Store, name: &str) -> Option<String> {
    store
        .get(&key(name))
        .unwrap()
        .map(|found| String::from_utf8(found.body).unwrap())
}

#[test]
fn what_is_put_is_read_and_what_is_deleted_is_gone() {
    on_each(|store| {
        for written in ["", "a", "{\"x\":1}", &"long".repeat(100_000)] {
            let version = put(&*store, "one", written);
            let found = store.get(&key("one")).unwrap().unwrap();
            assert_eq!(
                (found.version, found.body.as_slice()),
                (version, written.as_bytes())
            );
        }
        assert_eq!(store.get(&Key::new(BEFORE, "one")).unwrap(), None);
        let gone = wait(store.commit(vec![Change::delete(key("one"), Expect::Present)])).unwrap();
        assert_eq!(gone, [0]);
        assert_eq!(body(&*store, "one"), None);
    });
}

#[test]
fn every_expectation_meets_every_state() {
    #[derive(Clone, Copy, Debug)]
    enum State {
        Absent,
        Present,
        Deleted,
    }
    let rows = [
        (State::Absent, "anything", true),
        (State::Absent, "absent", true),
        (State::Absent, "present", false),
        (State::Absent, "this version", false),
        (State::Absent, "other version", false),
        (State::Present, "anything", true),
        (State::Present, "absent", false),
        (State::Present, "present", true),
        (State::Present, "this version", true),
        (State::Present, "other version", false),
        (State::Deleted, "anything", true),
        (State::Deleted, "absent", true),
        (State::Deleted, "present", false),
        (State::Deleted, "this version", false),
        (State::Deleted, "other version", false),
    ];
    on_each(|store| {
        for (row, (state, expected, holds)) in rows.into_iter().enumerate() {
            for deleting in [false, true] {
                let name = format!("{row}-{deleting}");
                let version = match state {
                    State::Absent => 999_999,
                    State::Present => put(&*store, &name, "old"),
                    State::Deleted => {
                        let version = put(&*store, &name, "old");
                        wait(store.commit(vec![Change::delete(key(&name), Expect::Anything)]))
                            .unwrap();
                        version
                    }
                };
                let expect = match expected {
                    "anything" => Expect::Anything,
                    "absent" => Expect::Absent,
                    "present" => Expect::Present,
                    "this version" => Expect::Version(version),
                    _ => Expect::Version(version + 1_000_000),
                };
                let before = store.get(&key(&name)).unwrap();
                let change = match deleting {
                    true => Change::delete(key(&name), expect),
                    false => Change::put(key(&name), expect, b"new".to_vec()),
                };
                match wait(store.commit(vec![change])) {
                    Ok(versions) => {
                        assert!(holds, "{state:?} {expected}");
                        assert!(versions[0] != version, "a version came back");
                        assert_eq!(body(&*store, &name), (!deleting).then(|| "new".to_owned()));
                    }
                    Err(Error::Conflict {
                        key: found_key,
                        found,
                        index: 0,
                    }) => {
                        assert!(!holds, "{state:?} {expected}");
                        assert_eq!(found_key, key(&name));
                        assert_eq!(found, before.as_ref().map(|document| document.version));
                        assert_eq!(store.get(&key(&name)).unwrap(), before);
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        }
    });
}

#[test]
fn a_set_happens_whole_or_not_at_all_and_sees_itself_in_order() {
    on_each(|store| {
        put(&*store, "kept", "old");
        let refused = wait(store.commit(vec![
            Change::put(key("kept"), Expect::Anything, b"new".to_vec()),
            Change::put(key("made"), Expect::Absent, vec![]),
            Change::delete(key("missing"), Expect::Present),
        ]));
        assert!(
            matches!(
                refused,
                Err(Error::Conflict {
                    index: 2,
                    found: None,
                    ..
                })
            ),
            "{refused:?}"
        );
        assert_eq!(body(&*store, "kept").unwrap(), "old");
        assert_eq!(body(&*store, "made"), None);

        let versions = wait(store.commit(vec![
            Change::put(key("twice"), Expect::Absent, b"1".to_vec()),
            Change::delete(key("twice"), Expect::Present),
            Change::put(key("twice"), Expect::Absent, b"2".to_vec()),
        ]))
        .unwrap();
        assert_eq!(body(&*store, "twice").unwrap(), "2");
        assert_ne!(versions[0], versions[2]);
        assert_eq!(wait(store.commit(vec![])).unwrap(), [0_u64; 0]);
    });
}

#[test]
fn pages_follow_the_bytes_of_awkward_names_and_stay_in_their_room() {
    let names = [
        "",
        "\u{0}",
        "\u{1}",
        "/",
        "a",
        "a\u{0}b",
        "a/",
        "a/b",
        "a\u{1}b",
        "ab",
        "zebra",
        "ü",
        "設備",
        "\u{10ffff}",
    ];
    on_each(|store| {
        for room in [BEFORE, ROOM, BEHIND] {
            let changes = names
                .iter()
                .rev()
                .map(|name| Change::put(Key::new(room, name), Expect::Absent, room.into()));
            wait(store.commit(changes.collect())).unwrap();
        }
        for prefix in ["", "a", "a/", "\u{0}", "nothing", "\u{10ffff}"] {
            let mut wanted: Vec<_> = names
                .iter()
                .copied()
                .filter(|name| name.starts_with(prefix))
                .collect();
            wanted.sort_unstable();
            for limit in 0..=names.len() + 1 {
                let (mut seen, mut after) = (Vec::new(), None);
                loop {
                    let page = store.scan(ROOM, prefix, after.as_ref(), limit).unwrap();
                    assert!(page.documents.len() <= limit.max(1));
                    for (key, document) in &page.documents {
                        assert_eq!(
                            (key.room(), document.body.as_slice()),
                            (ROOM, ROOM.as_bytes())
                        );
                        seen.push(key.name().to_owned());
                    }
                    after = page.next;
                    if after.is_none() {
                        break;
                    }
                }
                assert_eq!(seen, wanted, "prefix {prefix:?}, limit {limit}");
            }
        }
        let elsewhere = store
            .scan(ROOM, "", Some(&Key::new(BEFORE, "a")), 100)
            .unwrap();
        assert_eq!(elsewhere.documents.len(), names.len());
        let past = store.scan(ROOM, "a", Some(&key("b")), 100).unwrap();
        assert_eq!((past.documents.len(), past.next), (0, None));
    });
}

#[test]
fn of_many_who_expect_the_same_version_one_wins() {
    on_each(|store| {
        put(&*store, "count", "0");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(4)
            .build()
            .unwrap();
        runtime.block_on(async {
            let racers = (0..16).map(|_| tokio::spawn(add_fifty(store.clone())));
            for racer in racers.collect::<Vec<_>>() {
                racer.await.unwrap();
            }
        });
        assert_eq!(body(&*store, "count").unwrap(), "800");
    });
}

async fn add_fifty(store: Arc<dyn Store>) {
    let mut added = 0;
    while added < 50 {
        let found = store.get(&key("count")).unwrap().unwrap();
        let sum = String::from_utf8(found.body)
            .unwrap()
            .parse::<u32>()
            .unwrap()
            + 1;
        let change = Change::put(
            key("count"),
            Expect::Version(found.version),
            sum.to_string().into(),
        );
        match store.commit(vec![change]).await {
            Ok(_) => added += 1,
            Err(Error::Conflict { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_lazy_write_is_seen_by_the_commit_behind_it() {
    on_each(|store| {
        store.commit_lazily(vec![Change::put(
            key("seen"),
            Expect::Absent,
            b"lazy".to_vec(),
        )]);
        store.commit_lazily(vec![Change::put(
            key("seen"),
            Expect::Absent,
            b"refused".to_vec(),
        )]);
        wait(store.commit(vec![Change::put(key("other"), Expect::Absent, vec![])])).unwrap();
        assert_eq!(body(&*store, "seen").unwrap(), "lazy");
    });
}

#[test]
fn a_full_queue_makes_commits_wait_and_loses_none() {
    on_each(|store| {
        // 100 MiB at once, three times what may wait.
        let commits: Vec<_> = (0..100)
            .map(|n| {
                store.commit(vec![Change::put(
                    key(&n.to_string()),
                    Expect::Absent,
                    vec![7; 1 << 20],
                )])
            })
            .collect();
        wait(async {
            for commit in commits {
                commit.await.unwrap();
            }
        });
        assert_eq!(
            store.scan(ROOM, "", None, 1000).unwrap().documents.len(),
            100
        );
    });
}

#[test]
fn a_closed_store_says_so() {
    on_each(|store| {
        let queued = store.commit(vec![Change::put(key("queued"), Expect::Anything, vec![])]);
        store.close();
        store.close();
        assert!(wait(queued).is_ok());
        store.commit_lazily(vec![Change::delete(key("queued"), Expect::Anything)]);
        assert!(matches!(store.get(&key("queued")), Err(Error::Closed)));
        assert!(matches!(store.scan(ROOM, "", None, 1), Err(Error::Closed)));
        assert!(matches!(wait(store.commit(vec![])), Err(Error::Closed)));
    });
}

#[test]
fn a_reopened_file_holds_everything_and_never_repeats_a_version() {
    let scratch = Scratch::new();
    let first = open(&scratch.file()).unwrap();
    let old = put(&*first, "kept", "body");
    let last = put(&*first, "gone", "");
    wait(first.commit(vec![Change::delete(key("gone"), Expect::Present)])).unwrap();
    first.commit_lazily(vec![Change::put(
        key("lazy"),
        Expect::Absent,
        b"late".to_vec(),
    )]);
    drop(first);

    let again = open(&scratch.file()).unwrap();
    assert_eq!(again.get(&key("kept")).unwrap().unwrap().version, old);
    assert_eq!(body(&*again, "lazy").unwrap(), "late");
    assert!(put(&*again, "gone", "") > last);
}

#[derive(Debug, Clone)]
enum Step {
    /// With a body, a delete without, or nothing but the condition.
    Commit(Vec<(u8, Wish, Option<Option<u8>>)>),
    Lazily(u8, u8),
    Scan(u8, usize),
    Reopen,
}

#[derive(Debug, Clone, Copy)]
enum Wish {
    Anything,
    Absent,
    Present,
    Known,
    Stale,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let wish = prop_oneof![
        Just(Wish::Anything),
        Just(Wish::Absent),
        Just(Wish::Present),
        Just(Wish::Known),
        Just(Wish::Stale)
    ];
    let body = proptest::option::of(proptest::option::of(any::<u8>()));
    let change = (0..8_u8, wish, body);
    let step = prop_oneof![
        6 => proptest::collection::vec(change, 0..4).prop_map(Step::Commit),
        2 => (0..8_u8, any::<u8>()).prop_map(|(name, body)| Step::Lazily(name, body)),
        2 => (0..8_u8, 0..4_usize).prop_map(|(after, limit)| Step::Scan(after, limit)),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..40)
}

type Model = BTreeMap<String, (u64, Vec<u8>)>;

fn name(number: u8) -> String {
    format!("n{number}")
}

/// Walks store and model side by side.
fn walk(
    steps: Vec<Step>,
    mut store: Arc<dyn Store>,
    reopen: impl Fn(Arc<dyn Store>) -> Arc<dyn Store>,
) {
    let mut model = Model::new();
    let mut newest = 0;
    for step in steps {
        match step {
            Step::Commit(wishes) => {
                let changes: Vec<_> = wishes.iter().map(|wish| change(wish, &model)).collect();
                let wanted = predict(&changes, &model);
                match (wait(store.commit(changes.clone())), wanted) {
                    (Ok(versions), Ok(())) => {
                        for (change, version) in changes.into_iter().zip(versions) {
                            let name = change.key.name().to_owned();
                            match change.action {
                                azimuth_storage::Action::Put(body) => {
                                    assert!(version > newest, "a version came back");
                                    newest = version;
                                    model.insert(name, (version, body));
                                }
                                azimuth_storage::Action::Delete => drop(model.remove(&name)),
                                azimuth_storage::Action::Leave => {}
                            }
                        }
                    }
                    (Err(Error::Conflict { index, .. }), Err(wanted)) => assert_eq!(index, wanted),
                    (got, wanted) => panic!("{got:?} instead of {wanted:?}"),
                }
            }
            Step::Lazily(number, body) => {
                store.commit_lazily(vec![Change::put(
                    key(&name(number)),
                    Expect::Anything,
                    vec![body],
                )]);
                wait(store.commit(vec![])).unwrap();
                let version = store.get(&key(&name(number))).unwrap().unwrap().version;
                assert!(version > newest);
                newest = version;
                model.insert(name(number), (version, vec![body]));
            }
            Step::Scan(after, limit) => {
                let page = store
                    .scan(ROOM, "", Some(&key(&name(after))), limit)
                    .unwrap();
                let left = model
                    .range(name(after)..)
                    .filter(|(found, _)| **found != name(after));
                let wanted: Vec<_> = left
                    .clone()
                    .take(limit.max(1))
                    .map(|(name, _)| key(name))
                    .collect();
                let next = (left.count() > wanted.len()).then(|| wanted.last().unwrap().clone());
                assert_eq!(
                    page.documents
                        .iter()
                        .map(|(key, _)| key.clone())
                        .collect::<Vec<_>>(),
                    wanted
                );
                assert_eq!(page.next, next);
            }
            Step::Reopen => store = reopen(store),
        }
        let stored = store.scan(ROOM, "", None, 100).unwrap().documents;
        let stored: Model = stored
            .into_iter()
            .map(|(key, found)| (key.name().to_owned(), (found.version, found.body)))
            .collect();
        assert_eq!(stored, model);
    }
}

fn change((number, wish, body): &(u8, Wish, Option<Option<u8>>), model: &Model) -> Change {
    let name = name(*number);
    let known = model.get(&name).map_or(0, |(version, _)| *version);
    let expect = match wish {
        Wish::Anything => Expect::Anything,
        Wish::Absent => Expect::Absent,
        Wish::Present => Expect::Present,
        Wish::Known => Expect::Version(known),
        Wish::Stale => Expect::Version(known.wrapping_sub(1)),
    };
    match body {
        Some(Some(body)) => Change::put(key(&name), expect, vec![*body]),
        Some(None) => Change::delete(key(&name), expect),
        None => Change::require(key(&name), expect),
    }
}

/// Which change of the set conflicts, if one does. `None` inside is "made in this set": its
/// version is nobody's to know.
fn predict(changes: &[Change], model: &Model) -> Result<(), usize> {
    let mut there: BTreeMap<&str, Option<u64>> = model
        .iter()
        .map(|(name, (version, _))| (name.as_str(), Some(*version)))
        .collect();
    for (index, change) in changes.iter().enumerate() {
        let found = there.get(change.key.name()).copied();
        let holds = match change.expect {
            Expect::Anything => true,
            Expect::Absent => found.is_none(),
            Expect::Present => found.is_some(),
            Expect::Version(version) => found == Some(Some(version)),
        };
        if !holds {
            return Err(index);
        }
        match change.action {
            azimuth_storage::Action::Put(_) => {
                there.insert(change.key.name(), None);
            }
            azimuth_storage::Action::Delete => drop(there.remove(change.key.name())),
            azimuth_storage::Action::Leave => {}
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_steps_agree_with_a_map(steps in steps()) {
        walk(steps.clone(), memory(), |store| store);
        let scratch = Scratch::new();
        walk(steps, open(&scratch.file()).unwrap(), |store| {
            drop(store);
            open(&scratch.file()).unwrap()
        });
    }
}
