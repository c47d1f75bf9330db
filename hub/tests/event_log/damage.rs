//! Files cut short, flipped, foreign, newer or gone.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use azimuth_hub::event::{Error, From, Log};

use crate::folder::{Folder, at, numbered, put, read, small, texts};

#[test]
fn a_tail_torn_at_any_byte_is_cut_and_everything_before_is_kept() {
    let folder = Folder::new();
    let (mut appender, _, _) = folder.open(small());
    for number in 0..3 {
        put(&mut appender, &format!("event {number}"), at(0));
    }
    drop(appender);
    let path = folder.segments(0).remove(0);
    let whole = fs::read(&path).unwrap();
    let last = whole.len() - 31;
    for length in last..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let (mut appender, log, cuts) = folder.open(small());
        let sentences: Vec<_> = cuts.iter().map(ToString::to_string).collect();
        let expected = format!(
            "cut {} bytes off the end of {} (the last record is incomplete); the 2 records before are kept",
            length - last,
            path.display()
        );
        assert_eq!(
            sentences,
            if length == last {
                vec![]
            } else {
                vec![expected]
            }
        );
        assert_eq!(fs::metadata(&path).unwrap().len(), last as u64);
        assert_eq!(put(&mut appender, "event 2", at(0)), 2);
        assert_eq!(
            read(&log, From::Earliest),
            (numbered(0..3), 0),
            "torn at {length}"
        );
        drop(appender);
        assert_eq!(
            fs::read(&path).unwrap(),
            whole,
            "the same again, and nothing behind it"
        );
    }
}

#[test]
fn a_tail_with_any_byte_of_its_last_record_changed_is_cut() {
    let folder = Folder::new();
    let (mut appender, _, _) = folder.open(small());
    for number in 0..3 {
        put(&mut appender, &format!("event {number}"), at(0));
    }
    drop(appender);
    let path = folder.segments(0).remove(0);
    let whole = fs::read(&path).unwrap();
    for at in whole.len() - 31..whole.len() {
        for change in [0xff, 0x01] {
            let mut damaged = whole.clone();
            damaged[at] ^= change;
            fs::write(&path, &damaged).unwrap();
            let (_, log, cuts) = folder.open(small());
            assert_eq!(
                cuts.iter()
                    .map(|cut| (cut.kept_records, cut.cut_bytes))
                    .collect::<Vec<_>>(),
                [(2, 31)]
            );
            assert_eq!(read(&log, From::Earliest), (numbered(0..2), 0), "byte {at}");
        }
    }
}

#[test]
fn blocks_of_zeros_behind_the_tail_are_cut() {
    let folder = Folder::new();
    let (mut appender, _, _) = folder.open(small());
    put(&mut appender, "event 0", at(0));
    drop(appender);
    let path = folder.segments(0).remove(0);
    OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(4096)
        .unwrap();
    let (_appender, log, cuts) = folder.open(small());
    assert_eq!(
        (cuts[0].kept_records, cuts[0].reason),
        (1, "the length of a record is out of range")
    );
    assert_eq!(read(&log, From::Earliest), (numbered(0..1), 0));
}

#[test]
fn a_damaged_event_costs_that_event_and_the_reader_is_told() {
    let folder = Folder::new();
    let (mut appender, log, _) = folder.open(small());
    for number in 0..20 {
        put(&mut appender, &format!("event {number}"), at(0));
    }
    // Six in each segment: 8 is the third of the second.
    let sealed = folder.segments(0).remove(1);
    flip(&sealed, 64 + 2 * 31 + 26);
    let mut reader = log.reader(0, From::Sequence(6)).unwrap();
    assert_eq!(texts(&reader.next_batch(1 << 20).unwrap()), numbered(6..8));
    let batch = reader.next_batch(1 << 20).unwrap();
    assert_eq!((texts(&batch), batch.skipped), (numbered(9..12), 1));
    assert_eq!(batch.records().next().unwrap().offset, 9 * 31);
    let told = "cannot be read from sequence number 8 on (the checksum of a record does not match); skipped 1 records";
    let sentences: Vec<_> = batch.damage.iter().map(ToString::to_string).collect();
    assert_eq!(sentences, [format!("{} {told}", sealed.display())]);
    assert_eq!(
        read(&log, From::Sequence(10)),
        (numbered(10..20), 0),
        "a place behind the damage is found"
    );
}

