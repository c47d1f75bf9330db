//! An answer without an end: lines of JSON, written as fast as the client reads and no faster.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use bytes::Bytes;
use hyper::body::Frame;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// The writing end of an answer: gone when the client is.
#[derive(Clone)]
pub struct Lines {
    out: mpsc::Sender<Bytes>,
    stopping: CancellationToken,
}

/// The client is gone, or the hub stops.
pub struct Over;

/// Chunks that may wait for a client.
const WAITING: usize = 2;

impl Lines {
    /// An answer and the end to write it from. It ends when the last clone of that is dropped.
    pub fn answer(stopping: &CancellationToken) -> (Self, Response) {
        let (out, lines) = mpsc::channel(WAITING);
        let mut response = Response::new(Body::new(Chunks(lines)));
        let kind = HeaderValue::from_static("application/x-ndjson");
        response.headers_mut().insert(CONTENT_TYPE, kind);
        let stopping = stopping.clone();
        (Self { out, stopping }, response)
    }

    /// Waits until the client has room for some more lines.
    pub async fn write(&self, lines: Vec<u8>) -> Result<(), Over> {
        if lines.is_empty() {
            return Ok(());
        }
        tokio::select! {
            sent = self.out.send(lines.into()) => sent.map_err(|_| Over),
            () = self.stopping.cancelled() => Err(Over),
        }
    }

    /// Waits for news, or until nobody wants them any more.
    pub async fn until<T>(&self, news: impl Future<Output = T>) -> Result<T, Over> {
        tokio::select! {
            news = news => Ok(news),
            () = self.out.closed() => Err(Over),
            () = self.stopping.cancelled() => Err(Over),
        }
    }
}

struct Chunks(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let chunk = self.0.poll_recv(context);
        chunk.map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}
