//! What a device asks of a DPS and how it is answered.

use std::fmt;

/// The one filter a device subscribes to.
pub const RESPONSES: &str = "$dps/registrations/res/#";

/// What a device publishes. Request ids are echoed as they came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestTopic<'a> {
    Register {
        request_id: &'a str,
    },
    OperationStatus {
        request_id: &'a str,
        operation_id: &'a str,
    },
}

/// Why a topic is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a request of the Device Provisioning Service; known are `$dps/registrations/PUT/iotdps-register/?$rid=…` and `$dps/registrations/GET/iotdps-get-operationstatus/?$rid=…&operationId=…`"
)]
pub struct InvalidRequest(pub String);

impl<'a> RequestTopic<'a> {
    /// Reads a topic. A missing `$rid` is answered with an empty one, as the real service does.
    pub fn parse(topic: &'a str) -> Result<Self, InvalidRequest> {
        let invalid = || InvalidRequest(topic.chars().take(200).collect());
        let rest = topic
            .strip_prefix("$dps/registrations/")
            .ok_or_else(invalid)?;
        let (path, query) = rest.split_once("/?").ok_or_else(invalid)?;
        let parameter = |name: &str| {
            let mut pairs = query.split('&');
            pairs
                .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
                .unwrap_or("")
        };
        match path {
            "PUT/iotdps-register" => Ok(Self::Register {
                request_id: parameter("$rid"),
            }),
            "GET/iotdps-get-operationstatus" => Ok(Self::OperationStatus {
                request_id: parameter("$rid"),
                operation_id: parameter("operationId"),
            }),
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for RequestTopic<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Register { request_id } => {
                write!(
                    f,
                    "$dps/registrations/PUT/iotdps-register/?$rid={request_id}"
                )
            }
            Self::OperationStatus {
                request_id,
                operation_id,
            } => write!(
                f,
                "$dps/registrations/GET/iotdps-get-operationstatus/?$rid={request_id}&operationId={operation_id}"
            ),
        }
    }
}

/// How a DPS answers: `$rid` first, then `retry-after`; clients read by position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseTopic<'a> {
    pub status: u16,
    pub request_id: &'a str,
    /// Seconds.
    pub retry_after: Option<u32>,
}

impl<'a> ResponseTopic<'a> {
    /// Reads an answer, as a device does.
    pub fn parse(topic: &'a str) -> Option<Self> {
        let (status, query) = topic
            .strip_prefix("$dps/registrations/res/")?
            .split_once("/?$rid=")?;
        let (request_id, retry_after) = match query.split_once("&retry-after=") {
            Some((request_id, seconds)) => (request_id, Some(seconds.parse().ok()?)),
            None => (query, None),
        };
        Some(Self {
            status: status.parse().ok()?,
            request_id,
            retry_after,
        })
    }
}

impl fmt::Display for ResponseTopic<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "$dps/registrations/res/{}/?$rid={}",
            self.status, self.request_id
        )?;
        self.retry_after
            .map_or(Ok(()), |seconds| write!(f, "&retry-after={seconds}"))
    }
}
