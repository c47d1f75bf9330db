//! Says what goes wrong for a fleet while it runs: at once, but not for each of its devices.
//!
//! What may not enter: what a fault means and what to do about it, which its own sentence says.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use azimuth_clock::Clock;
use azimuth_device_sim::{Observer, Step};

/// Between two lines about one kind of fault at one host.
const QUIET: Duration = Duration::from_secs(60);
/// Kinds and hosts that are told apart.
const MOST: usize = 64;

/// Logs the first fault of each kind at each host, and then one line a minute with their number.
pub struct Alarm {
    clock: Arc<dyn Clock>,
    told: Mutex<Told>,
    next: Arc<dyn Observer>,
}

impl Alarm {
    /// `next` sees every step, too.
    pub fn new(clock: Arc<dyn Clock>, next: Arc<dyn Observer>) -> Self {
        let told = Mutex::default();
        Self { clock, told, next }
    }
}

impl Observer for Alarm {
    fn step(&self, device: &str, step: &Step) {
        if let Step::Lost { at, fault } | Step::Failed { at, fault } = step {
            let kind = fault.kind.to_string();
            let now = self.clock.now();
            let mut told = self.told.lock().expect("no holder of this lock can panic");
            if let Some(faults) = told.note(&kind, at, now) {
                if std::io::stderr().is_terminal() {
                    // Progress stands there.
                    eprint!("\r\x1b[K");
                }
                let at: &str = at;
                tracing::warn!(kind, at, faults, device, "{fault}");
            }
        }
        self.next.step(device, step);
    }
}

/// When a line was last written, and the faults since.
#[derive(Debug, Default)]
struct Told(HashMap<(String, String), (Instant, u64)>);

impl Told {
    /// Notes a fault. Says how many there were since the last line where another is due.
    fn note(&mut self, kind: &str, at: &str, now: Instant) -> Option<u64> {
        let mut key = (kind.to_owned(), at.to_owned());
        if self.0.len() >= MOST && !self.0.contains_key(&key) {
            key = ("other".into(), String::new());
        }
        let Some((last, faults)) = self.0.get_mut(&key) else {
            self.0.insert(key, (now, 0));
            return Some(1);
        };
        *faults += 1;
        if now.saturating_duration_since(*last) < QUIET {
            return None;
        }
        *last = now;
        Some(std::mem::take(faults))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)]
    use super::*;

    #[test]
    fn each_kind_at_each_host_is_told_at_once_and_then_once_a_minute() {
        let mut told = Told::default();
        let start = Instant::now();
        for (seconds, kind, at, line) in [
            (0, "dns", "dps", Some(1)),
            (0, "dns", "dps", None),
            (1, "dns", "hub", Some(1)),
            (1, "cut", "hub", Some(1)),
            (59, "dns", "dps", None),
            (60, "dns", "dps", Some(3)),
            (61, "dns", "dps", None),
            (500, "dns", "dps", Some(2)),
        ] {
            let now = start + Duration::from_secs(seconds);
            assert_eq!(told.note(kind, at, now), line, "{seconds} {kind} {at}");
        }
    }

    #[test]
    fn a_server_with_ever_new_faults_does_not_flood_the_log() {
        let mut told = Told::default();
        let now = Instant::now();
        let lines = (0..1000).filter_map(|kind| told.note(&kind.to_string(), "hub", now));
        assert_eq!(lines.count(), MOST + 1);
    }
}
