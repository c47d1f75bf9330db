//! What was acknowledged is there after `kill -9`.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod scratch;

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use azimuth_storage::{Change, Expect, Key, open};
use scratch::Scratch;

const ROOM: &str = "kept";
const FILE: &str = "AZIMUTH_STORAGE_TEST_FILE";

#[test]
fn every_acknowledged_key_survives_a_kill() {
    let scratch = Scratch::new();
    let mut acknowledged = Vec::new();
    for round in 0..3_usize {
        acknowledged.extend(killed_after(
            &scratch,
            "writes_until_killed",
            150 + round * 77,
        ));
        let store = open(&scratch.file()).unwrap();
        for name in &acknowledged {
            let found = store
                .get(&Key::new(ROOM, name))
                .unwrap()
                .unwrap_or_else(|| panic!("{name} is lost"));
            assert_eq!(found.body, name.repeat(50).into_bytes());
        }
    }
    assert!(acknowledged.len() >= 3 * 150);
}

#[test]
fn a_lazy_write_survives_a_kill_once_its_second_is_over() {
    let scratch = Scratch::new();
    let names = killed_after(&scratch, "writes_lazily_until_killed", 1);
    let store = open(&scratch.file()).unwrap();
    assert!(store.get(&Key::new(ROOM, &names[0])).unwrap().is_some());
}

/// Starts one of the ignored tests below as a process, kills it after `lines` names and returns
/// every name it managed to say.
fn killed_after(scratch: &Scratch, test: &str, lines: usize) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env(FILE, scratch.file())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| line.strip_prefix("kept ").map(str::to_owned));
    let mut names: Vec<_> = said.by_ref().take(lines).collect();
    assert_eq!(names.len(), lines, "the child ended by itself");
    child.kill().unwrap();
    child.wait().unwrap();
    names.extend(said);
    // The last line may be cut; a cut name is no promise.
    names.retain(|name| name.len() == NAME);
    names
}

const NAME: usize = 20;

#[test]
#[ignore = "runs as a child of the tests above"]
fn writes_until_killed() {
    let Some(file) = std::env::var_os(FILE) else {
        return;
    };
    let store = open(file.as_ref()).unwrap();
    let start = store
        .scan(ROOM, "", None, usize::MAX)
        .unwrap()
        .documents
        .len();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    runtime.block_on(async {
        let writers = (0..8_usize).map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for number in start.. {
                    let name = format!("{writer:04}-{number:015}");
                    let body = name.repeat(50).into_bytes();
                    store
                        .commit(vec![Change::put(
                            Key::new(ROOM, &name),
                            Expect::Absent,
                            body,
                        )])
                        .await
                        .unwrap();
                    say(&name);
                }
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
    });
}

#[test]
#[ignore = "runs as a child of the tests above"]
fn writes_lazily_until_killed() {
    let Some(file) = std::env::var_os(FILE) else {
        return;
    };
    let store = open(file.as_ref()).unwrap();
    let name = "0123456789-123456789";
    store.commit_lazily(vec![Change::put(
        Key::new(ROOM, name),
        Expect::Absent,
        vec![],
    )]);
    // The promise is one of real time, to a process that dies for real.
    std::thread::sleep(Duration::from_secs(3));
    say(name);
    std::thread::park();
}

fn say(name: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("\nkept {name}\n").as_bytes())
        .unwrap();
    out.flush().unwrap();
}
