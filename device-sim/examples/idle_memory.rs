//! Resident memory of one idle device over TLS.
//!
//! `cargo run -p azimuth-device-sim --example idle_memory -- 2000`: starts a small server in a child
//! process, connects that many silent devices to it, and divides what this process has grown by.
#![allow(clippy::unwrap_used)]

#[path = "../tests/mini/mod.rs"]
mod mini;

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use azimuth_clock::SystemClock;
use azimuth_device_sim::{Credential, Fleet, Plan, Silent, Who};
use rumqttc::mqttbytes::v4::Packet;
use tokio_util::sync::CancellationToken;

const HUB: &str = "hub.test.net";

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let argument = std::env::args().nth(1).unwrap_or("2000".into());
    if argument == "serve" {
        runtime.block_on(serve());
    } else {
        runtime.block_on(measure(argument.parse().unwrap()));
    }
}

/// Prints port and certificate, then serves until its input ends.
async fn serve() {
    rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let manner = |_: usize, packet: &Packet| mini::polite(packet);
    let server = mini::Mini::start(&[HUB], Arc::new(manner)).await;
    let hex: String = server
        .certificate
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    println!("{} {hex}", server.address.port());
    tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()))
        .await
        .unwrap()
        .unwrap();
}

async fn measure(count: u64) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .arg("serve")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let (port, hex) = line.trim().split_once(' ').unwrap();
    let certificate = (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap());
    let tls = mini::trusting(&[certificate.collect::<Vec<_>>().into()]);

    let text = format!(
        "HostName={HUB};SharedAccessKeyName=device;SharedAccessKey={}",
        "A".repeat(44)
    );
    let mut plan = Plan::new(
        Who::Numbered {
            name: "contoso-simdevice-{n}".into(),
            first: 1,
            count,
        },
        Credential::HubPolicy(text.parse().unwrap()),
        None,
    );
    plan.addresses = HashMap::from([(HUB.into(), [127, 0, 0, 1].into())]);
    plan.hub_port = port.parse().unwrap();
    plan.heartbeat = None;
    plan.subscribe = true;

    let before = resident_kib();
    let fleet = Fleet::new(plan, tls, Arc::new(SystemClock), Arc::new(Silent)).unwrap();
    let progress = fleet.progress();
    let stop = CancellationToken::new();
    let running = tokio::spawn(fleet.run(stop.clone()));
    while progress.snapshot().online < count {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = resident_kib();
    stop.cancel();
    let report = running.await.unwrap();
    drop(child.stdin.take());
    child.wait().unwrap();
    println!("{report}");
    println!(
        "{count} devices: {before} KiB before, {after} KiB after, {:.2} KiB a device",
        (after - before) as f64 / count as f64
    );
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
