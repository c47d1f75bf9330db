//! What registering does to a device that may have a hub already: pure.
//!
//! ```text
//!              ┌─ no hub yet ──────────────────────────────► create            initialAssignment
//!  chosen hub ─┼─ has one, may not leave it ───────────────► keep ┐
//!              ├─ has one, the same was chosen ────────────► keep ┴ reprovisionedToInitialAssignment
//!              └─ has one, another was chosen ─────────────► move   deviceDataMigrated / deviceDataReset
//! ```
//!
//! A device whose id changed since is created as well, and the old one stays.
//!
//! What may not enter: requests to hubs, the store, topics.

use std::time::SystemTime;

use azimuth_wire::api_version::ApiVersion;
use azimuth_wire::enrollment::ReprovisionPolicy;
use azimuth_wire::registration::{RegistrationState, RegistrationStatus, Substatus};
use azimuth_wire::{DeviceId, EnrollmentGroupId, RegistrationId, etag};
use serde::{Deserialize, Serialize};

use crate::attempt::{Attempt, Because, Fate};
use crate::delivery::Delivery;

/// A registration as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub state: RegistrationState,
    /// The group it came through.
    pub group: Option<EnrollmentGroupId>,
    /// The operation that ended last: it can be polled after a restart.
    pub operation: String,
    /// How it went; records from before this was kept have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Box<Attempt>>,
    /// The key of a device with a TPM. Nobody but the device is shown it, and only wrapped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpm: Option<Delivery>,
}

impl Record {
    /// The state with what only the device may see.
    pub fn for_device(&self) -> RegistrationState {
        let mut state = self.state.clone();
        if state.status == RegistrationStatus::Assigned {
            state.tpm = self.tpm.as_ref().map(Delivery::shown);
        }
        state
    }
}

/// What is to be done in the hubs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision<'a> {
    Create {
        hub: &'a str,
    },
    Keep {
        hub: &'a str,
    },
    Move {
        from: &'a str,
        to: &'a str,
        data: Data,
    },
}

/// What becomes of the device's twin when it moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    Migrate,
    Reset,
}

/// Whether a device that has a hub keeps it, whatever is chosen now.
pub fn stays(policy: Option<ReprovisionPolicy>, caller: ApiVersion) -> bool {
    match policy {
        None => caller <= LAST_WITHOUT_REPROVISIONING,
        Some(policy) => !policy.update_hub_assignment,
    }
}

/// Decides by the hub in the record, the hub chosen now, the enrollment's policy and the caller.
pub fn decide<'a>(
    present: Option<&'a str>,
    chosen: &'a str,
    policy: Option<ReprovisionPolicy>,
    caller: ApiVersion,
) -> Decision<'a> {
    let Some(present) = present else {
        return Decision::Create { hub: chosen };
    };
    if stays(policy, caller) || present.eq_ignore_ascii_case(chosen) {
        return Decision::Keep { hub: present };
    }
    let data = if policy.unwrap_or_default().migrate_device_data {
        Data::Migrate
    } else {
        Data::Reset
    };
    Decision::Move {
        from: present,
        to: chosen,
        data,
    }
}

impl<'a> Decision<'a> {
    /// Where the device is afterwards.
    pub fn hub(&self) -> &'a str {
        match self {
            Self::Create { hub } | Self::Keep { hub } | Self::Move { to: hub, .. } => hub,
        }
    }

    /// The same, and why, for whoever asks later.
    pub fn fate(&self, chosen: &str, policy: Option<ReprovisionPolicy>) -> Fate {
        match self {
            Self::Create { .. } => Fate::Initial,
            Self::Keep { hub } if hub.eq_ignore_ascii_case(chosen) => Fate::Kept(Because::SameHub),
            Self::Keep { .. } if policy.is_some() => Fate::Kept(Because::Policy),
            Self::Keep { .. } => Fate::Kept(Because::OldCaller),
            Self::Move { from, data, .. } => Fate::Moved {
                from: (*from).to_owned(),
                migrate: *data == Data::Migrate,
                left: None,
            },
        }
    }

    /// The same for a device that the record does not name, because its enrollment has another id for it
    /// by now: it is made new, and the one in the record stays where it is.
    pub fn of_another_device(self) -> Self {
        Self::Create { hub: self.hub() }
    }

    /// Where all of it could be done.
    pub fn substatus(&self) -> Substatus {
        match self {
            Self::Create { .. } => Substatus::InitialAssignment,
            Self::Keep { .. } => Substatus::ReprovisionedToInitialAssignment,
            Self::Move { data, .. } => match data {
                Data::Migrate => Substatus::DeviceDataMigrated,
                Data::Reset => Substatus::DeviceDataReset,
            },
        }
    }
}

/// A substatus as a caller of this version may see it.
pub fn seen_by(substatus: Substatus, caller: ApiVersion) -> Substatus {
    match substatus {
        Substatus::ReprovisionedToInitialAssignment if caller < FIRST_WITH_REPROVISIONED => {
            Substatus::InitialAssignment
        }
        other => other,
    }
}

/// How a registration ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Assigned {
        hub: String,
        device: DeviceId,
        substatus: Substatus,
    },
    Failed {
        code: u32,
        message: String,
    },
    Disabled,
}

