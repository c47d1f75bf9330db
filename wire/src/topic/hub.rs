//! What a device may say to a hub, listen to, and hear.

use std::fmt;

use crate::device_id::Identity;
use crate::message::{InvalidBag, PropertyBag, encode_bag};

/// What a device publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceTopic<'a> {
    Telemetry(PropertyBag<'a>),
    TwinGet {
        request_id: &'a str,
    },
    TwinPatchReported {
        request_id: &'a str,
        if_version: Option<u64>,
    },
    MethodResponse {
        status: i32,
        request_id: &'a str,
    },
}

/// Why a topic is refused. Azure closes the connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTopic {
    #[error(
        "`{topic}` is not a topic that `{identity}` may publish to; telemetry goes to `{expected}`"
    )]
    Unknown {
        topic: String,
        identity: String,
        expected: String,
    },
    #[error("the property bag of the topic is not valid: {0}")]
    Bag(#[from] InvalidBag),
    #[error("the topic has no request id: it must end in `/?$rid=<request id>`")]
    RequestId,
    #[error("`{0}` is not a version number")]
    Version(String),
    #[error("`{0}` is not a method status: an integer of 32 bits")]
    Status(String),
}

impl<'a> DeviceTopic<'a> {
    /// Reads a topic that `identity` published to. Ids are compared exactly and never decoded.
    pub fn parse(topic: &'a str, identity: &Identity) -> Result<Self, InvalidTopic> {
        if let Some(bag) = telemetry_bag(topic, identity) {
            return Ok(Self::Telemetry(PropertyBag::parse(bag)?));
        }
        let unknown = || InvalidTopic::Unknown {
            topic: topic.chars().take(200).collect(),
            identity: identity.to_string(),
            expected: telemetry_topic(identity),
        };
        let rest = topic.strip_prefix("$iothub/").ok_or_else(unknown)?;
        let (path, query) = split_query(rest);
        match path {
            "twin/GET" => Ok(Self::TwinGet {
                request_id: request_id(query)?,
            }),
            "twin/PATCH/properties/reported" => Ok(Self::TwinPatchReported {
                request_id: request_id(query)?,
                if_version: parameter(query, "$version").map(version).transpose()?,
            }),
            _ => Ok(Self::MethodResponse {
                status: method_status(path).ok_or_else(unknown)??,
                request_id: request_id(query)?,
            }),
        }
    }

    /// The topic under which `identity` says this.
    pub fn text(&self, identity: &Identity) -> String {
        match self {
            Self::Telemetry(PropertyBag(properties)) => {
                let pairs = properties
                    .iter()
                    .map(|(name, value)| (name.as_ref(), value.as_deref()));
                telemetry_topic(identity) + &encode_bag(pairs)
            }
            Self::TwinGet { request_id } => format!("$iothub/twin/GET/?$rid={request_id}"),
            Self::TwinPatchReported {
                request_id,
                if_version: None,
            } => format!("$iothub/twin/PATCH/properties/reported/?$rid={request_id}"),
            Self::TwinPatchReported {
                request_id,
                if_version: Some(version),
            } => format!(
                "$iothub/twin/PATCH/properties/reported/?$rid={request_id}&$version={version}"
            ),
            Self::MethodResponse { status, request_id } => {
                format!("$iothub/methods/res/{status}/?$rid={request_id}")
            }
        }
    }
}

/// The topic of an identity's telemetry, without properties.
pub fn telemetry_topic(identity: &Identity) -> String {
    match &identity.module {
        Some(module) => format!(
            "devices/{}/modules/{module}/messages/events/",
            identity.device
        ),
        None => format!("devices/{}/messages/events/", identity.device),
    }
}

/// Runs for every message: nothing is allocated.
fn telemetry_bag<'a>(topic: &'a str, identity: &Identity) -> Option<&'a str> {
    let bag = below(topic, identity)?.strip_prefix("messages/events")?;
    if bag.is_empty() {
        Some(bag)
    } else {
        bag.strip_prefix('/')
    }
}

/// What follows `devices/{id}/` or `devices/{id}/modules/{module}/`.
fn below<'a>(topic: &'a str, identity: &Identity) -> Option<&'a str> {
    let rest = topic
        .strip_prefix("devices/")?
        .strip_prefix(identity.device.as_str())?;
    let rest = match &identity.module {
        Some(module) => rest
            .strip_prefix("/modules/")?
            .strip_prefix(module.as_str())?,
        None => rest,
    };
    rest.strip_prefix('/')
}

/// The path and the parameters; neither has the `/?` between them.
fn split_query(topic: &str) -> (&str, &str) {
    match topic.split_once("/?") {
        Some(parts) => parts,
        None => (topic.strip_suffix('/').unwrap_or(topic), ""),
    }
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = query.split('&');
    pairs.find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

fn request_id(query: &str) -> Result<&str, InvalidTopic> {
    parameter(query, "$rid")
        .filter(|id| !id.is_empty())
        .ok_or(InvalidTopic::RequestId)
}

fn version(text: &str) -> Result<u64, InvalidTopic> {
    text.parse()
        .map_err(|_| InvalidTopic::Version(text.chars().take(40).collect()))
}

/// `None` when the path is not that of a method response.
fn method_status(path: &str) -> Option<Result<i32, InvalidTopic>> {
    let status = path.strip_prefix("methods/res/")?;
    if status.contains('/') {
        return None;
    }
    let invalid = |_| InvalidTopic::Status(status.chars().take(40).collect());
    Some(status.parse().map_err(invalid))
}

/// What a subscription covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Interests {
    pub cloud_to_device: bool,
    pub twin_responses: bool,
    pub desired: bool,
    pub methods: bool,
    pub inputs: bool,
}

