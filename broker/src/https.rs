//! HTTPS beside MQTT: the same sockets' rules, an [`axum::Router`] of the service behind them.
//!
//! What may not enter: routes.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tower::ServiceExt;

use crate::backend::{Backend, Peer};
use crate::front_door::Shared;
use crate::listener;
use crate::stream::Stream;

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
    let answer = service_fn(move |request: Request<Incoming>| {
        let (router, peer) = (router.clone(), peer.clone());
        async move {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            let response = router.oneshot(request).await;
            response.map_err(|never: Infallible| match never {})
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.limits.connect_time)
        .serve_connection(TokioIo::new(stream), answer);
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
}
