//! Commits and reads a second: `cargo run --release -p azimuth-storage --example speed -- FILE`.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use azimuth_storage::{Change, Expect, Key, Store, open};

fn main() {
    let file = std::env::args().nth(1).expect("the path of a file to make");
    let store = open(file.as_ref()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    for committers in [1, 16, 256] {
        let done = runtime.block_on(commits(store.clone(), committers));
        println!(
            "{committers:>4} committers: {:>8.0} commits/s",
            done as f64 / ROUND.as_secs_f64()
        );
    }
    let started = Instant::now();
    let mut reads = 0_u64;
    while started.elapsed() < ROUND {
        assert!(store.get(&key(0, reads % 50)).unwrap().is_some());
        reads += 1;
    }
    println!(
        "   1 reader:     {:>8.0} gets/s",
        reads as f64 / ROUND.as_secs_f64()
    );
}

async fn commits(store: Arc<dyn Store>, committers: u64) -> u64 {
    let until = Instant::now() + ROUND;
    let tasks = (0..committers).map(|committer| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut done = 0;
            while Instant::now() < until {
                let change =
                    Change::put(key(committer, done % 1000), Expect::Anything, vec![7; 1024]);
                store.commit(vec![change]).await.unwrap();
                done += 1;
            }
            done
        })
    });
    let mut done = 0;
    for task in tasks.collect::<Vec<_>>() {
        done += task.await.unwrap();
    }
    done
}

fn key(committer: u64, number: u64) -> Key {
    Key::new("speed", &format!("{committer:04}/{number:06}"))
}

const ROUND: Duration = Duration::from_secs(3);
