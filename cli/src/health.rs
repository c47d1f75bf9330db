//! `azimuth health`: whether a service does its work, shown by doing it as a device.
//!
//! The first time after a service started a message goes the whole way: a device is made, connects over TLS, sends,
//! the message is read back, the device is removed. Once that was seen, front door and REST API are asked, so that a
//! check every few seconds leaves no trail in what people look at.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use azimuth_certs::without_resumption;
use azimuth_device_sim::{Credential, Dps, Fleet, Plan, Silent, Who};
use azimuth_wire::SymmetricKey;
use azimuth_wire::connection_string::ConnectionString;
use clap::Args;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::endpoint::Endpoint;
use crate::follow::follow;
use crate::paste::{DpsPaste, HubPaste, Paste};
use crate::services;

/// Ends with 0 when the service is healthy, else with 1 and the reason.
///
/// Healthy means: a device made for the purpose connected, its message went round, and the device was removed
/// again. Once that was seen of a service since its start, later checks are lighter.
#[derive(Debug, Args)]
pub struct Health {
    /// Hub or DPS by name
    #[arg(value_name = "SERVICE")]
    service: String,
    /// Let a message go round again, whatever was seen before
    #[arg(long)]
    full: bool,
    /// Seconds for all of it
    #[arg(long, default_value_t = 20, value_name = "SECONDS")]
    within: u64,
}

impl Health {
    pub fn run(self, config: Config) -> anyhow::Result<ExitCode> {
        let paste = Paste::load(config.connect_folder())?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let within = Duration::from_secs(self.within);
        let checked = runtime.block_on(async {
            let check = self.check(&paste);
            tokio::time::timeout(within, check).await
        });
        checked.with_context(|| format!("{} did not answer within {within:?}", self.service))??;
        Ok(ExitCode::SUCCESS)
    }

    async fn check(&self, paste: &Paste) -> anyhow::Result<()> {
        let known = paste.hubs.iter().find(|hub| hub.name == self.service);
        if let Some(hub) = known {
            let seen = Seen::of(&hub.name, &hub.started);
            let endpoint = here(Endpoint::hub(paste, hub)?);
            if self.full || !seen.is_marked() {
                hub_round(paste, hub, &endpoint).await?;
            } else {
                light(&endpoint, "/statistics/devices", paste.mqtt_port).await?;
            }
            return seen.mark();
        }
        let Some(dps) = paste.dps.as_ref().filter(|dps| dps.name == self.service) else {
            bail!(
                "no service called `{}` was started with this folder",
                self.service
            );
        };
        let seen = Seen::of(&dps.name, &dps.started);
        let endpoint = here(Endpoint::dps(paste, dps)?);
        if self.full || !seen.is_marked() {
            dps_round(paste, dps, &endpoint).await?;
        } else {
            light(&endpoint, "/azimuth/refusals", paste.mqtt_port).await?;
        }
        seen.mark()
    }
}

/// Asked from where the service runs, so that only the service is judged and not the names of a network.
fn here(mut endpoint: Endpoint) -> Endpoint {
    let address = endpoint.address.unwrap_or(LOCALHOST);
    endpoint.address = Some(address);
    endpoint
}

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A device of the hub sends a message, which comes out at the other end.
async fn hub_round(paste: &Paste, hub: &HubPaste, endpoint: &Endpoint) -> anyhow::Result<()> {
    const DEVICE: &str = "azimuth-health";
    let path = format!("/devices/{DEVICE}");
    let key = random_key();
    let body = json!({
        "deviceId": DEVICE,
        "authentication": {
            "type": "sas",
            "symmetricKey": { "primaryKey": key.reveal(), "secondaryKey": key.reveal() },
        },
    });
    make(endpoint, &path, body).await?;
    let string: ConnectionString = format!(
        "HostName={};DeviceId={DEVICE};SharedAccessKey={}",
        hub.host_name,
        key.reveal()
    )
    .parse()?;
    let who = Who::Named(vec![DEVICE.into()]);
    let mut plan = Plan::new(who, Credential::ConnectionString(string), None);
    plan.addresses.extend(
        endpoint
            .address
            .map(|to| (hub.host_name.to_lowercase(), to)),
    );
    let sent = one_message(paste, plan).await;
    let heard = match sent {
        Ok(()) => hears(endpoint, DEVICE).await,
        Err(error) => Err(error),
    };
    remove(endpoint, &path).await?;
    heard
}

