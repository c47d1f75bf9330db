//! `azimuth dps deprovision`: takes a device, or all devices of a group, out of service.
//!
//! Two steps, as Azure describes them: the enrollment first, so that the device cannot come back, then
//! its identity in the hub, so that it is cut off now. Whatever fails after the first effect, it is said what was
//! done and what was not. What may not enter: rules about either.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use azimuth_certs::Certificate;
use clap::Args;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::attestation::enrolled;
use super::identity::{Done, Fate, Hubs};
use super::terms::writable;
use super::way_back::{self, Shows};
use super::{ENROLLMENTS, GROUPS, REGISTRATIONS, Target, path};
use crate::ask::{self, Ask};
use crate::ca_certificate::read_certificate;
use crate::config::Config;
use crate::endpoint::Open;
use crate::listing::Pages;

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
    /// The certificate of a device of a group, PEM or DER: the entry that bars the device then holds it. Without one
    /// the entry holds keys that nobody has, and bars the registration id all the same
    #[arg(long, value_name = "FILE", conflicts_with = "group")]
    certificate: Option<PathBuf>,
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

/// What became of the devices of a group in their hubs.
#[derive(Debug, Default)]
struct Count {
    devices: usize,
    failed: usize,
    /// Who has an enabled entry besides the group's.
    own: Vec<String>,
}

impl Deprovision {
    pub fn run(self, config: Config) -> anyhow::Result<ExitCode> {
        ask::run(async {
            let leaf = match (&self.registration, &self.certificate) {
                (Some(id), Some(file)) => Some(leaf_of(id, file)?),
                _ => None,
            };
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
                (Some(id), _) => work.device(&id, leaf).await,
                (None, Some(id)) => work.group(&id).await,
                (None, None) => bail!("say what to take out of service: --registration or --group"),
            }
        })
    }
}

