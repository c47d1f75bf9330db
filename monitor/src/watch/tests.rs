//! A watch in made-up time: every device every 10 s with 5 s of grace.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::intervals::Grace;

fn watch() -> Watch {
    let rules = ["fast=2s".parse().unwrap()];
    let intervals = Intervals::new(
        Span::of_seconds(10),
        Grace::Fixed(Duration::from_secs(5)),
        rules,
    );
    Watch::new("east", intervals)
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
}

fn ids(devices: &[Arc<str>]) -> Vec<&str> {
    devices.iter().map(|id| &**id).collect()
}

#[test]
fn who_is_silent_for_longer_than_interval_and_grace_is_late_and_the_next_heartbeat_brings_it_back()
{
    let mut watch = watch();
    assert_eq!(watch.heartbeat("lamp", at(0)), None);
    assert_eq!(watch.heartbeat("fast", at(0)), None);
    assert_eq!(watch.next_deadline(), Some(at(7)));
    assert!(watch.overdue(at(6)).is_empty());
    assert_eq!(ids(&watch.overdue(at(7))), ["fast"]);
    assert_eq!(watch.call_late("lamp", at(7)), None, "it has time until 15");
    assert_eq!(
        watch.heartbeat("fast", at(7)),
        None,
        "nobody had called it late"
    );
    assert_eq!(ids(&watch.overdue(at(15))), ["fast", "lamp"]);

    let late = watch.call_late("lamp", at(16)).unwrap();
    assert_eq!((late.news, late.last_heartbeat), (News::Late, Some(at(0))));
    assert_eq!((late.expected_by, late.silent_for.as_secs()), (at(15), 16));
    assert_eq!(late.interval.as_secs(), 10);
    assert_eq!(watch.call_late("lamp", at(17)), None, "once is enough");
    assert_eq!(
        watch.counts(),
        Counts {
            expected: 2,
            late: 1
        }
    );
    assert_eq!(ids(&watch.late()), ["lamp"]);

    let back = watch.heartbeat("lamp", at(40)).unwrap();
    assert_eq!((back.news, back.last_heartbeat), (News::Back, Some(at(40))));
    assert_eq!((back.expected_by, back.silent_for.as_secs()), (at(15), 40));
    assert_eq!(
        watch.counts(),
        Counts {
            expected: 2,
            late: 0
        }
    );
    assert_eq!(ids(&watch.overdue(at(54))), ["fast"]);
    assert_eq!(ids(&watch.overdue(at(55))), ["fast", "lamp"]);
}

#[test]
fn heartbeats_that_are_read_again_or_out_of_order_change_nothing() {
    let mut watch = watch();
    for seconds in [5, 3, 5, 0] {
        assert_eq!(watch.heartbeat("lamp", at(seconds)), None);
        assert_eq!(watch.next_deadline(), Some(at(20)));
    }
    watch.call_late("lamp", at(20)).unwrap();
    assert_eq!(
        watch.heartbeat("lamp", at(5)),
        None,
        "it is still the same heartbeat"
    );
    // Read late: it tells that there was one, not that the device is in time.
    assert_eq!(watch.heartbeat("lamp", at(6)).unwrap().news, News::Back);
    assert_eq!(ids(&watch.overdue(at(21))), ["lamp"]);
}

#[test]
fn a_hub_that_was_away_gives_every_device_its_whole_time() {
    let mut watch = watch();
    watch.heartbeat("late", at(0));
    watch.call_late("late", at(15)).unwrap();
    watch.heartbeat("lamp", at(10));
    watch.heartbeat("fast", at(19));
    watch.hub_is_back(at(20));
    assert_eq!(ids(&watch.overdue(at(26))), [""; 0]);
    assert_eq!(ids(&watch.overdue(at(27))), ["fast"]);
    assert_eq!(ids(&watch.overdue(at(35))), ["fast", "lamp"]);
    // What was enqueued before the hub went takes nothing of it away.
    watch.heartbeat("lamp", at(12));
    assert_eq!(ids(&watch.overdue(at(34))), ["fast"]);
    watch.heartbeat("lamp", at(30));
    assert_eq!(ids(&watch.overdue(at(44))), ["fast"]);
    assert_eq!(ids(&watch.late()), ["late"]);
}

