//! Counts the instructions of one message, one connect and one registration, and fails where one costs more
//! than its budget.
//!
//! Callgrind counts what a program executes, not how long it takes: the figure is the same on a busy machine.
//! The program starts itself under valgrind with few operations and with many; the difference, divided, is one
//! operation, and starting and stopping cancel out. Front doors are entered through streams in memory: no
//! sockets, no TLS, but for the DPS's own line to its hub.
//!
//! What may not enter: times, and comparison with other servers; the benchmark has those.

mod budget;
mod callgrind;
mod device;
mod house;
mod operation;
mod trust;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};

use crate::budget::{Budgets, Verdict};
use crate::operation::Operation;

/// Counts instructions per operation and compares them with their budgets
#[derive(Debug, Parser)]
#[command(name = "instructions")]
struct Guard {
    /// The table of budgets
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.toml"))]
    budgets: PathBuf,
    /// Only these operations; may be given several times
    #[arg(long, value_enum)]
    only: Vec<Operation>,
    #[command(subcommand)]
    job: Option<Job>,
}

#[derive(Debug, Subcommand)]
enum Job {
    /// Carries an operation out so many times: what runs under valgrind
    #[command(hide = true)]
    Do { operation: Operation, times: u32 },
}

fn main() -> ExitCode {
    let guard = Guard::parse();
    let outcome = match guard.job {
        Some(Job::Do { operation, times }) => operation.carry_out(times).map(|()| true),
        None => compare(&guard),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("instructions: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Other builds and other processors count differently.
const COMPARABLE: bool = cfg!(all(debug_assertions, target_arch = "x86_64"));

/// Whether every operation keeps its budget.
fn compare(guard: &Guard) -> anyhow::Result<bool> {
    let budgets = Budgets::read(&guard.budgets)?;
    let program = std::env::current_exe()?;
    let profiles = program
        .parent()
        .context("this program lies in no folder")?
        .join("callgrind");
    let wanted = |operation: &Operation| guard.only.is_empty() || guard.only.contains(operation);
    let mut well = true;
    for operation in Operation::ALL.into_iter().filter(wanted) {
        let counted = callgrind::count(&program, operation, &profiles)?;
        print!("{:<16} {:>10}", operation.name(), counted.each);
        if !COMPARABLE {
            println!("  (the budgets are for a dev build on x86-64)");
            continue;
        }
        let verdict = budgets.judge(operation.name(), counted.each)?;
        println!("  {verdict}");
        if matches!(verdict, Verdict::Over { .. }) {
            well = false;
            advise(&guard.budgets, operation, &counted.profile);
        }
    }
    Ok(well)
}

fn advise(budgets: &Path, operation: Operation, profile: &Path) {
    println!(
        "  Where they go: callgrind_annotate {profile}\n  \
         Once more:     cargo build --workspace && target/debug/instructions --only {name}\n  \
         When the figure may be raised stands in {budgets}.",
        profile = profile.display(),
        name = operation.name(),
        budgets = budgets.display(),
    );
}
