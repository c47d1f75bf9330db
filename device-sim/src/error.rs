//! Why a plan cannot be carried out. Every sentence names the member of the plan and the remedy.

use std::net::IpAddr;

/// Why no device was started.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PlanError {
    #[error("the plan has no devices: give a count above 0, or a list of registration ids")]
    NoDevices,
    #[error("the device name `{0}` has no `{{n}}`: {1} devices would all have the same name")]
    SameName(String, u64),
    #[error("the device name is not valid: {0}")]
    Name(String),
    #[error("`{0}` stands twice among the registration ids")]
    Repeated(String),
    #[error("a {0} needs a DPS to register with: give its host and id scope")]
    NeedsDps(&'static str),
    #[error(
        "a {0} names the hub, so no DPS can be asked: leave the DPS out, or give a key instead"
    )]
    NeedsNoDps(&'static str),
    #[error("the plan has {devices} devices and {tpms} TPMs; each device has one of its own")]
    Tpms { tpms: u64, devices: u64 },
    #[error("the connection string of a device has no device id: `DeviceId=…` is missing")]
    NoDeviceId,
    #[error("the connection string names the module `{0}`; a fleet consists of devices")]
    Module(String),
    #[error("the connection string is that of `{named}`, so the plan can hold only `{named}`")]
    OtherDevice { named: String },
    #[error("the connection string of a policy has no `SharedAccessKeyName`")]
    NoPolicyName,
    #[error(
        "the connection string has no `SharedAccessKey`; devices with certificates register with a DPS"
    )]
    NoKey,
    #[error(
        "{devices} devices with {certificates} certificates: each device needs one of its own, of its name"
    )]
    Certificates { certificates: usize, devices: u64 },
    #[error("`{0}` is not a host name or an address")]
    Host(String),
    #[error("the {what} is {given}; it must be {allowed}")]
    Range {
        what: &'static str,
        given: String,
        allowed: &'static str,
    },
    #[error("a number of messages was given but no heartbeat interval: nothing would ever be sent")]
    MessagesWithoutHeartbeat,
    #[error("shard {index}/{of} does not exist: shards go from 0/{of} to {}/{of}", of.saturating_sub(1))]
    Shard { index: u64, of: u64 },
    #[error("shard {index}/{of} has no devices: the plan has only {devices}")]
    EmptyShard { index: u64, of: u64, devices: u64 },
    #[error("`{0}` is neither an address, a list of addresses nor a network such as 127.0.1.0/24")]
    Sources(String),
    #[error(
        "devices cannot bind to {source_address} and dial {target}: one is IPv4 and the other IPv6"
    )]
    Family {
        source_address: IpAddr,
        target: IpAddr,
    },
    #[error(
        "{devices} devices need {needed} file descriptors and this process may open {limit} (ulimit -Hn): split the fleet over {shards} processes with `--shard 0/{shards}` to `--shard {last}/{shards}`, or raise the limit"
    )]
    Descriptors {
        devices: u64,
        needed: u64,
        limit: u64,
        shards: u64,
        last: u64,
    },
    #[error("the limit of open files cannot be read: {0}")]
    UnknownLimit(String),
}
