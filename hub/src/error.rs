//! What can go wrong in a hub, and Azure's number for it.

use std::net::IpAddr;

use azimuth_certs::{CaError, CaRefusal};
use azimuth_wire::job::InvalidJob;
use azimuth_wire::registry::InvalidBody;
use azimuth_wire::registry::bulk::BulkResult;
use azimuth_wire::registry::regeneration::{InvalidRegeneration, Regeneration};
use azimuth_wire::twin::InvalidTwin;
use azimuth_wire::{ErrorCode, Identity as Name};

use crate::event;
use crate::query::InvalidQuery;
use crate::quota::{DayIsFull, Throttled};

/// Why a hub did not do what it was asked. Texts that clients see are Azure's own where known.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("Unauthorized")]
    Unauthorized,
    #[error("Device {0} not registered")]
    DeviceNotFound(String),
    #[error("Module {module} on device {device} not registered")]
    ModuleNotFound { device: String, module: String },
    #[error("A device with ID '{0}' is already registered.")]
    DeviceAlreadyExists(String),
    #[error("Device {device} in IotHub {hub} already contains Module {module}.")]
    ModuleAlreadyExists {
        device: String,
        module: String,
        hub: String,
    },
    #[error(
        "Total number of devices on IotHub '{hub}' exceeded the allocated quota. Max allowed device count : '{most}', current device count : '{count}'."
    )]
    TooManyDevices { hub: String, most: u64, count: u64 },
    #[error("The request has been throttled. Wait {} seconds and try again. Operation type: {}", seconds(.0), .0.operation.name())]
    Throttled(Throttled),
    #[error(
        "Total number of messages on IotHub exceeded the allocated quota. Max allowed message count : '{}', current message count : '{}'.",
        .0.allowed, .0.counted
    )]
    DayIsFull(DayIsFull),
    #[error("The operation is not available in the current tier of the hub.")]
    NotInTier,
    #[error("a device has {0} modules at most")]
    TooManyModules(usize),
    #[error("`{0}` belongs to an edge device and is made, changed and removed by the hub alone")]
    SystemModule(String),
    /// Azure lets nobody near the modules of a device that is missing or disabled.
    #[error("Unauthorized")]
    ModulesShut { device: String, why: &'static str },
    #[error(
        "Precondition failed: Device version did not match, existingVersion:{existing} newVersion:{wanted}"
    )]
    StaleEtag { existing: u64, wanted: String },
    #[error("Etag missing")]
    EtagMissing,
    #[error("ETag mismatch for device ID '{0}'")]
    StaleTwin(String),
    #[error("the reported properties have version {present}, not {wanted}")]
    ReportedVersion { present: u64, wanted: u64 },
    #[error(transparent)]
    Twin(#[from] InvalidTwin),
    /// Azure tells clients of no query what is wrong with it.
    #[error("BadRequest")]
    Query(#[from] InvalidQuery),
    #[error("BadRequest")]
    NoQuery,
    #[error("the id `{0}` stands twice in the request")]
    DefinedTwice(String),
    /// The rest of the request was carried out.
    #[error("{}", refused_items(.0))]
    Bulk(Box<BulkResult>),
    /// Of some identities, or of all.
    #[error("{}", refused_keys(.0))]
    Regeneration(Box<Regeneration>),
    #[error(transparent)]
    RegenerationBody(#[from] InvalidRegeneration),
    #[error("{0}")]
    Argument(String),
    #[error("this is not the code that a webhook was sent, or its 10 minutes are over")]
    Validation,
    #[error(transparent)]
    Body(#[from] InvalidBody),
    #[error("The body is larger than {0} bytes")]
    BodyTooLarge(usize),
    #[error(transparent)]
    CaCertificate(#[from] CaRefusal),
    #[error("job `{0}` was not found")]
    JobNotFound(String),
    #[error("an import or export job of this hub is under way; one at a time is possible")]
    JobQuota,
    /// Says nothing of the URI.
    #[error("{0}")]
    BlobContainer(String),
    #[error("{0}")]
    DeviceScope(&'static str),
    #[error("the api-version {}; known are 2016-11-14 to 2024-03-31, newer ones are served as the newest", given(.0))]
    ApiVersion(Option<String>),
    #[error("{0} is not simulated")]
    NotSimulated(String),
    #[error("nothing is served at `{0}`")]
    UnknownPath(String),
    #[error("`{0}` is not a method of this path")]
    Method(String),
    #[error("the registry could not be read or written")]
    Store(#[from] azimuth_storage::Error),
    #[error("a stored document is not what this program writes")]
    Document(#[from] serde_json::Error),
    #[error(transparent)]
    Events(#[from] event::Error),
    #[error("the front door did not open")]
    FrontDoor(#[from] azimuth_broker::Error),
    #[error("the data folder {folder} cannot be made")]
    Folder {
        folder: String,
        #[source]
        source: std::io::Error,
    },
    #[error("the hub's thread did not start")]
    Thread(#[source] std::io::Error),
    #[error("the hub's thread ended before it was ready")]
    Ended,
    #[error(
        "published keys are known to everybody and serve on loopback only, but this hub is to listen on {0}: \
         choose generated keys, or a loopback address"
    )]
    Exposed(IpAddr),
    #[error("an event log of {0} partitions is more than a hub serves; 1 to 128 are possible")]
    Partitions(u16),
}

impl Error {
    /// No such device, or no such module.
    pub fn not_found(name: &Name) -> Self {
        match &name.module {
            None => Self::DeviceNotFound(name.to_string()),
            Some(module) => Self::ModuleNotFound {
                device: name.device.to_string(),
                module: module.to_string(),
            },
        }
    }

    /// There is one already, in the hub of this name.
    pub fn exists(name: &Name, hub: &str) -> Self {
        match &name.module {
            None => Self::DeviceAlreadyExists(name.to_string()),
            Some(module) => Self::ModuleAlreadyExists {
                device: name.device.to_string(),
                module: module.to_string(),
                hub: hub.to_owned(),
            },
        }
    }

    /// What a refusal record says, where a client is told less.
    pub fn sentence(&self) -> String {
        match self {
            Self::ModulesShut { device, why } => format!(
                "the device `{device}` {why}, so its modules can neither be read nor written"
            ),
            Self::Query(invalid) => invalid.to_string(),
            Self::NoQuery => "the body has no member `query`".into(),
            error => error.to_string(),
        }
    }

    /// What a REST client is told.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Unauthorized | Self::ModulesShut { .. } => ErrorCode::IotHubUnauthorizedAccess,
            Self::DeviceNotFound(_) => ErrorCode::DeviceNotFound,
            Self::ModuleNotFound { .. } => ErrorCode::ModuleNotFound,
            Self::DeviceAlreadyExists(_) => ErrorCode::DeviceAlreadyExists,
            Self::ModuleAlreadyExists { .. } => ErrorCode::ModuleAlreadyExistsOnDevice,
            Self::TooManyDevices { .. } => ErrorCode::TooManyDevices,
            Self::Throttled(_) => ErrorCode::ThrottlingBacklogTimeout,
            Self::DayIsFull(_) => ErrorCode::IotHubQuotaExceeded,
            Self::NotInTier => ErrorCode::OperationNotAvailableInCurrentTier,
            Self::TooManyModules(_) => ErrorCode::TooManyModulesOnDevice,
            Self::SystemModule(_) => ErrorCode::SystemModuleModifyUnauthorizedAccess,
            Self::StaleEtag { .. }
            | Self::EtagMissing
            | Self::StaleTwin(_)
            | Self::ReportedVersion { .. } => ErrorCode::PreconditionFailed,
            Self::Twin(InvalidTwin::Body(InvalidBody::NotJson(_))) => ErrorCode::IotHubFormatError,
            Self::Twin(_) | Self::Argument(_) | Self::Query(_) | Self::Validation => {
                ErrorCode::ArgumentInvalid
            }
            Self::NoQuery => ErrorCode::ArgumentNull,
            Self::DefinedTwice(_) => ErrorCode::DeviceDefinedMultipleTimes,
            Self::Bulk(_) => ErrorCode::BulkRegistryOperationFailure,
            Self::Regeneration(_) => ErrorCode::BulkRegenerateDeviceKeyOperationFailure,
            Self::RegenerationBody(InvalidRegeneration::PolicyKey) => ErrorCode::InvalidPolicyKey,
            Self::RegenerationBody(InvalidRegeneration::Body(InvalidBody::NotJson(_))) => {
                ErrorCode::IotHubFormatError
            }
            Self::RegenerationBody(InvalidRegeneration::Body(_)) => ErrorCode::ArgumentInvalid,
            Self::Body(InvalidBody::NotJson(_)) => ErrorCode::IotHubFormatError,
            Self::Body(_) => ErrorCode::ArgumentInvalid,
            Self::BodyTooLarge(_) => ErrorCode::MessageTooLarge,
            Self::CaCertificate(refusal) => ca_certificate(refusal),
            Self::JobNotFound(_) => ErrorCode::JobNotFound,
            Self::JobQuota => ErrorCode::JobQuotaExceeded,
            Self::BlobContainer(_) => ErrorCode::BlobContainerValidationError,
            Self::DeviceScope(_) => ErrorCode::InvalidDeviceScope,
            Self::ApiVersion(_) => ErrorCode::InvalidProtocolVersion,
            Self::NotSimulated(_) => ErrorCode::FeatureNotSupported,
            Self::UnknownPath(_) => ErrorCode::GenericNotFound,
            Self::Method(_) => ErrorCode::GenericMethodNotAllowed,
            Self::Events(error) => events(error),
            Self::Store(azimuth_storage::Error::Closed) => ErrorCode::ServiceUnavailable,
            Self::Store(_)
            | Self::Document(_)
            | Self::FrontDoor(_)
            | Self::Folder { .. }
            | Self::Thread(_)
            | Self::Ended
            | Self::Exposed(_)
            | Self::Partitions(_) => ErrorCode::ServerError,
        }
    }

    /// What was looked for is not there: to a reader an answer, no refusal.
    pub fn is_nothing_found(&self) -> bool {
        matches!(
            self,
            Self::DeviceNotFound(_)
                | Self::ModuleNotFound { .. }
                | Self::JobNotFound(_)
                | Self::CaCertificate(CaRefusal::NotFound(_))
        )
    }

    /// The HTTP status: that of the number, but where a part was carried out.
    pub fn status(&self) -> u16 {
        const MULTI_STATUS: u16 = 207;
        match self {
            Self::Regeneration(result) if !result.rotated_keys.is_empty() => MULTI_STATUS,
            error => error.code().status(),
        }
    }

    /// The rule, for refusal records.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::DeviceNotFound(_) => "unknown-device",
            Self::ModuleNotFound { .. } => "unknown-module",
            Self::DeviceAlreadyExists(_) => "device-exists",
            Self::ModuleAlreadyExists { .. } => "module-exists",
            Self::TooManyDevices { .. } => "too-many-devices",
            Self::Throttled(_) => "throttled",
            Self::DayIsFull(_) => "quota-exceeded",
            Self::NotInTier => "not-in-tier",
            Self::TooManyModules(_) => "too-many-modules",
            Self::SystemModule(_) => "system-module",
            Self::ModulesShut { .. } => "modules-shut",
            Self::StaleEtag { .. } => "stale-etag",
            Self::EtagMissing => "etag-missing",
            Self::StaleTwin(_) => "stale-twin-etag",
            Self::ReportedVersion { .. } => "stale-reported-version",
            Self::Twin(InvalidTwin::Size { .. }) => "twin-size",
            Self::Twin(_) => "invalid-twin",
            Self::Query(_) | Self::NoQuery => "invalid-query",
            Self::DefinedTwice(_) => "defined-twice",
            Self::Bulk(_) | Self::Regeneration(_) => "bulk",
            Self::Argument(_) | Self::Body(_) | Self::RegenerationBody(_) => "invalid-argument",
            Self::Validation => "webhook-validation",
            Self::BodyTooLarge(_) => "oversize",
            Self::CaCertificate(refusal) => refusal.kind(),
            Self::JobNotFound(_) => "unknown-job",
            Self::JobQuota => "job-quota",
            Self::BlobContainer(_) => "blob-container",
            Self::DeviceScope(_) => "device-scope",
            Self::ApiVersion(_) => "api-version",
            Self::NotSimulated(_) => "not-simulated",
            Self::UnknownPath(_) => "unknown-path",
            Self::Method(_) => "method-not-allowed",
            Self::Events(_) => "event-log",
            Self::Store(_) | Self::Document(_) => "store",
            Self::FrontDoor(_)
            | Self::Folder { .. }
            | Self::Thread(_)
            | Self::Ended
            | Self::Exposed(_)
            | Self::Partitions(_) => "start",
        }
    }
}

/// Whole ones until the next may come.
pub fn seconds(beyond: &Throttled) -> u64 {
    beyond.wait.as_secs().saturating_add(1)
}

impl From<CaError> for Error {
    fn from(error: CaError) -> Self {
        match error {
            CaError::Refused(refusal) => refusal.into(),
            CaError::Store(error) => error.into(),
            CaError::Document(error) => error.into(),
        }
    }
}

impl From<Throttled> for Error {
    fn from(beyond: Throttled) -> Self {
        Self::Throttled(beyond)
    }
}

impl From<DayIsFull> for Error {
    fn from(full: DayIsFull) -> Self {
        Self::DayIsFull(full)
    }
}

impl From<InvalidJob> for Error {
    fn from(invalid: InvalidJob) -> Self {
        match invalid {
            InvalidJob::Body(body) => Self::Body(body),
            InvalidJob::IdentityBased => Self::Argument(invalid.to_string()),
            InvalidJob::Configurations => Self::NotSimulated(invalid.to_string()),
        }
    }
}

fn ca_certificate(refusal: &CaRefusal) -> ErrorCode {
    match refusal {
        CaRefusal::Name
        | CaRefusal::Unreadable(_)
        | CaRefusal::NoCode
        | CaRefusal::Possession(_) => ErrorCode::ArgumentInvalid,
        CaRefusal::TooMany => ErrorCode::IotHubQuotaExceeded,
        CaRefusal::NotFound(_) => ErrorCode::GenericNotFound,
        CaRefusal::Exists(_) => ErrorCode::GenericConflict,
        CaRefusal::Etag => ErrorCode::PreconditionFailed,
    }
}

/// A reader's mistake is its own; everything else is the hub's.
fn events(error: &event::Error) -> ErrorCode {
    match error {
        event::Error::UnknownPartition { .. } | event::Error::BeyondEnd { .. } => {
            ErrorCode::ArgumentInvalid
        }
        event::Error::DiskFull { .. }
        | event::Error::SizeLimit { .. }
        | event::Error::Io { .. }
        | event::Error::InUse { .. }
        | event::Error::Foreign { .. }
        | event::Error::Newer { .. }
        | event::Error::DamagedHeader { .. }
        | event::Error::PartitionCount { .. }
        | event::Error::PartitionsOutOfRange { .. }
        | event::Error::TooLarge { .. } => ErrorCode::ServerError,
    }
}

/// The first few say enough.
fn refused_items(result: &BulkResult) -> String {
    let refused = result.errors.iter().take(3);
    let refused: Vec<_> = refused
        .map(|error| format!("`{}`: {}", error.device_id, error.error_status))
        .collect();
    let (count, refused) = (result.errors.len(), refused.join("; "));
    format!("{count} of the devices were not written: {refused}")
}

fn refused_keys(result: &Regeneration) -> String {
    let refused = result.errors.iter().take(3);
    let refused: Vec<_> = refused
        .map(|error| format!("`{}`: {}", error.id, error.error_status))
        .collect();
    let (count, refused) = (result.errors.len(), refused.join("; "));
    format!("{count} of the identities got no new keys: {refused}")
}

fn given(version: &Option<String>) -> String {
    match version {
        None => "is missing from the query".to_owned(),
        Some(text) => format!(
            "`{}` is not served",
            text.chars().take(40).collect::<String>()
        ),
    }
}
