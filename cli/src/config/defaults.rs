//! What holds where nobody says otherwise: Azure's multitenancy tutorial, on loopback.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::Config;
use super::sections::*;

/// The name that every DPS answers to.
pub const GLOBAL_DPS: &str = "global.azure-devices-provisioning.net";

/// The enrollment group of Azure's multitenancy tutorial, with the key printed there. Published, so it
/// serves on loopback only.
pub const TUTORIAL_GROUP: &str = "contoso-us-devices";
pub const TUTORIAL_KEY: &str =
    "rLuyBPpIJ+hOre2SFIP9Ajvdty3j0EwSP/WvTVH9eZAw5HpDuEmf13nziHy5RRXmuTy84FCLpOnhhBPASSbHYg==";

impl Default for Config {
    fn default() -> Self {
        Self {
            data: "azimuth-data".into(),
            certs: None,
            connect: None,
            dps: DpsSection::default(),
            hubs: vec![
                tutorial_hub("contoso-east-hub", "eastus", 11),
                tutorial_hub("contoso-west-hub", "westus", 12),
            ],
            enrollment_groups: vec![GroupSection {
                id: TUTORIAL_GROUP.into(),
                primary_key: Some(TUTORIAL_KEY.into()),
                secondary_key: None,
                allocation: None,
                hubs: Vec::new(),
                enabled: true,
            }],
            enrollments: Vec::new(),
            regions: RegionsSection::default(),
            ports: Ports::default(),
            telemetry: TelemetrySection::default(),
            security: SecuritySection::default(),
            monitor: None,
        }
    }
}

impl Default for DpsSection {
    fn default() -> Self {
        Self {
            name: "contoso-dps".into(),
            id_scope: "0ne00002193"
                .parse()
                .expect("the tutorial's id scope is valid"),
            address: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 10)),
            listen: None,
            host_names: Vec::new(),
            allocation: Allocation::GeoLatency,
            linked_hubs: Vec::new(),
            policies: Vec::new(),
            assigning_polls: 1,
            retry_after: 3,
            quotas: super::Quotas::None,
        }
    }
}

impl Default for RegionsSection {
    fn default() -> Self {
        let network = |third: u8, region: &str| NetworkSection {
            cidr: IpNet::new(IpAddr::V4(Ipv4Addr::new(127, 0, third, 0)), 24)
                .expect("24 is a prefix length"),
            region: region.into(),
        };
        Self {
            default: default_region(),
            simulate_latency: false,
            networks: vec![network(1, "eastus"), network(2, "westus")],
            latencies: Vec::new(),
        }
    }
}

impl Default for Ports {
    fn default() -> Self {
        Self {
            mqtt: 8883,
            https: 443,
        }
    }
}

impl Default for TelemetrySection {
    fn default() -> Self {
        Self {
            partitions: 4,
            retention_days: 1,
            retention_size: 1024,
            sync: false,
        }
    }
}

impl Default for SecuritySection {
    fn default() -> Self {
        Self {
            sas_grace: 300,
            clock_skew: 300,
            server_key: ServerKey::Auto,
            resumption: false,
        }
    }
}

pub fn default_region() -> String {
    "eastus".into()
}

pub fn one() -> u16 {
    1
}

pub fn one_unit() -> u32 {
    1
}

pub fn yes() -> bool {
    true
}

fn tutorial_hub(name: &str, region: &str, last: u8) -> HubSection {
    let address = IpAddr::V4(Ipv4Addr::new(127, 0, 0, last));
    HubSection::new(name, region, address).expect("the tutorial's hubs are valid")
}
