//! What a run works with: folder, programs, ports, and what this machine lacks.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use crate::plan::Plan;

/// A folder of its own, removed at the end, and the programs to measure.
pub struct Lab {
    pub folder: PathBuf,
    pub plan: Plan,
    /// Absent when the program does not exist; then mosquitto alone is measured.
    pub azimuth: Option<PathBuf>,
    pub mosquitto: Option<PathBuf>,
    pub mqtt_port: u16,
    pub https_port: u16,
    /// What is missing, in sentences for the reader.
    pub missing: Vec<String>,
}

pub const DPS_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 30));
pub const HUB_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 31));
pub const MOSQUITTO_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 32));

/// Which server is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Azimuth,
    Mosquitto,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Azimuth => "azimuth",
            Self::Mosquitto => "mosquitto",
        }
    }
}

impl Lab {
    pub fn open(mut plan: Plan, azimuth: Option<PathBuf>) -> anyhow::Result<Self> {
        let mut missing = Vec::new();
        let azimuth = azimuth.unwrap_or_else(beside_this_program);
        let azimuth = azimuth.is_file().then_some(azimuth.clone()).or_else(|| {
            missing.push(format!(
                "{} does not exist: build it with `cargo build --release`, or name it with --azimuth",
                azimuth.display()
            ));
            None
        });
        let mosquitto = find_mosquitto();
        if mosquitto.is_none() {
            missing.push("mosquitto is not installed (apt install mosquitto): no ratios".into());
        }
        ensure!(
            azimuth.is_some() || mosquitto.is_some(),
            "there is nothing to measure: {}",
            missing.join("; ")
        );
        missing.extend(fit_descriptors(&mut plan)?);
        let (mqtt_port, https_port) = ports(&mut missing);
        let folder = std::env::temp_dir().join(format!("azimuth-bench-{}", std::process::id()));
        fs::create_dir(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        Ok(Self {
            folder,
            plan,
            azimuth,
            mosquitto,
            mqtt_port,
            https_port,
            missing,
        })
    }

    /// The servers in the order of a round.
    pub fn kinds(&self) -> Vec<Kind> {
        let azimuth = self.azimuth.iter().map(|_| Kind::Azimuth);
        azimuth
            .chain(self.mosquitto.iter().map(|_| Kind::Mosquitto))
            .collect()
    }

    /// Where servers write what they have to say.
    pub fn log(&self) -> PathBuf {
        self.folder.join("servers.log")
    }

    /// An empty place for a server's data.
    pub fn fresh_folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.folder.join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir(&folder)?;
        Ok(folder)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() || std::env::var_os("AZIMUTH_BENCH_KEEP").is_some() {
            eprintln!("kept: {}", self.folder.display());
        } else if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("{} was not removed: {error}", self.folder.display());
        }
    }
}

fn beside_this_program() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.parent().unwrap_or(Path::new(".")).join("azimuth")
}

fn find_mosquitto() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders =
        std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders
        .map(|folder| folder.join("mosquitto"))
        .find(|program| program.is_file())
}

/// Raises the soft limit; a crowd that does not fit is made smaller, and that is said.
fn fit_descriptors(plan: &mut Plan) -> anyhow::Result<Option<String>> {
    let wanted = plan.descriptors();
    let allowed = rlimit::increase_nofile_limit(u64::MAX)
        .context("the limit of open files cannot be read")?;
    if wanted <= allowed {
        return Ok(None);
    }
    let before = plan.crowd;
    plan.crowd = plan
        .crowd
        .saturating_sub(usize::try_from(wanted - allowed).unwrap_or(usize::MAX));
    ensure!(
        plan.descriptors() <= allowed,
        "ulimit -n is {allowed}; at least {} are needed",
        plan.descriptors()
    );
    Ok(Some(format!(
        "ulimit -n is {allowed}: {} idle devices instead of {before}",
        plan.crowd
    )))
}

/// Azure's ports where they may be had, else high ones.
fn ports(missing: &mut Vec<String>) -> (u16, u16) {
    let mut choose =
        |port: u16, instead: u16| match TcpListener::bind(SocketAddr::new(HUB_ADDRESS, port)) {
            Ok(_) => port,
            Err(error) => {
                missing.push(format!(
                    "port {port} cannot be bound on {HUB_ADDRESS} ({error}): {instead} is used"
                ));
                instead
            }
        };
    (choose(8883, 18883), choose(443, 18443))
}
