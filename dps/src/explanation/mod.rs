//! Why a device got the hub it has, or none: one registration id, explained from what is kept.
//!
//! Pure: the record, the enrollments, the links and the refusals in, plain sentences out. Made when somebody asks,
//! never while a device registers. What may not enter: keys, tokens, signatures; the store, HTTP.

mod allocation;
mod enrollment;
mod prospect;

use azimuth_broker::{Answer, Record as Refused, Regions};
use azimuth_wire::RegistrationId;
use azimuth_wire::enrollment::{AllocationPolicy, EnrollmentGroup, IndividualEnrollment};
use azimuth_wire::registration::{RegistrationState, RegistrationStatus};
use azimuth_wire::time::Timestamp;
use serde::Serialize;
use std::sync::Arc;

use crate::allocation::Candidate;
use crate::attempt::{Attempt, Waits};
use crate::registration::Record;

/// All that is known of a registration id.
pub struct Facts<'a> {
    pub id: &'a RegistrationId,
    pub record: Option<&'a Record>,
    /// One that waits for a hub or a webhook at the moment.
    pub waiting: Option<&'a Waits>,
    pub under_way: bool,
    pub individual: Option<&'a IndividualEnrollment>,
    pub groups: &'a [Arc<EnrollmentGroup>],
    pub linked: &'a [Candidate<'a>],
    pub regions: &'a Regions,
    /// Of the service.
    pub allocation: AllocationPolicy,
    /// Those of this id, oldest first.
    pub refusals: &'a [Refused],
}

/// How a registration stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Standing {
    Assigning,
    Assigned,
    Failed,
    Disabled,
    /// The last thing that happened is a refusal.
    Refused,
    NeverSeen,
}

/// The answer to why.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    pub registration_id: String,
    pub standing: Standing,
    /// In one sentence.
    pub answer: String,
    /// Step by step.
    pub sections: Vec<Section>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registration: Option<RegistrationState>,
    /// The one that is under way, else the last one that came to an end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Attempt>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Section {
    pub about: &'static str,
    pub lines: Vec<String>,
}

/// Explains.
pub fn of(facts: &Facts<'_>) -> Explanation {
    let (standing, answer) = standing(facts);
    let record = facts.record;
    let last = record.and_then(|record| record.attempt.as_deref());
    let (group, attempt) = match facts.waiting {
        Some(waits) => (waits.group.as_ref(), Some(&waits.attempt)),
        None => (record.and_then(|record| record.group.as_ref()), last),
    };
    let mut sections = Vec::new();
    let mut section = |about, lines: Vec<String>| {
        if !lines.is_empty() {
            sections.push(Section { about, lines });
        }
    };
    if let Some(attempt) = attempt {
        section("Enrollment", enrollment::chosen(facts, attempt, group));
        section(
            "Attestation",
            enrollment::attestation(facts, attempt, group),
        );
        section("Allocation", allocation::choice(attempt));
        section("Registered before", allocation::fate(attempt));
        section("In the hub", allocation::in_the_hub(facts, attempt));
    } else if record.is_some() {
        section("How it went", vec![UNKNOWN.to_owned()]);
    }
    if attempt.is_none() || standing == Standing::Refused {
        section("If it registers now", prospect::of(facts));
    }
    section("Last refusals", refusals(facts));
    Explanation {
        registration_id: facts.id.to_string(),
        standing,
        answer,
        sections,
        registration: record.map(|record| record.state.clone()),
        attempt: attempt.cloned(),
    }
}

fn standing(facts: &Facts<'_>) -> (Standing, String) {
    let id = facts.id;
    if facts.waiting.is_some() || facts.under_way {
        let answer = match facts.waiting.map(|waits| &waits.attempt.hub) {
            Some(Some(hub)) => format!("{id} is being assigned, and waits for {}.", hub.host),
            Some(None) => format!("{id} is being assigned, and waits for its webhook."),
            None => format!("{id} is being assigned at this moment; ask again."),
        };
        return (Standing::Assigning, answer);
    }
    let state = facts.record.map(|record| &record.state);
    let told = state.and_then(|state| state.last_updated_date_time_utc);
    if let Some(last) = last_refusal(facts)
        && told.is_none_or(|told| Timestamp::from(last.at) > told)
    {
        let mut answer = format!(
            "{id} was refused at {} ({}): {}.",
            Timestamp::from(last.at),
            last.refusal.answer,
            last.refusal.sentence.trim_end_matches('.'),
        );
        if let Some(hub) = state.and_then(|state| state.assigned_hub.as_ref()) {
            answer.push_str(&format!(" It still has the hub {hub} from before."));
        }
        return (Standing::Refused, answer);
    }
    let Some(state) = state else {
        let answer = format!("{id} never registered here: no registration of that id is known.");
        return (Standing::NeverSeen, answer);
    };
    let at = told.map(|told| format!(" at {told}")).unwrap_or_default();
    let hub = state.assigned_hub.as_deref().unwrap_or("no hub");
    match state.status {
        RegistrationStatus::Assigned => {
            let device = state.device_id.as_ref();
            let named = device.filter(|device| device.as_str() != id.as_str());
            let named = named.map(|device| format!(" as the device {device}"));
            let answer = format!(
                "{id} was assigned to {hub}{}{at}.",
                named.unwrap_or_default()
            );
            (Standing::Assigned, answer)
        }
        RegistrationStatus::Disabled => {
            let answer = format!("{id} was told{at} that it is disabled.");
            (Standing::Disabled, answer)
        }
        RegistrationStatus::Failed
        | RegistrationStatus::Assigning
        | RegistrationStatus::Unassigned => {
            let code = state.error_code.unwrap_or_default();
            let message = state.error_message.as_deref().unwrap_or_default();
            let answer = format!("The registration of {id} failed{at} with {code}: {message}");
            (Standing::Failed, answer)
        }
    }
}

/// The last one that ended a request; what is asked again, or ends in a record, is told elsewhere.
fn last_refusal<'a>(facts: &Facts<'a>) -> Option<&'a Refused> {
    let ends = |refused: &&Refused| !matches!(refused.refusal.answer, Answer::Response(200 | 202));
    facts.refusals.iter().rev().find(ends)
}

fn refusals(facts: &Facts<'_>) -> Vec<String> {
    let line = |refused: &Refused| {
        let (at, refusal) = (Timestamp::from(refused.at), &refused.refusal);
        format!(
            "{at}  {} ({}): {}",
            refusal.kind, refusal.answer, refusal.sentence
        )
    };
    facts.refusals.iter().map(line).collect()
}

const UNKNOWN: &str = "It registered with a version of Azimuth that did not keep how; its next registration will be told whole.";

#[cfg(test)]
mod tests;
