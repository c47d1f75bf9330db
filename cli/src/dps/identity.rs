//! The other half of deprovisioning: a device's identity in the registry of its hub.
//!
//! What may not enter: anything of the DPS.

use anyhow::{Context, bail};
use azimuth_wire::connection_string::ConnectionString;
use azimuth_wire::percent;
use reqwest::Method;
use serde_json::json;

use crate::ask::Ask;
use crate::certificates;
use crate::config::Config;
use crate::endpoint::{Endpoint, Open};
use crate::paste::Paste;

/// What becomes of an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Disabled,
    Deleted,
}

/// What was done, or was not there to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    Now,
    Before,
    Absent,
}

/// The hubs that can be asked, opened as they are needed.
pub struct Hubs<'a> {
    config: &'a Config,
    /// Given for a hub that nothing here knows.
    given: Option<ConnectionString>,
    open: Vec<(String, Open)>,
}

impl<'a> Hubs<'a> {
    pub fn new(config: &'a Config, given: Option<&str>) -> anyhow::Result<Self> {
        let given = given.map(str::parse).transpose();
        Ok(Self {
            config,
            given: given.context("--hub-connection-string")?,
            open: Vec::new(),
        })
    }

    pub async fn carry_out(
        &mut self,
        host: &str,
        device: &str,
        fate: Fate,
    ) -> anyhow::Result<Done> {
        let hub = self.hub(host).await?;
        match fate {
            Fate::Disabled => disable(hub, device).await,
            Fate::Deleted => delete(hub, device).await,
        }
    }

    async fn hub(&mut self, host: &str) -> anyhow::Result<&Open> {
        let found = self.open.iter().position(|(name, _)| name == host);
        let at = match found {
            Some(at) => at,
            None => {
                let open = self.endpoint(host)?.open().await?;
                self.open.push((host.to_owned(), open));
                self.open.len() - 1
            }
        };
        Ok(&self.open[at].1)
    }

    /// As it was given, as it was started from the same folder, or as the configuration links it.
    fn endpoint(&self, host: &str) -> anyhow::Result<Endpoint> {
        let config = self.config;
        let paste = Paste::load(config.connect_folder()).ok();
        let is_it = |string: &ConnectionString| string.host_name.eq_ignore_ascii_case(host);
        let started = paste.as_ref().and_then(|paste| {
            let hub = paste
                .hubs
                .iter()
                .find(|hub| hub.host_name.eq_ignore_ascii_case(host));
            hub.map(|hub| (paste, hub))
        });
        if let (None, Some((paste, hub))) = (self.given.as_ref(), started) {
            return Endpoint::hub(paste, hub);
        }
        let linked = config.dps.linked_hubs.iter();
        let linked = linked.into_iter().find(|hub| is_it(&hub.connection_string));
        let (string, address) = match (&self.given, linked) {
            (Some(given), _) => (given, None),
            (None, Some(hub)) => (&hub.connection_string, hub.address),
            (None, None) => bail!(
                "the keys of {host} are not known with {}; run this with --connect of the folder it was started with, or give --hub-connection-string",
                config.connect_folder().display()
            ),
        };
        Ok(Endpoint {
            label: host.into(),
            string: string.clone(),
            address,
            otherwise: None,
            port: config.ports.https,
            ca_file: paste.map_or_else(|| certificates::ca_file(config), |paste| paste.ca_file),
        })
    }
}

async fn disable(hub: &Open, device: &str) -> anyhow::Result<Done> {
    let path = path(device);
    let Some(mut identity) = Ask::get(&path).find(hub).await? else {
        return Ok(Done::Absent);
    };
    if identity["status"] == "disabled" {
        return Ok(Done::Before);
    }
    let etag = format!("\"{}\"", identity["etag"].as_str().unwrap_or("*"));
    identity["status"] = json!("disabled");
    identity["statusReason"] = json!("deprovisioned");
    let condition = [("if-match", etag.as_str())];
    let put = Ask::new(Method::PUT, &path).headers(&condition);
    put.body(identity).of(hub).await?;
    Ok(Done::Now)
}

async fn delete(hub: &Open, device: &str) -> anyhow::Result<Done> {
    let path = path(device);
    let delete = Ask::new(Method::DELETE, &path).headers(&[("if-match", "*")]);
    let done = delete.find(hub).await?;
    Ok(done.map_or(Done::Absent, |_| Done::Now))
}

fn path(device: &str) -> String {
    format!("/devices/{}", percent::encode(device))
}