#[test]
fn damage_in_the_middle_of_the_tail_is_not_taken_for_a_torn_tail() {
    let folder = Folder::new();
    let (mut appender, _, _) = folder.open(small());
    for number in 0..5 {
        put(&mut appender, &format!("event {number}"), at(number));
    }
    drop(appender);
    flip(&folder.segments(0)[0], 64 + 2 * 31 + 26);
    let (mut appender, log, cuts) = folder.open(small());
    assert_eq!(cuts, []);
    assert_eq!(put(&mut appender, "event 5", at(5)), 5);
    assert_eq!(read(&log, From::Earliest), (numbered([0, 1, 3, 4, 5]), 1));
}

#[test]
fn a_segment_that_cannot_be_followed_any_further_is_left_for_the_next_one() {
    let folder = Folder::new();
    let (mut appender, log, _) = folder.open(small());
    for number in 0..20 {
        put(&mut appender, &format!("event {number}"), at(0));
    }
    let sealed = folder.segments(0).remove(1);
    // The lowest byte of the length of event 8, so that what follows is not found.
    flip(&sealed, 64 + 2 * 31);
    assert_eq!(
        read(&log, From::Earliest),
        (numbered((0..8).chain(12..20)), 4)
    );
    assert_eq!(
        read(&log, From::Sequence(10)),
        (numbered(12..20), 4),
        "the search stops in front of the damage"
    );

    // The same in the active segment, which begins with 18 and ends with 19.
    flip(&folder.segments(0)[3], 64);
    let mut reader = log.reader(0, From::Sequence(18)).unwrap();
    let batch = reader.next_batch(1 << 20).unwrap();
    assert_eq!((batch.is_empty(), batch.skipped), (true, 2));
    put(&mut appender, "event 20", at(0));
    assert_eq!(
        texts(&reader.next_batch(1 << 20).unwrap()),
        numbered(20..21)
    );
}

#[test]
fn a_sealed_segment_that_lost_its_end_or_is_gone_is_stepped_over() {
    let folder = Folder::new();
    let (mut appender, log, _) = folder.open(small());
    for number in 0..20 {
        put(&mut appender, &format!("event {number}"), at(0));
    }
    let path = folder.segments(0).remove(1);
    let shorten = |bytes| {
        OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(bytes)
            .unwrap()
    };
    for (bytes, kept) in [(64 + 4 * 31, 4), (64 + 3 * 31 + 5, 3), (64, 0), (10, 0)] {
        shorten(bytes);
        let expected: Vec<_> = numbered((0..6 + kept).chain(12..20));
        assert_eq!(
            read(&log, From::Earliest),
            (expected, 6 - kept),
            "{bytes} bytes left"
        );
    }
    fs::remove_file(&path).unwrap();
    assert_eq!(
        read(&log, From::Earliest),
        (numbered((0..6).chain(12..20)), 6)
    );
    assert_eq!(
        read(&log, From::Sequence(9)),
        (numbered(12..20), 6),
        "from where the lost segment began"
    );
}

