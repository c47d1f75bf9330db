//! 100,000 identities with twins imported in one job and exported in another, as `azimuth hub job` does it; and what
//! devices on the line feel of it.

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, ensure};
use tokio::process::Command;

use crate::credentials::bench_key;
use crate::figure::Figures;
use crate::lab::{Kind, Lab};
use crate::line::Line;
use crate::plan::Plan;
use crate::process::Spent;
use crate::server::Server;
use crate::telemetry::open_loop;

/// Devices on the line, and what they publish a second together.
const TALKERS: usize = 20;
const RATE: usize = 1_000;

pub async fn run(lab: &Lab) -> anyhow::Result<Figures> {
    let plan = Plan {
        rate: RATE,
        ..lab.plan.clone()
    };
    let count = plan.imported as f64;
    let server = Server::hub(lab, Kind::Azimuth).await?;
    let jobs = lab
        .folder
        .join("azimuth-data")
        .join("bench-hub")
        .join("jobs");
    std::fs::create_dir_all(&jobs)?;
    write_file(&jobs.join("devices.txt"), plan.imported)?;
    let mut lines: Vec<Line> = Vec::new();
    for client in 0..TALKERS {
        lines.push(server.target.enter(client).await?);
    }
    let mut figures = Figures::default();
    let hub = server.processes.first().context("there is no hub")?;
    let before = hub.resident_kib()?;
    let (calm, lines) = open_loop(&server, lines, &plan).await?;
    let importing = job(lab, &server, &["import", "--from", "file:"]);
    let (imported, beside) = tokio::join!(importing, open_loop(&server, lines, &plan));
    let (imported, (beside, lines)) = (imported?, beside?);
    ensure!(
        std::fs::metadata(jobs.join("importErrors.log"))?.len() == 0,
        "lines of the import failed"
    );
    figures.saw(&imported);
    figures.put(
        "resident_growth_mib",
        (hub.resident_kib()? - before) / 1024.0,
    );
    let exported = job(lab, &server, &["export", "--to", "file:out"]).await?;
    figures.saw(&exported);
    let file = std::fs::read_to_string(jobs.join("out").join("devices.txt"))?;
    ensure!(file.lines().count() >= plan.imported, "the export is short");
    figures.put("import_per_s", count / imported.wall);
    // The messages beside it cost what they cost without it.
    let messages = beside.count as f64 * calm.spent.server() / calm.count.max(1) as f64;
    let alone = imported.server() - messages;
    figures.put("import_cpu_ms_each", alone * 1000.0 / count);
    figures.put("export_per_s", count / exported.wall);
    figures.put("export_cpu_ms_each", exported.server() * 1000.0 / count);
    figures.put("calm_p99_ms", calm.latencies.milliseconds(0.99));
    figures.put("beside_p99_ms", beside.latencies.milliseconds(0.99));
    drop(lines);
    server.stop().await?;
    Ok(figures)
}

/// One job, from the command to its end.
async fn job(lab: &Lab, server: &Server, words: &[&str]) -> anyhow::Result<Spent> {
    let program = lab.azimuth.as_ref().context("azimuth is not built")?;
    let mut command = Command::new(program);
    command
        .arg("--config")
        .arg(lab.folder.join("azimuth.toml"))
        .arg("--data")
        .arg(lab.folder.join("azimuth-data"))
        .args(["hub", "job"])
        .args(words)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let meter = server.meter()?;
    let ended = command.status().await?;
    let spent = meter.read()?;
    ensure!(
        ended.success(),
        "azimuth hub job {}: {ended}",
        words.join(" ")
    );
    Ok(spent)
}

fn write_file(path: &Path, count: usize) -> anyhow::Result<()> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    let key = bench_key();
    let authentication = serde_json::json!({ "type": "sas",
        "symmetricKey": { "primaryKey": key.reveal(), "secondaryKey": key.reveal() } });
    for number in 0..count {
        let line = serde_json::json!({ "id": format!("imported-{number:07}"), "status": "enabled", "importMode": "create",
            "authentication": authentication, "tags": { "floor": number % 7, "building": number % 100 },
            "properties": { "desired": { "interval": 60, "mode": { "fan": "on" } } } });
        writeln!(file, "{line}")?;
    }
    Ok(file.flush()?)
}
