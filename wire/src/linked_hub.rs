//! A linked hub of a Device Provisioning Service as JSON: Azure's `IotHubDefinitionDescription`.
//!
//! The members of Azure's management API, and beside them those of this simulator: where the hub is
//! dialled and what devices are told. What may not enter: which links are acceptable, where they are
//! kept.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// A hub that devices may be sent to. Members that are absent have the value Azure gives them.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IotHubDefinition {
    /// The host name; read-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// With its key in requests, masked in answers.
    pub connection_string: String,
    pub location: String,
    /// 1 to 1000; absent: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocation_weight: Option<u32>,
    /// Absent: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apply_allocation_policy: Option<bool>,
    /// Where the service reaches the hub instead of resolving its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dial_address: Option<IpAddr>,
    /// What a device that came by address is given instead of the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertised_address: Option<IpAddr>,
    /// Absent: 443.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub https_port: Option<u16>,
    /// Of the record; what a request carries here is no condition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// In answers only: what is doubtful about the link, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// What of a linked hub is to change; absent members stay.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct IotHubChange {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_string: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allocation_weight: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apply_allocation_policy: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dial_address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertised_address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub https_port: Option<u16>,
}

impl IotHubDefinition {
    /// With what `change` names.
    pub fn changed(self, change: IotHubChange) -> Self {
        Self {
            connection_string: change.connection_string.unwrap_or(self.connection_string),
            location: change.location.unwrap_or(self.location),
            allocation_weight: change.allocation_weight.or(self.allocation_weight),
            apply_allocation_policy: change
                .apply_allocation_policy
                .or(self.apply_allocation_policy),
            dial_address: change.dial_address.or(self.dial_address),
            advertised_address: change.advertised_address.or(self.advertised_address),
            https_port: change.https_port.or(self.https_port),
            ..self
        }
    }
}

impl fmt::Debug for IotHubDefinition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IotHubDefinition")
            .field("name", &self.name)
            .field("location", &self.location)
            .field("allocation_weight", &self.allocation_weight)
            .field("apply_allocation_policy", &self.apply_allocation_policy)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for IotHubChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IotHubChange")
            .field("location", &self.location)
            .field("allocation_weight", &self.allocation_weight)
            .field("apply_allocation_policy", &self.apply_allocation_policy)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn a_definition_of_azures_is_read_and_a_change_touches_what_it_names() {
        // From the description of Azure's management API.
        let whole: IotHubDefinition = serde_json::from_value(json!({
            "name": "h.azure-devices.net", "connectionString": "HostName=h;SharedAccessKey=k",
            "location": "eastus", "allocationWeight": 3, "applyAllocationPolicy": null }))
        .unwrap();
        assert_eq!(whole.apply_allocation_policy, None);
        let change = json!({ "applyAllocationPolicy": false, "location": "westus" });
        let change: IotHubChange = serde_json::from_value(change).unwrap();
        let changed = whole.clone().changed(change);
        assert_eq!(
            serde_json::to_value(&changed).unwrap(),
            json!({ "name": "h.azure-devices.net", "connectionString": "HostName=h;SharedAccessKey=k",
                "location": "westus", "allocationWeight": 3, "applyAllocationPolicy": false })
        );
        assert_eq!(whole.clone().changed(IotHubChange::default()), whole);
    }

    #[test]
    fn a_member_nobody_knows_is_named_and_no_key_is_shown() {
        let error = serde_json::from_value::<IotHubChange>(json!({ "weight": 3 })).unwrap_err();
        assert!(error.to_string().contains("unknown field `weight`"));
        let whole: IotHubDefinition = serde_json::from_value(
            json!({ "connectionString": "SharedAccessKey=secret", "location": "eastus" }),
        )
        .unwrap();
        let change = IotHubChange {
            connection_string: Some(whole.connection_string.clone()),
            ..IotHubChange::default()
        };
        assert!(!format!("{whole:?}{change:?}").contains("secret"));
    }
}