/// The state after an outcome. A hub once assigned stays in the record when a later registration
/// fails or is refused: the device is still in it.
pub fn after(
    before: Option<&RegistrationState>,
    registration_id: &RegistrationId,
    outcome: Outcome,
    now: SystemTime,
    guid: &str,
) -> RegistrationState {
    let mut state = RegistrationState::new(registration_id.clone(), RegistrationStatus::Assigned);
    let created = before.and_then(|state| state.created_date_time_utc);
    state.created_date_time_utc = Some(created.unwrap_or_else(|| now.into()));
    state.last_updated_date_time_utc = Some(now.into());
    state.etag = Some(etag::of_guid(guid));
    state.assigned_hub = before.and_then(|state| state.assigned_hub.clone());
    state.device_id = before.and_then(|state| state.device_id.clone());
    match outcome {
        Outcome::Assigned {
            hub,
            device,
            substatus,
        } => {
            state.assigned_hub = Some(hub);
            state.device_id = Some(device);
            state.substatus = Some(substatus);
        }
        Outcome::Failed { code, message } => {
            state.status = RegistrationStatus::Failed;
            state.error_code = Some(code);
            state.error_message = Some(message);
        }
        Outcome::Disabled => state.status = RegistrationStatus::Disabled,
    }
    state
}

/// What a device is shown of a state: a failed or disabled one names no hub.
pub fn shown_to_device(state: &RegistrationState, caller: ApiVersion) -> RegistrationState {
    let mut shown = state.clone();
    match state.status {
        RegistrationStatus::Assigned => {
            shown.substatus = state.substatus.map(|substatus| seen_by(substatus, caller));
        }
        RegistrationStatus::Failed => {
            shown.assigned_hub = None;
            shown.device_id = None;
        }
        RegistrationStatus::Disabled => {
            shown.assigned_hub = None;
            shown.device_id = None;
            shown.created_date_time_utc = None;
        }
        RegistrationStatus::Assigning | RegistrationStatus::Unassigned => {}
    }
    shown
}

const LAST_WITHOUT_REPROVISIONING: ApiVersion = ApiVersion::new(2018, 4, 1);
const FIRST_WITH_REPROVISIONED: ApiVersion = ApiVersion::new(2019, 4, 15);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn registering_again_follows_the_policy() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../tests/vectors/dps.json")).unwrap();
        let rows = vectors["reprovisioning"].as_array().unwrap();
        assert_eq!(rows.len(), 9);
        for row in rows {
            let present = row["recordBefore"]
                .as_str()
                .filter(|hub| hub.starts_with("hub-"));
            let caller: ApiVersion = row["apiVersion"].as_str().unwrap().parse().unwrap();
            let policy = ReprovisionPolicy {
                update_hub_assignment: row["updateHubAssignment"].as_bool().unwrap(),
                migrate_device_data: row["migrateDeviceData"].as_bool().unwrap(),
            };
            let chosen = row["allocationChooses"].as_str().unwrap();
            let decision = decide(present, chosen, Some(policy), caller);
            let action = match decision {
                Decision::Create { .. } => "create",
                Decision::Keep { .. } => "keep",
                Decision::Move { .. } => "move",
            };
            let expect = &row["expect"];
            assert_eq!(action, expect["action"], "{row}");
            assert_eq!(decision.hub(), expect["assignedHub"], "{row}");
            let substatus = seen_by(decision.substatus(), caller);
            assert_eq!(
                serde_json::to_value(substatus).unwrap(),
                expect["substatus"],
                "{row}"
            );
        }
    }

    #[test]
    fn callers_from_before_reprovisioning_stay_where_they_are() {
        let old: ApiVersion = "2018-04-01".parse().unwrap();
        let newer: ApiVersion = "2018-09-01-preview".parse().unwrap();
        assert_eq!(
            decide(Some("a"), "b", None, old),
            Decision::Keep { hub: "a" }
        );
        assert_eq!(decide(Some("a"), "b", None, newer).hub(), "b");
        let policy = Some(ReprovisionPolicy::default());
        assert_eq!(decide(Some("a"), "b", policy, old).hub(), "b");
    }

    #[test]
    fn a_failure_keeps_the_hub_in_the_record_and_hides_it_from_the_device() {
        let id: RegistrationId = "dev-1".parse().unwrap();
        let at = |seconds: u64| UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds);
        let assigned = Outcome::Assigned {
            hub: "a.net".into(),
            device: "dev-1".parse().unwrap(),
            substatus: Substatus::InitialAssignment,
        };
        let first = after(None, &id, assigned, at(0), "g1");
        let failure = Outcome::Failed {
            code: 500_001,
            message: "no answer".into(),
        };
        let second = after(Some(&first), &id, failure, at(9), "g2");
        assert_eq!(second.assigned_hub.as_deref(), Some("a.net"));
        assert_eq!(second.created_date_time_utc, first.created_date_time_utc);
        assert_eq!(second.substatus, None);
        let shown = shown_to_device(&second, "2019-03-31".parse().unwrap());
        assert_eq!(
            (shown.assigned_hub, shown.error_code),
            (None, Some(500_001))
        );
    }
}
