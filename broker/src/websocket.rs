//! A WebSocket as a stream of bytes: where its frames begin and end means nothing to MQTT.
//!
//! Binary frames only. Pings are answered on the way, frames and what waits to be written are
//! bounded. What may not enter: HTTP, MQTT.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Utf8Bytes};

use crate::refusal::{Answer, Refusal};

/// Bytes of a frame that is sent.
const LARGEST_SENT: usize = 64 << 10;

/// Bytes that wait for a slow reader: a frame and the answers to its pings.
const WRITE_LIMIT: usize = 2 * LARGEST_SENT;

/// Held by every connection, idle or not.
const READ_BUFFER: usize = 4 << 10;

/// The server's end of a WebSocket.
pub(crate) struct WebSocket<S> {
    frames: WebSocketStream<S>,
    /// What of the last frame was not read yet.
    rest: Bytes,
    fault: Option<Fault>,
    /// The close frame is under way, or sent.
    said_goodbye: bool,
}

/// What a client may not send.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fault {
    Text,
    TooLarge { bytes: usize, limit: usize },
    Protocol(String),
}

impl Fault {
    fn code(&self) -> CloseCode {
        match self {
            Self::Text => CloseCode::Unsupported,
            Self::TooLarge { .. } => CloseCode::Size,
            Self::Protocol(_) => CloseCode::Protocol,
        }
    }

