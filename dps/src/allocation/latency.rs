//! Lowest latency: the hub nearest to the device's region; equals are decided by weight and hash.

use azimuth_broker::Regions;

use super::{Applicant, Candidate, hashed};

pub(super) fn choose<'a>(
    applicant: Applicant<'_>,
    candidates: &[Candidate<'a>],
    regions: &Regions,
) -> Option<Candidate<'a>> {
    // A distance nobody knows is longer than any known one.
    let distance = |hub: &Candidate<'_>| {
        regions
            .latency(applicant.region, hub.region)
            .unwrap_or(u32::MAX)
    };
    let nearest = candidates.iter().map(distance).min()?;
    let equals: Vec<_> = candidates
        .iter()
        .filter(|hub| distance(hub) == nearest)
        .copied()
        .collect();
    hashed::choose(applicant.registration_id, &equals)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn hub<'a>(host: &'a str, region: &'a str) -> Candidate<'a> {
        Candidate {
            host,
            region,
            weight: 1,
            apply_allocation_policy: true,
        }
    }

    #[test]
    fn the_nearest_hub_is_chosen() {
        let regions = Regions::new("eastus");
        let hubs = [
            hub("east", "eastus"),
            hub("west", "westus"),
            hub("mars", "mars"),
        ];
        for (region, expected) in [
            ("eastus", "east"),
            ("westus2", "west"),
            ("northeurope", "east"),
            ("japaneast", "west"),
            ("mars", "mars"),
        ] {
            let applicant = Applicant {
                registration_id: "a",
                region,
            };
            assert_eq!(
                choose(applicant, &hubs, &regions).unwrap().host,
                expected,
                "{region}"
            );
        }
    }

    #[test]
    fn hubs_equally_near_share_the_devices() {
        let regions = Regions::new("eastus");
        let hubs = [
            hub("one", "eastus"),
            hub("two", "eastus"),
            hub("far", "westus"),
        ];
        let mut counts = std::collections::HashMap::new();
        for number in 0..1000 {
            let id = format!("device-{number}");
            let applicant = Applicant {
                registration_id: &id,
                region: "eastus",
            };
            *counts
                .entry(choose(applicant, &hubs, &regions).unwrap().host)
                .or_insert(0) += 1;
        }
        assert_eq!(counts.get("far"), None);
        assert!(counts["one"] > 400 && counts["two"] > 400, "{counts:?}");
    }
}
