//! The process `azimuth device-sim`, as containers run it: slots, what is said at once, and the end.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use azimuth_certs::Authority;
use azimuth_clock::{Clock, SystemClock};
use serde_json::Value;

/// Nobody listens there.
const NOBODY: &str = "1";
const KEY: &str = "p3w2DQr9WqEGBLUSlFi1jPQ7UWQL4siAGy75HFTFbf8=";

struct Replica {
    child: Child,
    log: BufReader<ChildStderr>,
}

impl Replica {
    fn start(folder: &Path) -> Self {
        let ca = Authority::load_or_create(&folder.join("certs"), SystemClock.utc()).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_azimuth"))
            .args(["--mqtt-port", NOBODY, "device-sim", "--json"])
            .args(["--dps", "127.0.0.1", "--id-scope", "0ne00002193"])
            .args(["--name", "sim-{n}", "--count", "3", "--group-key", KEY])
            .args([Path::new("--ca"), &ca.path()])
            .args([Path::new("--slots"), &folder.join("slots")])
            .env("AZIMUTH_DATA", folder)
            .env_remove("AZIMUTH_LOG")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        Self { child, log }
    }

    /// The next line of the log: off a terminal it is JSON.
    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.log.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}"))
    }

    fn says(&mut self) -> String {
        self.line()["fields"]["message"].as_str().unwrap().into()
    }

    fn signal(&mut self, signal: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status().unwrap();
        assert!(sent.success());
    }
}

fn folder(test: &str) -> PathBuf {
    let name = format!("azimuth-device-sim-{test}-{}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir(&folder).unwrap();
    folder
}

#[test]
fn a_killed_replica_leaves_its_slot_to_its_successor() {
    let folder = folder("slots");
    let mut first = Replica::start(&folder);
    assert_eq!(first.says(), "slot 1: sim-1 to -3");
    let mut second = Replica::start(&folder);
    assert_eq!(second.says(), "slot 2: sim-4 to -6");
    first.signal("-KILL");
    first.child.wait().unwrap();
    let mut third = Replica::start(&folder);
    assert_eq!(third.says(), "slot 1: sim-1 to -3");
    let refused = Command::new(env!("CARGO_BIN_EXE_azimuth"))
        .args([
            "device-sim",
            "--dps",
            "127.0.0.1",
            "--id-scope",
            "0ne00002193",
        ])
        .args(["--group-key", KEY, "--slots"])
        .arg(folder.join("slots"))
        .args(["--name", "only", "--count", "1"])
        .env("AZIMUTH_DATA", &folder)
        .output()
        .unwrap();
    let sentence = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && sentence.contains("slot 3 would run it twice"));
    for mut replica in [second, third] {
        replica.signal("-KILL");
        replica.child.wait().unwrap();
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_fleet_that_cannot_reach_its_dps_says_why_at_once_and_stops_within_a_second() {
    let folder = folder("stop");
    let mut replica = Replica::start(&folder);
    replica.says();
    let warning = replica.line();
    assert_eq!(warning["level"], "WARN");
    assert_eq!(warning["fields"]["kind"], "connect-refused");
    assert_eq!(warning["fields"]["at"], "127.0.0.1");
    let sentence = warning["fields"]["message"].as_str().unwrap();
    assert!(sentence.starts_with("127.0.0.1 (127.0.0.1:1) refuses"));
    let told = SystemClock.now();
    replica.signal("-TERM");
    let mut report = String::new();
    let mut printed = replica.child.stdout.take().unwrap();
    printed.read_to_string(&mut report).unwrap();
    assert!(
        !replica.child.wait().unwrap().success(),
        "no device came in"
    );
    let took = SystemClock.now().duration_since(told);
    assert!(took < Duration::from_secs(1), "{took:?}");
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["devices"]["planned"], 3);
    assert_eq!(report["faults"][0]["kind"], "connect-refused");
    // All three failed at once; the log tells it once.
    let mut rest = String::new();
    replica.log.read_to_string(&mut rest).unwrap();
    assert!(!rest.contains("WARN"), "{rest}");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_key_in_the_environment_excludes_no_flag_and_one_in_a_flag_does() {
    let string = "HostName=h.invalid;DeviceId=d;SharedAccessKey=AAECAwQFBgcICQoLDA0ODw==";
    let said = |more: &[&str]| {
        let done = Command::new(env!("CARGO_BIN_EXE_azimuth"))
            .args([
                "device-sim",
                "--connection-string",
                string,
                "--ca",
                "/there/is/none",
            ])
            .args(more)
            .env("AZIMUTH_GROUP_KEY", "AAECAwQFBgcICQoLDA0ODw==")
            .output()
            .unwrap();
        assert!(!done.status.success());
        String::from_utf8(done.stderr).unwrap()
    };
    let alone = said(&[]);
    assert!(alone.contains("/there/is/none"), "{alone}");
    let both = said(&["--group-key", "AAECAwQFBgcICQoLDA0ODw=="]);
    assert!(both.contains("cannot be used with"), "{both}");
}
