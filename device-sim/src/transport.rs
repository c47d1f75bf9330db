//! One line to a server: TCP, TLS, whole packets in and out.
//!
//! Packets are those of rumqttc's codec; rumqttc's event loop does not serve here, it brings its
//! own TLS and buffers of 10 KiB and more for every client. An idle line owns no buffer: what
//! arrives is read into a scratch that all lines of a thread share, and only what arrived is copied.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::ready;
use std::time::Duration;

use bytes::BytesMut;
use rumqttc::mqttbytes;
use rumqttc::mqttbytes::v4::Packet;
use rustls::pki_types::ServerName;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::fault::{Fault, FaultKind};

/// TCP and TLS together, and one batch of packets written.
const DIAL_PATIENCE: Duration = Duration::from_secs(30);
/// A close that is not answered is not waited for.
const CLOSE_PATIENCE: Duration = Duration::from_millis(500);
/// Azure's largest message, its topic, and room to spare.
const LARGEST_PACKET: usize = 262_144 + 65_536 + 1024;

/// Shared by all lines of a thread.
pub(crate) struct Scratch(RefCell<Box<[u8]>>);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(RefCell::new(vec![0; 16 * 1024].into()))
    }
}

/// An open line.
pub(crate) struct Line {
    stream: TlsStream<TcpStream>,
    /// The beginning of a packet whose rest has not arrived; owns nothing when empty.
    partial: BytesMut,
    place: Box<str>,
}

/// Opens a line from `source` to `address`, which has to prove that it is `host`.
pub(crate) async fn dial(
    tls: &TlsConnector,
    host: &str,
    address: SocketAddr,
    source: Option<IpAddr>,
) -> Result<Line, Fault> {
    let place = format!("{host} ({address})");
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| Fault::new(FaultKind::Dns, format!("`{host}` is not a host name")))?;
    let shake = async {
        let socket = socket(address, source).map_err(|error| Fault::dialling(&place, &error))?;
        let tcp = socket.connect(address).await;
        let tcp = tcp.map_err(|error| Fault::dialling(&place, &error))?;
        tls.connect(name, tcp)
            .await
            .map_err(|error| Fault::broken(&place, &error))
    };
    match timeout(DIAL_PATIENCE, shake).await {
        Ok(stream) => Ok(Line {
            stream: stream?,
            partial: BytesMut::new(),
            place: place.into(),
        }),
        Err(_) => Err(Fault::timeout(&place)),
    }
}

/// A source address has its 28,000 ports for itself, so a fleet over several addresses fits.
fn socket(target: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpSocket> {
    let socket = Socket::new(
        Domain::for_address(target),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    // Heartbeats are small and alone: Nagle would hold each back for the ACK of the one before.
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    Ok(TcpSocket::from_std_stream(socket.into()))
}

impl Line {
    /// For another protocol than MQTT; and where it leads.
    pub(crate) fn into_stream(self) -> (TlsStream<TcpStream>, Box<str>) {
        (self.stream, self.place)
    }

    /// The next packet. Cancelling it loses nothing.
    pub(crate) async fn read(&mut self, scratch: &Scratch) -> Result<Packet, Fault> {
        loop {
            if let Some(packet) = self.take()? {
                return Ok(packet);
            }
            let Self {
                stream, partial, ..
            } = self;
            let read = poll_fn(|context| {
                let mut scratch = scratch.0.borrow_mut();
                let mut arrived = ReadBuf::new(&mut scratch);
                ready!(Pin::new(&mut *stream).poll_read(context, &mut arrived))?;
                partial.extend_from_slice(arrived.filled());
                std::task::Poll::Ready(io::Result::Ok(arrived.filled().len()))
            });
            match read.await {
                Ok(0) => return Err(Fault::closed(&self.place)),
                Ok(_) => {}
                Err(error) => return Err(Fault::broken(&self.place, &error)),
            }
        }
    }

    /// Writes a batch of packets in one go.
    pub(crate) async fn write(&mut self, packets: BytesMut) -> Result<(), Fault> {
        let write = async {
            self.stream.write_all(&packets).await?;
            self.stream.flush().await
        };
        match timeout(DIAL_PATIENCE, write).await {
            Ok(written) => written.map_err(|error| Fault::broken(&self.place, &error)),
            Err(_) => Err(Fault::new(
                FaultKind::NoAnswer,
                format!("{} takes nothing more: its window is full", self.place),
            )),
        }
    }

    /// Ends TLS and TCP in good order, without waiting long.
    ///
    /// What still arrives is read: a socket closed over unread bytes is reset, and a reset can
    /// overtake the DISCONNECT before it.
    pub(crate) async fn close(mut self, scratch: &Scratch) {
        let end = async {
            let _ = self.stream.shutdown().await;
            while self.read(scratch).await.is_ok() {}
        };
        let _ = timeout(CLOSE_PATIENCE, end).await;
    }

    /// A packet that has already arrived.
    pub(crate) fn take(&mut self) -> Result<Option<Packet>, Fault> {
        if self.partial.is_empty() {
            self.partial = BytesMut::new();
            return Ok(None);
        }
        match Packet::read(&mut self.partial, LARGEST_PACKET) {
            Ok(packet) => Ok(Some(packet)),
            Err(mqttbytes::Error::InsufficientBytes(_)) => Ok(None),
            Err(error) => Err(Fault::new(
                FaultKind::Protocol,
                format!("{} sent what is not MQTT 3.1.1: {error}", self.place),
            )),
        }
    }
}

/// Adds a packet to a batch. What our devices send always fits.
pub(crate) fn encode(packet: &Packet, batch: &mut BytesMut) -> Result<(), Fault> {
    packet
        .write(batch, LARGEST_PACKET)
        .map(drop)
        .map_err(|error| {
            Fault::new(
                FaultKind::Protocol,
                format!("a packet cannot be written: {error}"),
            )
        })
}
