//! A hub and a DPS in this process, over a folder that goes with them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use azimuth_broker::{Backend, FrontDoor, Limits};
use azimuth_clock::{Clock, SystemClock};
use azimuth_dps::{AssignedHubForm, Dps, DpsConfig, LinkedHubConfig, Pace, Regions};
use azimuth_hub::device::DeviceDoor;
use azimuth_hub::registry::Registry;
use azimuth_hub::{Hub, HubConfig};
use azimuth_wire::Identity;
use azimuth_wire::SymmetricKey;
use azimuth_wire::enrollment::AllocationPolicy;
use azimuth_wire::etag::IfMatch;
use azimuth_wire::registry::IdentityBody;
use serde_json::json;

use crate::device;
use crate::trust::{Trust, certain_of_nobody};

pub const HUB: &str = "hub1.azure-devices.net";
pub const SCOPE: &str = "0ne00000000";
const DPS: &str = "dps1.azure-devices-provisioning.net";

/// Keys that protect nothing.
pub fn device_key() -> SymmetricKey {
    SymmetricKey::from_bytes(&[0x5a; 32])
}

pub fn group_key() -> SymmetricKey {
    SymmetricKey::from_bytes(&[0xa5; 64])
}

/// Where services live.
pub struct House {
    folder: PathBuf,
    clock: Arc<dyn Clock>,
}

impl House {
    pub fn new() -> anyhow::Result<Self> {
        let name = format!("azimuth-instructions-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder)?;
        Ok(Self {
            folder,
            clock: Arc::new(SystemClock),
        })
    }

    pub fn trust(&self) -> anyhow::Result<Trust> {
        Trust::new(&self.folder.join("certs"), self.clock.utc())
    }

    /// A hub with so many devices, which can be entered in memory only.
    pub async fn hub(&self, devices: u32) -> anyhow::Result<FrontDoor<DeviceDoor>> {
        self.open_hub(devices, Vec::new(), certain_of_nobody()?)
            .await
    }

    /// A hub without devices that a DPS can reach.
    pub async fn linked_hub(&self, trust: &Trust) -> anyhow::Result<FrontDoor<DeviceDoor>> {
        let https = vec![([127, 0, 0, 1], 0).into()];
        self.open_hub(0, https, trust.server(HUB)?).await
    }

    async fn open_hub(
        &self,
        devices: u32,
        https: Vec<SocketAddr>,
        tls: Arc<rustls::ServerConfig>,
    ) -> anyhow::Result<FrontDoor<DeviceDoor>> {
        let folder = self.folder.join("hub1");
        std::fs::create_dir_all(&folder)?;
        let store = azimuth_storage::open(&folder.join("registry.redb"))?;
        let registry = Registry::open("hub1", store.clone(), self.clock.clone())?;
        let key = device_key();
        let keys = json!({ "primaryKey": key.reveal(), "secondaryKey": key.reveal() });
        let body = json!({ "authentication": { "symmetricKey": keys } }).to_string();
        for number in 0..devices {
            let body = IdentityBody::parse(body.as_bytes())?;
            let id = Identity::device(device::id(number).parse()?);
            registry.put(&id, &IfMatch::Absent, body).await?;
        }
        store.close();
        let names = vec![HUB.to_owned()];
        let config = HubConfig {
            https,
            ..HubConfig::new("hub1", names, "eastus", folder, tls)
        };
        Ok(Hub::open(config, self.clock.clone()).await?)
    }

    /// A DPS that sends every member of its group to one hub.
    pub async fn dps(
        &self,
        hub: &FrontDoor<DeviceDoor>,
        trust: &Trust,
    ) -> anyhow::Result<FrontDoor<impl Backend>> {
        let https: &SocketAddr = hub.https().first().context("the hub listens nowhere")?;
        let string = azimuth_hub::published_connection_string("hub1", HUB);
        let mut link = LinkedHubConfig::new(string.parse()?, "eastus");
        link.dial = Some(https.ip());
        link.https_port = https.port();
        let key = group_key();
        let keys = json!({ "primaryKey": key.reveal(), "secondaryKey": key.reveal() });
        let group = json!({ "enrollmentGroupId": "fleet",
            "attestation": { "type": "symmetricKey", "symmetricKey": keys } });
        let config = DpsConfig {
            name: "dps1".into(),
            host_names: vec![DPS.into()],
            id_scope: SCOPE.parse()?,
            folder: Some(self.folder.join("dps1")),
            mqtt: Vec::new(),
            https: Vec::new(),
            tls: certain_of_nobody()?,
            keys: azimuth_dps::PolicyKeySource::Published,
            policies: Vec::new(),
            allocation: AllocationPolicy::Hashed,
            linked_hubs: vec![link],
            regions: Regions::new("eastus"),
            individual_enrollments: Vec::new(),
            enrollment_groups: vec![serde_json::from_value(group)?],
            assigned_hub_form: AssignedHubForm::Name,
            roots_pem: trust.roots_pem().into(),
            pace: Pace {
                assigning_polls: 0,
                ..Pace::default()
            },
            limits: Limits::default(),
        };
        Ok(Dps::open(config, self.clock.clone()).await?)
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
