//! Among which hubs one was chosen and how, what became of the hub the device had, and what the new one said.

use azimuth_wire::enrollment::AllocationPolicy;

use super::Facts;
use crate::attempt::{
    Allocation, AtHub, Attempt, Because, Exclusion, Fate, HubAnswer, Left, Weighed,
};

/// The policy, and the hubs as it saw them.
pub fn choice(attempt: &Attempt) -> Vec<String> {
    let Some(allocation) = &attempt.allocation else {
        return vec!["No hub was looked for: the enrollment is disabled.".into()];
    };
    let whose = match allocation.of_service {
        true => "the service, since its enrollment has none",
        false => "its enrollment",
    };
    let mut lines = vec![format!(
        "The policy {} is that of {whose}: {}.",
        allocation.policy.name(),
        meaning(allocation)
    )];
    if let Some(region) = &allocation.region {
        let from = attempt.remote;
        lines.push(format!(
            "The device called from {from}, which lies in {region}."
        ));
    }
    lines.extend(table(allocation));
    if allocation.more > 0 {
        lines.push(format!("And {} more hubs.", allocation.more));
    }
    if allocation.hubs.is_empty() {
        lines.push("No hub is linked; `azimuth dps linked-hub add` links one.".into());
    } else if allocation.chosen.is_none() && allocation.webhook.is_none() {
        lines.push("None of them could be chosen.".into());
    }
    lines
}

pub fn meaning(allocation: &Allocation) -> String {
    match allocation.policy {
        AllocationPolicy::GeoLatency => "the hub nearest to the device".into(),
        AllocationPolicy::Hashed => {
            "each hub by its weight, and the same device always alike".into()
        }
        AllocationPolicy::Static => "the one hub in iotHubs".into(),
        AllocationPolicy::Custom => {
            let webhook = allocation.webhook.as_deref().unwrap_or("its webhook");
            format!("the hub that {webhook} says")
        }
    }
}

/// A line for each hub, in columns.
pub fn table(allocation: &Allocation) -> Vec<String> {
    let hubs = &allocation.hubs;
    let width = hubs.iter().map(|hub| hub.host.len()).max().unwrap_or(0);
    let chosen = |hub: &Weighed| allocation.chosen.as_ref() == Some(&hub.host);
    let row = |hub: &Weighed| {
        let mut words = Vec::new();
        if allocation.policy == AllocationPolicy::GeoLatency && hub.excluded.is_none() {
            let latency = hub.latency.map(|latency| format!("{latency} ms"));
            words.push(latency.unwrap_or_else(|| "latency unknown".into()));
        }
        words.extend(hub.weight.map(|weight| format!("weight {weight}")));
        words.extend(
            hub.excluded
                .map(|out| format!("excluded: {}", excluded(out))),
        );
        if chosen(hub) {
            words.push("chosen".into());
        }
        let row = format!("  {:width$}  {}", hub.host, words.join("  "));
        row.trim_end().to_owned()
    };
    hubs.iter().map(row).collect()
}

fn excluded(out: Exclusion) -> &'static str {
    match out {
        Exclusion::NotNamed => "the enrollment names other hubs in iotHubs",
        Exclusion::KeptOut => "its link has applyAllocationPolicy false",
        Exclusion::NotLinked => "the enrollment names it, but it is not linked",
        Exclusion::MayNotLeave => "the device may not leave the hub it has",
    }
}

/// The hub it had, and why it kept or left it.
pub fn fate(attempt: &Attempt) -> Vec<String> {
    let Some(fate) = &attempt.fate else {
        return Vec::new();
    };
    let chosen = attempt.allocation.as_ref();
    let chosen = chosen.and_then(|allocation| allocation.chosen.as_deref());
    let chosen = chosen.unwrap_or("another hub");
    let hub = attempt.hub.as_ref().map_or("", |hub| hub.host.as_str());
    match fate {
        Fate::Initial => vec!["It had no hub: this is its first assignment.".into()],
        Fate::Kept(Because::SameHub) => {
            vec!["It had this hub already and keeps it: the same one was chosen again.".into()]
        }
        Fate::Kept(Because::Policy) => vec![format!(
            "It keeps {hub}, although {chosen} was chosen: its enrollment has updateHubAssignment false."
        )],
        Fate::Kept(Because::OldCaller) => vec![format!(
            "It keeps {hub}, although {chosen} was chosen: it called with an api-version from before re-provisioning, and its enrollment has no reprovisionPolicy."
        )],
        Fate::Moved {
            from,
            migrate,
            left,
        } => {
            let twin = match migrate {
                true => "its data goes along (migrateDeviceData true)",
                false => "it starts anew (migrateDeviceData false)",
            };
            let mut lines = vec![format!(
                "It moves from {from}, since another hub was chosen and its enrollment lets it; {twin}."
            )];
            lines.extend(left.as_ref().map(|left| match left {
                Left::Removed => format!("It was removed from {from}."),
                Left::NotLinked => {
                    format!("It stays in {from} as well: that hub is linked no more, and nobody asks it.")
                }
                Left::Failed(why) => {
                    format!("It stays in {from} as well, where it could not be removed: {why}.")
                }
            }));
            lines
        }
    }
}

/// What the hub answered.
pub fn in_the_hub(facts: &Facts<'_>, attempt: &Attempt) -> Vec<String> {
    let Some(AtHub {
        host,
        answer,
        tries,
    }) = &attempt.hub
    else {
        return Vec::new();
    };
    let state = facts.record.map(|record| &record.state);
    let device = state.and_then(|state| state.device_id.as_ref());
    let device = device.map_or_else(|| facts.id.to_string(), ToString::to_string);
    let sentence = match answer {
        HubAnswer::Made => format!("{host} made the device {device}."),
        HubAnswer::Updated => {
            format!("{host} had the device {device}, and gave it what it registered with.")
        }
        HubAnswer::Unchanged => {
            format!("{host} had the device {device} already, just as it is to be.")
        }
        HubAnswer::Refused(401) => format!(
            "{host} refused the key of its link (401). Give the link the connection string the hub has now: `azimuth dps linked-hub update`."
        ),
        HubAnswer::Refused(status) => format!("{host} refused to write {device}: {status}."),
        HubAnswer::Unreachable(why) => format!("{host} cannot be reached: {why}."),
        HubAnswer::NotLinked => {
            format!(
                "{host} is linked no more: the device is told its name, and nobody asks the hub."
            )
        }
    };
    let mut lines = vec![sentence];
    let took = attempt.milliseconds;
    if *tries > 1 {
        lines.push(format!("It was asked {tries} times in {took} ms."));
    } else if *tries == 1 {
        lines.push(format!("That took {took} ms from register on."));
    }
    lines
}
