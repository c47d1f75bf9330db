//! How long things took, counted from when they were due; connections and telemetry by hub.

use std::time::Duration;

use hdrhistogram::Histogram;

/// The recorder of one thread. Values are microseconds, kept to three digits, up to an hour.
pub(crate) struct Latencies {
    pub provision: Histogram<u64>,
    /// Times without a connection, between two.
    pub outage: Histogram<u64>,
    hubs: Vec<AtHub>,
}

/// What was measured at one hub.
pub(crate) struct AtHub {
    pub host: Box<str>,
    /// Devices whose latest connection was to this hub.
    pub devices: u64,
    pub connect: Histogram<u64>,
    pub telemetry: Histogram<u64>,
}

/// Which hub of [`Latencies`]; never of another recorder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HubIndex(u16);

const HOUR: u64 = 3_600_000_000;
/// Hubs beyond are counted as one: a DPS may name as many as it likes.
const MOST_HUBS: usize = 64;
const OTHERS: &str = "others";

impl Latencies {
    pub(crate) fn new() -> Self {
        Self {
            provision: fresh(),
            outage: fresh(),
            hubs: Vec::new(),
        }
    }

    /// The hub of this name, which is new when it has not been asked for before.
    pub(crate) fn find(&mut self, host: &str) -> HubIndex {
        let host = match self.place(host) {
            None if self.hubs.len() >= MOST_HUBS => OTHERS,
            _ => host,
        };
        let place = self.place(host).unwrap_or_else(|| {
            self.hubs.push(AtHub {
                host: host.into(),
                devices: 0,
                connect: fresh(),
                telemetry: fresh(),
            });
            self.hubs.len() - 1
        });
        HubIndex(place as u16)
    }

    fn place(&self, host: &str) -> Option<usize> {
        self.hubs.iter().position(|hub| *hub.host == *host)
    }

    pub(crate) fn at(&mut self, hub: HubIndex) -> &mut AtHub {
        &mut self.hubs[usize::from(hub.0)]
    }

    pub(crate) fn hubs(&self) -> &[AtHub] {
        &self.hubs
    }

    /// Of all hubs together.
    pub(crate) fn connect(&self) -> Histogram<u64> {
        sum(self.hubs.iter().map(|hub| &hub.connect))
    }

    /// Of all hubs together.
    pub(crate) fn telemetry(&self) -> Histogram<u64> {
        sum(self.hubs.iter().map(|hub| &hub.telemetry))
    }
}

fn fresh() -> Histogram<u64> {
    Histogram::new_with_bounds(1, HOUR, 3).expect("the bounds are constants that fit")
}

fn sum<'a>(parts: impl Iterator<Item = &'a Histogram<u64>>) -> Histogram<u64> {
    parts.fold(fresh(), |mut all, part| {
        all.add(part).expect("all have the same bounds");
        all
    })
}

/// What took more than an hour counts as an hour.
pub(crate) fn record(histogram: &mut Histogram<u64>, took: Duration) {
    histogram.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hubs_are_bounded_and_sum_up_to_the_whole() {
        let mut latencies = Latencies::new();
        for number in 0..1000 {
            let hub = latencies.find(&format!("hub-{number}"));
            assert_eq!(latencies.find(&format!("hub-{number}")), hub);
            record(&mut latencies.at(hub).telemetry, Duration::from_millis(1));
        }
        assert_eq!(latencies.hubs().len(), MOST_HUBS + 1);
        let others = &latencies.hubs()[MOST_HUBS];
        assert_eq!((&*others.host, others.telemetry.len()), (OTHERS, 936));
        assert_eq!(latencies.telemetry().len(), 1000);
    }
}
