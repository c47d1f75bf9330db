//! Sequence numbers, offsets, times, beginnings, retention, waiting: one sentence each.

use std::time::{Duration, SystemTime};

use azimuth_hub::event::{Appended, Error, From, Log, LogConfig, MAX_ENVELOPE_BYTES, Sync};

use crate::folder::{Folder, at, drain, numbered, put, read, small, texts};

/// Head of a record and `event N`.
const RECORD: u64 = 24 + 7;

#[test]
fn sequence_numbers_count_from_0_and_offsets_count_bytes_across_segments() {
    let folder = Folder::new();
    let (mut appender, log, _) = folder.open(small());
    for number in 0..10 {
        assert_eq!(
            put(&mut appender, &format!("event {number}"), at(number)),
            number
        );
    }
    assert!(folder.segments(0).len() > 1);
    let mut reader = log.reader(0, From::Earliest).unwrap();
    for number in 0..10 {
        let batch = reader.next_batch(1).unwrap();
        let record = batch.records().next().unwrap();
        assert_eq!(
            (record.sequence, record.offset, record.enqueued),
            (number, number * RECORD, at(number))
        );
    }
    assert!(reader.next_batch(1).unwrap().is_empty());
}

#[test]
fn a_batch_takes_one_run_of_sequence_numbers_and_one_time() {
    let folder = Folder::new();
    let (mut appender, log, _) = folder.open(small());
    put(&mut appender, "event 0", at(0));
    let batch: [&[u8]; 3] = [b"event 1", b"event 2", b"event 3"];
    assert_eq!(
        appender.append(0, batch, at(1)).unwrap(),
        Appended {
            first_sequence: 1,
            count: 3
        }
    );
    assert_eq!(
        appender.append(0, [], at(2)).unwrap(),
        Appended {
            first_sequence: 4,
            count: 0
        }
    );
    let mut reader = log.reader(0, From::Sequence(1)).unwrap();
    let batch = reader.next_batch(1 << 20).unwrap();
    assert_eq!(texts(&batch), numbered(1..4));
    assert!(batch.records().all(|record| record.enqueued == at(1)));
}

#[test]
fn enqueued_times_never_go_back_even_across_a_restart() {
    let folder = Folder::new();
    let (mut appender, _, _) = folder.open(small());
    put(&mut appender, "a", at(50));
    put(&mut appender, "b", at(40));
    drop(appender);
    let (mut appender, log, _) = folder.open(small());
    put(&mut appender, "c", at(30));
    put(&mut appender, "d", at(60));
    let mut reader = log.reader(0, From::Earliest).unwrap();
    let times: Vec<_> = reader
        .next_batch(1 << 20)
        .unwrap()
        .records()
        .map(|record| record.enqueued)
        .collect();
    assert_eq!(times, [at(50), at(50), at(50), at(60)]);
}

#[test]
fn a_reader_begins_where_it_is_told_to() {
    let folder = Folder::new();
    let (mut appender, log, _) = folder.open(small());
    for number in 0..10 {
        put(&mut appender, &format!("event {number}"), at(10 * number));
    }
    let rows = [
        (From::Earliest, 0),
        (From::Latest, 10),
        (From::Sequence(0), 0),
        (From::Sequence(5), 5),
        (From::Sequence(6), 6),
        (From::Sequence(7), 7),
        (From::Sequence(10), 10),
        (From::Offset(0), 0),
        (From::Offset(1), 1),
        (From::Offset(6 * RECORD), 6),
        (From::Offset(6 * RECORD + 1), 7),
        (From::Offset(9 * RECORD + 1), 10),
        (From::Offset(10 * RECORD), 10),
        (From::Time(SystemTime::UNIX_EPOCH), 0),
        (From::Time(at(0)), 0),
        (From::Time(at(59)), 6),
        (From::Time(at(60)), 6),
        (From::Time(at(61)), 7),
        (From::Time(at(91)), 10),
    ];
    for (from, first) in rows {
        assert_eq!(read(&log, from), (numbered(first..10), 0), "{from:?}");
    }
}

