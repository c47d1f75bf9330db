//! How one registration went, as data: kept beside its state, so that it can be explained later, also after a
//! restart.
//!
//! A few hundred bytes, however many hubs are linked and groups there are. What may not enter: keys, tokens,
//! signatures; sentences, which `explanation` has.

use std::net::{IpAddr, SocketAddr};

use azimuth_wire::EnrollmentGroupId;
use azimuth_wire::enrollment::AllocationPolicy;
use azimuth_wire::sas::Signer;
use dashmap::DashMap;
use serde::{Deserialize, Serialize};

use crate::linked_hub::HubError;

/// One registration: how the device proved itself, which hub it got, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    pub proof: Proof,
    /// Where the device called from.
    pub remote: IpAddr,
    /// `None`: it did not come so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocation: Option<Allocation>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fate: Option<Fate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hub: Option<AtHub>,
    /// From register to the end, or to the last word of the hub while it is under way.
    pub milliseconds: u64,
}

impl Attempt {
    /// A device whose proof was taken, and no more yet.
    pub fn begun(proof: &Proof, remote: SocketAddr) -> Self {
        Self {
            proof: proof.clone(),
            remote: remote.ip(),
            allocation: None,
            fate: None,
            hub: None,
            milliseconds: 0,
        }
    }
}

/// What the device brought, and what of its enrollment it fits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Proof {
    Token(TokenProof),
    Certificate(CertificateProof),
    /// A token signed with the key of a challenge, which only the enrolled TPM could read.
    Tpm,
}

/// A token, and the key that signed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenProof {
    /// Which of the enrollment's two keys it was, or which of the group's it was derived from.
    pub key: Slot,
    /// The derived key is over the lower-case form of the registration id, not over the device's own spelling.
    #[serde(default, skip_serializing_if = "is_false")]
    pub lower_case: bool,
    /// Groups that were tried before.
    #[serde(default, skip_serializing_if = "Few::is_empty")]
    pub passed: Few,
}

/// A chain, and the certificate in it that an enrollment knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateProof {
    /// The subjects on the way up, leaf first.
    pub path: Few,
    pub known: Known,
}

/// By what an enrollment knows a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Known {
    /// An individual enrollment holds the leaf itself.
    Leaf(Slot),
    /// An individual enrollment refers to a CA certificate of the service.
    CaCertificate(String),
    /// A group is anchored at a certificate of the path.
    #[serde(rename_all = "camelCase")]
    Group {
        /// Its place on the path, 0 being the leaf.
        at: usize,
        /// The verified CA certificate at the end of the path, by name.
        ca: String,
        /// Groups anchored further up.
        #[serde(default, skip_serializing_if = "Few::is_empty")]
        above: Few,
    },
}

/// One of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Slot {
    Primary,
    Secondary,
}

impl Slot {
    pub fn name(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
        }
    }
}

impl From<Signer> for Slot {
    fn from(signer: Signer) -> Self {
        match signer {
            Signer::Primary => Self::Primary,
            Signer::Secondary => Self::Secondary,
        }
    }
}

/// The first of many names, and how many more there were.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Few {
    pub names: Vec<String>,
    #[serde(default, skip_serializing_if = "is_none_more")]
    pub more: usize,
}

impl Few {
    const NAMES: usize = 5;
    const LETTERS: usize = 120;

    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    pub fn push(&mut self, name: &str) {
        if self.names.len() == Self::NAMES {
            self.more += 1;
        } else {
            self.names.push(name.chars().take(Self::LETTERS).collect());
        }
    }
}

impl<T: AsRef<str>> FromIterator<T> for Few {
    fn from_iter<I: IntoIterator<Item = T>>(names: I) -> Self {
        let mut few = Self::default();
        names.into_iter().for_each(|name| few.push(name.as_ref()));
        few
    }
}

impl std::fmt::Display for Few {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.names.join(", "))?;
        match self.more {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// Among which hubs one was chosen, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Allocation {
    pub policy: AllocationPolicy,
    /// The service's policy, because the enrollment has none.
    #[serde(default, skip_serializing_if = "is_false")]
    pub of_service: bool,
    /// The region of the device's address, where that counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The URL without its query, of custom allocation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
    /// The chosen one first, then those that might have been.
    pub hubs: Vec<Weighed>,
    /// Hubs that are not in the list.
    #[serde(default, skip_serializing_if = "is_none_more")]
    pub more: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<String>,
}

impl Allocation {
    /// A hub was chosen among those in the list.
    pub fn choose(&mut self, host: &str) {
        self.hubs.sort_by_key(|hub| hub.host != host);
        self.chosen = Some(host.to_owned());
    }
}

/// A hub as allocation saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Weighed {
    pub host: String,
    /// Milliseconds from the device's region, where they count and are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<u32>,
    /// Its share of evenly weighted allocation, where that counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// Why it could not be chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excluded: Option<Exclusion>,
}

