//! Choosing a hub: one policy each, the device and the hubs in, a hub out.
//!
//! Pure. What may not enter: requests to hubs and records.

mod fixed;
mod hashed;
mod latency;
pub mod webhook;
pub mod weighed;

use azimuth_broker::Regions;
use azimuth_wire::enrollment::AllocationPolicy;

/// A hub that may be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate<'a> {
    pub host: &'a str,
    pub region: &'a str,
    /// 1 to 1000.
    pub weight: u16,
    pub apply_allocation_policy: bool,
}

/// Who wants a hub.
#[derive(Debug, Clone, Copy)]
pub struct Applicant<'a> {
    pub registration_id: &'a str,
    pub region: &'a str,
}

/// Why no hub was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoHub {
    /// No hub is linked.
    NoneLinked,
    /// None of the hubs the enrollment names is linked.
    NoneOfTheNamed,
    /// All linked hubs are kept out of allocation.
    AllExcluded,
    /// Static allocation without exactly one hub.
    NotOne,
    /// Custom allocation without the webhook, which alone can choose.
    Custom,
}

/// Chooses among `linked` hubs those that the enrollment names, or all, by `policy`.
pub fn choose<'a>(
    policy: AllocationPolicy,
    applicant: Applicant<'_>,
    linked: &[Candidate<'a>],
    named: &[String],
    regions: &Regions,
) -> Result<Candidate<'a>, NoHub> {
    if linked.is_empty() {
        return Err(NoHub::NoneLinked);
    }
    let is_named =
        |hub: &Candidate<'_>| named.iter().any(|name| name.eq_ignore_ascii_case(hub.host));
    let candidates: Vec<_> = if named.is_empty() {
        let open = |hub: &&Candidate<'_>| hub.apply_allocation_policy;
        linked.iter().filter(open).copied().collect()
    } else {
        linked.iter().filter(|hub| is_named(hub)).copied().collect()
    };
    if candidates.is_empty() && named.is_empty() {
        return Err(NoHub::AllExcluded);
    }
    if candidates.is_empty() {
        return Err(NoHub::NoneOfTheNamed);
    }
    match policy {
        AllocationPolicy::Hashed => hashed::choose(applicant.registration_id, &candidates),
        AllocationPolicy::GeoLatency => latency::choose(applicant, &candidates, regions),
        AllocationPolicy::Static => fixed::choose(&candidates),
        AllocationPolicy::Custom => return Err(NoHub::Custom),
    }
    .ok_or(NoHub::NotOne)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn hub(host: &str, apply: bool) -> Candidate<'_> {
        Candidate {
            host,
            region: "eastus",
            weight: 1,
            apply_allocation_policy: apply,
        }
    }

    #[test]
    fn the_enrollment_and_the_links_decide_who_may_be_chosen() {
        let regions = Regions::new("eastus");
        let applicant = Applicant {
            registration_id: "a",
            region: "eastus",
        };
        let (a, b) = (hub("a.net", true), hub("b.net", false));
        use AllocationPolicy::{Custom, GeoLatency, Hashed, Static};
        type Row<'a> = (
            AllocationPolicy,
            &'a [Candidate<'a>],
            &'a [&'a str],
            Result<&'a str, NoHub>,
        );
        let rows: [Row<'_>; 9] = [
            (Hashed, &[], &[], Err(NoHub::NoneLinked)),
            (Hashed, &[b], &[], Err(NoHub::AllExcluded)),
            (Hashed, &[b], &["B.net"], Ok("b.net")),
            (Hashed, &[a, b], &[], Ok("a.net")),
            (Hashed, &[a], &["gone.net"], Err(NoHub::NoneOfTheNamed)),
            (GeoLatency, &[a, b], &[], Ok("a.net")),
            (Static, &[a, b], &["b.net"], Ok("b.net")),
            (Static, &[a, b], &["a.net", "b.net"], Err(NoHub::NotOne)),
            (Custom, &[a], &[], Err(NoHub::Custom)),
        ];
        for (policy, linked, named, expected) in rows {
            let named: Vec<String> = named.iter().map(ToString::to_string).collect();
            let chosen = choose(policy, applicant, linked, &named, &regions);
            assert_eq!(chosen.map(|hub| hub.host), expected, "{policy:?} {named:?}");
        }
    }
}
