//! What an ended process leaves behind. The process is this very test program, asked for one of its ignored tests.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use azimuth_hub::event::{Error, From, Log, LogConfig};

use crate::folder::{Folder, at};

#[test]
fn each_acknowledged_event_survives_kill_9() {
    let folder = Folder::new();
    for acknowledgements in [1, 2, 50, 400, 3] {
        let mut child = child("kill::appends_until_it_is_killed", folder.path(), "");
        let lines = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok);
        let last = lines
            .filter_map(|line| acknowledged(&line))
            .nth(acknowledgements)
            .unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let (_appender, log, _) = Log::open(folder.path(), config(), at(0)).unwrap();
        let held = events_held(&log);
        assert!(held >= last, "{held} of {last}");
    }
}

#[test]
fn a_batch_that_hits_a_size_limit_leaves_nothing_and_the_log_usable() {
    let folder = Folder::new();
    let child = child(
        "kill::appends_until_the_file_may_not_grow",
        folder.path(),
        "trap '' XFSZ; ulimit -f 300; ",
    );
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let last = text.lines().filter_map(acknowledged).next_back().unwrap();
    let (mut appender, log, cuts) = Log::open(folder.path(), config(), at(0)).unwrap();
    assert_eq!(cuts, [], "the failed batch was taken back at once");
    assert_eq!(events_held(&log), last);
    assert_eq!(
        appender
            .append(0, [&b"more"[..]], at(0))
            .unwrap()
            .first_sequence,
        last
    );
}

#[test]
#[ignore = "the process the test above kills"]
fn appends_until_it_is_killed() {
    let Some(folder) = folder_given() else { return };
    let (mut appender, log, _) = Log::open(&folder, config(), at(0)).unwrap();
    let mut next = log
        .properties(0)
        .unwrap()
        .last_sequence
        .map_or(0, |last| last + 1);
    loop {
        next = append(&mut appender, next, 1 + next % 7).unwrap();
    }
}

#[test]
#[ignore = "the process the test above gives no room"]
fn appends_until_the_file_may_not_grow() {
    let Some(folder) = folder_given() else { return };
    let config = LogConfig {
        segment_bytes: 1 << 30,
        ..config()
    };
    let (mut appender, _, _) = Log::open(&folder, config, at(0)).unwrap();
    let mut next = 0;
    // After large batches do not fit any more, smaller ones still may.
    for count in [64, 8, 1] {
        let error = loop {
            match append(&mut appender, next, count) {
                Ok(after) => next = after,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::SizeLimit { .. }), "{error}");
        assert!(
            error.to_string().contains("may not grow any further"),
            "{error}"
        );
    }
}

/// Appends events and tells the parent once they are acknowledged.
fn append(
    appender: &mut azimuth_hub::event::Appender,
    first: u64,
    count: u64,
) -> Result<u64, Error> {
    let batch: Vec<_> = (first..first + count).map(content).collect();
    let appended = appender.append(0, batch.iter().map(Vec::as_slice), at(first))?;
    assert_eq!((appended.first_sequence, appended.count), (first, count));
    println!("\nACKNOWLEDGED BELOW {}", first + count);
    Ok(first + count)
}

fn acknowledged(line: &str) -> Option<u64> {
    line.strip_prefix("ACKNOWLEDGED BELOW ")?.parse().ok()
}

/// Reads all, holding each against what was appended under its number.
fn events_held(log: &Log) -> u64 {
    let mut reader = log.reader(0, From::Earliest).unwrap();
    let mut next = 0;
    loop {
        let batch = reader.next_batch(1 << 20).unwrap();
        assert_eq!((batch.skipped, batch.damage.len()), (0, 0));
        if batch.is_empty() {
            return next;
        }
        for record in batch {
            assert_eq!(
                (record.sequence, record.envelope),
                (next, &content(next)[..])
            );
            next += 1;
        }
    }
}

fn content(sequence: u64) -> Vec<u8> {
    sequence.to_le_bytes().repeat(1 + sequence as usize % 50)
}

fn config() -> LogConfig {
    LogConfig {
        partitions: 1,
        segment_bytes: 50_000,
        ..LogConfig::default()
    }
}

fn child(test: &str, folder: &Path, before: &str) -> std::process::Child {
    let program = std::env::current_exe().unwrap();
    Command::new("sh")
        .args(["-c", &format!("{before}exec \"$0\" \"$@\"")])
        .arg(program)
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Without a folder nobody started this as a child: `cargo test -- --ignored` has nothing to wait for.
fn folder_given() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(PathBuf::from)
}

const FOLDER: &str = "AZIMUTH_TEST_EVENT_LOG";