#[test]
fn beginning_beyond_the_end_is_refused_with_a_sentence() {
    let folder = Folder::new();
    let (mut appender, log, _) = folder.open(small());
    put(&mut appender, "event 0", at(0));
    let rows = [
        (
            From::Sequence(2),
            "the supplied sequence number 2 is beyond the end of partition 0, where the next sequence number is 1",
        ),
        (
            From::Offset(99),
            "the supplied offset 99 is beyond the end of partition 0, where the next offset is 31",
        ),
    ];
    for (from, sentence) in rows {
        assert_eq!(log.reader(0, from).err().unwrap().to_string(), sentence);
    }
    let unknown = log.reader(1, From::Earliest).err().unwrap();
    assert_eq!(
        unknown.to_string(),
        "there is no partition 1: this event log has 1, counted from 0"
    );
}

#[test]
fn an_event_longer_than_a_batch_is_read_alone() {
    let folder = Folder::new();
    let (mut appender, log, _) = folder.open(LogConfig {
        segment_bytes: 1 << 20,
        ..small()
    });
    let long = "x".repeat(300_000);
    for envelope in ["short", &long, "short"] {
        put(&mut appender, envelope, at(0));
    }
    let mut reader = log.reader(0, From::Earliest).unwrap();
    for length in [5, 300_000, 5] {
        let batch = reader.next_batch(64).unwrap();
        assert_eq!(
            batch
                .records()
                .map(|record| record.envelope.len())
                .collect::<Vec<_>>(),
            [length]
        );
    }
}

#[test]
fn an_event_above_the_limit_takes_its_whole_batch_down() {
    let folder = Folder::new();
    let (mut appender, log, _) = folder.open(small());
    let long = vec![0; MAX_ENVELOPE_BYTES + 1];
    assert!(matches!(
        appender.append(0, [b"short", &long[..]], at(0)),
        Err(Error::TooLarge { .. })
    ));
    assert!(log.properties(0).unwrap().is_empty);
    assert_eq!(put(&mut appender, "event 0", at(0)), 0);
    assert_eq!(
        put(
            &mut appender,
            std::str::from_utf8(&long[1..]).unwrap(),
            at(0)
        ),
        1
    );
    assert_eq!(
        log.reader(0, From::Sequence(1))
            .unwrap()
            .next_batch(1)
            .unwrap()
            .records()
            .count(),
        1
    );
}

#[test]
fn properties_tell_what_a_partition_holds() {
    let folder = Folder::new();
    let config = LogConfig {
        retain_for: Duration::from_secs(100),
        ..small()
    };
    let (mut appender, log, _) = folder.open(config.clone());
    let empty = log.properties(0).unwrap();
    assert_eq!(
        (empty.first_sequence, empty.last_sequence, empty.is_empty),
        (0, None, true)
    );
    assert_eq!((empty.last_offset, empty.last_enqueued), (None, None));
    for number in 0..3 {
        put(&mut appender, &format!("event {number}"), at(number));
    }
    let full = log.properties(0).unwrap();
    assert_eq!(
        (full.first_sequence, full.last_sequence, full.is_empty),
        (0, Some(2), false)
    );
    assert_eq!(
        (full.last_offset, full.last_enqueued),
        (Some(2 * RECORD), Some(at(2)))
    );

    appender.retain(at(1_000)).unwrap();
    drop(appender);
    let (mut appender, log, cuts) = folder.open(config);
    assert_eq!(cuts, []);
    let emptied = log.properties(0).unwrap();
    assert_eq!(
        (
            emptied.first_sequence,
            emptied.last_sequence,
            emptied.is_empty
        ),
        (3, Some(2), true)
    );
    assert_eq!(
        (emptied.last_offset, emptied.last_enqueued),
        (Some(2 * RECORD), Some(at(2)))
    );
    assert_eq!(put(&mut appender, "event 3", at(1_001)), 3);
    assert_eq!(read(&log, From::Earliest), (numbered(3..4), 0));
}

