//! How much is measured: the numbers of a full run and of a smoke test.

use std::time::Duration;

/// Numbers of one run of the benchmark.
#[derive(Debug, Clone)]
pub struct Plan {
    pub rounds: usize,
    /// Connect storm: clients, and how many of them connect at a time.
    pub storm: usize,
    pub concurrency: usize,
    /// Clients that publish, or that ask and are answered.
    pub talkers: usize,
    /// Before a measurement counts.
    pub warm_up: Duration,
    /// How long a rate is measured.
    pub measure: Duration,
    /// Messages per second of the open loop, and each client's limit of unacknowledged ones.
    pub rate: usize,
    pub window: usize,
    /// Bytes of a telemetry message.
    pub payload: usize,
    pub registrations: usize,
    /// Devices that register at a time: those that poll at once, and those that wait before they poll.
    pub hasty: usize,
    pub patient: usize,
    pub patience: Duration,
    /// Enrollments, and registrations, that a store holds.
    pub stored: usize,
    /// Identities with twins that a hub holds, and those that are queried.
    pub identities: usize,
    pub twins: usize,
    /// Idle devices of the scale scenario, and the connects timed beside them.
    pub crowd: usize,
    pub crowd_connects: usize,
    /// Silent clients, and as many that stop in the middle of CONNECT; connects timed beside them.
    pub intruders: usize,
    pub intruded_connects: usize,
    /// Identities of one import.
    pub imported: usize,
    /// Devices whose heartbeats are watched.
    pub watched: usize,
    /// Settling time before memory is read.
    pub settle: Duration,
}

impl Plan {
    pub fn full() -> Self {
        Self {
            rounds: 3,
            storm: 5_000,
            concurrency: 100,
            talkers: 500,
            warm_up: Duration::from_millis(1_500),
            measure: Duration::from_secs(5),
            rate: 10_000,
            window: 20,
            payload: 200,
            registrations: 3_000,
            hasty: 50,
            patient: 300,
            patience: Duration::from_millis(200),
            stored: 200_000,
            identities: 1_000_000,
            twins: 100_000,
            crowd: 15_000,
            crowd_connects: 2_000,
            intruders: 200,
            intruded_connects: 2_000,
            imported: 100_000,
            watched: 100_000,
            settle: Duration::from_secs(2),
        }
    }

    /// Small numbers: shows that everything works, not how fast.
    pub fn quick() -> Self {
        Self {
            rounds: 1,
            storm: 200,
            concurrency: 20,
            talkers: 50,
            warm_up: Duration::from_millis(300),
            measure: Duration::from_secs(1),
            rate: 1_000,
            registrations: 50,
            hasty: 10,
            patient: 20,
            stored: 500,
            identities: 2_000,
            twins: 1_000,
            crowd: 500,
            crowd_connects: 100,
            intruders: 20,
            intruded_connects: 100,
            imported: 2_000,
            watched: 2_000,
            settle: Duration::from_millis(500),
            ..Self::full()
        }
    }

    /// Identities that a hub must hold for every scenario.
    pub fn devices(&self) -> usize {
        self.storm
            .max(self.intruded_connects)
            .max(self.talkers + self.crowd + self.crowd_connects)
    }

    /// Sockets that one process holds at most, with some to spare.
    pub fn descriptors(&self) -> u64 {
        let lines = self.devices() + 2 * self.intruders + self.concurrency;
        u64::try_from(lines + 200).unwrap_or(u64::MAX)
    }
}
