//! `azimuth dps deprovision`: takes a device, or all devices of a group, out of service.
//!
//! Two steps, as Azure describes them: the enrollment first, so that the device cannot come back, then
//! its identity in the hub, so that it is cut off now. What may not enter: rules about either.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::identity::{Done, Fate, Hubs};
use super::listing::Pages;
use super::terms::writable;
use super::{Ask, ENROLLMENTS, GROUPS, REGISTRATIONS, Target, path};
use crate::config::Config;
use crate::endpoint::Open;

/// Takes a device, or all devices of a group, out of service: in the DPS and in the hub.
///
/// The enrollment is disabled, and then the device in its hub; with --delete both are deleted. A device of a group
/// has no enrollment of its own: it gets a disabled one, which bars it while the rest of its group goes on. That
/// entry stays, for without it the group would let the device back in.
#[derive(Debug, Args)]
pub struct Deprovision {
    #[command(flatten)]
    target: Target,
    /// One device, by its registration id
    #[arg(
        long,
        value_name = "ID",
        required_unless_present = "group",
        conflicts_with = "group"
    )]
    registration: Option<String>,
    /// All devices that came through a group, and the group
    #[arg(long, value_name = "ID")]
    group: Option<String>,
    /// For good: delete what would be disabled
    #[arg(long)]
    delete: bool,
    /// Connection string of the hub, where it was not started with this data folder
    #[arg(
        long,
        env = "AZIMUTH_HUB_CONNECTION_STRING",
        hide_env_values = true,
        value_name = "STRING"
    )]
    hub_connection_string: Option<String>,
}

/// A device as the DPS knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Device {
    registration: String,
    /// The hub it was assigned to, and what it is called there.
    place: Option<(String, String)>,
}

/// What is done, and where.
struct Work<'a> {
    dps: Open,
    hubs: Hubs<'a>,
    fate: Fate,
}

impl Deprovision {
    pub fn run(self, config: Config) -> anyhow::Result<ExitCode> {
        super::run(async {
            let work = Work {
                dps: self.target.open(&config).await?,
                hubs: Hubs::new(&config, self.hub_connection_string.as_deref())?,
                fate: if self.delete {
                    Fate::Deleted
                } else {
                    Fate::Disabled
                },
            };
            match (self.registration, self.group) {
                (Some(id), _) => work.device(&id).await,
                (None, Some(id)) => work.group(&id).await,
                (None, None) => bail!("say what to take out of service: --registration or --group"),
            }
        })
    }
}