#[test]
fn events_go_when_they_are_too_old() {
    let folder = Folder::new();
    let (mut appender, log, _) = folder.open(LogConfig {
        retain_for: Duration::from_secs(80),
        ..small()
    });
    for number in 0..10 {
        put(&mut appender, &format!("event {number}"), at(10 * number));
    }
    // Each segment of 200 bytes holds six.
    let rows = [(90, 0), (130, 0), (131, 6), (170, 6), (171, 10), (500, 10)];
    for (seconds, first) in rows {
        appender.retain(at(seconds)).unwrap();
        assert_eq!(
            read(&log, From::Earliest),
            (numbered(first..10), 0),
            "after {seconds} s"
        );
    }
    assert_eq!(folder.segments(0).len(), 1);
}

#[test]
fn a_partition_that_fills_slowly_still_forgets() {
    let folder = Folder::new();
    let config = LogConfig {
        retain_for: Duration::from_secs(80),
        segment_bytes: 1 << 20,
        ..small()
    };
    let (mut appender, log, _) = folder.open(config);
    for second in 0..1_000 {
        put(&mut appender, "event", at(second));
        appender.retain(at(second)).unwrap();
    }
    let first = log.properties(0).unwrap().first_sequence;
    assert!((900..=919).contains(&first), "{first}");
}

#[test]
fn the_oldest_segments_of_all_partitions_go_when_there_is_too_much() {
    let folder = Folder::new();
    let config = LogConfig {
        partitions: 2,
        retain_bytes: 1_200,
        ..small()
    };
    let (mut appender, log, _) = folder.open(config.clone());
    for number in 0..40 {
        // The first partition's events are all older than the other's.
        let partition = u16::from(number >= 20);
        appender
            .append(
                partition,
                [format!("event {number}").as_bytes()],
                at(number),
            )
            .unwrap();
    }
    assert_eq!(log.properties(0).unwrap().first_sequence, 18);
    assert_eq!(log.properties(1).unwrap().first_sequence, 0);
    let bytes = |folder: &Folder| {
        let files = [0, 1]
            .into_iter()
            .flat_map(|partition| folder.segments(partition));
        files
            .map(|path| path.metadata().unwrap().len())
            .sum::<u64>()
    };
    assert!(bytes(&folder) <= 1_200, "{}", bytes(&folder));
    appender.close().unwrap();
    let (mut appender, _, _) = folder.open(LogConfig {
        retain_bytes: 600,
        ..config
    });
    appender.retain(at(40)).unwrap();
    assert!(bytes(&folder) <= 600, "{}", bytes(&folder));
}

#[test]
fn a_reader_overtaken_by_retention_is_told_how_much_it_missed() {
    let folder = Folder::new();
    let (mut appender, log, _) = folder.open(LogConfig {
        retain_bytes: 700,
        ..small()
    });
    put(&mut appender, "event 0", at(0));
    let mut stopped = log.reader(0, From::Earliest).unwrap();
    assert_eq!(drain(&mut stopped), (numbered(0..1), 0));
    for number in 1..100 {
        put(&mut appender, &format!("event {number}"), at(number));
    }
    let first = log.properties(0).unwrap().first_sequence;
    assert!(first > 50, "{first}");
    assert_eq!(drain(&mut stopped), (numbered(first..100), first - 1));
    assert_eq!(
        read(&log, From::Sequence(5)),
        (numbered(first..100), first - 5)
    );
    // By offset the number is not known any more, that some are missing is.
    assert_eq!(read(&log, From::Offset(RECORD)), (numbered(first..100), 1));
    assert_eq!(read(&log, From::Earliest), (numbered(first..100), 0));
}

#[test]
fn a_stopped_reader_keeps_no_file_open() {
    let folder = Folder::new();
    let (mut appender, log, _) = folder.open(LogConfig {
        retain_bytes: 700,
        ..small()
    });
    for number in 0..12 {
        put(&mut appender, &format!("event {number}"), at(0));
    }
    let mut stopped = log.reader(0, From::Earliest).unwrap();
    stopped.next_batch(1).unwrap();
    for number in 12..100 {
        put(&mut appender, &format!("event {number}"), at(0));
    }
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap();
    let targets = descriptors.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    let ours: Vec<_> = targets
        .filter(|target| target.starts_with(folder.path()))
        .collect();
    assert_eq!(ours.len(), 2, "the lock and the active segment: {ours:?}");
}

