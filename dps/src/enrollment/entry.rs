//! What individual enrollments and groups have in common.

use std::sync::Arc;

use azimuth_wire::enrollment::{
    AllocationPolicy, Attestation, CustomAllocationDefinition, EnrollmentGroup,
    IndividualEnrollment, ProvisioningStatus, ReprovisionPolicy,
};
use azimuth_wire::time::Timestamp;
use azimuth_wire::{DeviceId, EnrollmentGroupId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::allocation::webhook::Custom;

/// An enrollment of either kind.
pub trait Entry: Clone + Serialize + DeserializeOwned + Send + Sync {
    /// Where it is kept.
    const ROOM: &'static str;
    /// `x-ms-item-type`.
    const ITEM_TYPE: &'static str;
    const OWNS_REGISTRATION: bool;

    fn folded_id(&self) -> String;
    fn shown_id(&self) -> String;
    fn etag(&self) -> Option<&str>;
    fn created(&self) -> Option<Timestamp>;
    fn attestation(&self) -> &Attestation;
    fn attestation_mut(&mut self) -> &mut Attestation;
    fn stamp(&mut self, etag: String, created: Timestamp, updated: Timestamp);
    fn terms(&self) -> Terms;
    fn custom_allocation(&self) -> Option<&CustomAllocationDefinition>;
    fn initial_twin(&self) -> Option<&Value>;
    /// What only individual enrollments say about a device.
    fn device_information(&self) -> Option<&Value>;
}

/// What an enrollment says about a device that proved itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    pub enabled: bool,
    /// `None`: the registration id.
    pub device_id: Option<DeviceId>,
    pub iot_edge: bool,
    /// `None`: the policy of the service.
    pub allocation: Option<AllocationPolicy>,
    /// Host names; empty: all linked hubs.
    pub hubs: Vec<String>,
    pub reprovision: Option<ReprovisionPolicy>,
    pub group: Option<EnrollmentGroupId>,
    /// `{tags, properties: {desired}}`, as it was given.
    pub initial_twin: Option<Value>,
    /// For the webhook of custom allocation.
    pub custom: Option<Arc<Custom>>,
}

macro_rules! entry {
    ($kind:ident, $id:ident, $room:literal, $item:literal, $owns:literal, $custom:path, $device:expr, $group:expr, $information:expr) => {
        impl Entry for $kind {
            const ROOM: &'static str = $room;
            const ITEM_TYPE: &'static str = $item;
            const OWNS_REGISTRATION: bool = $owns;

            fn folded_id(&self) -> String {
                self.$id.folded()
            }

            fn shown_id(&self) -> String {
                self.$id.to_string()
            }

            fn etag(&self) -> Option<&str> {
                self.etag.as_deref()
            }

            fn created(&self) -> Option<Timestamp> {
                self.created_date_time_utc
            }

            fn attestation(&self) -> &Attestation {
                &self.attestation
            }

            fn attestation_mut(&mut self) -> &mut Attestation {
                &mut self.attestation
            }

            fn stamp(&mut self, etag: String, created: Timestamp, updated: Timestamp) {
                self.etag = Some(etag);
                self.created_date_time_utc = Some(created);
                self.last_updated_date_time_utc = Some(updated);
            }

            fn custom_allocation(&self) -> Option<&CustomAllocationDefinition> {
                self.custom_allocation_definition.as_ref()
            }

            fn initial_twin(&self) -> Option<&Value> {
                self.initial_twin.as_ref()
            }

            fn device_information(&self) -> Option<&Value> {
                let information: fn(&$kind) -> Option<&Value> = $information;
                information(self)
            }

            fn terms(&self) -> Terms {
                let device: fn(&$kind) -> Option<DeviceId> = $device;
                let group: fn(&$kind) -> Option<EnrollmentGroupId> = $group;
                let named = self.iot_hubs.clone().unwrap_or_default();
                // The older form means static allocation to one hub.
                let (allocation, hubs) = match (&self.iot_hub_host_name, named.is_empty()) {
                    (Some(hub), true) => (Some(AllocationPolicy::Static), vec![hub.clone()]),
                    _ => (self.allocation_policy, named),
                };
                Terms {
                    enabled: self.provisioning_status == ProvisioningStatus::Enabled,
                    device_id: device(self),
                    iot_edge: self.capabilities.iot_edge,
                    allocation,
                    hubs,
                    reprovision: self.reprovision_policy,
                    group: group(self),
                    initial_twin: self.initial_twin.clone(),
                    custom: match allocation {
                        Some(AllocationPolicy::Custom) => $custom(self).map(Arc::new),
                        _ => None,
                    },
                }
            }
        }
    };
}

entry!(
    IndividualEnrollment,
    registration_id,
    "enrollments",
    "Enrollment",
    true,
    Custom::of_individual,
    |entry| entry.device_id.clone(),
    |_| None,
    |entry| entry.optional_device_information.as_ref()
);
entry!(
    EnrollmentGroup,
    enrollment_group_id,
    "enrollmentGroups",
    "EnrollmentGroup",
    false,
    Custom::of_group,
    |_| None,
    |entry| Some(entry.enrollment_group_id.clone()),
    |_| None
);
