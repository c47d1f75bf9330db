//! Every path of the hub's HTTPS side, known and refused. No other file writes one.
//!
//! Clients differ in how they write paths: trailing slashes, any case of literal words, escaped
//! separators. May not enter: bodies, rights' holders.

use axum::http::Method;
use azimuth_wire::percent;
use azimuth_wire::policy::HubRights;

use super::certificates::CaRoute;

/// What a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `/devices`, read
    Devices,
    /// `/devices`, many written at once
    Bulk,
    /// `/devices/keys/regenerate`
    RegenerateKeys,
    /// `/devices/query`, asked; read it is a device of that name.
    Query,
    /// `/devices/{id}`, `/devices/{id}/modules/{id}`
    Identity(Named),
    /// `/devices/{id}/modules`
    Modules(String),
    /// `/twins/{id}`, `/twins/{id}/modules/{id}`
    Twin(Named),
    /// `/statistics/devices`
    DeviceStatistics,
    /// `/statistics/service`
    ServiceStatistics,
    /// `/azimuth/certificates`: of this simulator; Azure's are in its management plane.
    CaCertificates(CaRoute),
    /// `/jobs/create`: an import or export.
    CreateJob,
    /// `/jobs`
    Jobs,
    /// `/jobs/{id}`
    Job(String),
    /// `/azimuth/events`: of this simulator, not of Azure.
    Events,
    /// `/azimuth/refusals`: of this simulator, not of Azure.
    Refusals,
    /// `/azimuth/eventSubscriptions`: of this simulator, not of Azure.
    EventSubscriptions,
    /// `/azimuth/eventSubscriptions/{name}/validate`: opened by hand with the code that a webhook was sent.
    Validation(String),
    /// A path of Azure's that a service asks and this hub does not serve.
    NotSimulated(&'static str),
    /// … that a device asks, with a token that is no policy's.
    DeviceSide(&'static str),
    Unknown,
}

/// A device or module as a path names it, not yet checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pub device: String,
    pub module: Option<String>,
}

impl Named {
    /// Of `…/{device}` and `…/{device}/modules/{module}`.
    fn of(segments: &[String]) -> Self {
        Self {
            device: segments.get(1).cloned().unwrap_or_default(),
            module: segments.get(3).cloned(),
        }
    }
}

impl Route {
    pub fn of(method: &Method, segments: &[String]) -> Self {
        let lower: Vec<String> = segments.iter().map(|s| s.to_ascii_lowercase()).collect();
        let words: Vec<&str> = lower.iter().map(String::as_str).collect();
        let third = || segments.get(2).cloned().unwrap_or_default();
        match words[..] {
            ["devices"] if method == Method::POST => Self::Bulk,
            ["devices"] => Self::Devices,
            ["devices", "query"] if method == Method::POST => Self::Query,
            ["devices", _] | ["devices", _, "modules", _] => Self::Identity(Named::of(segments)),
            ["devices", _, "modules"] => Self::Modules(Named::of(segments).device),
            ["devices", _, "modules", ..] => Self::DeviceSide("what an edge runtime asks"),
            ["devices", "keys", "regenerate"] => Self::RegenerateKeys,
            ["devices", _, "commands"] => Self::NotSimulated("cloud-to-device messages"),
            ["devices", _, "applyconfigurationcontent"] => Self::NotSimulated("configurations"),
            ["devices", _, "messages", "events"] => Self::DeviceSide("telemetry over HTTPS"),
            ["devices", _, "messages", "devicebound"] if method == Method::POST => {
                Self::NotSimulated("cloud-to-device messages")
            }
            ["devices", _, "messages", "devicebound", ..] => {
                Self::DeviceSide("cloud-to-device messages")
            }
            ["devices", _, "files", ..] => Self::DeviceSide("file upload"),
            ["$iothub", "websocket"] => Self::DeviceSide("MQTT over WebSocket"),
            ["statistics", "devices"] => Self::DeviceStatistics,
            ["statistics", "service"] => Self::ServiceStatistics,
            ["twins", _] | ["twins", _, "modules", _] => Self::Twin(Named::of(segments)),
            ["twins", ..] => Self::NotSimulated("direct methods"),
            ["jobs"] => Self::Jobs,
            ["jobs", "create"] if method == Method::POST => Self::CreateJob,
            ["jobs", "v2", ..] => Self::NotSimulated("scheduled jobs"),
            ["jobs", _] => Self::Job(segments.get(1).cloned().unwrap_or_default()),
            ["configurations", ..] => Self::NotSimulated("configurations"),
            ["digitaltwins", ..] => Self::NotSimulated("digital twins"),
            ["messages", ..] => Self::NotSimulated("cloud-to-device messages"),
            ["azimuth", "certificates"] => Self::CaCertificates(CaRoute::All),
            ["azimuth", "certificates", _] => Self::CaCertificates(CaRoute::One(third())),
            ["azimuth", "certificates", _, "generateverificationcode"] => {
                Self::CaCertificates(CaRoute::Code(third()))
            }
            ["azimuth", "certificates", _, "verify"] => {
                Self::CaCertificates(CaRoute::Proof(third()))
            }
            ["azimuth", "events"] => Self::Events,
            ["azimuth", "refusals"] => Self::Refusals,
            ["azimuth", "eventsubscriptions"] => Self::EventSubscriptions,
            ["azimuth", "eventsubscriptions", name, "validate"] => Self::Validation(name.into()),
            _ => Self::Unknown,
        }
    }

