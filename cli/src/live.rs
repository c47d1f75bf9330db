//! The small live table of `azimuth up`: device, hub, connection state, last activity, messages.
//!
//! On a terminal it is drawn over itself; elsewhere a line is printed when something changed.

use std::io::{IsTerminal, Write};

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub device: String,
    pub hub: String,
    pub state: String,
    pub last_activity: String,
    pub messages: u64,
}

/// The table as it was last drawn.
#[derive(Debug, Default)]
pub struct Live {
    drawn: usize,
    last: Vec<Row>,
    below: Option<String>,
}

/// Rows shown at most.
pub const ROWS: usize = 20;

impl Live {
    /// Shows `rows`, and on a terminal a line below them, where they differ from what is shown.
    pub fn show(&mut self, rows: Vec<Row>, below: Option<String>) {
        let mut out = std::io::stdout().lock();
        if !out.is_terminal() {
            for row in rows.iter().filter(|row| self.changed(row)) {
                let _ = writeln!(out, "{}: {} at {}", row.device, row.state, row.hub);
            }
            self.last = rows;
            return;
        }
        if rows == self.last && below == self.below {
            return;
        }
        let mut text = String::new();
        if self.drawn > 0 {
            text.push_str(&format!("\x1b[{}A", self.drawn));
        }
        for line in table(&rows).iter().chain(&below) {
            text.push_str(&format!("{line}\x1b[K\n"));
        }
        // A line that stands there no more.
        text.push_str("\x1b[J");
        self.drawn = rows.len() + 1 + usize::from(below.is_some());
        self.below = below;
        self.last = rows;
        let _ = write!(out, "{text}");
        let _ = out.flush();
    }

    /// Whether the state differs from the one last shown; messages and times alone are no news.
    fn changed(&self, row: &Row) -> bool {
        !self
            .last
            .iter()
            .any(|old| old.device == row.device && old.hub == row.hub && old.state == row.state)
    }
}

/// Header and rows in columns.
fn table(rows: &[Row]) -> Vec<String> {
    let width = |of: fn(&Row) -> &str, name: &str| {
        rows.iter()
            .map(|row| of(row).chars().count())
            .chain([name.len()])
            .max()
            .unwrap_or(0)
    };
    let device = width(|row| &row.device, "DEVICE");
    let hub = width(|row| &row.hub, "HUB");
    let state = width(|row| &row.state, "DISCONNECTED");
    let activity = width(|row| &row.last_activity, "LAST ACTIVITY");
    let header = format!(
        "{:device$}  {:hub$}  {:state$}  {:activity$}  {:>8}",
        "DEVICE", "HUB", "STATE", "LAST ACTIVITY", "MESSAGES"
    );
    let lines = rows.iter().map(|row| {
        format!(
            "{:device$}  {:hub$}  {:state$}  {:activity$}  {:>8}",
            row.device, row.hub, row.state, row.last_activity, row.messages
        )
    });
    std::iter::once(header).chain(lines).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_whatever_the_names() {
        let row = |device: &str, last_activity: &str, messages| Row {
            device: device.into(),
            hub: "contoso-east-hub".into(),
            state: "Connected".into(),
            last_activity: last_activity.into(),
            messages,
        };
        let lines = table(&[
            row("a", "2026-01-01T00:00:00.1234567Z", 1),
            row("a-much-longer-name", "2026-01-01T00:00:00Z", 12_345),
        ]);
        let lengths: Vec<_> = lines.iter().map(|line| line.chars().count()).collect();
        assert!(
            lengths.iter().all(|length| *length == lengths[0]),
            "{lines:?}"
        );
    }
}
