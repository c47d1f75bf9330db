//! Random steps against a plain vector: whatever happens, the log holds the vector's tail.

use std::time::Duration;

use azimuth_hub::event::{From, LogConfig, Reader};
use proptest::prelude::*;

use crate::folder::{Folder, at, small};

#[derive(Debug, Clone)]
enum Step {
    Append { lengths: Vec<usize>, seconds: u64 },
    Read { reader: usize, max_bytes: usize },
    Seek { reader: usize, permille: u64 },
    Retain { seconds: u64 },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (proptest::collection::vec(0usize..400, 0..6), 0u64..30)
            .prop_map(|(lengths, seconds)| Step::Append { lengths, seconds }),
        6 => (0usize..2, 0usize..2_000).prop_map(|(reader, max_bytes)| Step::Read { reader, max_bytes }),
        1 => (0usize..2, 0u64..=1_000).prop_map(|(reader, permille)| Step::Seek { reader, permille }),
        1 => (0u64..200).prop_map(|seconds| Step::Retain { seconds }),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_log_is_a_vector_that_forgets_its_beginning(steps in proptest::collection::vec(step(), 1..60)) {
        let config = LogConfig {
            segment_bytes: 1_000,
            retain_bytes: 5_000,
            retain_for: Duration::from_secs(300),
            ..small()
        };
        let folder = Folder::new();
        let (mut appender, mut log, _) = folder.open(config.clone());
        let mut readers: Vec<Reader> = (0..2).map(|_| log.reader(0, From::Earliest).unwrap()).collect();
        let mut model: Vec<Vec<u8>> = Vec::new();
        let mut second = 0;
        for step in steps {
            match step {
                Step::Append { lengths, seconds } => {
                    second += seconds;
                    let first = model.len() as u64;
                    let batch = lengths.iter().enumerate().map(|(place, length)| vec![(first as usize + place) as u8; *length]);
                    model.extend(batch);
                    let batch = model[first as usize..].iter().map(Vec::as_slice);
                    let appended = appender.append(0, batch, at(second)).unwrap();
                    prop_assert_eq!((appended.first_sequence, appended.count), (first, model.len() as u64 - first));
                }
                Step::Read { reader, max_bytes } => {
                    let before = readers[reader].sequence();
                    let batch = readers[reader].next_batch(max_bytes).unwrap();
                    prop_assert!(batch.damage.is_empty());
                    let mut expected = before + batch.skipped;
                    let held = log.properties(0).unwrap().first_sequence;
                    prop_assert_eq!(expected, before.max(held));
                    prop_assert_eq!(batch.is_empty(), expected == model.len() as u64);
                    let mut time = at(0);
                    for record in batch.records() {
                        prop_assert_eq!(record.sequence, expected);
                        prop_assert_eq!(record.envelope, &model[expected as usize][..]);
                        let offset: usize = model[..expected as usize].iter().map(|envelope| 24 + envelope.len()).sum();
                        prop_assert_eq!(record.offset, offset as u64);
                        prop_assert!(record.enqueued >= time);
                        time = record.enqueued;
                        expected += 1;
                    }
                    prop_assert_eq!(readers[reader].sequence(), expected);
                }
                Step::Seek { reader, permille } => {
                    let sequence = model.len() as u64 * permille / 1_000;
                    readers[reader] = log.reader(0, From::Sequence(sequence)).unwrap();
                    prop_assert_eq!(readers[reader].sequence(), sequence);
                }
                Step::Retain { seconds } => {
                    second += seconds;
                    appender.retain(at(second)).unwrap();
                }
                Step::Restart => {
                    drop(appender);
                    let (again, reopened, cuts) = folder.open(config.clone());
                    prop_assert!(cuts.is_empty());
                    (appender, log) = (again, reopened);
                    for reader in &mut readers {
                        *reader = log.reader(0, From::Sequence(reader.sequence())).unwrap();
                    }
                }
            }
            let properties = log.properties(0).unwrap();
            prop_assert_eq!(properties.last_sequence, (model.len() as u64).checked_sub(1));
            prop_assert_eq!(properties.is_empty, properties.first_sequence == model.len() as u64);
        }
    }
}