impl Interests {
    const NONE: Self = Self {
        cloud_to_device: false,
        twin_responses: false,
        desired: false,
        methods: false,
        inputs: false,
    };

    /// Reads a filter that `identity` subscribes to; `None` is a filter the hub does not know.
    ///
    /// `#` works as the last level of the documented prefixes; `+` is not supported (Azure: MQTT
    /// support).
    pub fn parse(filter: &str, identity: &Identity) -> Option<Self> {
        let module = identity.module.is_some();
        let everything = Self {
            cloud_to_device: true,
            twin_responses: true,
            desired: true,
            methods: true,
            inputs: module,
        };
        match filter {
            "#" => return Some(everything),
            "$iothub/#" => {
                return Some(Self {
                    cloud_to_device: false,
                    inputs: false,
                    ..everything
                });
            }
            "$iothub/twin/#" => {
                return Some(Self {
                    twin_responses: true,
                    desired: true,
                    ..Self::NONE
                });
            }
            "$iothub/twin/res/#" => {
                return Some(Self {
                    twin_responses: true,
                    ..Self::NONE
                });
            }
            "$iothub/twin/PATCH/#"
            | "$iothub/twin/PATCH/properties/#"
            | "$iothub/twin/PATCH/properties/desired/#" => {
                return Some(Self {
                    desired: true,
                    ..Self::NONE
                });
            }
            "$iothub/methods/#" | "$iothub/methods/POST/#" => {
                return Some(Self {
                    methods: true,
                    ..Self::NONE
                });
            }
            _ => {}
        }
        match below(filter, identity)? {
            "#" => Some(Self {
                cloud_to_device: true,
                inputs: module,
                ..Self::NONE
            }),
            "messages/#" | "messages/devicebound/#" => Some(Self {
                cloud_to_device: true,
                ..Self::NONE
            }),
            "inputs/#" if module => Some(Self {
                inputs: true,
                ..Self::NONE
            }),
            _ => None,
        }
    }
}

/// What a hub says to a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HubTopic<'a> {
    TwinResponse {
        status: u16,
        request_id: &'a str,
        version: Option<u64>,
    },
    DesiredPatch {
        version: u64,
    },
    Method {
        name: &'a str,
        request_id: &'a str,
    },
    /// The bag is never empty: `$.to` is always in it.
    CloudToDevice {
        identity: &'a Identity,
        bag: &'a str,
    },
    /// To an input of a module. `identity` has a module.
    ModuleInput {
        identity: &'a Identity,
        input: &'a str,
        bag: &'a str,
    },
}

impl<'a> HubTopic<'a> {
    /// Reads what `identity` hears, as a device does; `None` is no topic of a hub.
    pub fn parse(topic: &'a str, identity: &'a Identity) -> Option<Self> {
        if let Some(rest) = below(topic, identity) {
            if let Some(bag) = rest.strip_prefix("messages/devicebound/") {
                return Some(Self::CloudToDevice { identity, bag });
            }
            identity.module.as_ref()?;
            let (input, bag) = rest.strip_prefix("inputs/")?.split_once('/')?;
            return Some(Self::ModuleInput {
                identity,
                input,
                bag,
            });
        }
        // The name of a method may begin with `?`, so `$` is asked for as well.
        let rest = topic.strip_prefix("$iothub/")?;
        let (path, query) = rest.split_at_checked(rest.find("/?$")?)?;
        let query = query.strip_prefix("/?")?;
        let version = parameter(query, "$version").map(str::parse).transpose();
        if path == "twin/PATCH/properties/desired" {
            return Some(Self::DesiredPatch {
                version: version.ok()??,
            });
        }
        let request_id = parameter(query, "$rid")?;
        if let Some(name) = path.strip_prefix("methods/POST/") {
            return Some(Self::Method { name, request_id });
        }
        Some(Self::TwinResponse {
            status: path.strip_prefix("twin/res/")?.parse().ok()?,
            request_id,
            version: version.ok()?,
        })
    }
}

impl fmt::Display for HubTopic<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TwinResponse {
                status,
                request_id,
                version,
            } => {
                write!(f, "$iothub/twin/res/{status}/?$rid={request_id}")?;
                version.map_or(Ok(()), |version| write!(f, "&$version={version}"))
            }
            Self::DesiredPatch { version } => write!(
                f,
                "$iothub/twin/PATCH/properties/desired/?$version={version}"
            ),
            Self::Method { name, request_id } => {
                write!(f, "$iothub/methods/POST/{name}/?$rid={request_id}")
            }
            Self::CloudToDevice { identity, bag } => {
                write_own(f, identity)?;
                write!(f, "messages/devicebound/{bag}")
            }
            Self::ModuleInput {
                identity,
                input,
                bag,
            } => {
                write_own(f, identity)?;
                write!(f, "inputs/{input}/{bag}")
            }
        }
    }
}

fn write_own(f: &mut fmt::Formatter<'_>, identity: &Identity) -> fmt::Result {
    match &identity.module {
        Some(module) => write!(f, "devices/{}/modules/{module}/", identity.device),
        None => write!(f, "devices/{}/", identity.device),
    }
}
