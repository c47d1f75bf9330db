//! Azimuth under test: its configuration, its processes, and the identities of its hub.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use azimuth_wire::connection_string::ConnectionString;
use azimuth_wire::{SymmetricKey, sas};
use serde::Deserialize;
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::credentials::{Credentials, bench_key, device_id, far_expiry};
use crate::lab::{DPS_ADDRESS, HUB_ADDRESS, Lab};
use crate::line::{Target, Tls};
use crate::office::Office;
use crate::process::Process;
use crate::server::{Dps, Server, connector};

const HUB: &str = "bench-hub";

/// The part of `connect.json` that is needed here.
#[derive(Deserialize)]
struct Connect {
    ca_file: PathBuf,
    mqtt_port: u16,
    https_port: u16,
    dps: Option<DpsConnect>,
    hubs: Vec<HubConnect>,
}

#[derive(Deserialize)]
struct DpsConnect {
    address: IpAddr,
    id_scope: String,
    connection_string: String,
    group: Option<GroupConnect>,
}

#[derive(Deserialize)]
struct GroupConnect {
    id: String,
    primary_key: SymmetricKey,
}

#[derive(Deserialize)]
struct HubConnect {
    address: IpAddr,
    connection_string: String,
}

impl Connect {
    fn load(data: &Path) -> anyhow::Result<Self> {
        let path = data.join("connect.json");
        let text = fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        Ok(serde_json::from_slice(&text)?)
    }

    fn hub(&self) -> anyhow::Result<(&HubConnect, ConnectionString)> {
        let hub = self.hubs.first().context("connect.json names no hub")?;
        Ok((hub, hub.connection_string.parse()?))
    }

    fn target(&self, address: IpAddr, credentials: Credentials) -> anyhow::Result<Target> {
        let ca = fs::read_to_string(&self.ca_file)?;
        Ok(Target {
            address: SocketAddr::new(address, self.mqtt_port),
            tls: Tls::Anonymous(connector(&ca)?),
            credentials: Arc::new(credentials),
        })
    }

    fn hub_target(&self) -> anyhow::Result<Target> {
        let host = self.hub()?.1.host_name;
        self.target(
            self.hub()?.0.address,
            Credentials::Hub {
                host,
                key: bench_key(),
                expiry: far_expiry(),
            },
        )
    }
}

/// A hub over an empty folder: no identities, no CA.
pub async fn empty_hub(lab: &Lab) -> anyhow::Result<Server> {
    let data = lab.fresh_folder("azimuth-data")?;
    start_hub(lab, &data).await
}

/// A hub over a copy of a folder that holds every device of the plan.
pub async fn hub_with_devices(lab: &Lab) -> anyhow::Result<Server> {
    let data = lab.fresh_folder("azimuth-data")?;
    copy_folder(&template(lab).await?, &data)?;
    start_hub(lab, &data).await
}

/// A hub without devices and a DPS that is linked to it.
pub async fn provisioning(lab: &Lab) -> anyhow::Result<Server> {
    let data = lab.fresh_folder("azimuth-data")?;
    provisioning_over(lab, &data).await
}

/// The same over a folder that exists.
pub async fn provisioning_over(lab: &Lab, data: &Path) -> anyhow::Result<Server> {
    let mut server = start_hub(lab, data).await?;
    let (process, took) = start(lab, data, &["dps"]).await?;
    let connect = Connect::load(data)?;
    let dps = connect.dps.as_ref().context("connect.json names no DPS")?;
    let group = dps.group.as_ref();
    let group = group.context("connect.json names no enrollment group")?;
    let (group, group_id) = (group.primary_key.clone(), group.id.clone());
    let expiry = far_expiry();
    let credentials = Credentials::Dps {
        id_scope: dps.id_scope.clone(),
        group: group.clone(),
        expiry,
    };
    let ca_pem = fs::read_to_string(&connect.ca_file)?;
    server.dps = Some(Dps {
        target: connect.target(dps.address, credentials)?,
        office: Office::new(
            SocketAddr::new(dps.address, connect.https_port),
            &ca_pem,
            &dps.connection_string.parse()?,
            dps.id_scope.clone(),
            (group_id, group.clone()),
        )?,
        ca_pem,
    });
    let host = connect.hub()?.1.host_name;
    server.target = connect.target(
        server.target.address.ip(),
        Credentials::Provisioned {
            host,
            group,
            expiry,
        },
    )?;
    server.processes.insert(0, process);
    server.took = took;
    Ok(server)
}