#[test]
fn a_header_a_power_cut_took_is_rebuilt_from_the_name() {
    for left in [vec![], b"AZEV".to_vec(), vec![0; 64], vec![0; 100]] {
        let folder = Folder::new();
        let (mut appender, _, _) = folder.open(small());
        for number in 0..8 {
            put(&mut appender, &format!("event {number}"), at(number));
        }
        drop(appender);
        let path = folder.segments(0).remove(1);
        fs::write(&path, &left).unwrap();
        let (mut appender, log, cuts) = folder.open(small());
        assert_eq!(
            (cuts.len(), cuts[0].reason),
            (1, "its header was never written")
        );
        assert_eq!(log.properties(0).unwrap().last_enqueued, Some(at(5)));
        assert_eq!(put(&mut appender, "event 6", at(0)), 6);
        assert_eq!(read(&log, From::Earliest), (numbered(0..7), 0));
        drop(appender);
        assert_eq!(folder.open(small()).2, []);
    }
}

#[test]
fn a_sealed_segment_whose_header_a_power_cut_took_is_given_up() {
    let folder = Folder::new();
    let (mut appender, _, _) = folder.open(small());
    for number in 0..20 {
        put(&mut appender, &format!("event {number}"), at(0));
    }
    drop(appender);
    fs::write(&folder.segments(0)[1], []).unwrap();
    let (mut appender, log, cuts) = folder.open(small());
    assert_eq!((cuts.len(), cuts[0].kept_records), (1, 0));
    assert_eq!(put(&mut appender, "event 20", at(0)), 20);
    assert_eq!(
        read(&log, From::Earliest),
        (numbered((0..6).chain(12..21)), 6)
    );
}

#[test]
fn foreign_and_newer_files_are_refused_and_left_untouched() {
    let name = "00000000000000000006-00000000000000000186.events";
    let good = {
        let folder = Folder::new();
        let (mut appender, _, _) = folder.open(small());
        for number in 0..8 {
            put(&mut appender, &format!("event {number}"), at(0));
        }
        fs::read(folder.path().join("0000").join(name)).unwrap()
    };
    let changed = |at: usize, to: u8| [&good[..at], &[to], &good[at + 1..]].concat();
    let rows = [
        (
            name,
            changed(0, b'B'),
            "is not a file of this event log (it does not begin with AZEVENTS)",
        ),
        (
            name,
            b"text".to_vec(),
            "is not a file of this event log (it does not begin with AZEVENTS)",
        ),
        (
            name,
            changed(8, 2),
            "has event log format 2, this version reads up to 1",
        ),
        (name, changed(20, 9), "the header of"),
        (
            "00000000000000000006-00000000000000000187.events",
            good.clone(),
            "(it was renamed)",
        ),
        (
            "mine.events",
            good.clone(),
            "(its name is not two numbers of 20 digits)",
        ),
    ];
    for (name, content, sentence) in rows {
        let folder = Folder::new();
        let (mut appender, _, _) = folder.open(small());
        put(&mut appender, "event 0", at(0));
        drop(appender);
        let path = folder.path().join("0000").join(name);
        fs::write(&path, &content).unwrap();
        let error = Log::open(folder.path(), small(), at(0)).err().unwrap();
        assert!(error.to_string().contains(sentence), "{error}");
        assert!(error.to_string().contains("left untouched"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), content);
    }
}

#[test]
fn a_file_of_another_partition_is_refused() {
    let folder = Folder::new();
    let config = azimuth_hub::event::LogConfig {
        partitions: 2,
        ..small()
    };
    drop(folder.open(config.clone()));
    fs::copy(&folder.segments(0)[0], &folder.segments(1)[0]).unwrap();
    let error = Log::open(folder.path(), config, at(0)).err().unwrap();
    assert!(
        matches!(
            error,
            Error::Foreign {
                reason: "it belongs to another partition",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_segment_whose_creation_was_killed_is_forgotten() {
    let folder = Folder::new();
    drop(folder.open(small()));
    fs::write(
        folder
            .path()
            .join("0000/00000000000000000006-00000000000000000186.new"),
        b"AZ",
    )
    .unwrap();
    let (_appender, _, cuts) = folder.open(small());
    assert_eq!((cuts.len(), folder.segments(0).len()), (0, 1));
}

fn flip(path: &Path, at: u64) {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}