#[test]
fn two_readers_follow_while_a_thread_appends() {
    const EVENTS: u64 = 3_000;
    let folder = Folder::new();
    let (mut appender, log, _) = folder.open(LogConfig {
        segment_bytes: 20_000,
        ..small()
    });
    let follow = |max_bytes: usize| {
        let mut reader = log.reader(0, From::Earliest).unwrap();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap();
            let mut all = Vec::new();
            while runtime.block_on(reader.wait()) {
                let batch = reader.next_batch(max_bytes).unwrap();
                assert_eq!((batch.skipped, batch.damage.len()), (0, 0));
                all.extend(texts(&batch));
            }
            all
        })
    };
    let readers = [follow(100), follow(100_000)];
    for first in (0..EVENTS).step_by(3) {
        let batch = [first, first + 1, first + 2].map(|number| format!("event {number}"));
        appender
            .append(0, batch.iter().map(String::as_bytes), at(first))
            .unwrap();
    }
    appender.close().unwrap();
    for reader in readers {
        assert_eq!(reader.join().unwrap(), numbered(0..EVENTS));
    }
}

#[tokio::test]
async fn waiting_ends_with_the_next_event_and_with_the_log() {
    let folder = Folder::new();
    let (mut appender, log, _) = folder.open(small());
    let mut reader = log.reader(0, From::Latest).unwrap();
    let waiting = tokio::spawn(async move {
        let more = reader.wait().await;
        (more, reader)
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    put(&mut appender, "event 0", at(0));
    let (more, mut reader) = waiting.await.unwrap();
    assert!(more);
    appender.close().unwrap();
    assert!(reader.wait().await, "what is there can still be read");
    assert_eq!(drain(&mut reader), (numbered(0..1), 0));
    assert!(!reader.wait().await);
}

#[test]
fn every_sync_setting_stores_the_same() {
    for sync in [
        Sync::Never,
        Sync::EveryBatch,
        Sync::Interval(Duration::from_secs(2)),
    ] {
        let folder = Folder::new();
        let config = LogConfig { sync, ..small() };
        let (mut appender, _, _) = folder.open(config.clone());
        for number in 0..20 {
            put(&mut appender, &format!("event {number}"), at(number));
        }
        appender.retain(at(30)).unwrap();
        drop(appender);
        assert_eq!(
            read(&folder.open(config).1, From::Earliest),
            (numbered(0..20), 0),
            "{sync:?}"
        );
    }
}

#[test]
fn what_does_not_fit_the_log_on_disk_is_refused() {
    let folder = Folder::new();
    let opened = folder.open(small());
    let refuse = |config: LogConfig| Log::open(folder.path(), config, at(0)).err().unwrap();
    let path = folder.path().display();
    assert_eq!(
        refuse(small()).to_string(),
        format!("the event log {path} is open in another process")
    );
    drop(opened);
    assert_eq!(
        refuse(LogConfig {
            partitions: 4,
            ..small()
        })
        .to_string(),
        format!(
            "the event log {path} has 1 partitions and cannot be opened with 4: the number is fixed at creation"
        )
    );
    assert!(matches!(
        refuse(LogConfig {
            partitions: 0,
            ..small()
        }),
        Error::PartitionsOutOfRange { asked: 0 }
    ));
}

#[test]
fn a_device_has_one_partition() {
    let folder = Folder::new();
    let (_appender, log, _) = folder.open(LogConfig {
        partitions: 4,
        ..small()
    });
    assert_eq!(log.partitions(), 4);
    assert_eq!(
        log.partition_of("contoso-simdevice-east"),
        azimuth_hub::event::partition_for("contoso-simdevice-east", 4)
    );
}
