//! A server that was started for one run, whichever it is.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use azimuth_certs::{client_config, without_resumption};
use tokio_rustls::TlsConnector;

use crate::lab::{Kind, Lab};
use crate::line::Target;
use crate::office::Office;
use crate::process::{Meter, Process};
use crate::{azimuth, mosquitto};

/// Fresh processes and where their devices connect.
pub struct Server {
    /// With a DPS: the DPS first, its hub second.
    pub processes: Vec<Process>,
    /// The hub, or mosquitto.
    pub target: Target,
    pub dps: Option<Dps>,
    /// From the start of the process until it listens.
    pub took: Duration,
}

/// Where devices of a DPS connect, and where back ends ask.
#[derive(Clone)]
pub struct Dps {
    pub target: Target,
    pub office: Office,
    /// What devices trust.
    pub ca_pem: String,
}

impl Server {
    pub fn dps(&self) -> anyhow::Result<&Dps> {
        self.dps.as_ref().context("no DPS was started")
    }

    /// A hub that knows every device of the plan, or mosquitto.
    pub async fn hub(lab: &Lab, kind: Kind) -> anyhow::Result<Self> {
        match kind {
            Kind::Azimuth => azimuth::hub_with_devices(lab).await,
            Kind::Mosquitto => mosquitto::start(lab, false).await,
        }
    }

    pub fn meter(&self) -> anyhow::Result<Meter> {
        Meter::start(&self.processes.iter().collect::<Vec<_>>())
    }

    pub async fn stop(self) -> anyhow::Result<()> {
        for process in self.processes {
            process.stop().await?;
        }
        Ok(())
    }
}

/// TLS that trusts this CA alone and makes a full handshake every time.
pub fn connector(ca_pem: &str) -> anyhow::Result<TlsConnector> {
    Ok(TlsConnector::from(Arc::new(without_resumption(
        client_config(Some(ca_pem))?,
    ))))
}
