//! How far a fleet is, on standard error: drawn over itself on a terminal, elsewhere a line of the log
//! every ten seconds when something changed.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use azimuth_device_sim::{Progress, Snapshot};

use crate::logging::PROGRESS;

/// A fleet's progress as it was last shown.
#[derive(Debug)]
pub struct Shown {
    terminal: bool,
    last: Option<(Snapshot, Faults)>,
}

type Faults = Vec<(String, u64)>;

impl Shown {
    pub fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        let last = None;
        Self { terminal, last }
    }

    /// How often there may be something to show.
    pub fn period(&self) -> Duration {
        Duration::from_secs(if self.terminal { 1 } else { 10 })
    }

    pub fn show(&mut self, progress: &Progress) {
        let (now, faults) = (progress.snapshot(), progress.faults());
        if !self.changed(now, &faults) {
            return;
        }
        let line = line(&now, &faults);
        if self.terminal {
            eprint!("\r{line}\x1b[K");
            let _ = std::io::stderr().flush();
            return;
        }
        tracing::info!(
            target: PROGRESS,
            started = now.started,
            provisioned = now.provisioned,
            connected = now.connected,
            online = now.online,
            reconnects = now.reconnects,
            failed = now.failed,
            due = now.due,
            sent = now.sent,
            resent = now.resent,
            acknowledged = now.acknowledged,
            faults = now.faults,
            "{line}"
        );
    }

    /// A word that is no progress.
    pub fn say(&self, line: &str) {
        if self.terminal {
            eprintln!("{line}");
        } else {
            tracing::info!(target: PROGRESS, "{line}");
        }
    }

    /// Leaves the line that was drawn last.
    pub fn end(self) {
        if self.terminal && self.last.is_some() {
            eprintln!();
        }
    }

    fn changed(&mut self, now: Snapshot, faults: &Faults) -> bool {
        let now = Some((now, faults.clone()));
        let changed = self.last != now;
        self.last = now;
        changed
    }
}

fn line(now: &Snapshot, faults: &Faults) -> String {
    let mut line = format!(
        "{} started, {} provisioned, {} online, {} failed; messages: {} due, {} acknowledged, {} resent; {} reconnects",
        now.started,
        now.provisioned,
        now.online,
        now.failed,
        now.due,
        now.acknowledged,
        now.resent,
        now.reconnects
    );
    for (place, (kind, count)) in faults.iter().enumerate() {
        line.push_str(if place == 0 { "; faults: " } else { ", " });
        line.push_str(&format!("{count} {kind}"));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_still_is_not_shown_again() {
        let (terminal, last) = (false, None);
        let mut shown = Shown { terminal, last };
        let dns = |count| vec![("dns".to_owned(), count)];
        let started = |started| Snapshot {
            started,
            ..Snapshot::default()
        };
        for (now, faults, changed) in [
            (started(0), vec![], true),
            (started(0), vec![], false),
            (started(3), vec![], true),
            (started(3), dns(1), true),
            (started(3), dns(1), false),
            (started(3), dns(2), true),
        ] {
            assert_eq!(shown.changed(now, &faults), changed, "{now:?} {faults:?}");
        }
    }

    #[test]
    fn a_line_ends_with_the_faults_by_kind() {
        let faults = vec![("connect-refused".to_owned(), 12), ("dns".to_owned(), 3)];
        let line = line(&Snapshot::default(), &faults);
        assert!(line.ends_with("; 0 reconnects; faults: 12 connect-refused, 3 dns"));
    }
}