/// Why a hub could not be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Exclusion {
    /// The enrollment names other hubs in `iotHubs`.
    NotNamed,
    /// Its link has `applyAllocationPolicy` false, and the enrollment does not name it.
    KeptOut,
    /// The enrollment names it, but it is not linked.
    NotLinked,
    /// The device may not leave the hub it has.
    MayNotLeave,
}

/// What registering did to the hub that the device had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Fate {
    /// It had none.
    Initial,
    Kept(Because),
    Moved {
        from: String,
        /// Whether its twin is meant to go along.
        migrate: bool,
        /// What became of it in the hub it left.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        left: Option<Left>,
    },
}

/// Why a device keeps its hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Because {
    /// The same one was chosen again.
    SameHub,
    /// `updateHubAssignment` is false.
    Policy,
    /// The enrollment has no policy and the caller's api-version is from before there was one.
    OldCaller,
}

/// What became of a device in the hub it left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Left {
    Removed,
    /// Nobody asks a hub that is not linked.
    NotLinked,
    Failed(String),
}

/// What the hub said when the device was to be written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AtHub {
    pub host: String,
    pub answer: HubAnswer,
    /// How often it was asked.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub tries: u32,
}

impl AtHub {
    /// A hub that is linked no more.
    pub fn not_asked(host: &str) -> Self {
        Self {
            host: host.into(),
            answer: HubAnswer::NotLinked,
            tries: 0,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HubAnswer {
    Made,
    /// It had the device, and gave it the credential.
    Updated,
    /// It had the device, with this very credential.
    Unchanged,
    /// It answered this status.
    Refused(u16),
    Unreachable(String),
    /// Nobody asks a hub that is not linked.
    NotLinked,
}

impl HubAnswer {
    pub fn written(written: Written) -> Self {
        match written {
            Written::Made => Self::Made,
            Written::Updated => Self::Updated,
            Written::Unchanged => Self::Unchanged,
        }
    }

    pub fn of(error: &HubError) -> Self {
        match error {
            HubError::Refused { status, .. } => Self::Refused(*status),
            HubError::Unreachable(cause) => Self::Unreachable(cause.clone()),
        }
    }
}

/// What writing a device to its hub came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    Made,
    /// It was there, and was given the credential.
    Updated,
    /// It was there, with this very credential.
    Unchanged,
}

/// The registrations that wait for a hub or a webhook which does not answer, by folded registration id.
///
/// No more than are under way at once; one that is answered at once is never here.
#[derive(Debug, Default)]
pub struct Waiting(DashMap<Box<str>, Waits>);

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waits {
    /// The group that took the device; there is no record yet that would name it.
    pub group: Option<EnrollmentGroupId>,
    pub attempt: Attempt,
}

impl Waiting {
    pub fn is(&self, key: &str, group: Option<&EnrollmentGroupId>, attempt: &Attempt) {
        let waits = Waits {
            group: group.cloned(),
            attempt: attempt.clone(),
        };
        self.0.insert(key.into(), waits);
    }

    pub fn is_over(&self, key: &str) {
        self.0.remove(key);
    }

    pub fn of(&self, key: &str) -> Option<Waits> {
        self.0.get(key).map(|waits| waits.clone())
    }
}

fn once() -> u32 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_once(tries: &u32) -> bool {
    *tries == once()
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(value: &bool) -> bool {
    !value
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_none_more(value: &usize) -> bool {
    *value == 0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_kept_is_bounded_whatever_the_names() {
        let few: Few = (0..9).map(|number| "n".repeat(number * 100)).collect();
        assert_eq!((few.names.len(), few.more), (5, 4));
        assert!(few.names.iter().all(|name| name.len() <= 120));
        assert!(few.to_string().ends_with(" and 4 more"));
    }

    #[test]
    fn a_usual_attempt_is_a_few_hundred_bytes_and_reads_back() {
        let hub = |host: &str, latency| Weighed {
            host: format!("{host}.azure-devices.net"),
            latency: Some(latency),
            weight: Some(1),
            excluded: None,
        };
        let attempt = Attempt {
            proof: Proof::Token(TokenProof {
                key: Slot::Primary,
                lower_case: false,
                passed: Few::default(),
            }),
            remote: "127.0.1.7".parse().unwrap(),
            allocation: Some(Allocation {
                policy: AllocationPolicy::GeoLatency,
                of_service: true,
                region: Some("eastus".into()),
                webhook: None,
                hubs: vec![hub("contoso-east-hub", 0), hub("contoso-west-hub", 68)],
                more: 0,
                chosen: Some("contoso-east-hub.azure-devices.net".into()),
            }),
            fate: Some(Fate::Initial),
            hub: Some(AtHub {
                host: "contoso-east-hub.azure-devices.net".into(),
                answer: HubAnswer::Made,
                tries: 1,
            }),
            milliseconds: 12,
        };
        let text = serde_json::to_string(&attempt).unwrap();
        assert!(text.len() < 512, "{} {text}", text.len());
        assert_eq!(serde_json::from_str::<Attempt>(&text).unwrap(), attempt);
    }
}
