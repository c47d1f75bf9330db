//! The front door as one thing: bound sockets, a backend behind them, and how to stop it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use azimuth_clock::Clock;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backend::{Backend, Consumer, Peer};
use crate::error::Error;
use crate::line::CloseReason;
use crate::presence::Presence;
use crate::refusal::Ledger;
use crate::region::RegionalDelay;
use crate::router::{Intake, Router, RouterFigures};
use crate::storing::Storing;
use crate::{connection, https, listener};

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
    /// Paths on the HTTPS addresses where MQTT is served in a WebSocket, the documented one first.
    pub websocket: &'static [&'static str],
    /// Lanes of the router, `Lane(0)` to `Lane(lanes - 1)`.
    pub lanes: u8,
    /// Makes clients wait as far away as they are; `None` is as fast as it goes.
    pub delay: Option<RegionalDelay>,
    pub limits: Limits,
}

/// What one client, and all of them, may take.
#[derive(Debug, Clone)]
pub struct Limits {
    /// From the first byte to the end of the TLS handshake.
    pub handshake_time: Duration,
    /// From the end of the handshake to a whole CONNECT, or to the whole head of a request.
    pub connect_time: Duration,
    /// From the head of a request to the last byte of its body.
    pub request_time: Duration,
    /// TLS handshakes under way at once; a further connection waits for its turn.
    pub handshakes: usize,
    /// Connections at once; a further one is closed.
    pub connections: usize,
    /// … of them for HTTPS, WebSockets aside: whatever those do, devices find a place.
    pub https_connections: usize,
    /// Descriptors that sockets may take of those the process has; the rest is for files.
    pub descriptors: usize,
    /// Bytes of large request bodies at once.
    pub body_bytes: usize,
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
            request_time: Duration::from_secs(30),
            handshakes: 256,
            connections: 100_000,
            https_connections: 50_000,
            descriptors: usize::MAX,
            body_bytes: 256 << 20,
            packet_bytes: 262_144 + 65_535 + 16,
            subscriptions: 50,
            router_bytes: 2 << 20,
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

/// What every connection of a front door shares.
pub(crate) struct Shared<B> {
    pub backend: Arc<B>,
    pub presence: Arc<Presence>,
    pub ledger: Arc<Ledger>,
    pub clock: Arc<dyn Clock>,
    pub limits: Limits,
    pub delay: Option<RegionalDelay>,
    pub tls: Arc<rustls::ServerConfig>,
    pub websocket: &'static [&'static str],
    pub intake: Intake,
    pub handshakes: Semaphore,
    pub connections: AtomicUsize,
    pub https_connections: AtomicUsize,
    /// Of large request bodies.
    pub body_bytes: Arc<AtomicUsize>,
    pub tasks: TaskTracker,
    /// No more connections; those that are open come to an end by themselves.
    pub closing: CancellationToken,
}

/// A front door that is open.
pub struct FrontDoor<B> {
    shared: Arc<Shared<B>>,
    router: Router,
    mqtt: Vec<SocketAddr>,
    https: Vec<SocketAddr>,
    unbound: Vec<(SocketAddr, io::Error)>,
}

impl<B: Backend> FrontDoor<B> {
    /// Binds and serves, on the tokio runtime of the caller. An MQTT address that cannot be bound is
    /// an error; an HTTPS one stands in [`FrontDoor::unbound`] and everything else starts.
    pub async fn open(config: FrontDoorConfig, behind: Behind<B>) -> Result<Self, Error> {
        let bind = |address: SocketAddr| {
            listener::bind(address).map_err(|source| Error::Bind { address, source })
        };
        let mqtt: Vec<TcpListener> = config
            .mqtt
            .iter()
            .copied()
            .map(bind)
            .collect::<Result<_, _>>()?;
        let (mut https, mut unbound) = (Vec::new(), Vec::new());
        for address in config.https {
            match listener::bind(address) {
                Ok(listener) => https.push(listener),
                Err(error) => unbound.push((address, error)),
            }
        }
        let bytes = config.limits.router_bytes;
        let router = Router::start(&config.service, config.lanes, bytes, behind.consumer)
            .map_err(Error::Router)?;
        behind.backend.opened(Storing::new(router.intake().clone()));
        let shared = Arc::new(Shared {
            backend: behind.backend,
            presence: behind.presence,
            ledger: behind.ledger,
            clock: behind.clock,
            handshakes: Semaphore::new(config.limits.handshakes),
            limits: config.limits,
            delay: config.delay,
            tls: config.tls,
            websocket: config.websocket,
            intake: router.intake().clone(),
            connections: AtomicUsize::new(0),
            https_connections: AtomicUsize::new(0),
            body_bytes: Arc::default(),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
        });
        let addresses = |listeners: &[TcpListener]| -> Vec<SocketAddr> {
            listeners
                .iter()
                .filter_map(|listener| listener.local_addr().ok())
                .collect()
        };
        let front_door = Self {
            mqtt: addresses(&mqtt),
            https: addresses(&https),
            unbound,
            router,
            shared: shared.clone(),
        };
        for listener in mqtt {
            tokio::spawn(listener::accept(
                listener,
                shared.clone(),
                |stream, peer, shared| async move {
                    let handshaken = Box::pin(listener::handshake(stream, peer, &shared)).await;
                    let Some((stream, peer)) = handshaken else {
                        return;
                    };
                    connection::serve(stream, peer, shared).await;
                },
            ));
        }
        for listener in https {
            let routes = behind.http.clone();
            tokio::spawn(listener::accept(
                listener,
                shared.clone(),
                move |stream, peer, shared| https::serve(stream, peer, shared, routes.clone()),
            ));
        }
        Ok(front_door)
    }

    /// Serves MQTT on a stream that came another way than over a socket: in memory.
    pub fn enter<S>(&self, stream: S, peer: Peer)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let shared = self.shared.clone();
        self.shared
            .tasks
            .spawn(connection::serve(stream, Arc::new(peer), shared));
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
    pub fn unbound(&self) -> &[(SocketAddr, io::Error)] {
        &self.unbound
    }

    /// What is on its way to the consumer, and what the router holds.
    pub fn figures(&self) -> RouterFigures {
        self.router.figures()
    }

    /// Stops accepting, ends every connection, waits until everything taken is stored.
    pub async fn close(self) {
        const PATIENCE: Duration = Duration::from_secs(2);
        self.shared.closing.cancel();
        self.shared.presence.close_all(&CloseReason::Shutdown);
        self.shared.tasks.close();
        // Who has not read its last bytes by then ends with the runtime.
        let _ = tokio::time::timeout(PATIENCE, self.shared.tasks.wait()).await;
        self.router.stop().await;
    }
}
