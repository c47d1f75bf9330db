//! One request over HTTPS, on a line of its own, as several of Azure's clients send it.
//!
//! What may not enter: what is asked and what an answer means.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::Request as HttpRequest;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, RETRY_AFTER};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use crate::device::{Reply, Request};
use crate::fault::{Fault, FaultKind};
use crate::transport::Line;

/// From the request to the end of the answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Far more than an answer with a wrapped key has.
const LARGEST_BODY: usize = 64 * 1024;

/// Asks and reads the answer to its end.
pub(crate) async fn ask(line: Line, host: &str, request: Request) -> Result<Reply, Fault> {
    let (stream, place) = line.into_stream();
    let protocol = |error: &dyn std::fmt::Display| {
        let sentence = format!("{place} broke off, or sent what is not HTTP: {error}");
        Fault::new(FaultKind::Protocol, sentence)
    };
    let mut wanted = HttpRequest::builder()
        .method(request.method)
        .uri(&request.target)
        .header(HOST, host)
        .header(CONTENT_TYPE, "application/json");
    if let Some(token) = &request.authorization {
        wanted = wanted.header(AUTHORIZATION, token);
    }
    let body = Full::new(Bytes::from(request.body));
    let wanted = wanted.body(body).map_err(|error| protocol(&error))?;
    let asking = async {
        let opened = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = opened.map_err(|error| protocol(&error))?;
        let answering = async {
            let answer = sender.send_request(wanted).await;
            let (parts, body) = answer.map_err(|error| protocol(&error))?.into_parts();
            let body = Limited::new(body, LARGEST_BODY).collect().await;
            let body = body.map_err(|error| protocol(&error))?.to_bytes();
            let wait = parts.headers.get(RETRY_AFTER);
            Ok(Reply {
                status: parts.status.as_u16(),
                retry_after: wait.and_then(|wait| wait.to_str().ok()?.parse().ok()),
                body: body.into(),
            })
        };
        tokio::pin!(answering);
        tokio::select! {
            answer = &mut answering => answer,
            // The connection ends when the answer is there; a broken one ends the answer as well.
            _ = connection => answering.await,
        }
    };
    match timeout(PATIENCE, asking).await {
        Ok(answer) => answer,
        Err(_) => Err(Fault::timeout(&place)),
    }
}