impl Work<'_> {
    async fn device(mut self, id: &str) -> anyhow::Result<ExitCode> {
        let (entry_path, state_path) = (path(ENROLLMENTS, id), path(REGISTRATIONS, id));
        let state = Ask::get(&state_path).find(&self.dps).await?;
        let entry = Ask::get(&entry_path).find(&self.dps).await?;
        let barred = match (entry, self.fate) {
            (Some(entry), Fate::Disabled) => {
                self.disable(&entry_path, entry, &format!("the enrollment {id}"))
                    .await?;
                true
            }
            (Some(entry), Fate::Deleted) => {
                let etag = entry["etag"].as_str().unwrap_or("*").to_owned();
                let condition = [("if-match", etag.as_str())];
                let delete = Ask::new(Method::DELETE, &entry_path).headers(&condition);
                delete.of(&self.dps).await?;
                println!("dps  deleted the enrollment {id}");
                false
            }
            (None, _) if state.is_some() => {
                let entry = barring(id);
                let put = Ask::new(Method::PUT, &entry_path).body(entry);
                put.of(&self.dps).await?;
                println!(
                    "dps  created a disabled enrollment {id}, which bars this device of its group"
                );
                true
            }
            (None, _) => bail!(
                "{id} has neither an enrollment nor a registration; to bar a device before it ever registers: azimuth dps enrollment create {id} --status disabled"
            ),
        };
        // A registration that was under way when the entry changed may have ended since.
        let now = Ask::get(&state_path).find(&self.dps).await?;
        let device = device(id, now.or(state).as_ref());
        let cut = self.cut(&device).await;
        let groups = self.enabled_groups(None).await?;
        for note in notes(id, barred, &groups) {
            println!("note {note}");
        }
        if let Err(error) = cut {
            bail!("{error:#}; the enrollment is done, run this again for the hub");
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn group(mut self, id: &str) -> anyhow::Result<ExitCode> {
        let group_path = path(GROUPS, id);
        let hint = "`azimuth dps group list` shows those there are.";
        let hints = [(StatusCode::NOT_FOUND, hint)];
        let found = Ask::get(&group_path).hints(&hints).of(&self.dps).await?;
        let group = found.body;
        // Disabled before its devices are listed: nobody slips in behind the list.
        self.disable(&group_path, group, &format!("the group {id}"))
            .await?;
        let list = Pages::of(format!("{}/query", path(REGISTRATIONS, id)));
        let states = list.all(&self.dps).await?;
        let (mut failed, mut own) = (0_usize, Vec::new());
        for state in &states {
            let id = state["registrationId"].as_str().unwrap_or_default();
            if let Err(error) = self.cut(&device(id, Some(state))).await {
                failed += 1;
                eprintln!("hub  {id} is not done: {error:#}");
            }
            let entry = Ask::get(&path(ENROLLMENTS, id)).find(&self.dps).await?;
            if entry.is_some_and(|entry| entry["provisioningStatus"] == "enabled") {
                own.push(id);
            }
        }
        println!(
            "hub  {} of {} devices done",
            states.len() - failed,
            states.len()
        );
        if failed > 0 {
            bail!("{failed} devices are not done; the group stays disabled, run this again");
        }
        if self.fate == Fate::Deleted {
            super::delete(&self.dps, &group_path, hint).await?;
            println!("dps  deleted the group {id}");
        } else {
            println!("note the group {id} lets its devices back in once it is enabled");
        }
        for device in own {
            println!("note {device} has an enabled enrollment of its own and may come back by it");
        }
        for other in self.enabled_groups(Some(id)).await? {
            println!(
                "note the group {other} is enabled: a device that holds a key of it may come back by it"
            );
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn disable(&self, path: &str, record: Value, what: &str) -> anyhow::Result<()> {
        if record["provisioningStatus"] == "disabled" {
            println!("dps  {what} was disabled already");
            return Ok(());
        }
        let mut record = writable(record);
        record["provisioningStatus"] = json!("disabled");
        super::write_back(&self.dps, path, record).await?;
        println!("dps  disabled {what}");
        Ok(())
    }

    /// The step in the hub.
    async fn cut(&mut self, device: &Device) -> anyhow::Result<()> {
        let Some((hub, name)) = &device.place else {
            println!("hub  {} was never assigned to one", device.registration);
            return Ok(());
        };
        let done = self.hubs.carry_out(hub, name, self.fate).await?;
        match (done, self.fate) {
            (Done::Now, Fate::Disabled) => println!("hub  disabled {name} in {hub}"),
            (Done::Now, Fate::Deleted) => println!("hub  deleted {name} in {hub}"),
            (Done::Before, _) => println!("hub  {name} was disabled already in {hub}"),
            (Done::Absent, _) => println!("hub  {name} is not in {hub} any more"),
        }
        Ok(())
    }

    /// The names of the groups that let devices in, but for one.
    async fn enabled_groups(&self, but: Option<&str>) -> anyhow::Result<Vec<String>> {
        let groups = Pages::of(format!("{GROUPS}/query")).all(&self.dps).await?;
        let enabled = |group: &&Value| group["provisioningStatus"] == "enabled";
        let names = groups.iter().filter(enabled);
        let names = names.filter_map(|group| group["enrollmentGroupId"].as_str());
        let other = |name: &&str| !but.is_some_and(|but| but.eq_ignore_ascii_case(name));
        Ok(names.filter(other).map(str::to_owned).collect())
    }
}

/// The entry that bars one device of a group. Its keys are made: nobody holds them.
fn barring(id: &str) -> Value {
    json!({
        "registrationId": id,
        "attestation": { "type": "symmetricKey", "symmetricKey": {} },
        "provisioningStatus": "disabled",
    })
}

fn device(id: &str, state: Option<&Value>) -> Device {
    let text = |member: &str| state.and_then(|state| state[member].as_str());
    let name = text("deviceId").or(text("registrationId")).unwrap_or(id);
    Device {
        registration: id.into(),
        place: text("assignedHub").map(|hub| (hub.to_owned(), name.to_owned())),
    }
}

/// What could let one device back in.
fn notes(id: &str, barred: bool, groups: &[String]) -> Vec<String> {
    if barred {
        return vec![format!(
            "{id} cannot register while its disabled enrollment is there; deleting or enabling that lets it back in"
        )];
    }
    if groups.is_empty() {
        return Vec::new();
    }
    vec![format!(
        "{id} may come back if it holds a key of an enabled group ({}); to bar it: azimuth dps enrollment create {id} --status disabled",
        groups.join(", ")
    )]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_found_where_its_registration_says() {
        let place = |hub: &str, name: &str| Some((hub.to_owned(), name.to_owned()));
        for (state, expected) in [
            (None, None),
            (Some(json!({ "status": "disabled" })), None),
            (
                Some(json!({ "assignedHub": "a.net", "registrationId": "R1" })),
                place("a.net", "R1"),
            ),
            (
                Some(json!({ "assignedHub": "a.net", "registrationId": "R1", "deviceId": "d" })),
                place("a.net", "d"),
            ),
            (
                Some(json!({ "assignedHub": "a.net" })),
                place("a.net", "r1"),
            ),
        ] {
            assert_eq!(device("r1", state.as_ref()).place, expected);
        }
    }

    #[test]
    fn what_lets_a_device_back_in_is_said() {
        let groups = ["g".to_owned(), "h".to_owned()];
        assert!(notes("r1", true, &groups)[0].contains("disabled enrollment"));
        assert!(notes("r1", false, &groups)[0].contains("(g, h)"));
        assert!(notes("r1", false, &[]).is_empty());
    }
}
