//! What a service says when it has started, and how it is asked to stop.
//!
//! What may not enter: which services there are.

use std::io::IsTerminal;
use std::net::SocketAddr;

use azimuth_clock::{Clock, SystemClock};
use azimuth_wire::time::Timestamp;
use serde_json::{Value, json};

use crate::paste::Paste;

/// Prints what to paste and `Ready`, which programs that start this one wait for. Keys that are not published
/// constants are shown on a terminal only, since what is not a terminal may be a log.
pub fn announce(paste: &Paste, warnings: &[String], published: bool) {
    if published || std::io::stdout().is_terminal() {
        print!("{}", paste.banner());
        warnings
            .iter()
            .for_each(|warning| println!("  ! {warning}"));
        println!("Ready");
        return;
    }
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    println!("{}", ready_line(paste));
}

/// `Ready` in the form of the log's lines.
fn ready_line(paste: &Paste) -> Value {
    let hubs = paste
        .hubs
        .iter()
        .map(|hub| json!({ "name": hub.host_name, "address": hub.address, "region": hub.region }));
    let dps = paste
        .dps
        .as_ref()
        .map(|dps| json!({ "name": dps.name, "address": dps.address, "idScope": dps.id_scope }));
    json!({
        "timestamp": Timestamp::from(SystemClock.utc()),
        "level": "INFO",
        "fields": {
            "message": "Ready",
            "dps": dps,
            "hubs": hubs.collect::<Vec<_>>(),
            "mqttPort": paste.mqtt_port,
            "httpsPort": paste.https_port,
            "caFile": paste.ca_file,
            "keys": "azimuth env",
        },
        "target": "azimuth",
    })
}

/// What to do about HTTPS addresses that could not be bound.
pub fn unbound_lines(unbound: &[(SocketAddr, String)]) -> Vec<String> {
    let remedy = |address: &SocketAddr, error: &String| match error
        .to_lowercase()
        .contains("permission denied")
    {
        true => format!(
            "HTTPS is not served on {address}: ports below 1024 need permission. Everything else runs. Give it once with \
             `sudo setcap cap_net_bind_service=+ep $(command -v azimuth)` or \
             `sudo sysctl net.ipv4.ip_unprivileged_port_start=443`, or choose another with --https-port"
        ),
        false => format!(
            "HTTPS is not served on {address}: {error}. Everything else runs; choose another with --https-port"
        ),
    };
    unbound
        .iter()
        .map(|(address, error)| remedy(address, error))
        .collect()
}

/// Blocks until the process is asked to stop.
pub fn wait() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(stopped())
}

/// Resolves on Ctrl-C or SIGTERM.
pub async fn stopped() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        pressed = tokio::signal::ctrl_c() => pressed?,
    }
    Ok(())
}