/// A device registers with an enrollment of its own, and sends a message to the hub it is given.
async fn dps_round(paste: &Paste, dps: &DpsPaste, endpoint: &Endpoint) -> anyhow::Result<()> {
    const DEVICE: &str = "azimuth-health-dps";
    let path = format!("/enrollments/{DEVICE}");
    let key = random_key();
    let body = json!({
        "registrationId": DEVICE,
        "attestation": {
            "type": "symmetricKey",
            "symmetricKey": { "primaryKey": key.reveal(), "secondaryKey": key.reveal() },
        },
    });
    make(endpoint, &path, body).await?;
    let provisioning = Dps {
        host: dps.host_name.clone(),
        port: paste.mqtt_port,
        address: endpoint.address,
        id_scope: dps.id_scope.parse()?,
    };
    let who = Who::Named(vec![DEVICE.into()]);
    let mut plan = Plan::new(who, Credential::DeviceKey(key), Some(provisioning));
    for hub in &paste.hubs {
        plan.addresses
            .extend(hub.dial.map(|to| (hub.host_name.to_lowercase(), to)));
    }
    let sent = one_message(paste, plan).await;
    let record = endpoint
        .get(&format!("/registrations/{DEVICE}"), &[])
        .await?;
    let record: Value = serde_json::from_str(&record.text().await?).unwrap_or_default();
    // The enrollment takes the record of its registration with it.
    remove(endpoint, &path).await?;
    let assigned = record["assignedHub"].as_str().unwrap_or_default();
    if let Some(hub) = paste.hubs.iter().find(|hub| hub.host_name == assigned) {
        remove(&Endpoint::hub(paste, hub)?, &format!("/devices/{DEVICE}")).await?;
    }
    sent
}

/// Runs the plan's one device until its message was acknowledged.
async fn one_message(paste: &Paste, mut plan: Plan) -> anyhow::Result<()> {
    plan.hub_port = paste.mqtt_port;
    plan.heartbeat = Some(Duration::from_secs(1));
    plan.jitter = 0.0;
    plan.messages = Some(1);
    plan.payload_bytes = 0;
    plan.give_up_after = Some(3);
    let pem = std::fs::read_to_string(&paste.ca_file)?;
    let tls = without_resumption(azimuth_certs::client_config(Some(&pem))?);
    let fleet = Fleet::new(plan, Arc::new(tls), services::clock(), Arc::new(Silent))?;
    let report = fleet.run(CancellationToken::new()).await;
    ensure!(
        !report.failed(),
        "a device could not send a message: {}",
        report
            .faults
            .first()
            .map_or("no answer came", |fault| fault.example.as_str())
    );
    Ok(())
}

/// The device's message is in the stream of events.
async fn hears(endpoint: &Endpoint, device: &str) -> anyhow::Result<()> {
    let query = [
        ("from", "earliest".to_owned()),
        ("follow", "false".to_owned()),
        ("deviceId", device.to_owned()),
    ];
    let mut found = false;
    let look = |line: &str| {
        let event: Value = serde_json::from_str(line)?;
        found |= event["systemProperties"]["iothub-connection-device-id"] == device;
        Ok(!found)
    };
    follow(endpoint, "/azimuth/events", &query, look).await?;
    ensure!(
        found,
        "the message of a device was acknowledged, but is not among the events"
    );
    Ok(())
}

/// The front door takes a connection and the REST API answers.
async fn light(endpoint: &Endpoint, path: &str, mqtt_port: u16) -> anyhow::Result<()> {
    let query = [("after", u64::MAX.to_string())];
    let answer = endpoint.get(path, &query).await?;
    succeeded(endpoint, answer).await?;
    let address = SocketAddr::new(endpoint.address.unwrap_or(LOCALHOST), mqtt_port);
    tokio::net::TcpStream::connect(address)
        .await
        .with_context(|| format!("{} takes no MQTT connection at {address}", endpoint.label))?;
    Ok(())
}

/// Makes a device or an enrollment; one that an interrupted check left is made anew.
async fn make(endpoint: &Endpoint, path: &str, body: Value) -> anyhow::Result<()> {
    let put = || endpoint.send(Method::PUT, path, &[], &[], Some(body.clone()));
    let mut made = put().await?;
    if made.status() == reqwest::StatusCode::CONFLICT {
        remove(endpoint, path).await?;
        made = put().await?;
    }
    succeeded(endpoint, made).await
}

async fn remove(endpoint: &Endpoint, path: &str) -> anyhow::Result<()> {
    let any = [("if-match", "*")];
    let gone = endpoint.send(Method::DELETE, path, &[], &any, None).await?;
    if gone.status() == reqwest::StatusCode::NOT_FOUND {
        return Ok(());
    }
    succeeded(endpoint, gone).await
}

async fn succeeded(endpoint: &Endpoint, answer: Response) -> anyhow::Result<()> {
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let body = answer.text().await.unwrap_or_default();
    bail!("{} answered {status}: {body}", endpoint.label)
}

fn random_key() -> SymmetricKey {
    let (one, two) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
    SymmetricKey::from_bytes(&[one.into_bytes(), two.into_bytes()].concat())
}

/// That a message went round since the service started, noted in the folder for temporary files.
struct Seen {
    file: PathBuf,
    started: String,
}

impl Seen {
    fn of(name: &str, started: &str) -> Self {
        Self {
            file: std::env::temp_dir().join(format!("azimuth-health-{name}")),
            started: started.into(),
        }
    }

    fn is_marked(&self) -> bool {
        std::fs::read_to_string(&self.file).is_ok_and(|text| text == self.started)
    }

    fn mark(&self) -> anyhow::Result<()> {
        std::fs::write(&self.file, &self.started)
            .with_context(|| format!("{} cannot be written", self.file.display()))
    }
}