#[test]
fn a_device_that_never_sent_is_late_if_it_was_expected() {
    let mut watch = watch();
    watch.begin_listing();
    watch.listed("tagged", Some(Span::of_seconds(30)), false, at(0));
    watch.listed("lamp", None, true, at(0));
    assert!(watch.end_listing().is_empty());
    assert_eq!(
        watch.counts(),
        Counts {
            expected: 1,
            late: 0
        }
    );
    assert_eq!(ids(&watch.overdue(at(1000))), ["lamp"]);
    let late = watch.call_late("lamp", at(15)).unwrap();
    assert_eq!((late.last_heartbeat, late.silent_for.as_secs()), (None, 15));
    assert_eq!(watch.heartbeat("lamp", at(16)).unwrap().news, News::Back);
    watch.heartbeat("tagged", at(20));
    assert_eq!(ids(&watch.overdue(at(54))), ["lamp"]);
    assert_eq!(ids(&watch.overdue(at(55))), ["lamp", "tagged"]);
}

#[test]
fn a_tag_changes_the_time_a_device_has_and_so_does_its_end() {
    let mut watch = watch();
    watch.heartbeat("lamp", at(0));
    watch.heartbeat("fast", at(0));
    for (tag, deadline) in [(Some(30), 35), (Some(3), 8), (Some(30), 35), (None, 15)] {
        watch.begin_listing();
        watch.listed("lamp", tag.map(Span::of_seconds), false, at(1));
        watch.listed("fast", tag.map(Span::of_seconds), false, at(1));
        assert!(watch.end_listing().is_empty());
        assert_eq!(watch.deadlines.last().unwrap().0, at(deadline.max(7)));
        assert!(
            watch.deadlines.contains(&(at(7), "fast".into())),
            "its rule goes first"
        );
    }
    watch.begin_listing();
    watch.listed("lamp", Some(Span::of_seconds(30)), false, at(1));
    assert_eq!(ids(&watch.end_listing()), ["fast"]);
    watch.begin_listing();
    let mut left_out = watch.end_listing();
    left_out.sort();
    assert_eq!(ids(&left_out), ["fast", "lamp"]);
    assert!(
        watch.deadlines.contains(&(at(15), "lamp".into())),
        "as without a tag"
    );
}

#[test]
fn who_is_forgotten_is_expected_no_more_and_a_silence_that_was_told_ends() {
    let mut watch = watch();
    watch.heartbeat("lamp", at(0));
    watch.heartbeat("door", at(0));
    watch.call_late("lamp", at(15)).unwrap();
    let gone = watch.forget("lamp", Absence::Deleted, at(20)).unwrap();
    assert_eq!(
        (gone.news, gone.silent_for.as_secs()),
        (News::Gone(Absence::Deleted), 20)
    );
    assert_eq!(watch.forget("door", Absence::Disabled, at(20)), None);
    assert_eq!(watch.forget("nobody", Absence::Deleted, at(20)), None);
    assert_eq!(watch.counts(), Counts::default());
    assert_eq!((watch.next_deadline(), watch.devices.len()), (None, 0));
    assert_eq!(watch.heartbeat("lamp", at(30)), None, "as a new device");
}

#[test]
fn a_device_takes_few_bytes_beside_its_id() {
    assert!(
        size_of::<(Arc<str>, Device)>() <= 96,
        "{}",
        size_of::<Device>()
    );
    assert!(size_of::<(SystemTime, Arc<str>)>() <= 32);
}

#[test]
fn whatever_happens_every_device_has_one_deadline_or_is_late() {
    let mut watch = watch();
    // A small generator of its own: the same steps each time.
    let mut state = 7_u64;
    let mut chance = |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for now in 0..20_000 {
        let id = format!("d{}", chance(50));
        let time = at(now);
        match chance(8) {
            0..=3 => drop(watch.heartbeat(&id, at(now.saturating_sub(chance(20))))),
            4 => drop(watch.forget(&id, Absence::Deleted, time)),
            5 => {
                watch.begin_listing();
                watch.listed(&id, Span::seconds(chance(30) as f64), chance(2) == 0, time);
                watch.end_listing();
            }
            6 => {
                for id in watch.overdue(time) {
                    assert_eq!(watch.call_late(&id, time).unwrap().news, News::Late);
                }
                assert!(watch.overdue(time).is_empty());
            }
            _ if chance(20) == 0 => watch.hub_is_back(time),
            _ => {}
        }
        let (mut in_time, mut late) = (0, 0);
        for (id, device) in &watch.devices {
            match device.state {
                State::Unexpected => assert!(!watch.late.contains(id)),
                State::InTime { deadline } => {
                    in_time += 1;
                    assert!(watch.deadlines.contains(&(deadline, id.clone())));
                }
                State::Late { .. } => {
                    late += 1;
                    assert!(watch.late.contains(id));
                }
            }
        }
        assert_eq!((in_time, late), (watch.deadlines.len(), watch.late.len()));
    }
}
