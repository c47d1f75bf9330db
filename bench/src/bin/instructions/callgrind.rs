//! Valgrind's callgrind as a counter: this program again, under it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use crate::operation::Operation;

/// What callgrind found.
pub struct Counted {
    /// Instructions of one operation.
    pub each: u64,
    /// Callgrind's own account of the longer run, by function.
    pub profile: PathBuf,
}

/// Counts twice and divides the difference.
pub fn count(program: &Path, operation: Operation, profiles: &Path) -> anyhow::Result<Counted> {
    std::fs::create_dir_all(profiles)?;
    let profile = profiles.join(operation.name());
    let (few, many) = operation.times();
    let [less, more] = [few, many].map(|times| collected(program, operation, times, &profile));
    let (less, more) = (less?, more?);
    ensure!(more > less, "{many} operations took no more than {few}");
    Ok(Counted {
        each: (more - less) / u64::from(many - few),
        profile,
    })
}

/// All instructions of one run.
fn collected(program: &Path, operation: Operation, times: u32, out: &Path) -> anyhow::Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--fair-sched=yes"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(program)
        .args(["do", operation.name(), &times.to_string()])
        .output()
        .context("valgrind does not start (apt install valgrind)")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let name = operation.name();
    ensure!(
        output.status.success(),
        "{name} failed under valgrind: {said}"
    );
    total(&said).with_context(|| format!("valgrind counted nothing: {said}"))
}

/// The figure in `==1234== Collected : 5678`.
fn total(said: &str) -> Option<u64> {
    let line = said.lines().find(|line| line.contains("Collected :"))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_found_among_what_valgrind_says() {
        let said = "==7== Callgrind, a call-graph generating cache profiler\n\
                    ==7== Events    : Ir\n==7== Collected : 1532407\n==7== \n";
        assert_eq!(total(said), Some(1_532_407));
        assert_eq!(total("==7== Events    : Ir\n"), None);
    }
}
