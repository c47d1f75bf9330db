//! Measures a built `azimuth` beside mosquitto, on this machine and over loopback only.
//!
//! What may not enter: code of the servers; they are started as programs, as a person would.

mod azimuth;
mod credentials;
mod crowd;
mod figure;
mod gate;
mod lab;
mod leaves;
mod line;
mod mosquitto;
mod office;
mod plan;
mod process;
mod provision;
mod report;
mod round_trip;
mod scenario;
mod server;
mod service;
mod storm;
mod stub_hub;
mod telemetry;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use crate::lab::{Kind, Lab};
use crate::plan::Plan;
use crate::report::{Report, Run};
use crate::scenario::Scenario;

/// Measures azimuth beside mosquitto and says which gates hold
#[derive(Debug, Parser)]
#[command(name = "azimuth-bench", version)]
struct Bench {
    /// Only these scenarios; may be given several times
    #[arg(long, value_enum, value_name = "SCENARIO")]
    only: Vec<Scenario>,
    /// Only this server: `azimuth` or `mosquitto`
    #[arg(long, value_parser = parse_kind, value_name = "SERVER")]
    server: Option<Kind>,
    /// Rounds; in each every server is measured once [default: 3]
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// Small numbers: shows that everything works, not how fast
    #[arg(long)]
    quick: bool,
    /// Program to measure [default: `azimuth` beside this one]
    #[arg(long, value_name = "PATH")]
    azimuth: Option<PathBuf>,
    /// Every run as JSON instead of a Markdown table
    #[arg(long)]
    json: bool,
}

fn parse_kind(text: &str) -> Result<Kind, String> {
    let kinds = [Kind::Azimuth, Kind::Mosquitto];
    kinds
        .into_iter()
        .find(|kind| kind.name() == text)
        .ok_or_else(|| "`azimuth` or `mosquitto`".into())
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = runtime
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(run(Bench::parse())));
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("azimuth-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(bench: Bench) -> anyhow::Result<ExitCode> {
    let mut plan = if bench.quick {
        Plan::quick()
    } else {
        Plan::full()
    };
    plan.rounds = bench.rounds.unwrap_or(plan.rounds).max(1);
    let lab = Lab::open(plan, bench.azimuth.clone())?;
    lab.missing
        .iter()
        .for_each(|sentence| eprintln!("! {sentence}"));
    let mut report = Report::new(bench.quick, lab.missing.clone());
    let mut terminate = signal(SignalKind::terminate())?;
    let finished = tokio::select! {
        () = measure(&lab, &bench, &mut report) => true,
        _ = terminate.recv() => false,
        _ = tokio::signal::ctrl_c() => false,
    };
    if !finished {
        report.failed.push("stopped before the end".into());
    }
    println!(
        "{}",
        if bench.json {
            report.json()?
        } else {
            report.markdown()
        }
    );
    let well = finished && report.failed.is_empty() && (bench.quick || report.missed() == 0);
    Ok(if well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Scenario by scenario, so that the servers that are compared run close to each other.
async fn measure(lab: &Lab, bench: &Bench, report: &mut Report) {
    let mut scenarios: Vec<Scenario> = Scenario::ALL.into();
    scenarios.retain(|scenario| bench.only.is_empty() || bench.only.contains(scenario));
    let mut kinds = lab.kinds();
    kinds.retain(|kind| bench.server.is_none_or(|wanted| wanted == *kind));
    for scenario in scenarios {
        for round in 1..=lab.plan.rounds {
            for kind in kinds
                .iter()
                .copied()
                .filter(|kind| scenario.concerns(*kind))
            {
                measure_once(lab, scenario, kind, round, report).await;
            }
        }
    }
}

async fn measure_once(
    lab: &Lab,
    scenario: Scenario,
    server: Kind,
    round: usize,
    report: &mut Report,
) {
    let label = format!("{} on {}, round {round}", scenario.name(), server.name());
    match timeout(scenario.limit(), scenario.run(lab, server)).await {
        Ok(Ok(figures)) => {
            let shown: Vec<_> = figures
                .values
                .iter()
                .map(|(name, value)| format!("{name} {value:.3}"))
                .collect();
            eprintln!(
                "{label}: {} (others {:.0} %)",
                shown.join(", "),
                figures.other_cpu * 100.0
            );
            report.runs.push(Run {
                scenario,
                server,
                round,
                figures,
            });
        }
        Ok(Err(error)) => fail(report, format!("{label} failed: {error:#}")),
        Err(_) => fail(
            report,
            format!("{label} was given up after {:?}", scenario.limit()),
        ),
    }
}

fn fail(report: &mut Report, sentence: String) {
    eprintln!("! {sentence}");
    report.failed.push(sentence);
}