    fn refusal(&self) -> Refusal {
        match self {
            Self::Text => Refusal::new(
                "text-frame",
                Answer::Close,
                "the client sent a text frame; MQTT travels in binary frames",
            ),
            Self::TooLarge { bytes, limit } => Refusal::new(
                "oversize",
                Answer::Close,
                format!("a WebSocket frame of {bytes} bytes came; {limit} are allowed"),
            )
            .fact("bytes", bytes)
            .fact("limit", limit),
            Self::Protocol(why) => Refusal::new(
                "bad-frame",
                Answer::Close,
                format!("the client broke the WebSocket protocol: {why}"),
            ),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// Over a stream that was upgraded; `part` is what was read of it already.
    pub(crate) async fn new(stream: S, part: &[u8], largest: usize) -> Self {
        let limits = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_write_buffer_size(WRITE_LIMIT)
            .max_frame_size(Some(largest))
            .max_message_size(Some(largest));
        let role = Role::Server;
        let frames =
            WebSocketStream::from_partially_read(stream, part.to_vec(), role, Some(limits)).await;
        Self {
            frames,
            rest: Bytes::new(),
            fault: None,
            said_goodbye: false,
        }
    }

    /// The rule that ended it, if one did.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        self.fault.as_ref().map(Fault::refusal)
    }

    fn fail(&mut self, fault: Fault) -> io::Error {
        self.fault = Some(fault);
        io::ErrorKind::InvalidData.into()
    }

    /// Tells a client's fault from its going away.
    fn judge(&mut self, error: tungstenite::Error) -> io::Result<()> {
        use tungstenite::Error;
        match error {
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Ok(()),
            Error::Io(error) => Err(error),
            Error::Capacity(tungstenite::error::CapacityError::MessageTooLong {
                size,
                max_size,
            }) => Err(self.fail(Fault::TooLarge {
                bytes: size,
                limit: max_size,
            })),
            Error::Utf8(_) => Err(self.fail(Fault::Text)),
            other => Err(self.fail(Fault::Protocol(other.to_string()))),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocket<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.rest.is_empty() {
            match ready!(Pin::new(&mut this.frames).poll_next(context)) {
                Some(Ok(Message::Binary(bytes))) => this.rest = bytes,
                Some(Ok(Message::Text(_))) => return Poll::Ready(Err(this.fail(Fault::Text))),
                // Pings and the close frame are answered below.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(this.judge(error)),
                None => return Poll::Ready(Ok(())),
            }
        }
        let taken = this.rest.len().min(buffer.remaining());
        buffer.put_slice(&this.rest.split_to(taken));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocket<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let mut frames = Pin::new(&mut this.frames);
        ready!(frames.as_mut().poll_ready(context)).map_err(io::Error::other)?;
        let taken = &bytes[..bytes.len().min(LARGEST_SENT)];
        let frame = Message::Binary(Bytes::copy_from_slice(taken));
        frames.start_send(frame).map_err(io::Error::other)?;
        Poll::Ready(Ok(taken.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let frames = Pin::new(&mut self.get_mut().frames);
        frames.poll_flush(context).map_err(io::Error::other)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.said_goodbye {
            this.said_goodbye = true;
            let frame = this.fault.as_ref().map(|fault| CloseFrame {
                code: fault.code(),
                reason: Utf8Bytes::default(),
            });
            // Where the client closed first there is nothing left to say.
            let _ = Pin::new(&mut this.frames).start_send(Message::Close(frame));
        }
        let _ = ready!(Pin::new(&mut this.frames).poll_flush(context));
        Pin::new(this.frames.get_mut()).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A masked frame of a client: its first byte and its payload, under a mask of zeros.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        assert!(length < 126);
        let mut frame = vec![first, 0x80 | length, 0, 0, 0, 0];
        frame.extend_from_slice(payload);
        frame
    }

    #[tokio::test]
    async fn frames_are_read_as_one_run_of_bytes() {
        // A message in two fragments with a ping between them, an empty one, and one read before.
        let (near, mut far) = tokio::io::duplex(1024);
        let before = frame(0x82, b"a");
        for (first, payload) in [
            (0x02, "bc"),
            (0x89, "?"),
            (0x80, "d"),
            (0x82, ""),
            (0x82, "ef"),
        ] {
            far.write_all(&frame(first, payload.as_bytes()))
                .await
                .unwrap();
        }
        let mut socket = WebSocket::new(near, &before, 1 << 10).await;
        let mut read = [0; 6];
        socket.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"abcdef");
        let mut pong = [0; 3];
        far.read_exact(&mut pong).await.unwrap();
        assert_eq!(&pong, b"\x8a\x01?");
        drop(far);
        assert_eq!(socket.read(&mut read).await.unwrap(), 0);
        assert_eq!(socket.refusal(), None);
    }

    #[tokio::test]
    async fn what_breaks_the_protocol_is_told_apart_and_answered_with_its_code() {
        let mut unmasked = frame(0x82, b"a");
        unmasked[1] = 1;
        unmasked.truncate(3);
        // By its length alone: its bytes are not waited for.
        let large = [&[0x82, 0x80 | 126, 4, 1][..], &[0; 4]].concat();
        for (bytes, kind, code) in [
            (frame(0x81, b"text"), "text-frame", 1003),
            (frame(0x81, b"\xff"), "text-frame", 1003),
            (large, "oversize", 1009),
            (unmasked, "bad-frame", 1002),
            (frame(0xc2, b"compressed"), "bad-frame", 1002),
            (frame(0x80, b"continued"), "bad-frame", 1002),
        ] {
            let (near, mut far) = tokio::io::duplex(1024);
            far.write_all(&bytes).await.unwrap();
            let mut socket = WebSocket::new(near, &[], 1 << 10).await;
            assert!(socket.read(&mut [0; 9]).await.is_err(), "{kind}");
            assert_eq!(socket.refusal().map(|refusal| refusal.kind), Some(kind));
            socket.shutdown().await.unwrap();
            let mut last = Vec::new();
            far.read_to_end(&mut last).await.unwrap();
            let [high, low] = u16::to_be_bytes(code);
            assert_eq!(last, [0x88, 2, high, low], "{kind}");
        }
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_stops_what_is_written() {
        let (near, _far) = tokio::io::duplex(1024);
        let mut socket = WebSocket::new(near, &[], 1 << 10).await;
        let mut written = 0;
        loop {
            let step = poll_fn(|context| {
                Poll::Ready(Pin::new(&mut socket).poll_write(context, &[0; 100_000]))
            });
            let Poll::Ready(count) = step.await else {
                break;
            };
            written += count.unwrap();
            assert!(written <= WRITE_LIMIT);
        }
        assert_eq!(written, LARGEST_SENT);
    }
}
