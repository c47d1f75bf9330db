//! What could let a device that was taken out of service back in.
//!
//! Pure: records in, sentences out. What may not enter: requests, and whether a chain really passes a group's
//! certificate; only the device knows its chain.

use serde_json::Value;

/// How a device proves itself, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shows {
    Certificate,
    Key,
    Unknown,
}

impl Shows {
    /// By the state of a registration, or by an enrollment.
    pub fn of(state: Option<&Value>, entry: Option<&Value>) -> Self {
        let kind = entry.and_then(|entry| entry["attestation"]["type"].as_str());
        match (kind, state) {
            (Some("x509"), _) => Self::Certificate,
            (Some(_), _) => Self::Key,
            (None, Some(state)) if state["x509"].is_object() => Self::Certificate,
            // A record of a refusal says nothing.
            (None, Some(state)) if state["status"] == "assigned" => Self::Key,
            (None, _) => Self::Unknown,
        }
    }
}

/// A group that lets devices in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    name: String,
    /// What it is anchored at; none where its devices hold keys.
    anchors: Option<String>,
}

impl Open {
    /// The enabled ones of all groups, but for one.
    pub fn among(groups: &[Value], but: Option<&str>) -> Vec<Self> {
        let enabled = |group: &&Value| group["provisioningStatus"] == "enabled";
        let open = groups.iter().filter(enabled).filter_map(|group| {
            let name = group["enrollmentGroupId"].as_str()?;
            let this = but.is_some_and(|but| but.eq_ignore_ascii_case(name));
            (!this).then(|| Self {
                name: name.into(),
                anchors: anchors(&group["attestation"]),
            })
        });
        open.collect()
    }

    fn fits(&self, shows: Shows) -> bool {
        match shows {
            Shows::Certificate => self.anchors.is_some(),
            Shows::Key => self.anchors.is_none(),
            Shows::Unknown => true,
        }
    }

    /// What a device of it has.
    fn condition(&self) -> String {
        match &self.anchors {
            Some(anchors) => format!("with {anchors} in its chain"),
            None => "that holds a key derived from its own".into(),
        }
    }
}

/// The certificates of a group as people name them.
fn anchors(attestation: &Value) -> Option<String> {
    let x509 = attestation["x509"].as_object()?;
    let slots = ["primary", "secondary"];
    let names = slots.iter().filter_map(|slot| {
        let signing = x509.get("signingCertificates");
        let subject = signing.and_then(|all| all[slot]["info"]["subjectName"].as_str());
        let named = x509.get("caReferences").and_then(|all| all[slot].as_str());
        subject
            .map(|subject| format!("`{subject}`"))
            .or(named.map(|name| format!("the CA certificate {name}")))
    });
    Some(names.collect::<Vec<_>>().join(" or "))
}

/// For one device: `barred` by an entry of its own, or with none.
pub fn of_device(id: &str, barred: bool, shows: Shows, open: &[Open]) -> Vec<String> {
    let fitting: Vec<_> = open.iter().filter(|group| group.fits(shows)).collect();
    let mut notes = Vec::new();
    if barred {
        notes.push(format!(
            "{id} cannot register while its disabled enrollment is there; do not delete it: deleting or enabling it lets it back in"
        ));
        return notes;
    }
    for group in &fitting {
        notes.push(format!(
            "{id} may come back by the group {}, which is enabled and lets in a device {}",
            group.name,
            group.condition()
        ));
    }
    if !fitting.is_empty() {
        notes.push(format!(
            "to bar it whatever group it belongs to: azimuth dps enrollment create {id} --status disabled"
        ));
    }
    notes
}

