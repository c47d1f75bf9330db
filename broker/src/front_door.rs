//! The front door as one thing: bound sockets, a backend behind them, and how to stop it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use azimuth_clock::Clock;

use crate::backend::{Backend, Consumer};
use crate::error::Error;
use crate::presence::Presence;
use crate::refusal::Ledger;

/// What a front door needs to know.
#[derive(Debug, Clone)]
pub struct FrontDoorConfig {
    /// The service's name, for threads and records.
    pub service: String,
    pub tls: Arc<rustls::ServerConfig>,
    /// Addresses for MQTT over TLS.
    pub mqtt: Vec<SocketAddr>,
    /// Addresses for HTTPS.
    pub https: Vec<SocketAddr>,
    /// Lanes of the router, `Lane(0)` to `Lane(lanes - 1)`.
    pub lanes: u8,
    pub limits: Limits,
}

/// What one client, and all of them, may take.
#[derive(Debug, Clone)]
pub struct Limits {
    /// From the first byte to the end of the TLS handshake.
    pub handshake_time: Duration,
    /// From the end of the handshake to a whole CONNECT.
    pub connect_time: Duration,
    /// TLS handshakes under way at once; a further connection waits for its turn.
    pub handshakes: usize,
    /// Connections at once; a further one is closed.
    pub connections: usize,
    /// Bytes of an MQTT packet, its topic included.
    pub packet_bytes: usize,
    /// Filters one session may hold.
    pub subscriptions: usize,
    /// Bytes on their way to the store; beyond it sockets are not read.
    pub router_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake_time: Duration::from_secs(10),
            connect_time: Duration::from_secs(30),
            handshakes: 256,
            connections: 100_000,
            packet_bytes: 262_144 + 65_535 + 16,
            subscriptions: 50,
            router_bytes: 8 << 20,
        }
    }
}

/// What a front door is built around.
pub struct Behind<B> {
    pub backend: Arc<B>,
    /// Takes what [`crate::Inward::Store`] puts on the lanes.
    pub consumer: Box<dyn Consumer>,
    /// What is served on the HTTPS addresses. Each request carries an `Arc<Peer>` extension.
    pub http: axum::Router,
    pub presence: Arc<Presence>,
    pub ledger: Arc<Ledger>,
    pub clock: Arc<dyn Clock>,
}

/// A front door that is open.
pub struct FrontDoor {
    mqtt: Vec<SocketAddr>,
    https: Vec<SocketAddr>,
    unbound: Vec<(SocketAddr, std::io::Error)>,
}

impl FrontDoor {
    /// Binds and serves, on the tokio runtime of the caller. An MQTT address that cannot be bound is
    /// an error; an HTTPS one stands in [`FrontDoor::unbound`] and everything else starts.
    pub async fn open<B: Backend>(
        config: FrontDoorConfig,
        behind: Behind<B>,
    ) -> Result<Self, Error> {
        let _ = (config, behind);
        todo!()
    }

    /// Where MQTT is served: real ports where 0 was asked for.
    pub fn mqtt(&self) -> &[SocketAddr] {
        &self.mqtt
    }

    /// Where HTTPS is served.
    pub fn https(&self) -> &[SocketAddr] {
        &self.https
    }

    /// HTTPS addresses that could not be bound, and why.
    pub fn unbound(&self) -> &[(SocketAddr, std::io::Error)] {
        &self.unbound
    }

    /// Stops accepting, ends every connection, waits until everything taken is stored.
    pub async fn close(self) {}
}
