//! A server under test as a child process, and what the machine spends on it.
//!
//! What may not enter: what the server is asked to do.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};

/// A child that does not outlive this program.
pub struct Process {
    child: Child,
    pub pid: u32,
    name: String,
}

/// How long a server may take to say that it listens.
const START_LIMIT: Duration = Duration::from_secs(30);

impl Process {
    /// Starts `command`; its diagnostics go to `log`.
    pub fn start(name: &str, mut command: Command, log: &Path) -> anyhow::Result<Self> {
        let log = fs::OpenOptions::new().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stderr(log).kill_on_drop(true);
        let child = command
            .spawn()
            .with_context(|| format!("{name} cannot be started"))?;
        let pid = child.id().context("the child has no process id")?;
        Ok(Self {
            child,
            pid,
            name: name.into(),
        })
    }

    /// Starts `command` and waits for a line that begins with `Ready`. Returns the time that took.
    pub async fn start_until_ready(
        name: &str,
        mut command: Command,
        log: &Path,
    ) -> anyhow::Result<(Self, Duration)> {
        command.stdout(Stdio::piped());
        let began = Instant::now();
        let mut process = Self::start(name, command, log)?;
        let out = process.child.stdout.take().context("stdout is piped")?;
        let mut lines = BufReader::new(out).lines();
        let ready = async {
            while let Some(line) = lines.next_line().await? {
                if line.starts_with("Ready") {
                    return Ok(began.elapsed());
                }
            }
            bail!(
                "{name} ended before it was ready; its last words: {}",
                last_words(log)
            )
        };
        let took = timeout(START_LIMIT, ready)
            .await
            .with_context(|| format!("{name} was not ready within {START_LIMIT:?}"))??;
        // A full pipe must not stop the server later.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok((process, took))
    }

    /// Asks the child to end, and ends it after five seconds.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let asked = Command::new("kill")
            .arg(self.pid.to_string())
            .status()
            .await;
        let polite = asked.is_ok_and(|status| status.success());
        if polite
            && timeout(Duration::from_secs(5), self.child.wait())
                .await
                .is_ok()
        {
            return Ok(());
        }
        eprintln!("{} did not stop when asked; killed", self.name);
        Ok(self.child.kill().await?)
    }

    /// Resident memory in KiB.
    pub fn resident_kib(&self) -> anyhow::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        number
            .and_then(|number| number.parse().ok())
            .context("/proc shows no VmRSS")
    }
}

fn last_words(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(3)..].join(" / ")
}

/// CPU seconds between two moments: of each server, of this program, of everybody else.
pub struct Meter {
    began: Instant,
    pids: Vec<u32>,
    servers: Vec<f64>,
    stores: Vec<f64>,
    own: f64,
    busy: f64,
}

#[derive(Debug, Clone)]
pub struct Spent {
    pub wall: f64,
    /// In the order of the pids.
    pub servers: Vec<f64>,
    /// The part of each that its store's writer used.
    pub stores: Vec<f64>,
    /// Of this program.
    pub own: f64,
    /// Share of the machine used by neither.
    pub other: f64,
}

impl Meter {
    pub fn start(servers: &[&Process]) -> anyhow::Result<Self> {
        let pids: Vec<u32> = servers.iter().map(|server| server.pid).collect();
        Ok(Self {
            began: Instant::now(),
            servers: pids
                .iter()
                .map(|pid| cpu_seconds(*pid))
                .collect::<Result<_, _>>()?,
            stores: pids.iter().map(|pid| store_seconds(*pid)).collect(),
            own: cpu_seconds(std::process::id())?,
            busy: machine_busy_seconds()?,
            pids,
        })
    }

    pub fn read(&self) -> anyhow::Result<Spent> {
        let wall = self.began.elapsed().as_secs_f64();
        let mut servers = Vec::with_capacity(self.pids.len());
        for (pid, before) in self.pids.iter().zip(&self.servers) {
            servers.push(cpu_seconds(*pid)? - before);
        }
        let stores = self.pids.iter().zip(&self.stores);
        let stores = stores.map(|(pid, before)| store_seconds(*pid) - before);
        let stores = stores.collect();
        let own = cpu_seconds(std::process::id())? - self.own;
        let busy = machine_busy_seconds()? - self.busy;
        let other = (busy - own - servers.iter().sum::<f64>()).max(0.0) / (wall * cores() as f64);
        Ok(Spent {
            wall,
            servers,
            stores,
            own,
            other,
        })
    }
}

impl Spent {
    /// CPU seconds of all servers together.
    pub fn server(&self) -> f64 {
        self.servers.iter().sum()
    }
}

/// Linux counts in hundredths of a second on every architecture we run on (`USER_HZ`).
const TICKS: f64 = 100.0;

/// utime + stime of a process, its ended threads included.
fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
        .with_context(|| format!("process {pid} ended while it was measured"))?;
    Ok(ticks(&stat) / TICKS)
}

/// The same of the thread that writes a server's store; mosquitto has none.
fn store_seconds(pid: u32) -> f64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    let threads = threads.into_iter().flatten().flatten();
    let stats = threads.filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok());
    let stores = stats.filter(|stat| stat.contains("(azimuth-store)"));
    stores.map(|stat| ticks(&stat)).sum::<f64>() / TICKS
}

fn ticks(stat: &str) -> f64 {
    // The name in parentheses may hold blanks: count from behind it.
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let fields = after.split_whitespace().skip(11).take(2);
    fields.filter_map(|field| field.parse::<f64>().ok()).sum()
}

/// Of all cores, without idle and waiting for disks.
fn machine_busy_seconds() -> anyhow::Result<f64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let fields: Vec<f64> = stat
        .lines()
        .next()
        .unwrap_or("")
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    let busy: f64 = fields
        .iter()
        .take(8)
        .enumerate()
        .filter(|(at, _)| *at != 3 && *at != 4)
        .map(|(_, ticks)| ticks)
        .sum();
    Ok(busy / TICKS)
}

pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