/// For the devices of a group that is disabled or `deleted`.
pub fn of_group(group: &Value, deleted: bool, open: &[Open]) -> Vec<String> {
    let id = group["enrollmentGroupId"].as_str().unwrap_or_default();
    let shows = Shows::of(None, Some(group));
    let mut notes = Vec::new();
    if !deleted {
        notes.push(match shows {
            Shows::Certificate => format!(
                "while the group {id} is disabled its signing certificate lets nobody in, whatever groups there are higher up in the chain; enabling it lets its devices back in"
            ),
            Shows::Key | Shows::Unknown => {
                format!("the group {id} lets its devices back in once it is enabled")
            }
        });
    }
    for other in open.iter().filter(|other| other.fits(shows)) {
        let nearer = match (shows, deleted) {
            (Shows::Certificate, false) => ", where that stands nearer to the device",
            _ => "",
        };
        notes.push(format!(
            "the group {} is enabled: a device {} may come back by it{nearer}",
            other.name,
            other.condition()
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn groups() -> Vec<Value> {
        vec![
            json!({ "enrollmentGroupId": "keys", "provisioningStatus": "enabled",
                "attestation": { "type": "symmetricKey" } }),
            json!({ "enrollmentGroupId": "line", "provisioningStatus": "enabled",
                "attestation": { "type": "x509", "x509": { "signingCertificates":
                    { "primary": { "info": { "subjectName": "CN=Line 7" } } } } } }),
            json!({ "enrollmentGroupId": "Root", "provisioningStatus": "enabled",
                "attestation": { "type": "x509", "x509": { "caReferences": { "primary": "r", "secondary": "s" } } } }),
            json!({ "enrollmentGroupId": "off", "provisioningStatus": "disabled",
                "attestation": { "type": "x509", "x509": { "caReferences": { "primary": "r" } } } }),
        ]
    }

    #[test]
    fn how_a_device_proves_itself_is_read_from_what_there_is() {
        let x509 = json!({ "attestation": { "type": "x509" } });
        let assigned = json!({ "status": "assigned" });
        let by_group = json!({ "status": "assigned", "x509": { "enrollmentGroupId": "g" } });
        let disabled = json!({ "status": "disabled" });
        assert_eq!(Shows::of(Some(&assigned), Some(&x509)), Shows::Certificate);
        assert_eq!(Shows::of(Some(&by_group), None), Shows::Certificate);
        assert_eq!(Shows::of(Some(&assigned), None), Shows::Key);
        assert_eq!(Shows::of(Some(&disabled), None), Shows::Unknown);
        assert_eq!(Shows::of(None, None), Shows::Unknown);
    }

    #[test]
    fn only_groups_that_could_take_it_are_named() {
        let open = Open::among(&groups(), Some("ROOT"));
        assert_eq!(open.len(), 2);
        let said = |shows| of_device("d", false, shows, &open).join("\n");
        assert!(said(Shows::Certificate).contains("group line"));
        assert!(said(Shows::Certificate).contains("with `CN=Line 7` in its chain"));
        assert!(!said(Shows::Certificate).contains("group keys"));
        assert!(said(Shows::Key).contains("group keys") && !said(Shows::Key).contains("line"));
        assert!(said(Shows::Unknown).contains("line") && said(Shows::Unknown).contains("keys"));
        assert!(of_device("d", false, Shows::Key, &[]).is_empty());
        let barred = of_device("d", true, Shows::Certificate, &open);
        assert!(barred.len() == 1 && barred[0].contains("do not delete it"));
    }

    #[test]
    fn a_groups_devices_may_come_back_higher_up_when_it_is_gone_and_lower_down_while_it_is_disabled()
     {
        let all = groups();
        let open = Open::among(&all, Some("line"));
        let deleted = of_group(&all[1], true, &open).join("\n");
        assert!(deleted.contains("the CA certificate r or the CA certificate s in its chain"));
        assert!(!deleted.contains("nearer") && !deleted.contains("keys"));
        let disabled = of_group(&all[1], false, &open).join("\n");
        assert!(disabled.contains("its signing certificate lets nobody in"));
        assert!(disabled.contains("nearer to the device"));
    }
}
