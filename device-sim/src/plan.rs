//! What a fleet shall do: how many devices, under which names and keys, how fast, how long.
//!
//! A plan is data. [`Plan::check`] says in a sentence what is wrong with it; nothing here opens a
//! socket or reads a clock.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use azimuth_tpm::SoftwareTpm;
use azimuth_wire::connection_string::ConnectionString;
use azimuth_wire::{DeviceId, IdScope, RegistrationId, SymmetricKey};
use rustls::client::ResolvesClientCert;

use crate::error::PlanError;
use crate::sources::Sources;

/// Same plan and seed, same schedule.
#[derive(Debug, Clone)]
pub struct Plan {
    pub who: Who,
    pub credential: Credential,
    /// Needed with a key, not allowed with a connection string.
    pub provisioning: Option<Dps>,
    /// Where a host name is dialled instead of where the resolver says. The name itself stays in
    /// TLS and in the user name. Keys are lower case; the DPS host may be one of them.
    pub addresses: HashMap<String, IpAddr>,
    /// The HTTPS port of the DPS: 443. Devices with a TPM register there.
    pub dps_https_port: u16,
    /// The MQTT port of the hubs: 8883.
    pub hub_port: u16,
    pub sources: Sources,
    /// Devices started a second; `None` starts all at once.
    pub ramp: Option<f64>,
    /// Between two messages of a device; `None` connects and stays silent.
    pub heartbeat: Option<Duration>,
    /// How far a heartbeat may be off its beat: 0 not at all, 1 anywhere in its interval.
    pub jitter: f64,
    /// Bytes of a message's body. Bodies are never shorter than their members need, about 60.
    pub payload_bytes: usize,
    /// The fleet ends after this time.
    pub duration: Option<Duration>,
    /// A device is done when it has sent this many messages and they are acknowledged.
    pub messages: Option<u64>,
    /// At least once (QoS 1) or at most once (QoS 0).
    pub at_least_once: bool,
    /// Messages of one device that wait for their PUBACK at a time.
    pub in_flight: usize,
    /// Whether devices subscribe to what a hub sends them; methods are answered 200 with `{}`.
    pub subscribe: bool,
    pub seed: u64,
    /// Life of a SAS token; it is renewed at 85 %.
    pub token_life: Duration,
    /// What CONNECT announces, in whole seconds; a ping follows when either side was silent for three
    /// quarters of it.
    pub keep_alive: Duration,
    pub shard: Shard,
    /// TCP, TLS and CONNECT under way at a time.
    pub connects_at_once: usize,
    pub back_off: BackOff,
    /// A device fails after this many failed tries in a row; `None` never gives up.
    pub give_up_after: Option<u32>,
    /// How long acknowledgements are waited for when `duration` is over. Devices without a
    /// connection go on trying to connect, and send what is due.
    pub drain: Duration,
    /// The same when the fleet is stopped from outside: whoever runs containers kills after 10 s.
    pub drain_when_stopped: Duration,
}

/// The devices of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// `name` with `{n}` replaced by `first` and the `count - 1` numbers after it. Without `{n}` only
    /// for a count of 1.
    Numbered {
        name: String,
        first: u64,
        count: u64,
    },
    /// Registration ids, or device ids where no DPS is asked.
    Named(Vec<String>),
}

/// What devices prove themselves with.
#[derive(Debug, Clone)]
pub enum Credential {
    /// A certificate for each device, in the order of their names, shown to the DPS and to the hub.
    Certificates(Vec<Arc<dyn ResolvesClientCert>>),
    /// The key of an enrollment group; each device derives its own.
    GroupKey(SymmetricKey),
    /// The key of an individual enrollment.
    DeviceKey(SymmetricKey),
    /// The TPMs of the devices, in their order.
    Tpms(Vec<Arc<SoftwareTpm>>),
    /// The connection string of one device.
    ConnectionString(ConnectionString),
    /// The connection string of a hub policy with DeviceConnect: it lets in every device that exists.
    HubPolicy(ConnectionString),
}

/// The DPS to register with.
#[derive(Debug, Clone)]
pub struct Dps {
    /// Name or address; sent as TLS server name.
    pub host: String,
    pub port: u16,
    /// Dialled instead of what the resolver says of `host`.
    pub address: Option<IpAddr>,
    pub id_scope: IdScope,
}

/// Device k belongs to the shard k modulo `of`: a fleet over several processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    pub index: u64,
    pub of: u64,
}

/// Waits between tries: `first`, doubled each time up to `most`, of which chance takes up to half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackOff {
    pub first: Duration,
    pub most: Duration,
}

