//! mosquitto as the mark to compare with: TLS 1.3, P-256, no persistence, nothing in its way.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::credentials::{Credentials, bench_key, far_expiry};
use crate::lab::{Lab, MOSQUITTO_ADDRESS};
use crate::line::{Target, Tls};
use crate::process::Process;
use crate::server::{Server, connector};

const TLS_PORT: u16 = 8883;

/// Starts it, on TLS or on plain TCP, and waits until it takes connections.
pub async fn start(lab: &Lab, plain: bool) -> anyhow::Result<Server> {
    let program = lab
        .mosquitto
        .as_ref()
        .context("mosquitto is not installed")?;
    let folder = lab.fresh_folder("mosquitto")?;
    let ca = write_certificates(&folder)?;
    let config = folder.join("mosquitto.conf");
    fs::write(&config, configuration(&folder, plain))?;
    let mut command = Command::new(program);
    command
        .arg("-c")
        .arg(&config)
        .stdout(std::process::Stdio::null());
    let address = SocketAddr::new(MOSQUITTO_ADDRESS, TLS_PORT);
    if std::net::TcpStream::connect(address).is_ok() {
        bail!("something else already listens on {address}");
    }
    let began = Instant::now();
    let process = Process::start("mosquitto", command, &lab.log())?;
    let credentials = Credentials::Hub {
        host: MOSQUITTO_ADDRESS.to_string(),
        key: bench_key(),
        expiry: far_expiry(),
    };
    let tls = match plain {
        true => Tls::None,
        false => Tls::Anonymous(connector(&ca)?),
    };
    let target = Target {
        address,
        tls,
        credentials: Arc::new(credentials),
    };
    while target.dial(0).await.is_err() {
        if began.elapsed() > Duration::from_secs(5) {
            bail!(
                "mosquitto does not listen on {address}; see its log in {}",
                lab.log().display()
            );
        }
        sleep(Duration::from_millis(1)).await;
    }
    Ok(Server {
        processes: vec![process],
        target,
        dps: None,
        took: began.elapsed(),
    })
}

fn configuration(folder: &Path, plain: bool) -> String {
    let mut text = format!(
        "user root\nallow_anonymous true\npersistence false\nmax_inflight_messages 0\nmax_queued_messages 0\n\
         set_tcp_nodelay true\nmax_connections -1\nlog_type error\nlistener {TLS_PORT} {MOSQUITTO_ADDRESS}\n"
    );
    if !plain {
        let folder = folder.display();
        text.push_str(&format!(
            "cafile {folder}/ca.pem\ncertfile {folder}/server.pem\nkeyfile {folder}/server.key\ntls_version tlsv1.3\n"
        ));
    }
    text
}

/// A CA and a server certificate under it, both P-256. Returns the CA's PEM.
fn write_certificates(folder: &Path) -> anyhow::Result<String> {
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate()?;
    let authority_pem = authority.self_signed(&authority_key)?.pem();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate()?;
    let leaf =
        CertificateParams::new(vec![MOSQUITTO_ADDRESS.to_string()])?.signed_by(&key, &issuer)?;
    fs::write(folder.join("ca.pem"), &authority_pem)?;
    fs::write(folder.join("server.pem"), leaf.pem())?;
    fs::write(folder.join("server.key"), key.serialize_pem())?;
    Ok(authority_pem)
}
