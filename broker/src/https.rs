//! HTTPS beside MQTT: the same sockets' rules, an [`axum::Router`] of the service behind them, and
//! MQTT in a WebSocket for who asks for one.
//!
//! What may not enter: routes.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio_rustls::server::TlsStream;
use tower::ServiceExt;

use crate::backend::{Backend, Peer};
use crate::connection;
use crate::front_door::Shared;
use crate::listener;
use crate::refusal::{Operation, Refusal};
use crate::stream::Stream;
use crate::upgrade::{self, Verdict};
use crate::websocket::WebSocket;

type Tls = Box<TlsStream<Stream>>;

/// Serves one HTTPS connection. Each request carries its `Arc<Peer>`.
pub(crate) async fn serve<B: Backend>(
    stream: Stream,
    peer: Peer,
    shared: Arc<Shared<B>>,
    router: axum::Router,
) {
    let Some((stream, peer)) = Box::pin(listener::handshake(stream, peer, &shared)).await else {
        return;
    };
    // The session is served here and not in a task of its own: what counts and closes connections
    // goes on to hold for it.
    let switched = Box::pin(requests(stream, peer.clone(), &shared, router)).await;
    if let Some((stream, part)) = switched {
        Box::pin(session(stream, part, peer, shared)).await;
    }
}

/// Answers requests until the connection is over, or becomes a WebSocket: the stream then, and what
/// was read of it already.
async fn requests<B: Backend>(
    stream: Tls,
    peer: Arc<Peer>,
    shared: &Arc<Shared<B>>,
    router: axum::Router,
) -> Option<(Tls, Bytes)> {
    let switch: Arc<Mutex<Option<OnUpgrade>>> = Arc::default();
    let (asked, door) = (switch.clone(), shared.clone());
    let answer = service_fn(move |mut request: Request<Incoming>| {
        let early: Option<Response> = match upgrade::judge(&request, door.websocket) {
            Verdict::Plain => None,
            Verdict::Switch(answer) => {
                *asked.lock() = Some(hyper::upgrade::on(&mut request));
                Some(answer)
            }
            Verdict::Refused(status, refusal) => {
                let answer = upgrade::refusal_answer(status, &refusal);
                record(&door, Operation::Request, peer.remote, refusal);
                Some(answer)
            }
        };
        let (router, peer) = (router.clone(), peer.clone());
        async move {
            if let Some(answer) = early {
                return Ok(answer);
            }
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            let response = router.oneshot(request).await;
            response.map_err(|never: Infallible| match never {})
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.limits.connect_time)
        .serve_connection(TokioIo::new(stream), answer)
        .with_upgrades();
    tokio::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => {
            if let Err(error) = ended {
                tracing::debug!(%error, "an HTTPS connection ended");
            }
        }
        () = shared.closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
    let switch = switch.lock().take()?;
    let upgraded = switch.await.ok()?;
    let parts = upgraded.downcast::<TokioIo<Tls>>().ok()?;
    Some((parts.io.into_inner(), parts.read_buf))
}

/// MQTT in a WebSocket, from its first frame to its end.
async fn session<B: Backend>(stream: Tls, part: Bytes, peer: Arc<Peer>, shared: Arc<Shared<B>>) {
    let remote = peer.remote;
    let mut socket = WebSocket::new(stream, &part, shared.limits.packet_bytes).await;
    drop(part);
    connection::serve(&mut socket, peer, shared.clone()).await;
    if let Some(refusal) = socket.refusal() {
        record(&shared, Operation::Connection, remote, refusal);
    }
    let _ = tokio::time::timeout(LAST_WORDS, socket.shutdown()).await;
}

fn record<B>(shared: &Shared<B>, operation: Operation, remote: SocketAddr, refusal: Refusal) {
    let at = shared.clock.utc();
    shared
        .ledger
        .record(at, operation, None, Some(remote), refusal);
}

/// For the close frame.
const LAST_WORDS: Duration = Duration::from_secs(1);
