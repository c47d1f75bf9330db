//! What can go wrong with a front door.

use std::net::SocketAddr;

/// Why a front door did not open.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen on {address}")]
    Bind {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error("the router did not start")]
    Router(#[source] std::io::Error),
}