    /// One of these rights opens the route; none means that any policy does.
    pub fn needs(&self, method: &Method) -> HubRights {
        const READ: HubRights = HubRights::RegistryRead.and(HubRights::RegistryWrite);
        match self {
            Self::Identity(_) if matches!(*method, Method::PUT | Method::DELETE) => {
                HubRights::RegistryWrite
            }
            Self::Devices
            | Self::Identity(_)
            | Self::Modules(_)
            | Self::DeviceStatistics
            | Self::ServiceStatistics => READ,
            Self::CaCertificates(_) if method == Method::GET => READ,
            Self::CaCertificates(_) => HubRights::RegistryWrite,
            Self::Job(_) if *method == Method::DELETE => HubRights::RegistryWrite,
            Self::Jobs | Self::Job(_) => READ,
            Self::Bulk | Self::CreateJob | Self::RegenerateKeys => HubRights::RegistryWrite,
            Self::Twin(_)
            | Self::Query
            | Self::Events
            | Self::Refusals
            | Self::EventSubscriptions => HubRights::ServiceConnect,
            Self::Validation(_) | Self::NotSimulated(_) | Self::DeviceSide(_) | Self::Unknown => {
                HubRights::default()
            }
        }
    }

    /// Whether the query must have an api-version.
    pub fn is_azures(&self) -> bool {
        !matches!(
            self,
            Self::CaCertificates(_)
                | Self::Events
                | Self::Refusals
                | Self::EventSubscriptions
                | Self::Validation(_)
        )
    }
}

/// The segments of a path, decoded once. `+` stays `+`.
///
/// A desktop tool escapes the whole path, separators too: then all of it is one segment, and is
/// split once more.
pub fn segments(path: &str) -> Vec<String> {
    let raw: Vec<&str> = path
        .split('/')
        .filter(|segment| !segment.is_empty())
        .collect();
    if let [only] = raw[..] {
        let decoded = percent::decode(only);
        let parts = decoded.split('/').filter(|segment| !segment.is_empty());
        return parts.map(ToOwned::to_owned).collect();
    }
    let decoded = raw.into_iter().map(percent::decode);
    decoded.map(|segment| segment.into_owned()).collect()
}

/// A parameter of the query, decoded; the first of repeated names.
pub fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    let mut pairs = query?.split('&');
    let value = pairs.find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        percent::decode(key)
            .eq_ignore_ascii_case(name)
            .then_some(value)
    })?;
    Some(percent::decode(value).into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn paths_fall_apart_as_azures() {
        let vectors = include_str!("../../tests/vectors/service.json");
        let vectors: serde_json::Value = serde_json::from_str(vectors).unwrap();
        for case in vectors["paths"].as_array().unwrap() {
            let raw = case["raw"].as_str().unwrap();
            // Words are compared in any case where a route is made of them.
            let found = segments(raw).join("/").to_lowercase();
            let wanted = case["segments"].as_array().unwrap().iter();
            let wanted: Vec<_> = wanted.map(|one| one.as_str().unwrap()).collect();
            assert_eq!(found, wanted.join("/").to_lowercase(), "{raw}");
        }
    }

    #[test]
    fn a_module_is_named_below_its_device_alone() {
        let named = |module: Option<&str>| Named {
            device: "D".into(),
            module: module.map(Into::into),
        };
        for (path, route) in [
            ("/devices/D", Route::Identity(named(None))),
            ("/Devices/D/Modules/M", Route::Identity(named(Some("M")))),
            ("/devices/D/modules/", Route::Modules("D".into())),
            (
                "/twins/D/modules/%24edgeHub",
                Route::Twin(named(Some("$edgeHub"))),
            ),
            (
                "/devices%2FD%2Fmodules%2FM",
                Route::Identity(named(Some("M"))),
            ),
            ("/devices/keys/regenerate", Route::RegenerateKeys),
            ("/devices/D/commands/M", Route::Unknown),
        ] {
            assert_eq!(Route::of(&Method::GET, &segments(path)), route, "{path}");
        }
    }
}
