//! A stream to a peer far away: what is written arrives later, by a [`DelayLine`].
//!
//! The way is a part of the network and not of the connection: a task of its own carries the bytes,
//! so that they arrive whether or not the connection is polled, still open, or patient. A flush has
//! nothing to wait for, as with a socket. What may not enter: who is how far away.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Buf;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::Notify;

use crate::delay::{DelayLine, Next};

/// The near end.
pub struct Distant<R> {
    read: R,
    way: Arc<Way>,
}

struct Way {
    state: Mutex<State>,
    /// Something was sent, or the end was.
    sent: Notify,
    /// The near end is no more.
    left: Notify,
}

struct State {
    line: DelayLine,
    /// Waits for room.
    writer: Option<Waker>,
    /// Why nothing arrives any more.
    broken: Option<io::ErrorKind>,
}

impl<R> Distant<R> {
    /// Reads of `read` are not delayed; what is written comes out of `write` after `delay`, as long as
    /// the future beside it runs. It ends when everything was carried, or nothing can be.
    pub fn new<W>(
        read: R,
        write: W,
        delay: Duration,
    ) -> (Self, impl Future<Output = ()> + Send + 'static)
    where
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let way = Arc::new(Way {
            state: Mutex::new(State {
                line: DelayLine::new(delay, ROOM),
                writer: None,
                broken: None,
            }),
            sent: Notify::new(),
            left: Notify::new(),
        });
        let near = Self {
            read,
            way: way.clone(),
        };
        (near, async move {
            let carried = tokio::select! {
                carried = carry(&way, write) => carried,
                () = lost_patience(&way, delay) => Ok(()),
            };
            if let Err(error) = carried {
                way.state.lock().breaks(error.kind());
            }
        })
    }
}

/// Takes what arrives to `far`, up to the end.
async fn carry(way: &Way, mut far: impl AsyncWrite + Unpin) -> io::Result<()> {
    loop {
        let next = way.state.lock().line.next(now());
        match next {
            Next::Bytes(mut bytes) => {
                while bytes.has_remaining() {
                    match far.write_buf(&mut bytes).await? {
                        0 => return Err(io::ErrorKind::WriteZero.into()),
                        written => way.state.lock().taken(written),
                    }
                }
            }
            Next::At(at) => tokio::time::sleep_until(at.into()).await,
            Next::Nothing => {
                far.flush().await?;
                way.sent.notified().await;
            }
            Next::End => return far.shutdown().await,
        }
    }
}

/// Resolves when the near end has been gone for so long that a peer which still has not read what it
/// left will not do so.
async fn lost_patience(way: &Way, delay: Duration) {
    way.left.notified().await;
    tokio::time::sleep(delay + PATIENCE).await;
}

impl State {
    fn taken(&mut self, bytes: usize) {
        self.line.taken(bytes);
        self.wake();
    }

    fn breaks(&mut self, why: io::ErrorKind) {
        self.broken = Some(why);
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Distant<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.read).poll_read(context, buffer)
    }
}

impl<R: Unpin> AsyncWrite for Distant<R> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.way.state.lock();
        if let Some(why) = state.broken {
            return Poll::Ready(Err(why.into()));
        }
        if state.line.has_ended() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let sent = state.line.send(bytes, now());
        if sent == 0 && !bytes.is_empty() {
            state.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        drop(state);
        self.way.sent.notify_one();
        Poll::Ready(Ok(sent))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let broken = self.way.state.lock().broken;
        Poll::Ready(broken.map_or(Ok(()), |why| Err(why.into())))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.way.end();
        Poll::Ready(Ok(()))
    }
}

impl Way {
    fn end(&self) {
        self.state.lock().line.end(now());
        self.sent.notify_one();
    }
}

impl<R> Drop for Distant<R> {
    fn drop(&mut self) {
        self.way.end();
        self.way.left.notify_one();
    }
}

/// The network's time is that of the timers; a service's clock may stand still.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Bytes that may be under way to one peer: a window, as TCP has one for a long way.
const ROOM: usize = 256 << 10;

/// For a peer that does not read what was left for it.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
#[path = "distant_tests.rs"]
mod tests;
