//! From the start of the process until it says `Ready`, and until the first client has its CONNACK.

use std::time::Duration;

use tokio::time::Instant;

use crate::figure::Figures;
use crate::lab::{Kind, Lab};
use crate::server::Server;
use crate::{azimuth, mosquitto};

pub async fn run(lab: &Lab, kind: Kind) -> anyhow::Result<Figures> {
    let mut figures = Figures::default();
    match kind {
        Kind::Azimuth => {
            // Nobody is known to an empty hub: its first CONNACK is a refusal, and as good.
            let (ready, answered) = times(azimuth::empty_hub(lab).await?).await?;
            figures.put("fresh_ready_ms", ready);
            figures.put("fresh_connack_ms", answered);
            let (ready, answered) = times(azimuth::hub_with_devices(lab).await?).await?;
            figures.put("existing_ready_ms", ready);
            figures.put("existing_connack_ms", answered);
        }
        Kind::Mosquitto => {
            let (listens, answered) = times(mosquitto::start(lab, false).await?).await?;
            figures.put("fresh_ready_ms", listens);
            figures.put("fresh_connack_ms", answered);
        }
    }
    Ok(figures)
}

/// Milliseconds until it listened and until CONNACK.
async fn times(server: Server) -> anyhow::Result<(f64, f64)> {
    let began = Instant::now();
    server.target.connect(0).await?;
    let answered = server.took + began.elapsed();
    let ready = server.took;
    server.stop().await?;
    Ok((milliseconds(ready), milliseconds(answered)))
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
