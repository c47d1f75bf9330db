//! What can go wrong in a DPS, and how each is told on the wire.

use azimuth_certs::{CaError, CaRefusal};

/// Why a DPS did not start or did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Invalid(String),
    #[error("{0} is not simulated yet")]
    NotSupported(&'static str),
    #[error("Unauthorized")]
    Unauthorized,
    #[error("Enrollment not found.")]
    EnrollmentNotFound,
    #[error("Registration not found.")]
    RegistrationNotFound,
    #[error(transparent)]
    CaCertificate(#[from] CaRefusal),
    #[error("No hub `{0}` is linked.")]
    LinkedHubNotFound(String),
    #[error(
        "The hub `{0}` refused the key of this connection string; take the string of a policy with registry read and write from the hub, and try again."
    )]
    HubKeyRefused(String),
    #[error("No such resource; the path is not one of the Device Provisioning Service.")]
    NoSuchPath,
    #[error("The method is not allowed for this resource.")]
    MethodNotAllowed,
    #[error("The body must be application/json.")]
    UnsupportedMediaType,
    #[error("{0} already exists.")]
    AlreadyExists(String),
    #[error("The etag does not match that of the record.")]
    PreconditionFailed,
    #[error("the store failed")]
    Storage(#[source] azimuth_storage::Error),
    #[error("the record `{0}` in the store cannot be read")]
    Damaged(String),
    #[error("the front door did not open")]
    FrontDoor(#[source] azimuth_broker::Error),
    #[error("the certificate authority of the hubs cannot be used: {0}")]
    Roots(String),
    #[error("the client for hubs did not start")]
    Client(#[source] reqwest::Error),
    #[error("the thread of the service did not start")]
    Thread(#[source] std::io::Error),
    #[error("the declared {what} `{name}` is not acceptable: {source}")]
    Declaration {
        what: &'static str,
        name: String,
        source: Box<Error>,
    },
}

impl Error {
    /// Azure's number: the first three digits are the HTTP status.
    pub fn code(&self) -> u32 {
        match self {
            Self::Invalid(_) | Self::NotSupported(_) | Self::HubKeyRefused(_) => BAD_REQUEST,
            Self::Unauthorized => UNAUTHORIZED,
            Self::EnrollmentNotFound => 404_201,
            Self::RegistrationNotFound => 404_202,
            Self::NoSuchPath | Self::LinkedHubNotFound(_) => 404_000,
            Self::CaCertificate(refusal) => match refusal {
                CaRefusal::Name
                | CaRefusal::Unreadable(_)
                | CaRefusal::NoCode
                | CaRefusal::Possession(_) => BAD_REQUEST,
                CaRefusal::TooMany => 403_002,
                CaRefusal::NotFound(_) => 404_000,
                CaRefusal::Exists(_) => 409_001,
                CaRefusal::Etag => 412_001,
            },
            Self::MethodNotAllowed => 405_000,
            Self::UnsupportedMediaType => 415_000,
            Self::AlreadyExists(_) => 409_001,
            Self::PreconditionFailed => 412_001,
            Self::Storage(_)
            | Self::Damaged(_)
            | Self::FrontDoor(_)
            | Self::Roots(_)
            | Self::Client(_)
            | Self::Thread(_)
            | Self::Declaration { .. } => SERVER_ERROR,
        }
    }

    /// A stable word for the record of a refused request.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid-request",
            Self::NotSupported(_) => "not-supported",
            Self::Unauthorized => "unauthorized",
            Self::EnrollmentNotFound => "unknown-enrollment",
            Self::RegistrationNotFound => "unknown-registration",
            Self::LinkedHubNotFound(_) => "unknown-linked-hub",
            Self::CaCertificate(refusal) => refusal.kind(),
            Self::HubKeyRefused(_) => "hub-key-refused",
            Self::NoSuchPath => "unknown-path",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::UnsupportedMediaType => "unsupported-media-type",
            Self::AlreadyExists(_) => "already-exists",
            Self::PreconditionFailed => "etag-mismatch",
            Self::Storage(_) | Self::Damaged(_) => "store-failed",
            Self::FrontDoor(_)
            | Self::Roots(_)
            | Self::Client(_)
            | Self::Thread(_)
            | Self::Declaration { .. } => "server-error",
        }
    }
}

impl From<CaError> for Error {
    fn from(error: CaError) -> Self {
        match error {
            CaError::Refused(refusal) => refusal.into(),
            CaError::Store(error) => error.into(),
            CaError::Document(_) => Self::Damaged("caCertificates".into()),
        }
    }
}

impl From<azimuth_storage::Error> for Error {
    fn from(error: azimuth_storage::Error) -> Self {
        Self::Storage(error)
    }
}

/// The body of a request or of register cannot be read.
pub const BAD_REQUEST: u32 = 400_004;
pub const UNAUTHORIZED: u32 = 401_002;
/// Inside a registration: no hub can be chosen.
pub const NO_HUB: u32 = 401_001;
pub const OPERATION_NOT_FOUND: u32 = 404_203;
pub const THROTTLED: u32 = 429_001;
pub const SERVER_ERROR: u32 = 500_001;
