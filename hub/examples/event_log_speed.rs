//! How long appending takes: `cargo run --release --example event_log_speed -p azimuth-hub`.
//!
//! Prints nanoseconds per message with a 200-byte body and what a hub stamps on it, for several batch sizes.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::time::{Instant, SystemTime};

use azimuth_hub::event::{Event, From, Log, LogConfig, Pairs};

const MESSAGES: usize = 1_000_000;

fn main() {
    let mut bare = vec![b'x'; 200];
    measure("200 bytes in all", &bare);
    bare.clear();
    event().encode(&mut bare);
    measure("200-byte body, stamped", &bare);
    encoding();
}

fn measure(what: &str, envelope: &[u8]) {
    for batch in [1, 10, 100] {
        let folder =
            std::env::temp_dir().join(format!("azimuth-event-log-speed-{}", std::process::id()));
        let now = SystemTime::now();
        let (mut appender, log, _) = Log::open(&folder, LogConfig::default(), now).unwrap();
        let begin = Instant::now();
        for number in 0..MESSAGES / batch {
            appender
                .append((number % 4) as u16, (0..batch).map(|_| envelope), now)
                .unwrap();
        }
        let append = begin.elapsed();
        let begin = Instant::now();
        let mut read = 0;
        for partition in 0..log.partitions() {
            let mut reader = log.reader(partition, From::Earliest).unwrap();
            loop {
                let batch = reader.next_batch(256 * 1024).unwrap();
                if batch.is_empty() {
                    break;
                }
                read += batch.records().count();
            }
        }
        let read_time = begin.elapsed();
        assert_eq!(read, MESSAGES);
        println!(
            "{what} ({} bytes), batches of {batch:>3}: append {:>5} ns, read {:>4} ns per message",
            envelope.len(),
            append.as_nanos() / MESSAGES as u128,
            read_time.as_nanos() / MESSAGES as u128,
        );
        drop(appender);
        let begin = Instant::now();
        drop(Log::open(&folder, LogConfig::default(), now).unwrap());
        println!("    opened again in {:?}", begin.elapsed());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

fn encoding() {
    let mut out = Vec::new();
    let begin = Instant::now();
    for _ in 0..MESSAGES {
        out.clear();
        std::hint::black_box(event()).encode(&mut out);
        std::hint::black_box(&out);
    }
    let encode = begin.elapsed();
    let begin = Instant::now();
    for _ in 0..MESSAGES {
        std::hint::black_box(Event::decode(std::hint::black_box(&out)).unwrap());
    }
    let decode = begin.elapsed();
    println!(
        "encode {} ns, decode {} ns per message",
        encode.as_nanos() / MESSAGES as u128,
        decode.as_nanos() / MESSAGES as u128
    );
}

fn event() -> Event<'static> {
    Event {
        device_id: "contoso-simdevice-east",
        module_id: None,
        generation_id: "637199981642612179",
        auth_method: r#"{"scope":"device","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}"#,
        source: "Telemetry",
        system: Pairs::new(&[
            ("content-type", "application/json"),
            ("content-encoding", "utf-8"),
        ]),
        application: Pairs::new(&[("level", Some("normal")), ("heartbeat", None)]),
        body: &[b'x'; 200],
    }
}
