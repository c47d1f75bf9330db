//! Figures of one run: named numbers, latencies, medians.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::process::Spent;

/// What one run of one scenario against one server showed. A name ends in its unit.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Figures {
    pub values: BTreeMap<&'static str, f64>,
    /// The largest share of the machine that somebody else used while something was measured.
    pub other_cpu: f64,
}

impl Figures {
    pub fn put(&mut self, name: &'static str, value: f64) {
        self.values.insert(name, value);
    }

    /// Takes note of who else worked meanwhile.
    pub fn saw(&mut self, spent: &Spent) {
        self.other_cpu = self.other_cpu.max(spent.other);
    }
}

/// Latencies up to a minute, to three digits.
#[derive(Debug, Clone)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        Self(
            Histogram::new_with_bounds(1, 60_000_000, 3)
                .expect("the bounds are in order and 3 is a number of digits"),
        )
    }
}

impl Latencies {
    pub fn record(&mut self, latency: Duration) {
        self.0
            .saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    pub fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("both have the same bounds");
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Milliseconds that this share of all did not exceed; 0.99 is p99.
    pub fn milliseconds(&self, share: f64) -> f64 {
        self.0.value_at_quantile(share) as f64 / 1000.0
    }
}

/// The middle one; the mean of the middle two.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        1 => values.get(middle).copied(),
        _ => Some((values.get(middle.checked_sub(1)?)? + values.get(middle)?) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_middle_two() {
        let rows: [(&[f64], Option<f64>); 4] = [
            (&[], None),
            (&[3.0], Some(3.0)),
            (&[9.0, 1.0, 2.0], Some(2.0)),
            (&[4.0, 1.0, 2.0, 9.0], Some(3.0)),
        ];
        for (values, expected) in rows {
            assert_eq!(median(values.to_vec()), expected, "{values:?}");
        }
    }

    #[test]
    fn a_percentile_is_in_milliseconds() {
        let mut latencies = Latencies::default();
        (1..=100).for_each(|ms| latencies.record(Duration::from_millis(ms)));
        assert!(
            (latencies.milliseconds(0.5) - 50.0).abs() < 0.1,
            "{}",
            latencies.milliseconds(0.5)
        );
        assert!(
            (latencies.milliseconds(0.99) - 99.0).abs() < 0.1,
            "{}",
            latencies.milliseconds(0.99)
        );
    }
}
