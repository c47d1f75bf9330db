//! Azimuth under test: its configuration, its processes, and the identities of its hub.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use azimuth_wire::SymmetricKey;
use azimuth_wire::connection_string::ConnectionString;
use serde::Deserialize;
use tokio::process::Command;

use crate::credentials::{Credentials, bench_key, far_expiry};
use crate::crowd::each;
use crate::lab::{DPS_ADDRESS, HUB_ADDRESS, Lab};
use crate::line::{Target, Tls};
use crate::office::Office;
use crate::process::Process;
use crate::server::{Dps, Server, connector};
use crate::service::Service;

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

/// The same, and where its folder is.
pub async fn empty_hub_with_data(lab: &Lab) -> anyhow::Result<(Server, PathBuf)> {
    let data = lab.fresh_folder("azimuth-data")?;
    Ok((start_hub(lab, &data).await?, data))
}

/// A hub over a folder with so many identities and their twins, and where that is. Filled once, over the wire;
/// too large to be copied for each run.
pub async fn hub_holding(lab: &Lab, identities: usize) -> anyhow::Result<(Server, PathBuf)> {
    let data = lab.folder.join(format!("azimuth-holding-{identities}"));
    if !data.exists() {
        let making = lab.fresh_folder("azimuth-making")?;
        let hub = start_hub(lab, &making).await?;
        let (began, service) = (tokio::time::Instant::now(), service(&making)?);
        let create = move |hundred: usize| {
            let service = service.clone();
            async move { service.create_hundred(hundred * Service::BULK).await }
        };
        each(0..identities / Service::BULK, 16, create).await?;
        eprintln!(
            "{identities} identities with twins made in {:.0} s, {:.0} MiB of memory at their end",
            began.elapsed().as_secs_f64(),
            hub.processes[0].resident_kib()? / 1024.0
        );
        hub.stop().await?;
        fs::rename(making, &data)?;
    }
    Ok((start_hub(lab, &data).await?, data))
}

/// The REST API of the hub that serves over this folder.
pub fn service(data: &Path) -> anyhow::Result<Service> {
    let connect = Connect::load(data)?;
    let (hub, owner) = connect.hub()?;
    ensure!(
        hub.address.is_loopback(),
        "{} is not a loopback address",
        hub.address
    );
    let ca = fs::read_to_string(&connect.ca_file)?;
    let address = SocketAddr::new(hub.address, connect.https_port);
    Service::new(address, &ca, &owner)
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
    let began = tokio::time::Instant::now();
    put_devices(&service(&making)?, lab.plan.devices()).await?;
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
async fn put_devices(service: &Service, count: usize) -> anyhow::Result<()> {
    let service = service.clone();
    let put = move |device| {
        let service = service.clone();
        async move { service.create(device).await }
    };
    each(0..count, 64, put).await?;
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