async fn start_hub(lab: &Lab, data: &Path) -> anyhow::Result<Server> {
    let (process, took) = start(lab, data, &["hub", HUB]).await?;
    let target = Connect::load(data)?.hub_target()?;
    Ok(Server {
        processes: vec![process],
        target,
        dps: None,
        took,
    })
}

async fn start(lab: &Lab, data: &Path, words: &[&str]) -> anyhow::Result<(Process, Duration)> {
    let program = lab.azimuth.as_ref().context("azimuth is not built")?;
    let config = lab.folder.join("azimuth.toml");
    fs::write(&config, configuration(lab))?;
    let mut command = Command::new(program);
    command
        .arg("--config")
        .arg(&config)
        .arg("--data")
        .arg(data)
        .args(words);
    Process::start_until_ready(&format!("azimuth {}", words.join(" ")), command, &lab.log()).await
}

fn configuration(lab: &Lab) -> String {
    format!(
        "[dps]\nname = \"bench-dps\"\naddress = \"{DPS_ADDRESS}\"\nallocation = \"hashed\"\nassigning-polls = 0\n\n\
         [[hub]]\nname = \"{HUB}\"\naddress = \"{HUB_ADDRESS}\"\n\n[ports]\nmqtt = {}\nhttps = {}\n",
        lab.mqtt_port, lab.https_port
    )
}

/// A data folder with every device, made once through the REST API.
async fn template(lab: &Lab) -> anyhow::Result<PathBuf> {
    let data = lab.folder.join("azimuth-template");
    if data.join("connect.json").exists() {
        return Ok(data);
    }
    let making = lab.fresh_folder("azimuth-making")?;
    let (process, _) = start(lab, &making, &["hub", HUB]).await?;
    let connect = Connect::load(&making)?;
    let began = tokio::time::Instant::now();
    put_devices(&connect, lab.plan.devices()).await?;
    eprintln!(
        "{} identities made in {:.1} s",
        lab.plan.devices(),
        began.elapsed().as_secs_f64()
    );
    process.stop().await?;
    fs::rename(making, &data)?;
    Ok(data)
}

/// `PUT /devices/{id}` for each, signed as iothubowner.
async fn put_devices(connect: &Connect, count: usize) -> anyhow::Result<()> {
    let (hub, owner) = connect.hub()?;
    ensure!(
        hub.address.is_loopback(),
        "{} is not a loopback address",
        hub.address
    );
    let key = owner
        .key
        .as_ref()
        .context("the connection string of the hub holds no key")?;
    let token = sas::sign(
        &owner.host_name,
        key,
        far_expiry(),
        owner.key_name.as_deref(),
    );
    let ca = fs::read_to_string(&connect.ca_file)?;
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(azimuth_certs::client_config(Some(&ca))?)
        .no_proxy()
        .timeout(Duration::from_secs(10))
        .build()?;
    let base = format!("https://{}:{}/devices", hub.address, connect.https_port);
    let next = Arc::new(AtomicUsize::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..64 {
        let (client, base, token, next) =
            (client.clone(), base.clone(), token.clone(), next.clone());
        workers.spawn(async move {
            loop {
                let device = next.fetch_add(1, Ordering::Relaxed);
                if device >= count {
                    return anyhow::Ok(());
                }
                put_device(&client, &base, &token, &device_id(device)).await?;
            }
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker??;
    }
    Ok(())
}

async fn put_device(
    client: &reqwest::Client,
    base: &str,
    token: &str,
    id: &str,
) -> anyhow::Result<()> {
    let key = bench_key();
    let keys = serde_json::json!({ "primaryKey": key.reveal(), "secondaryKey": key.reveal() });
    let authentication = serde_json::json!({ "type": "sas", "symmetricKey": keys });
    let body = serde_json::json!({ "deviceId": id, "status": "enabled", "authentication": authentication });
    let url = format!("{base}/{id}?api-version=2021-04-12");
    let request = client
        .put(url)
        .header("Authorization", token)
        .header("Content-Type", "application/json");
    let answer = request.body(body.to_string()).send().await?;
    let status = answer.status();
    if !status.is_success() {
        bail!(
            "PUT /devices/{id} was answered {status}: {}",
            answer.text().await.unwrap_or_default()
        );
    }
    Ok(())
}

pub fn copy_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir_all(&target)?;
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
