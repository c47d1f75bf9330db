//! HTTPS beside MQTT: the same sockets' rules, an [`axum::Router`] of the service behind them, and
//! MQTT in a WebSocket for who asks for one.
//!
//! What may not enter: routes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::CONNECTION;
use axum::response::Response;
use bytes::Bytes;
use hyper::Request;
use hyper::body::{Body as _, Incoming};
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
use crate::front_door::{Limits, Shared};
use crate::listener::{self, Place};
use crate::refusal::{Answer, Operation, Refusal};
use crate::request_body::RequestBody;
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
    let most = shared.limits.https_connections;
    let Some(place) = Place::take(&shared.https_connections, most) else {
        let sentence = format!("{most} HTTPS connections are open already");
        return listener::refuse_crowd(&shared, peer.remote, sentence, most);
    };
    let Some((stream, peer)) = Box::pin(listener::handshake(stream, peer, &shared)).await else {
        return;
    };
    // The session is served here and not in a task of its own: what counts and closes connections
    // goes on to hold for it.
    let switched = Box::pin(requests(stream, peer.clone(), &shared, router)).await;
    drop(place);
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
    let (remote, served) = (peer.remote, Arc::new(AtomicBool::new(false)));
    let serves = served.clone();
    let answer = service_fn(move |mut request: Request<Incoming>| {
        serves.store(true, Ordering::Relaxed);
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
        let (router, peer, door) = (router.clone(), peer.clone(), door.clone());
        async move {
            if let Some(answer) = early {
                return Ok(answer);
            }
            let remote = peer.remote;
            request.extensions_mut().insert(peer);
            if request.body().is_end_stream() {
                return router.oneshot(request.map(Body::new)).await;
            }
            let (head, body) = request.into_parts();
            let (time, most) = (door.limits.request_time, door.limits.body_bytes);
            let (body, given_up) = RequestBody::new(body, time, door.body_bytes.clone(), most);
            let request = Request::from_parts(head, Body::new(body));
            tokio::select! {
                response = router.oneshot(request) => response,
                // Nothing was done yet: a service first waits for the whole body.
                Ok(why) = given_up => {
                    let (status, refusal) = why.refusal();
                    let mut answer = upgrade::refusal_answer(status, &refusal);
                    let close = HeaderValue::from_static("close");
                    answer.headers_mut().insert(CONNECTION, close);
                    record(&door, Operation::Request, remote, refusal);
                    Ok(answer)
                }
            }
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.limits.connect_time)
        .max_buf_size(MOST_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), answer)
        .with_upgrades();
    tokio::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => {
            if let Err(error) = ended {
                tracing::debug!(%error, "an HTTPS connection ended");
                // Between two requests a connection may just be idle.
                if error.is_timeout() && !served.load(Ordering::Relaxed) {
                    record(shared, Operation::Request, remote, no_head(&shared.limits));
                }
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

fn no_head(limits: &Limits) -> Refusal {
    let allowed = limits.connect_time.as_secs_f64();
    let sentence = format!("no whole head of a request came within {allowed:.0} s");
    Refusal::new("request-timeout", Answer::Close, sentence).fact("seconds allowed", allowed)
}

fn record<B>(shared: &Shared<B>, operation: Operation, remote: SocketAddr, refusal: Refusal) {
    let at = shared.clock.utc();
    shared
        .ledger
        .record(at, operation, None, Some(remote), refusal);
}

/// Of a request: who dribbles one holds no more. Tokens and certificates fit many times.
const MOST_HEAD_BYTES: usize = 64 << 10;

/// For the close frame.
const LAST_WORDS: Duration = Duration::from_secs(1);
