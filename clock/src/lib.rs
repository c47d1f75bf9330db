//! Time, real and by hand.
//!
//! Shells hold a [`Clock`]; cores take `now` as an argument. Nothing else may enter: no timers, no
//! formats, no policy.

use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

/// Where every shell gets its time.
pub trait Clock: Send + Sync + 'static {
    /// For deadlines; never goes back.
    fn now(&self) -> Instant;
    /// For what the wire dates: SAS expiry, certificates, `iothub-enqueuedtime`.
    fn utc(&self) -> SystemTime;
}

/// The machine's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn utc(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// A clock that stands still until it is moved: for tests.
#[derive(Debug)]
pub struct ManualClock(Mutex<(Instant, SystemTime)>);

impl ManualClock {
    /// A clock that shows `utc` and stays there.
    pub fn at(utc: SystemTime) -> Self {
        Self(Mutex::new((Instant::now(), utc)))
    }

    /// Moves both faces of the clock forward.
    pub fn advance(&self, by: Duration) {
        let mut time = self.0.lock().expect("no holder of this lock can panic");
        time.0 += by;
        time.1 += by;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Instant {
        self.0.lock().expect("no holder of this lock can panic").0
    }

    fn utc(&self) -> SystemTime {
        self.0.lock().expect("no holder of this lock can panic").1
    }
}
