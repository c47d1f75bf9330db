//! What allocation saw: the hubs that might have been chosen, and those that could not be, and why.
//!
//! Only told, never asked: what is chosen is decided in the rooms beside this one.

use azimuth_broker::Regions;
use azimuth_wire::enrollment::AllocationPolicy;

use super::{Applicant, Candidate};
use crate::attempt::{Exclusion, Weighed};

/// Hubs that are told of one registration.
pub const MOST: usize = 8;

/// The linked hubs and those the enrollment names, the chosen one first, then the others that might have been;
/// and how many more there are.
pub fn weigh(
    policy: AllocationPolicy,
    applicant: Applicant<'_>,
    linked: &[Candidate<'_>],
    named: &[String],
    regions: &Regions,
    chosen: Option<&str>,
) -> (Vec<Weighed>, usize) {
    let is_named = |host: &str| named.iter().any(|name| name.eq_ignore_ascii_case(host));
    let is_linked = |host: &str| linked.iter().any(|hub| hub.host.eq_ignore_ascii_case(host));
    let out = |hub: &Candidate<'_>| match policy {
        _ if !named.is_empty() => (!is_named(hub.host)).then_some(Exclusion::NotNamed),
        // A webhook may choose those as well.
        AllocationPolicy::Custom => None,
        AllocationPolicy::Hashed | AllocationPolicy::GeoLatency | AllocationPolicy::Static => {
            (!hub.apply_allocation_policy).then_some(Exclusion::KeptOut)
        }
    };
    let by_latency = policy == AllocationPolicy::GeoLatency;
    let mut seen: Vec<_> = linked
        .iter()
        .map(|hub| {
            let latency = || regions.latency(applicant.region, hub.region);
            (hub, by_latency.then(latency).flatten(), out(hub))
        })
        .collect();
    seen.sort_by_key(|(hub, latency, out)| {
        let is_chosen = chosen.is_some_and(|chosen| chosen.eq_ignore_ascii_case(hub.host));
        let behind = latency.unwrap_or(u32::MAX);
        (!is_chosen, out.is_some(), behind)
    });
    let gone = named.iter().filter(|name| !is_linked(name));
    let all = seen.len() + gone.clone().count();
    let even = matches!(
        policy,
        AllocationPolicy::Hashed | AllocationPolicy::GeoLatency
    );
    let gone = gone.map(|name| Weighed {
        host: name.clone(),
        latency: None,
        weight: None,
        excluded: Some(Exclusion::NotLinked),
    });
    let weighed = seen.into_iter().map(|(hub, latency, out)| Weighed {
        host: hub.host.to_owned(),
        latency,
        weight: (even && out.is_none()).then_some(hub.weight),
        excluded: out,
    });
    let hubs: Vec<_> = weighed.chain(gone).take(MOST).collect();
    let more = all - hubs.len();
    (hubs, more)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub<'a>(host: &'a str, region: &'a str, apply: bool) -> Candidate<'a> {
        Candidate {
            host,
            region,
            weight: 2,
            apply_allocation_policy: apply,
        }
    }

    fn told(policy: AllocationPolicy, named: &[&str], chosen: &str) -> String {
        let linked = [
            hub("far", "westus", true),
            hub("shy", "eastus", false),
            hub("mars", "mars", true),
            hub("near", "eastus", true),
        ];
        let applicant = Applicant {
            registration_id: "dev-1",
            region: "eastus",
        };
        let named: Vec<_> = named.iter().map(ToString::to_string).collect();
        let regions = Regions::new("eastus");
        let (hubs, more) = weigh(policy, applicant, &linked, &named, &regions, Some(chosen));
        assert_eq!(more, 0);
        let one = |hub: &Weighed| {
            let number = |value: Option<u32>| value.map_or("-".into(), |value| value.to_string());
            let (latency, weight) = (number(hub.latency), number(hub.weight.map(u32::from)));
            let out = hub
                .excluded
                .map_or(String::new(), |out| format!(" {out:?}"));
            format!("{} {latency} {weight}{out}", hub.host)
        };
        hubs.iter().map(one).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn each_policy_tells_what_counted() {
        use AllocationPolicy::{Custom, GeoLatency, Hashed, Static};
        for (policy, named, chosen, expected) in [
            (
                GeoLatency,
                &[][..],
                "near",
                "near 0 2; far 68 2; mars - 2; shy 0 - KeptOut",
            ),
            (
                Hashed,
                &[],
                "mars",
                "mars - 2; far - 2; near - 2; shy - - KeptOut",
            ),
            (
                Static,
                &["SHY", "gone"],
                "shy",
                "shy - -; far - - NotNamed; mars - - NotNamed; near - - NotNamed; gone - - NotLinked",
            ),
            (Custom, &[], "shy", "shy - -; far - -; mars - -; near - -"),
        ] {
            assert_eq!(told(policy, named, chosen), expected, "{policy:?}");
        }
    }

    #[test]
    fn the_chosen_one_is_told_however_many_there_are() {
        let hosts: Vec<_> = (0..50).map(|number| format!("hub-{number}")).collect();
        let linked: Vec<_> = hosts.iter().map(|host| hub(host, "eastus", true)).collect();
        let applicant = Applicant {
            registration_id: "dev-1",
            region: "eastus",
        };
        let regions = Regions::new("eastus");
        let policy = AllocationPolicy::Hashed;
        let (hubs, more) = weigh(policy, applicant, &linked, &[], &regions, Some("hub-41"));
        assert_eq!(
            (hubs[0].host.as_str(), hubs.len(), more),
            ("hub-41", MOST, 50 - MOST)
        );
    }
}
