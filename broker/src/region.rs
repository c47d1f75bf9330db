//! Where a device is, by its source address, and how far regions are from each other.
//!
//! Pure. What may not enter: hubs and how one is chosen.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

/// Networks, the regions they lie in, and the latencies between regions.
#[derive(Debug, Clone)]
pub struct Regions {
    default: String,
    /// Longest prefix first.
    networks: Vec<(IpNet, String)>,
    latencies: HashMap<(String, String), u32>,
}

impl Regions {
    /// Every address in `default`; the built-in latencies.
    pub fn new(default: &str) -> Self {
        let mut regions = Self {
            default: folded(default),
            networks: Vec::new(),
            latencies: HashMap::new(),
        };
        for (row, (from, latencies)) in BUILT_IN.iter().enumerate() {
            for (to, milliseconds) in BUILT_IN.iter().take(row).zip(*latencies) {
                regions = regions.with_latency(from, to.0, *milliseconds);
            }
        }
        regions
    }

    /// Addresses of `network` lie in `region`.
    pub fn with_network(mut self, network: IpNet, region: &str) -> Self {
        self.networks.push((network, folded(region)));
        self.networks
            .sort_by_key(|(network, _)| std::cmp::Reverse(network.prefix_len()));
        self
    }

    /// The latency between two regions, both ways.
    pub fn with_latency(mut self, one: &str, other: &str, milliseconds: u32) -> Self {
        self.latencies.insert(pair(one, other), milliseconds);
        self
    }

    /// The region of an address: that of the longest network it lies in.
    pub fn of(&self, address: IpAddr) -> &str {
        let address = address.to_canonical();
        let network = self.networks.iter().find(|(net, _)| net.contains(&address));
        network.map_or(&self.default, |(_, region)| region)
    }

    /// Milliseconds between two regions; `None` when nobody said.
    pub fn latency(&self, one: &str, other: &str) -> Option<u32> {
        if one.eq_ignore_ascii_case(other) {
            return Some(0);
        }
        self.latencies.get(&pair(one, other)).copied()
    }
}

/// How much longer the way to an address is, seen from one region.
#[derive(Debug, Clone)]
pub struct RegionalDelay {
    here: String,
    regions: Regions,
}

impl RegionalDelay {
    pub fn new(here: &str, regions: Regions) -> Self {
        Self {
            here: here.into(),
            regions,
        }
    }

    /// Of one question and its answer; `None` where nothing is to be waited for, or nobody said how
    /// long.
    pub fn round_trip(&self, remote: IpAddr) -> Option<Duration> {
        let there = self.regions.of(remote);
        let milliseconds = self.regions.latency(there, &self.here)?;
        (milliseconds > 0).then(|| Duration::from_millis(milliseconds.into()))
    }
}

fn folded(region: &str) -> String {
    region.to_ascii_lowercase()
}

fn pair(one: &str, other: &str) -> (String, String) {
    let (one, other) = (folded(one), folded(other));
    if one <= other {
        (one, other)
    } else {
        (other, one)
    }
}

/// Rounded round-trip times in milliseconds, each to the regions above it.
const BUILT_IN: [(&str, &[u32]); 12] = [
    ("eastus", &[]),
    ("eastus2", &[7]),
    ("centralus", &[30, 32]),
    ("southcentralus", &[34, 29, 25]),
    ("westus2", &[66, 68, 38, 48]),
    ("westus", &[68, 62, 42, 36, 24]),
    ("northeurope", &[74, 78, 94, 104, 132, 138]),
    ("uksouth", &[77, 81, 98, 108, 136, 142, 13]),
    ("westeurope", &[82, 86, 104, 113, 142, 147, 19, 10]),
    (
        "southeastasia",
        &[222, 224, 200, 196, 166, 172, 174, 164, 160],
    ),
    (
        "japaneast",
        &[154, 150, 132, 124, 100, 108, 214, 208, 222, 70],
    ),
    (
        "australiaeast",
        &[198, 196, 176, 174, 164, 142, 250, 244, 250, 94, 104],
    ),
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_longest_network_decides() {
        let regions = Regions::new("eastus")
            .with_network("10.0.0.0/8".parse().unwrap(), "westeurope")
            .with_network("10.1.0.0/16".parse().unwrap(), "WestUS")
            .with_network("fd00::/8".parse().unwrap(), "japaneast");
        for (address, region) in [
            ("10.2.3.4", "westeurope"),
            ("10.1.3.4", "westus"),
            ("::ffff:10.1.3.4", "westus"),
            ("fd00::1", "japaneast"),
            ("192.168.0.1", "eastus"),
        ] {
            assert_eq!(regions.of(address.parse().unwrap()), region, "{address}");
        }
    }

    #[test]
    fn latencies_are_symmetric_and_zero_at_home() {
        let regions = Regions::new("eastus").with_latency("Lab", "eastus", 9);
        assert_eq!(regions.latency("eastus", "westus"), Some(68));
        assert_eq!(regions.latency("westus", "eastus"), Some(68));
        assert_eq!(regions.latency("EastUS", "lab"), Some(9));
        assert_eq!(regions.latency("mars", "mars"), Some(0));
        assert_eq!(regions.latency("mars", "eastus"), None);
    }

    #[test]
    fn an_address_is_delayed_by_the_table_or_not_at_all() {
        let regions = Regions::new("mars")
            .with_network("10.1.0.0/16".parse().unwrap(), "westus")
            .with_network("10.2.0.0/16".parse().unwrap(), "EastUS")
            .with_network("10.3.0.0/16".parse().unwrap(), "lab")
            .with_latency("lab", "eastus", 0);
        let delay = RegionalDelay::new("eastus", regions);
        for (address, milliseconds) in [
            ("10.1.3.4", Some(68)),
            ("::ffff:10.1.3.4", Some(68)),
            ("10.2.3.4", None),
            ("10.3.3.4", None),
            ("192.168.0.1", None),
        ] {
            let expected = milliseconds.map(Duration::from_millis);
            assert_eq!(
                delay.round_trip(address.parse().unwrap()),
                expected,
                "{address}"
            );
        }
    }

    #[test]
    fn every_built_in_region_knows_every_other() {
        let regions = Regions::new("eastus");
        for (one, _) in BUILT_IN {
            for (other, _) in BUILT_IN {
                assert!(regions.latency(one, other).is_some(), "{one} {other}");
            }
        }
    }
}
