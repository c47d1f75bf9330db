//! Azure's error numbers. The first three digits of each are its HTTP status.

macro_rules! error_codes {
    ($($name:ident = $code:literal),+ $(,)?) => {
        /// An error by Azure's own number and name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum ErrorCode { $($name = $code),+ }

        impl ErrorCode {
            /// Every number this simulator can answer with.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The name that stands in `iothub-errorcode` and in error bodies.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),+ }
            }
        }
    };
}

error_codes! {
    GenericBadRequest = 400000,
    InvalidProtocolVersion = 400001,
    InvalidOperation = 400003,
    ArgumentInvalid = 400004,
    ArgumentNull = 400005,
    IotHubFormatError = 400006,
    BlobContainerValidationError = 400008,
    DeviceDefinedMultipleTimes = 400011,
    DeserializationError = 400012,
    BulkRegistryOperationFailure = 400013,
    ConnectionForcefullyClosedOnNewConnection = 400027,
    InvalidDeviceScope = 400028,
    InvalidPolicyKey = 400035,
    BulkRegenerateDeviceKeyOperationFailure = 400036,
    IotHubNotFound = 401001,
    IotHubUnauthorizedAccess = 401002,
    IotHubUnauthorized = 401003,
    SystemModuleModifyUnauthorizedAccess = 401100,
    IotHubQuotaExceeded = 403002,
    JobQuotaExceeded = 403003,
    OperationNotAvailableInCurrentTier = 403010,
    DeviceDisabled = 403012,
    GenericNotFound = 404000,
    DeviceNotFound = 404001,
    JobNotFound = 404002,
    ModuleNotFound = 404010,
    FeatureNotSupported = 404013,
    DeviceNotOnline = 404103,
    DeviceConnectionClosedRemotely = 404104,
    GenericMethodNotAllowed = 405000,
    GenericConflict = 409000,
    DeviceAlreadyExists = 409001,
    LinkCreationConflict = 409002,
    ModuleAlreadyExistsOnDevice = 409301,
    PreconditionFailed = 412001,
    MessageTooLarge = 413001,
    TooManyDevices = 413002,
    TooManyModulesOnDevice = 413003,
    GenericUnsupportedMediaType = 415000,
    ThrottlingException = 429001,
    ThrottlingBacklogTimeout = 429003,
    ServerError = 500001,
    ServiceUnavailable = 503001,
    GatewayTimeout = 504101,
}

impl ErrorCode {
    pub fn number(self) -> u32 {
        self as u32
    }

    /// The HTTP status.
    pub fn status(self) -> u16 {
        u16::try_from(self.number() / 1000).expect("every number has six digits")
    }
}
