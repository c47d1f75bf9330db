//! How long things took, counted from when they were due.

use std::time::Duration;

use hdrhistogram::Histogram;

/// The recorder of one thread. Values are microseconds, kept to three digits, up to an hour.
pub(crate) struct Latencies {
    pub provision: Histogram<u64>,
    pub connect: Histogram<u64>,
    pub telemetry: Histogram<u64>,
}

const HOUR: u64 = 3_600_000_000;

impl Latencies {
    pub(crate) fn new() -> Self {
        let fresh =
            || Histogram::new_with_bounds(1, HOUR, 3).expect("the bounds are constants that fit");
        Self {
            provision: fresh(),
            connect: fresh(),
            telemetry: fresh(),
        }
    }
}

/// What took more than an hour counts as an hour.
pub(crate) fn record(histogram: &mut Histogram<u64>, took: Duration) {
    histogram.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
}