impl Work<'_> {
    async fn device(mut self, id: &str, leaf: Option<Certificate>) -> anyhow::Result<ExitCode> {
        let state_path = path(REGISTRATIONS, id);
        let state = Ask::get(&state_path).find(&self.dps).await?;
        let entry = Ask::get(&path(ENROLLMENTS, id)).find(&self.dps).await?;
        let shows = match &leaf {
            Some(_) => Shows::Certificate,
            None => Shows::of(state.as_ref(), entry.as_ref()),
        };
        // Read before anything is done, so that nothing but the hub can fail afterwards.
        let groups = Pages::of(format!("{GROUPS}/query")).all(&self.dps).await?;
        let groups = way_back::Open::among(&groups, None);
        let barred = self.disenroll(id, entry, state.as_ref(), leaf).await;
        let barred = barred.context("nothing was done in a hub either")?;
        let cut = match self.place(&state_path, state).await {
            Ok(state) => self.cut(&device(id, state.as_ref())).await,
            Err(error) => Err(error),
        };
        for note in way_back::of_device(id, barred, shows, &groups) {
            println!("note {note}");
        }
        cut.context("the step in the DPS is done, the one in the hub is not; run this again")?;
        Ok(ExitCode::SUCCESS)
    }

    /// The step in the DPS for one device; whether an entry bars it from now on.
    async fn disenroll(
        &self,
        id: &str,
        entry: Option<Value>,
        state: Option<&Value>,
        leaf: Option<Certificate>,
    ) -> anyhow::Result<bool> {
        let entry_path = path(ENROLLMENTS, id);
        match (entry, self.fate) {
            (Some(entry), Fate::Disabled) => {
                self.disable(&entry_path, entry, &format!("the enrollment {id}"))
                    .await?;
                Ok(true)
            }
            (Some(entry), Fate::Deleted) if bars(&entry, state) => {
                println!(
                    "dps  the enrollment {id} bars this device of its group already, and stays"
                );
                Ok(true)
            }
            (Some(entry), Fate::Deleted) => {
                let etag = entry["etag"].as_str().unwrap_or("*").to_owned();
                let condition = [("if-match", etag.as_str())];
                let delete = Ask::new(Method::DELETE, &entry_path).headers(&condition);
                delete.of(&self.dps).await?;
                println!("dps  deleted the enrollment {id}");
                Ok(false)
            }
            (None, _) if state.is_some() || leaf.is_some() => {
                let what = match leaf {
                    Some(_) => "for its certificate",
                    None => "for its registration id",
                };
                let entry = barring(id, leaf.as_ref());
                let put = Ask::new(Method::PUT, &entry_path).body(entry);
                put.of(&self.dps).await?;
                println!(
                    "dps  created a disabled enrollment {id} {what}, which bars this device of its group"
                );
                Ok(true)
            }
            (None, _) => bail!(
                "{id} has neither an enrollment nor a registration; to bar a device before it ever registers: azimuth dps enrollment create {id} --status disabled"
            ),
        }
    }

    /// The state of a registration now: one that was under way when the entry changed may have ended since. What
    /// it was before counts where the record went with the entry.
    async fn place(&self, path: &str, before: Option<Value>) -> anyhow::Result<Option<Value>> {
        let now = Ask::get(path).find(&self.dps).await?;
        Ok(now.or(before))
    }

    async fn group(mut self, id: &str) -> anyhow::Result<ExitCode> {
        let group_path = path(GROUPS, id);
        let hint = "`azimuth dps group list` shows those there are.";
        let hints = [(StatusCode::NOT_FOUND, hint)];
        let found = Ask::get(&group_path).hints(&hints).of(&self.dps).await?;
        let group = found.body;
        let others = Pages::of(format!("{GROUPS}/query")).all(&self.dps).await?;
        let others = way_back::Open::among(&others, Some(id));
        // Disabled before its devices are listed: nobody slips in behind the list.
        self.disable(&group_path, group.clone(), &format!("the group {id}"))
            .await
            .context("nothing was done in a hub either")?;
        let mut count = Count::default();
        let listed = self.devices_of(id, &mut count).await;
        println!(
            "hub  {} of {} devices done",
            count.devices - count.failed,
            count.devices
        );
        listed.context(
            "the group is disabled, but the list of its devices broke off, so there may be more; run this again",
        )?;
        if count.failed > 0 {
            bail!(
                "{} devices are not done; the group stays disabled, run this again",
                count.failed
            );
        }
        let deleted = self.fate == Fate::Deleted;
        if deleted {
            super::delete(&self.dps, &group_path, hint)
                .await
                .context("its devices are done; the group is disabled and not deleted")?;
            println!("dps  deleted the group {id}");
        }
        for device in count.own {
            println!("note {device} has an enabled enrollment of its own and may come back by it");
        }
        for note in way_back::of_group(&group, deleted, &others) {
            println!("note {note}");
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The step in the hubs for all devices that came through a group, a page at a time.
    async fn devices_of(&mut self, group: &str, count: &mut Count) -> anyhow::Result<()> {
        let mut pages = Pages::of(format!("{}/query", path(REGISTRATIONS, group)));
        while let Some(page) = pages.next(&self.dps).await? {
            for state in &page {
                let id = state["registrationId"].as_str().unwrap_or_default();
                count.devices += 1;
                if let Err(error) = self.cut(&device(id, Some(state))).await {
                    count.failed += 1;
                    eprintln!("hub  {id} is not done: {error:#}");
                }
                let entry = Ask::get(&path(ENROLLMENTS, id)).find(&self.dps).await?;
                if entry.is_some_and(|entry| entry["provisioningStatus"] == "enabled") {
                    count.own.push(id.to_owned());
                }
            }
        }
        Ok(())
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
}

/// The device's certificate, which must be one for its registration id.
fn leaf_of(id: &str, file: &Path) -> anyhow::Result<Certificate> {
    let leaf = read_certificate(file)?;
    let name = leaf.common_name();
    if name
        .as_ref()
        .is_some_and(|name| name.eq_ignore_ascii_case(id))
    {
        return Ok(leaf);
    }
    bail!(
        "{} is a certificate of `{}`, not of {id}: the common name of a device's certificate is its registration id",
        file.display(),
        name.unwrap_or_default()
    )
}

/// The entry that bars one device of a group: for its certificate where it is at hand, else with keys that are made
/// and nobody holds.
fn barring(id: &str, leaf: Option<&Certificate>) -> Value {
    let attestation = match leaf {
        Some(leaf) => {
            json!({ "type": "x509", "x509": { "clientCertificates": { "primary": enrolled(leaf) } } })
        }
        None => json!({ "type": "symmetricKey", "symmetricKey": {} }),
    };
    json!({
        "registrationId": id,
        "attestation": attestation,
        "provisioningStatus": "disabled",
        "optionalDeviceInformation": { (BARS): true },
    })
}

/// Whether an entry is there to bar a device of a group: deleting it would let the device back in.
fn bars(entry: &Value, state: Option<&Value>) -> bool {
    let of_group = state.is_some_and(|state| state["x509"]["enrollmentGroupId"].is_string());
    let made_for_it = entry["optionalDeviceInformation"][BARS] == true;
    entry["provisioningStatus"] == "disabled" && (made_for_it || of_group)
}

/// What tells such an entry from one that a device had before.
const BARS: &str = "barsDeviceOfGroup";

fn device(id: &str, state: Option<&Value>) -> Device {
    let text = |member: &str| state.and_then(|state| state[member].as_str());
    let name = text("deviceId").or(text("registrationId")).unwrap_or(id);
    Device {
        registration: id.into(),
        place: text("assignedHub").map(|hub| (hub.to_owned(), name.to_owned())),
    }
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
    fn an_entry_that_bars_a_device_of_a_group_is_known_again() {
        let group = json!({ "status": "assigned", "x509": { "enrollmentGroupId": "g" } });
        let alone = json!({ "status": "assigned", "x509": {} });
        let made = barring("r1", None);
        let by_hand = json!({ "provisioningStatus": "disabled" });
        let enabled = json!({ "provisioningStatus": "enabled" });
        assert!(bars(&made, None) && bars(&made, Some(&alone)));
        assert!(bars(&by_hand, Some(&group)) && !bars(&by_hand, Some(&alone)));
        assert!(!bars(&by_hand, None) && !bars(&enabled, Some(&group)));
    }
}
