//! What flags say about an enrollment, laid over a record in the shape of the REST API.
//!
//! What may not enter: whether it is acceptable; the DPS says so.

use std::path::Path;

use anyhow::Context;
use clap::{ArgAction, Args, ValueEnum};
use serde_json::{Value, json};

use crate::endpoint::Open;
use crate::linked_hub::linked;

/// What individual enrollments and groups have in common.
#[derive(Debug, Args)]
pub struct Terms {
    /// How a hub is chosen [default: as the DPS does where an enrollment does not say it]
    #[arg(long, value_name = "POLICY")]
    allocation: Option<Allocation>,
    /// A linked hub that devices may be sent to, by host name or its first part; may be repeated
    /// [default: all linked hubs]
    #[arg(long = "hub", value_name = "HUB")]
    hubs: Vec<String>,
    /// Any linked hub again, after --hub
    #[arg(long, conflicts_with = "hubs")]
    any_hub: bool,
    /// What happens to a device that has a hub and registers again
    #[arg(long, value_name = "POLICY")]
    reprovision: Option<Reprovision>,
    /// disabled bars the device, or all devices of the group
    #[arg(long, value_name = "STATUS")]
    status: Option<Status>,
    /// Tags and desired properties to begin with, as JSON `{tags, properties: {desired}}` or @FILE
    #[arg(long, value_name = "JSON|@FILE")]
    initial_twin: Option<String>,
    /// Whether the device is an IoT Edge device
    #[arg(long, action = ArgAction::Set, value_name = "true|false")]
    edge: Option<bool>,
    /// URL that chooses the hub, with --allocation custom
    #[arg(long, value_name = "URL")]
    webhook: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "camelCase")]
enum Allocation {
    /// Evenly by weight
    Hashed,
    /// Lowest latency
    GeoLatency,
    /// The one hub of --hub
    Static,
    /// By a webhook
    Custom,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Reprovision {
    /// It may move, with its data
    Migrate,
    /// It may move, and begins anew
    Reset,
    /// It stays where it is
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "camelCase")]
enum Status {
    Enabled,
    Disabled,
}

impl Terms {
    /// The hubs in the words of whoever gave them.
    pub fn given_hubs(&self) -> &[String] {
        &self.hubs
    }

    /// The hubs that are meant, by host name.
    pub async fn hubs(&self, dps: &Open) -> anyhow::Result<Vec<String>> {
        let mut names = Vec::new();
        for hub in &self.hubs {
            names.push(linked(dps, hub).await?);
        }
        Ok(names)
    }

    /// Writes what was said into a record; the rest of it stays.
    pub fn lay_over(&self, record: &mut Value, hubs: &[String]) -> anyhow::Result<()> {
        let mut set = |member: &str, value: Option<Value>| {
            if let Some(value) = value {
                record[member] = value;
            }
        };
        let allocation = self.allocation.as_ref().map(name);
        set("allocationPolicy", allocation.map(Value::from));
        set("iotHubs", (!hubs.is_empty()).then(|| json!(hubs)));
        set("iotHubs", self.any_hub.then_some(Value::Null));
        set("reprovisionPolicy", self.reprovision.map(reprovisioning));
        set(
            "provisioningStatus",
            self.status.as_ref().map(|status| name(status).into()),
        );
        set(
            "capabilities",
            self.edge.map(|edge| json!({ "iotEdge": edge })),
        );
        let webhook = self.webhook.as_ref();
        let webhook = webhook.map(|url| json!({ "webhookUrl": url, "apiVersion": "2021-10-01" }));
        set("customAllocationDefinition", webhook);
        let twin = self.initial_twin.as_deref().map(twin).transpose()?;
        set("initialTwin", twin);
        Ok(())
    }
}

/// A record as GET shows it, ready to be written back: keys that are left out stay as they are.
pub fn writable(mut record: Value) -> Value {
    let attestation = &mut record["attestation"];
    if attestation["type"] == "symmetricKey" && attestation["symmetricKey"].is_null() {
        attestation["symmetricKey"] = json!({});
    }
    record
}

fn reprovisioning(policy: Reprovision) -> Value {
    let (update, migrate) = match policy {
        Reprovision::Migrate => (true, true),
        Reprovision::Reset => (true, false),
        Reprovision::Never => (false, false),
    };
    json!({ "updateHubAssignment": update, "migrateDeviceData": migrate })
}

fn twin(given: &str) -> anyhow::Result<Value> {
    let text = match given.strip_prefix('@') {
        None => given.to_owned(),
        Some(file) => std::fs::read_to_string(Path::new(file))
            .with_context(|| format!("the twin in {file} cannot be read"))?,
    };
    serde_json::from_str(&text).context(
        "--initial-twin is no JSON; it looks like {\"tags\":{},\"properties\":{\"desired\":{}}}",
    )
}

/// As flags and the REST API call it.
fn name(value: &impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        terms: Terms,
    }

    fn laid(flags: &[&str]) -> anyhow::Result<Value> {
        let flags = [&["x"], flags].concat();
        let terms = Flags::try_parse_from(flags).unwrap().terms;
        let mut record = json!({ "attestation": { "type": "symmetricKey" }, "deviceId": "d" });
        let laid = terms.lay_over(&mut record, terms.given_hubs());
        laid.map(|()| record)
    }

    #[test]
    fn each_flag_changes_its_own_member_and_no_other() {
        for (flags, member, value) in [
            (
                &["--allocation", "geoLatency"][..],
                "allocationPolicy",
                json!("geoLatency"),
            ),
            (&["--hub", "a", "--hub", "b"], "iotHubs", json!(["a", "b"])),
            (
                &["--reprovision", "reset"],
                "reprovisionPolicy",
                json!({ "updateHubAssignment": true, "migrateDeviceData": false }),
            ),
            (
                &["--reprovision", "never"],
                "reprovisionPolicy",
                json!({ "updateHubAssignment": false, "migrateDeviceData": false }),
            ),
            (
                &["--status", "disabled"],
                "provisioningStatus",
                json!("disabled"),
            ),
            (
                &["--edge", "true"],
                "capabilities",
                json!({ "iotEdge": true }),
            ),
            (
                &["--initial-twin", r#"{"tags":{}}"#],
                "initialTwin",
                json!({ "tags": {} }),
            ),
        ] {
            let mut record = laid(flags).unwrap();
            assert_eq!(record[member], value, "{flags:?}");
            record[member] = Value::Null;
            let mut rest = json!({ "attestation": { "type": "symmetricKey" }, "deviceId": "d" });
            rest[member] = Value::Null;
            assert_eq!(record, rest, "{flags:?}");
        }
        assert!(laid(&["--initial-twin", "{"]).is_err());
    }

    #[test]
    fn a_record_is_written_back_with_room_for_its_keys() {
        let shown = json!({ "attestation": { "type": "symmetricKey" } });
        assert_eq!(writable(shown)["attestation"]["symmetricKey"], json!({}));
        let other = json!({ "attestation": { "type": "x509", "x509": {} } });
        assert_eq!(writable(other.clone()), other);
    }
}