impl Plan {
    /// A fleet of `who`, with what Azure's SDKs do by default and one heartbeat a minute.
    pub fn new(who: Who, credential: Credential, provisioning: Option<Dps>) -> Self {
        Self {
            who,
            credential,
            provisioning,
            addresses: HashMap::new(),
            dps_https_port: 443,
            hub_port: 8883,
            sources: Sources::Any,
            ramp: None,
            heartbeat: Some(Duration::from_secs(60)),
            jitter: 1.0,
            payload_bytes: 200,
            duration: None,
            messages: None,
            at_least_once: true,
            in_flight: 16,
            subscribe: false,
            seed: 1,
            token_life: Duration::from_secs(3600),
            keep_alive: Duration::from_secs(240),
            shard: Shard { index: 0, of: 1 },
            connects_at_once: 100,
            back_off: BackOff {
                first: Duration::from_secs(1),
                most: Duration::from_secs(60),
            },
            give_up_after: None,
            drain: Duration::from_secs(30),
            drain_when_stopped: Duration::from_secs(5),
        }
    }

    /// The devices of all shards.
    pub fn devices(&self) -> u64 {
        match &self.who {
            Who::Numbered { count, .. } => *count,
            Who::Named(names) => names.len() as u64,
        }
    }

    /// The hub that the connection string names; `None` when a DPS says which.
    pub(crate) fn hub(&self) -> Option<&str> {
        match &self.credential {
            Credential::GroupKey(_)
            | Credential::DeviceKey(_)
            | Credential::Certificates(_)
            | Credential::Tpms(_) => None,
            Credential::ConnectionString(string) | Credential::HubPolicy(string) => {
                Some(&string.host_name)
            }
        }
    }

    /// The numbers, from 0, of the devices of this shard.
    pub fn of_this_shard(&self) -> impl Iterator<Item = u64> + use<> {
        let step = usize::try_from(self.shard.of.max(1)).unwrap_or(usize::MAX);
        (self.shard.index..self.devices()).step_by(step)
    }

    /// The name of the device with this number, from 0. `None` is beyond the plan.
    pub fn name(&self, number: u64) -> Option<String> {
        match &self.who {
            Who::Numbered { name, first, count } => (number < *count)
                .then(|| name.replace("{n}", &first.saturating_add(number).to_string())),
            Who::Named(names) => names.get(usize::try_from(number).ok()?).cloned(),
        }
    }

    /// What the device with this number, from 0, shows in its handshakes.
    pub(crate) fn certificate(&self, number: u64) -> Option<&Arc<dyn ResolvesClientCert>> {
        let Credential::Certificates(certificates) = &self.credential else {
            return None;
        };
        certificates.get(usize::try_from(number).ok()?)
    }

    /// The TPM of the device with this number, from 0, where it has one.
    pub(crate) fn tpm(&self, number: u64) -> Option<&Arc<SoftwareTpm>> {
        let Credential::Tpms(tpms) = &self.credential else {
            return None;
        };
        tpms.get(usize::try_from(number).ok()?)
    }

    /// The place of the device with this number, from 0, among those of all slots: what chance and
    /// source addresses go by, so that two slots do not send in step.
    pub(crate) fn place(&self, number: u64) -> u64 {
        match &self.who {
            Who::Numbered { first, .. } => first.saturating_sub(1).saturating_add(number),
            Who::Named(_) => number,
        }
    }

    /// Says what is wrong with the plan, if anything.
    pub fn check(&self) -> Result<(), PlanError> {
        self.check_names()?;
        self.check_credential()?;
        self.check_ranges()?;
        let Shard { index, of } = self.shard;
        if index >= of {
            return Err(PlanError::Shard { index, of });
        }
        let devices = self.devices();
        if index >= devices {
            return Err(PlanError::EmptyShard { index, of, devices });
        }
        let dps = self.provisioning.iter().filter_map(|dps| dps.address);
        for target in self.addresses.values().copied().chain(dps) {
            if let Some(source_address) = self.sources.pick(0)
                && source_address.is_ipv4() != target.is_ipv4()
            {
                return Err(PlanError::Family {
                    source_address,
                    target,
                });
            }
        }
        Ok(())
    }

    fn check_names(&self) -> Result<(), PlanError> {
        match &self.who {
            Who::Numbered { count: 0, .. } => Err(PlanError::NoDevices),
            Who::Numbered { name, count, .. } if *count > 1 && !name.contains("{n}") => {
                Err(PlanError::SameName(name.clone(), *count))
            }
            Who::Numbered { first, count, .. } if first.checked_add(*count).is_none() => {
                Err(PlanError::Range {
                    what: "number of the first device",
                    given: first.to_string(),
                    allowed: "small enough to count on from it",
                })
            }
            // The last name is the longest; the others differ in digits only.
            Who::Numbered { count, .. } => {
                self.check_name(&self.name(count - 1).unwrap_or_default())
            }
            Who::Named(names) if names.is_empty() => Err(PlanError::NoDevices),
            Who::Named(names) => {
                let mut seen = HashSet::new();
                for name in names {
                    self.check_name(name)?;
                    let folded = match self.provisioning {
                        Some(_) => name.to_ascii_lowercase(),
                        None => name.clone(),
                    };
                    if !seen.insert(folded) {
                        return Err(PlanError::Repeated(name.clone()));
                    }
                }
                Ok(())
            }
        }
    }

