//! The body of a request, within its time and its share of memory.
//!
//! A service waits for a whole body and holds what came of it; who dribbles one, or sends a large one beside
//! many others, is told so. What may not enter: what is in a body, routes.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::StatusCode;
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::oneshot;
use tokio::time::Sleep;

use crate::refusal::{Answer, Refusal};

/// Why a body was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GivenUp {
    /// It was not whole in time.
    Late(Duration),
    /// All large bodies together were more than the memory for them, so many bytes.
    Crowded(usize),
}

/// A body that stops when it is given up; whoever waits for it hears of that another way.
pub(crate) struct RequestBody {
    inner: Incoming,
    time: Duration,
    deadline: Pin<Box<Sleep>>,
    given_up: Option<oneshot::Sender<GivenUp>>,
    share: Share,
}

/// What one body takes of the memory that large ones have together.
struct Share {
    all: Arc<AtomicUsize>,
    most: usize,
    received: usize,
    taken: usize,
}

impl RequestBody {
    /// `all` counts the bytes of large bodies, of which `most` may be here at once.
    pub fn new(
        inner: Incoming,
        time: Duration,
        all: Arc<AtomicUsize>,
        most: usize,
    ) -> (Self, oneshot::Receiver<GivenUp>) {
        let (given_up, hears) = oneshot::channel();
        let body = Self {
            inner,
            time,
            deadline: Box::pin(tokio::time::sleep(time)),
            given_up: Some(given_up),
            share: Share {
                all,
                most,
                received: 0,
                taken: 0,
            },
        };
        (body, hears)
    }

    /// For good: the request is dropped with it.
    fn give_up(&mut self, why: GivenUp) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(given_up) = self.given_up.take() {
            let _ = given_up.send(why);
        }
        Poll::Pending
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.inner).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
            && !this.share.take(data.len())
        {
            return this.give_up(GivenUp::Crowded(this.share.most));
        }
        if polled.is_pending() && this.deadline.as_mut().poll(context).is_ready() {
            return this.give_up(GivenUp::Late(this.time));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Share {
    /// Whether there is room for so many more bytes; what every body may have is not counted.
    fn take(&mut self, bytes: usize) -> bool {
        self.received = self.received.saturating_add(bytes);
        let wanted = self.received.saturating_sub(FREE_BYTES) - self.taken;
        let before = self.all.fetch_add(wanted, Ordering::Relaxed);
        if before.saturating_add(wanted) > self.most {
            self.all.fetch_sub(wanted, Ordering::Relaxed);
            return false;
        }
        self.taken += wanted;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.all.fetch_sub(self.taken, Ordering::Relaxed);
    }
}

impl GivenUp {
    pub fn refusal(self) -> (StatusCode, Refusal) {
        let (status, kind, sentence) = match self {
            Self::Late(time) => (
                StatusCode::REQUEST_TIMEOUT,
                "request-timeout",
                format!(
                    "the body of the request was not whole within {:.0} s",
                    time.as_secs_f64()
                ),
            ),
            Self::Crowded(most) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "too-many-large-requests",
                format!(
                    "large requests together would take more than {most} bytes; try again later"
                ),
            ),
        };
        let name = status.canonical_reason().unwrap_or_default();
        let answer = Answer::Http(status.as_u16(), name.into());
        (status, Refusal::new(kind, answer, sentence))
    }
}

/// Of each body, beyond which it is a large one: a small request is served whatever large ones do.
const FREE_BYTES: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_bodies_share_and_small_ones_are_free() {
        let all = Arc::new(AtomicUsize::new(0));
        let share = || Share {
            all: all.clone(),
            most: 100,
            received: 0,
            taken: 0,
        };
        let (mut first, mut second) = (share(), share());
        assert!(first.take(FREE_BYTES) && first.take(60));
        assert!(second.take(FREE_BYTES - 1) && second.take(41));
        assert_eq!(all.load(Ordering::Relaxed), 100);
        assert!(!second.take(1));
        assert!(share().take(FREE_BYTES));
        drop(first);
        assert!(share().take(FREE_BYTES + 60) && !share().take(FREE_BYTES + 61));
        drop(second);
        assert_eq!(all.load(Ordering::Relaxed), 0);
    }
}
