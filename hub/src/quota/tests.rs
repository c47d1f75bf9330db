#![allow(clippy::unwrap_used, clippy::disallowed_methods)]
use std::time::UNIX_EPOCH;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn meter(tier: Tier, units: u32) -> Meter {
    Meter::new(Plan::new(tier, units).unwrap())
}

#[test]
fn a_minute_at_once_then_waiting_then_no_more() {
    let meter = meter(Tier::S1, 1);
    let start = Instant::now();
    let take = |now| meter.take(Operation::IdentityRegistry, SECOND * 10, now);
    for _ in 0..100 {
        assert_eq!(take(start), Ok(Duration::ZERO));
    }
    // 100 a minute are one each 0.6 s; who would wait more than 10 s is refused.
    let waits: Vec<_> = std::iter::from_fn(|| take(start).ok()).collect();
    assert_eq!(waits.len(), 16);
    assert!((waits[0].as_secs_f64() - 0.6).abs() < 0.001, "{waits:?}");
    let refused = take(start).unwrap_err();
    assert_eq!(
        (refused.operation, refused.per_minute),
        (Operation::IdentityRegistry, 100)
    );
    assert!(refused.wait > SECOND * 10);
    // Time that goes back gives nothing; a minute gives all.
    assert!(take(start + SECOND).is_ok());
    while take(start + SECOND).is_ok() {}
    assert!(take(start).is_err());
    let later = start + SECOND * 600;
    assert_eq!(
        (0..200)
            .filter(|_| take(later) == Ok(Duration::ZERO))
            .count(),
        100
    );
}

#[test]
fn rates_are_azures() {
    for (tier, units, operation, per_second) in [
        (Tier::F1, 1, Operation::Telemetry, 100.0),
        (Tier::S1, 2, Operation::Telemetry, 100.0),
        (Tier::S1, 200, Operation::Telemetry, 2400.0),
        (Tier::B2, 2, Operation::Connection, 240.0),
        (Tier::S3, 2, Operation::Connection, 12_000.0),
        (Tier::S2, 1, Operation::TwinRead, 100.0),
        (Tier::S2, 20, Operation::TwinRead, 200.0),
        (Tier::S3, 2, Operation::TwinUpdate, 500.0),
        (Tier::S1, 9, Operation::TwinUpdate, 50.0),
        (Tier::S1, 3, Operation::Query, 1.0),
        (Tier::B3, 6, Operation::IdentityRegistry, 500.0),
    ] {
        let found = Plan { tier, units }.per_second(operation);
        assert!(
            (found - per_second).abs() < 1e-9,
            "{tier:?} {operation:?} {found}"
        );
    }
}

#[test]
fn a_day_has_so_many_blocks_and_ends_at_midnight() {
    let meter = meter(Tier::F1, 1);
    let evening = UNIX_EPOCH + SECOND * (24 * 3600 - 1);
    // Three blocks of 512 bytes.
    for _ in 0..2666 {
        assert_eq!(meter.message(1025, evening), Ok(()));
    }
    let full = DayIsFull {
        allowed: 8000,
        counted: 8001,
    };
    assert_eq!(meter.message(1025, evening), Err(full));
    assert_eq!(meter.message(1024, evening), Ok(()));
    assert!(meter.message(0, evening).is_err());
    assert_eq!(meter.message(0, evening + SECOND), Ok(()));
}

#[test]
fn tiers_have_bounds() {
    for (tier, most, devices, basic) in [
        (Tier::F1, 1, 500, false),
        (Tier::B1, 200, 1_000_000, true),
        (Tier::S2, 200, 1_000_000, false),
        (Tier::S3, 10, 1_000_000, false),
    ] {
        let plan = Plan::new(tier, most).unwrap();
        assert_eq!((plan.devices(), plan.is_basic()), (devices, basic));
        assert_eq!(Plan::new(tier, most + 1), None);
        assert_eq!(Plan::new(tier, 0), None);
    }
}