    fn check_name(&self, name: &str) -> Result<(), PlanError> {
        let checked = match self.provisioning {
            Some(_) => name.parse::<RegistrationId>().err().map(|e| e.to_string()),
            None => name.parse::<DeviceId>().err().map(|e| e.to_string()),
        };
        checked.map_or(Ok(()), |sentence| Err(PlanError::Name(sentence)))
    }

    fn check_credential(&self) -> Result<(), PlanError> {
        let string = match (&self.credential, &self.provisioning) {
            (Credential::GroupKey(_), None) => return Err(PlanError::NeedsDps("group key")),
            (Credential::DeviceKey(_), None) => return Err(PlanError::NeedsDps("device key")),
            (Credential::Certificates(_), None) => {
                return Err(PlanError::NeedsDps("certificate"));
            }
            (Credential::Certificates(certificates), Some(_))
                if certificates.len() as u64 != self.devices() =>
            {
                return Err(PlanError::Certificates {
                    certificates: certificates.len(),
                    devices: self.devices(),
                });
            }
            (Credential::Tpms(_), None) => return Err(PlanError::NeedsDps("TPM")),
            (Credential::Tpms(tpms), Some(_)) if tpms.len() as u64 != self.devices() => {
                return Err(PlanError::Tpms {
                    tpms: tpms.len() as u64,
                    devices: self.devices(),
                });
            }
            (
                Credential::GroupKey(_)
                | Credential::DeviceKey(_)
                | Credential::Certificates(_)
                | Credential::Tpms(_),
                Some(dps),
            ) => {
                return check_host(&dps.host);
            }
            (Credential::ConnectionString(_), Some(_)) => {
                return Err(PlanError::NeedsNoDps("device's connection string"));
            }
            (Credential::HubPolicy(_), Some(_)) => {
                return Err(PlanError::NeedsNoDps("policy's connection string"));
            }
            (Credential::ConnectionString(string) | Credential::HubPolicy(string), None) => string,
        };
        check_host(&string.host_name)?;
        if string.key.is_none() {
            return Err(PlanError::NoKey);
        }
        if matches!(self.credential, Credential::HubPolicy(_)) {
            let named = string.key_name.is_some();
            return if named {
                Ok(())
            } else {
                Err(PlanError::NoPolicyName)
            };
        }
        let identity = string.identity.as_ref().ok_or(PlanError::NoDeviceId)?;
        if let Some(module) = &identity.module {
            return Err(PlanError::Module(module.to_string()));
        }
        let named = identity.device.to_string();
        if self.devices() == 1 && self.name(0).as_deref() == Some(&named) {
            Ok(())
        } else {
            Err(PlanError::OtherDevice { named })
        }
    }

    fn check_ranges(&self) -> Result<(), PlanError> {
        let second = Duration::from_secs(1);
        let beat = self.heartbeat.unwrap_or(second);
        let rules = [
            (
                "ramp",
                self.ramp.is_none_or(|ramp| ramp.is_finite() && ramp > 0.0),
                format!("{:?}", self.ramp),
                "above 0 devices a second",
            ),
            (
                "heartbeat interval",
                beat >= Duration::from_millis(1),
                format!("{beat:?}"),
                "at least 1 ms",
            ),
            (
                "jitter",
                (0.0..=1.0).contains(&self.jitter),
                self.jitter.to_string(),
                "from 0 to 1",
            ),
            (
                "payload",
                self.payload_bytes <= 262_144,
                format!("{} bytes", self.payload_bytes),
                "at most 262144 bytes, Azure's limit",
            ),
            (
                "number of messages",
                self.messages != Some(0),
                "0".into(),
                "above 0",
            ),
            (
                "number of messages in flight",
                (1..=1000).contains(&self.in_flight),
                self.in_flight.to_string(),
                "from 1 to 1000",
            ),
            (
                "token life",
                self.token_life >= 2 * second,
                format!("{:?}", self.token_life),
                "at least 2 s",
            ),
            (
                "keep-alive",
                (1..=65_535).contains(&self.keep_alive.as_secs()),
                format!("{:?}", self.keep_alive),
                "from 1 s to 65535 s",
            ),
            (
                "number of connects at a time",
                (1..=100_000).contains(&self.connects_at_once),
                self.connects_at_once.to_string(),
                "from 1 to 100000",
            ),
            (
                "first back-off",
                !self.back_off.first.is_zero() && self.back_off.first <= self.back_off.most,
                format!("{:?}", self.back_off.first),
                "above 0 and not above the longest",
            ),
            (
                "number of tries",
                self.give_up_after != Some(0),
                "0".into(),
                "above 0",
            ),
        ];
        for (what, kept, given, allowed) in rules {
            if !kept {
                return Err(PlanError::Range {
                    what,
                    given,
                    allowed,
                });
            }
        }
        if self.messages.is_some() && self.heartbeat.is_none() {
            return Err(PlanError::MessagesWithoutHeartbeat);
        }
        Ok(())
    }
}

fn check_host(host: &str) -> Result<(), PlanError> {
    rustls::pki_types::ServerName::try_from(host)
        .map(drop)
        .map_err(|_| PlanError::Host(host.into()))
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
