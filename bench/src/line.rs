//! One client's line to a server: TCP or TLS, and MQTT packets over it.
//!
//! Idle lines own no buffer, so that thousands can be held. What may not enter: what is measured.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use anyhow::{bail, ensure};
use bytes::BytesMut;
use rumqttc::mqttbytes::v4::{ConnectReturnCode, Packet, PubAck, Subscribe, SubscribeFilter};
use rumqttc::mqttbytes::{Error, QoS};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::credentials::Credentials;
use crate::leaves::Leaves;

/// Where clients connect, and as whom.
#[derive(Clone)]
pub struct Target {
    pub address: SocketAddr,
    pub tls: Tls,
    pub credentials: Arc<Credentials>,
}

/// What a client shows of itself before MQTT begins.
#[derive(Clone)]
pub enum Tls {
    /// Plain TCP.
    None,
    /// No certificate.
    Anonymous(TlsConnector),
    /// Each client its own certificate.
    Certificates(Arc<Leaves>),
}

impl Tls {
    fn connector(&self, client: usize) -> anyhow::Result<Option<&TlsConnector>> {
        match self {
            Self::None => Ok(None),
            Self::Anonymous(connector) => Ok(Some(connector)),
            Self::Certificates(leaves) => leaves.connector(client).map(Some),
        }
    }
}

/// Ephemeral ports are counted per source address; 16 addresses give 450,000.
const SOURCES: usize = 16;
/// Largest packet taken from a server.
const PACKET_LIMIT: usize = 1 << 20;
/// Seconds; longer than any scenario, so that no PINGREQ disturbs it.
const KEEP_ALIVE: u16 = 1_177;

impl Target {
    /// TCP alone.
    pub async fn dial(&self, client: usize) -> anyhow::Result<TcpStream> {
        ensure!(
            self.address.ip().is_loopback(),
            "{} is not a loopback address; only those are measured",
            self.address
        );
        let last = u8::try_from(client % SOURCES).expect("a remainder of 16 fits a byte") + 1;
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(IpAddr::from([127, 0, 100, last]), 0))?;
        let stream = socket.connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// TCP and TLS.
    pub async fn secure(&self, client: usize) -> anyhow::Result<Stream> {
        let tcp = self.dial(client).await?;
        let Some(tls) = self.tls.connector(client)? else {
            return Ok(Stream::Plain(tcp));
        };
        let name = ServerName::from(self.address.ip());
        Ok(Stream::Tls(Box::new(tls.connect(name, tcp).await?)))
    }

    /// TCP and TLS, then goodbye. Ends when the server has seen the handshake's end and closed.
    pub async fn greet(&self, client: usize) -> anyhow::Result<()> {
        let mut stream = self.secure(client).await?;
        stream.shutdown().await?;
        // A server may close without a goodbye of its own.
        while matches!(stream.read(&mut [0; 64]).await, Ok(1..)) {}
        Ok(())
    }

    /// TCP, TLS and CONNECT, until CONNACK has come. The code is the server's.
    pub async fn connect(&self, client: usize) -> anyhow::Result<(Line, ConnectReturnCode)> {
        let mut line = Line {
            stream: self.secure(client).await?,
            inbox: BytesMut::new(),
        };
        let mut bytes = BytesMut::new();
        self.credentials
            .connect(client, KEEP_ALIVE)
            .write(&mut bytes)?;
        line.send(&bytes).await?;
        match line.next().await? {
            Packet::ConnAck(ack) => Ok((line, ack.code)),
            other => bail!("CONNECT was answered with {other:?}"),
        }
    }

    /// As [`Self::connect`]; a refusal is an error.
    pub async fn enter(&self, client: usize) -> anyhow::Result<Line> {
        let (line, code) = self.connect(client).await?;
        ensure!(
            code == ConnectReturnCode::Success,
            "client {client} was refused: {code:?}"
        );
        Ok(line)
    }
}

/// An open line.
pub struct Line {
    stream: Stream,
    inbox: BytesMut,
}

impl Line {
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// A whole packet that has already come.
    pub fn buffered(&mut self) -> anyhow::Result<Option<Packet>> {
        if self.inbox.is_empty() {
            return Ok(None);
        }
        match Packet::read(&mut self.inbox, PACKET_LIMIT) {
            Ok(packet) => Ok(Some(packet)),
            Err(Error::InsufficientBytes(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for more bytes; may be cancelled without losing any.
    pub async fn fill(&mut self) -> anyhow::Result<()> {
        self.inbox.reserve(2048);
        let count = self.stream.read_buf(&mut self.inbox).await?;
        ensure!(count > 0, "the server closed the connection");
        Ok(())
    }

    pub async fn next(&mut self) -> anyhow::Result<Packet> {
        loop {
            if let Some(packet) = self.buffered()? {
                return Ok(packet);
            }
            self.fill().await?;
        }
    }

    /// The next PUBLISH, acknowledged where it asks for it; acknowledgements are passed over.
    pub async fn next_publish(&mut self) -> anyhow::Result<rumqttc::mqttbytes::v4::Publish> {
        loop {
            let Packet::Publish(publish) = self.next().await? else {
                continue;
            };
            if publish.qos != QoS::AtMostOnce {
                let mut bytes = BytesMut::new();
                PubAck::new(publish.pkid).write(&mut bytes)?;
                self.send(&bytes).await?;
            }
            return Ok(publish);
        }
    }

    /// Subscribes at QoS 1 and waits for SUBACK.
    pub async fn subscribe(&mut self, filters: &[String]) -> anyhow::Result<()> {
        let filters = filters
            .iter()
            .map(|filter| SubscribeFilter::new(filter.clone(), QoS::AtLeastOnce));
        let mut subscribe = Subscribe::new_many(filters);
        subscribe.pkid = 1;
        let mut bytes = BytesMut::new();
        subscribe.write(&mut bytes)?;
        self.send(&bytes).await?;
        loop {
            let Packet::SubAck(ack) = self.next().await? else {
                continue;
            };
            use rumqttc::mqttbytes::v4::SubscribeReasonCode::Failure;
            ensure!(
                !ack.return_codes.contains(&Failure),
                "a subscription was refused"
            );
            return Ok(());
        }
    }

    /// Whether the server still answers on this line.
    pub async fn ping(&mut self) -> anyhow::Result<()> {
        self.send(&[0xc0, 0]).await?;
        while self.next().await? != Packet::PingResp {}
        Ok(())
    }

    /// DISCONNECT, and waits until the server has closed.
    pub async fn leave(mut self) -> anyhow::Result<()> {
        self.send(&[0xe0, 0]).await?;
        while matches!(self.stream.read(&mut [0; 64]).await, Ok(1..)) {}
        Ok(())
    }

    /// Gives back what an idle line need not own.
    pub fn rest(&mut self) {
        if self.inbox.is_empty() {
            self.inbox = BytesMut::new();
        }
    }
}

pub enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
