//! Medians of all runs as a Markdown table, or everything as JSON.

use std::fmt::Write as _;
use std::fs;

use azimuth_clock::{Clock, SystemClock};
use azimuth_wire::time::unix_seconds;
use serde::Serialize;

use crate::figure::{Figures, median};
use crate::gate::{GOALS, Goal, Verdict};
use crate::lab::Kind;
use crate::process::cores;
use crate::scenario::Scenario;

/// One run that came to its end.
#[derive(Debug, Serialize)]
pub struct Run {
    pub scenario: Scenario,
    pub server: Kind,
    pub round: usize,
    #[serde(flatten)]
    pub figures: Figures,
}

/// All runs, where and when.
#[derive(Debug, Serialize)]
pub struct Report {
    pub machine: String,
    /// Seconds since 1970.
    pub at: u64,
    pub quick: bool,
    pub missing: Vec<String>,
    /// Runs that did not come to their end, and why.
    pub failed: Vec<String>,
    pub runs: Vec<Run>,
}

#[derive(Serialize)]
struct Row {
    what: &'static str,
    unit: &'static str,
    azimuth: Option<f64>,
    mosquitto: Option<f64>,
    gate: Option<String>,
    verdict: Option<Verdict>,
    ambition: Option<String>,
    ambition_reached: Option<Verdict>,
}

/// Above this share of the machine somebody else disturbs; such a run is left out where a cleaner one exists.
const DISTURBED: f64 = 0.1;

impl Report {
    pub fn new(quick: bool, missing: Vec<String>) -> Self {
        let at = unix_seconds(SystemClock.utc());
        Self {
            machine: machine(),
            at,
            quick,
            missing,
            failed: Vec::new(),
            runs: Vec::new(),
        }
    }

    /// Gates that were measured and do not hold.
    pub fn missed(&self) -> usize {
        self.rows()
            .iter()
            .filter(|row| row.verdict == Some(Verdict::Missed))
            .count()
    }

    pub fn json(&self) -> anyhow::Result<String> {
        #[derive(Serialize)]
        struct Whole<'a> {
            #[serde(flatten)]
            report: &'a Report,
            rows: Vec<Row>,
        }
        Ok(serde_json::to_string_pretty(&Whole {
            report: self,
            rows: self.rows(),
        })?)
    }

    pub fn markdown(&self) -> String {
        let mut text = format!(
            "Machine: {}. Seconds since 1970: {}.",
            self.machine, self.at
        );
        if self.quick {
            text.push_str(
                " **Smoke test with small numbers: shows that everything works, not how fast.**",
            );
        }
        text.push_str(
            "\n\n| what | azimuth | mosquitto | ratio | gate | holds? | ambition | reached? |\n",
        );
        text.push_str("| --- | --- | --- | --- | --- | --- | --- | --- |\n");
        for row in self.rows() {
            let number = |value: Option<f64>| {
                value.map_or("–".to_owned(), |value| {
                    format!("{} {}", round(value), row.unit)
                })
            };
            let ratio = row
                .azimuth
                .zip(row.mosquitto)
                .filter(|(_, mosquitto)| *mosquitto > 0.0);
            let ratio = ratio.map_or("–".to_owned(), |(azimuth, mosquitto)| {
                format!("{:.2}", azimuth / mosquitto)
            });
            let _ = writeln!(
                text,
                "| {} | {} | {} | {ratio} | {} | {} | {} | {} |",
                row.what,
                number(row.azimuth),
                number(row.mosquitto),
                row.gate.as_deref().unwrap_or("–"),
                row.verdict.map_or("–", Verdict::word),
                row.ambition.as_deref().unwrap_or("–"),
                row.ambition_reached.map_or("–", reached),
            );
        }
        text.push_str(&self.disturbance());
        for sentence in self.missing.iter().chain(&self.failed) {
            let _ = writeln!(text, "- {sentence}");
        }
        text
    }

    fn rows(&self) -> Vec<Row> {
        let measured = |goal: &&Goal| self.runs.iter().any(|run| run.scenario == goal.scenario);
        GOALS
            .iter()
            .filter(measured)
            .map(|goal| self.row(goal))
            .collect()
    }

    fn row(&self, goal: &Goal) -> Row {
        let azimuth = self.median(goal, Kind::Azimuth);
        let mosquitto = self.median(goal, Kind::Mosquitto);
        Row {
            what: goal.what,
            unit: goal.unit,
            azimuth,
            mosquitto,
            gate: goal.gate.map(|gate| gate.text(goal.unit)),
            verdict: goal.gate.map(|gate| gate.judge(azimuth, mosquitto)),
            ambition: goal.ambition.map(|ambition| ambition.text(goal.unit)),
            ambition_reached: goal
                .ambition
                .map(|ambition| ambition.judge(azimuth, mosquitto)),
        }
    }

    fn median(&self, goal: &Goal, server: Kind) -> Option<f64> {
        let runs = || {
            self.runs
                .iter()
                .filter(move |run| run.scenario == goal.scenario && run.server == server)
        };
        let value = |run: &Run| run.figures.values.get(goal.figure).copied();
        let clean: Vec<f64> = runs()
            .filter(|run| run.figures.other_cpu <= DISTURBED)
            .filter_map(value)
            .collect();
        match clean.is_empty() {
            false => median(clean),
            true => median(runs().filter_map(value).collect()),
        }
    }

    fn disturbance(&self) -> String {
        let shares: Vec<f64> = self.runs.iter().map(|run| run.figures.other_cpu).collect();
        let disturbed = shares.iter().filter(|share| **share > DISTURBED).count();
        let worst = shares.iter().copied().fold(0.0, f64::max);
        format!(
            "\nMedians of {} runs. Others used {:.0} % of the machine at worst; {disturbed} runs above {:.0} % are left \
             out where a cleaner one exists.\n\n",
            self.runs.len(),
            worst * 100.0,
            DISTURBED * 100.0
        )
    }
}

fn reached(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Holds => "yes",
        Verdict::Missed => "not yet",
        Verdict::Unknown => "–",
    }
}

/// Three digits that matter.
fn round(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| {
        line.strip_prefix("model name")?
            .split_once(':')
            .map(|(_, name)| name.trim())
    });
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = memory.lines().find_map(|line| {
        line.strip_prefix("MemTotal:")?
            .split_whitespace()
            .next()?
            .parse::<f64>()
            .ok()
    });
    let gib = kib.unwrap_or_default() / 1024.0 / 1024.0;
    format!(
        "{} × {}, {gib:.0} GiB, Linux {}",
        cores(),
        model.unwrap_or("unknown CPU"),
        kernel.trim()
    )
}
