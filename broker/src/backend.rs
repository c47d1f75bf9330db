//! The seam: what stands behind a front door, and what passes through it.
//!
//! Hub and DPS each are one [`Backend`]. What may not enter: sockets, packets, topics of Azure.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::line::{CloseReason, Line};
use crate::refusal::Refusal;
use crate::storing::Storing;

/// A service behind the front door.
pub trait Backend: Send + Sync + 'static {
    type Principal: Principal;

    /// Judges a CONNECT. A refusal says which CONNACK code it is answered with.
    fn authenticate(
        &self,
        hello: Hello,
    ) -> impl Future<Output = Result<Admission<Self::Principal>, Refusal>> + Send;

    /// Says what a PUBLISH means. Called in the order the packets came. A refusal closes the connection.
    fn publish(&self, from: &Self::Principal, publish: Publish<'_>) -> Result<Inward, Refusal>;

    /// Judges one filter of a SUBSCRIBE. A refusal closes the connection; see [`Granted::Failure`]
    /// for a SUBACK 0x80.
    fn subscribe(
        &self,
        who: &Self::Principal,
        filter: &str,
        wanted: QoS,
    ) -> Result<Granted, Refusal>;

    /// Judges one filter of an UNSUBSCRIBE.
    fn unsubscribe(&self, who: &Self::Principal, filter: &str) -> Result<(), Refusal>;

    /// The lanes are open, and nobody has connected yet.
    fn opened(&self, storing: Storing) {
        drop(storing);
    }

    /// The principal is on the line: CONNACK 0 was decided. Of a takeover, `left` of the old
    /// connection comes before `arrived` of the new one.
    fn arrived(&self, who: &Self::Principal, line: &Line);

    /// A filter that the principal's stored session brought back; after `arrived`.
    fn restored(&self, who: &Self::Principal, filter: &str) {
        let _ = (who, filter);
    }

    /// The connection is over.
    fn left(&self, who: &Self::Principal, reason: &CloseReason);
}

/// Who is on the line, as the service knows it.
pub trait Principal: Clone + Send + Sync + 'static {
    /// The name under which sessions are kept and takeovers happen.
    fn owner(&self) -> &Owner;
}

/// The one name of a principal: for a hub `device` or `device/module`, for a DPS the folded
/// registration id.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner(Arc<str>);

impl Owner {
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a service knows of a client when it asks to enter.
#[derive(Debug, Clone)]
pub struct Hello {
    pub client_id: String,
    pub user_name: Option<String>,
    pub password: Option<Secret>,
    pub clean_session: bool,
    pub will: Option<Will>,
    pub peer: Arc<Peer>,
}

/// A password. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What the device wants published when its connection breaks.
#[derive(Debug, Clone)]
pub struct Will {
    pub topic: String,
    pub payload: Bytes,
    pub qos: QoS,
    /// The client asked for QoS 2, which IoT Hub does not know; `qos` is then the next lower one.
    pub exactly_once: bool,
    pub retain: bool,
}

/// Where a connection comes from and what it showed.
#[derive(Debug, Clone)]
pub struct Peer {
    pub remote: SocketAddr,
    pub local: SocketAddr,
    /// The name in the TLS server name indication; absent when the client used an address.
    pub server_name: Option<String>,
    /// The client's certificate chain as DER, leaf first; possession of the leaf's key is proven.
    pub certificates: Vec<Vec<u8>>,
}

/// Delivery promises that IoT Hub knows. QoS 2 closes the connection before a service sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QoS {
    AtMostOnce,
    AtLeastOnce,
}

/// A client that may enter, and on which terms.
#[derive(Debug, Clone)]
pub struct Admission<P> {
    pub principal: P,
    /// When the credential ends and with it the connection.
    pub expires: Option<Instant>,
    /// The longest silence allowed, whatever keep-alive the client announced; also for keep-alive 0.
    pub longest_silence: Duration,
    /// Whether a session may outlive its connection when the client asks for it (clean session 0).
    pub persistent_sessions: bool,
}

/// A PUBLISH as a service sees it.
#[derive(Debug, Clone, Copy)]
pub struct Publish<'a> {
    pub topic: &'a str,
    pub payload: &'a Bytes,
    pub qos: QoS,
    pub retain: bool,
    pub duplicate: bool,
    /// The device's will, published because its connection broke.
    pub will: bool,
}

/// What is to happen with a PUBLISH.
#[derive(Debug)]
pub enum Inward {
    /// Into the router on this lane; acknowledged once the [`Consumer`] has stored it.
    Store { lane: Lane, envelope: Vec<u8> },
    /// Acknowledged at once; the answer, if any, follows in the same write.
    Answer(Option<Outbound>),
}

/// A lane of the router: what must stay in order shares one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lane(pub u8);

/// A message to a device. Reaches it if a subscription of its session matches the topic.
#[derive(Debug, Clone)]
pub struct Outbound {
    pub topic: String,
    pub payload: Bytes,
    /// Lowered to what the subscription was granted.
    pub qos: QoS,
}

/// The outcome of one filter of a SUBSCRIBE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Granted {
    /// At this QoS at most.
    UpTo(QoS),
    /// SUBACK 0x80; the connection goes on.
    Failure,
}

/// Takes what came through the router and stores it. Runs on a thread of its own and may block.
pub trait Consumer: Send + 'static {
    /// Stores all envelopes of one lane, in order. On success each is acknowledged to its sender;
    /// an error, a sentence for people, closes the senders' connections without acknowledgement.
    fn consume(&mut self, lane: Lane, envelopes: Envelopes<'_>) -> Result<(), String>;

    /// Nothing came for about a second: time for retention and the like.
    fn idle(&mut self) {}
}

/// The envelopes of one batch, in order.
#[derive(Debug, Clone)]
pub struct Envelopes<'a>(&'a [u8]);

impl<'a> Envelopes<'a> {
    /// Reads what [`Envelopes::push`] wrote.
    pub(crate) fn new(batch: &'a [u8]) -> Self {
        Self(batch)
    }

    /// Adds an envelope to a batch: its length as a little-endian u32, then its bytes.
    pub(crate) fn push(batch: &mut Vec<u8>, envelope: &[u8]) {
        let length = u32::try_from(envelope.len()).expect("a packet is far smaller than 4 GiB");
        batch.extend_from_slice(&length.to_le_bytes());
        batch.extend_from_slice(envelope);
    }
}

impl<'a> Iterator for Envelopes<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (envelope, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(envelope)
    }
}
