//! Queries over 100,000 twins: a scan of all that few pass, look-ups by id, and what a device on the line notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::ensure;
use tokio::time::Instant;

use crate::azimuth;
use crate::figure::{Figures, Latencies};
use crate::lab::Lab;
use crate::line::Line;
use crate::service::Service;

/// How often each is asked.
const SCANS: usize = 7;
const LOOK_UPS: usize = 500;
const PINGS: usize = 500;

pub async fn run(lab: &Lab) -> anyhow::Result<Figures> {
    let mut figures = Figures::default();
    let twins = lab.plan.twins;
    let (hub, data) = azimuth::hub_holding(lab, twins).await?;
    let service = azimuth::service(&data)?;
    let line = hub.target.enter(0).await?;
    let never = Arc::new(AtomicBool::new(false));
    let (line, calm) = pings(line, PINGS, never).await?;

    let done = Arc::new(AtomicBool::new(false));
    let beside = tokio::spawn(pings(line, usize::MAX, done.clone()));
    let meter = hub.meter()?;
    let mut scans = Latencies::default();
    for number in 0..SCANS {
        // Of fifty floors and a hundred batteries: one device in a hundred, and of these those of one batch.
        let text = format!(
            "SELECT * FROM devices WHERE tags.site.floor = {number} AND properties.reported.battery = {number} \
             AND tags.batch = 0"
        );
        let rows = timed(&service, &text, &mut scans).await?;
        ensure!((1..=10).contains(&rows), "{rows} rows");
    }
    let spent = meter.read()?;
    figures.saw(&spent);
    done.store(true, Ordering::Relaxed);
    let (line, busy) = beside.await??;

    let mut groups = Latencies::default();
    let text = "SELECT tags.site.floor, COUNT() AS n, AVG(properties.reported.battery) AS b FROM devices \
                GROUP BY tags.site.floor";
    let rows = timed(&service, text, &mut groups).await?;
    ensure!(rows == twins.min(50), "{rows} groups");

    let (mut look_ups, meter) = (Latencies::default(), hub.meter()?);
    for number in 0..LOOK_UPS {
        let device = crate::credentials::device_id(number * 7 % twins);
        let text = format!("SELECT * FROM devices WHERE deviceId = '{device}'");
        let rows = timed(&service, &text, &mut look_ups).await?;
        ensure!(rows == 1, "{rows} rows");
    }
    let looked_up = meter.read()?;
    figures.saw(&looked_up);
    line.leave().await?;
    figures.put("twins", twins as f64);
    figures.put("scan_p50_ms", scans.milliseconds(0.5));
    figures.put("scan_cpu_ms", spent.server() * 1000.0 / SCANS as f64);
    figures.put("groups_ms", groups.milliseconds(1.0));
    figures.put("look_up_p50_ms", look_ups.milliseconds(0.5));
    figures.put(
        "look_up_cpu_ms_each",
        looked_up.server() * 1000.0 / LOOK_UPS as f64,
    );
    figures.put("ping_calm_p99_ms", calm.milliseconds(0.99));
    figures.put("ping_scanned_p99_ms", busy.milliseconds(0.99));
    hub.stop().await?;
    Ok(figures)
}

/// Asks for one page, which must be the only one.
async fn timed(service: &Service, text: &str, latencies: &mut Latencies) -> anyhow::Result<usize> {
    let began = Instant::now();
    let (rows, next) = service.query(text, None).await?;
    latencies.record(began.elapsed());
    ensure!(next.is_none(), "there are more rows than {rows}");
    Ok(rows)
}

/// What a device on the line waits for an answer, one ping after the other.
async fn pings(
    mut line: Line,
    most: usize,
    done: Arc<AtomicBool>,
) -> anyhow::Result<(Line, Latencies)> {
    let mut latencies = Latencies::default();
    for _ in 0..most {
        if done.load(Ordering::Relaxed) {
            break;
        }
        let began = Instant::now();
        line.ping().await?;
        latencies.record(began.elapsed());
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    Ok((line, latencies))
}
