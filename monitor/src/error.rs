//! Why a hub could not be watched for a moment, or at all.

use std::time::Duration;

/// What went wrong with one hub.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The way there ends somewhere.
    #[error("{0}")]
    Unreachable(String),
    #[error("it answered {status}: {body}")]
    Refused { status: u16, body: String },
    #[error("it has not answered once")]
    NeverReached,
    #[error("it said nothing for {} s", .0.as_secs())]
    Silent(Duration),
    #[error("its answer broke off")]
    Broken(#[from] reqwest::Error),
    #[error("a line of its events cannot be read")]
    Line(#[source] serde_json::Error),
    #[error("its events are no text")]
    Text(#[from] std::str::Utf8Error),
    #[error("its answer to a query cannot be read")]
    Rows(#[source] serde_json::Error),
    #[error("it does not say how far its event log reaches; is it older than this monitor?")]
    NoPositions,
}

impl Error {
    /// Asking again would bring the same answer.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Refused { status, .. } => (400..500).contains(status),
            Self::NoPositions => true,
            Self::Unreachable(_)
            | Self::NeverReached
            | Self::Silent(_)
            | Self::Broken(_)
            | Self::Line(_)
            | Self::Text(_)
            | Self::Rows(_) => false,
        }
    }
}
