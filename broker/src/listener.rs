//! Sockets: bind, accept, TLS handshake, and the limits on each.
//!
//! What may not enter: MQTT, HTTP.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustls::server::Acceptor;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::backend::{Backend, Peer};
use crate::distant::Distant;
use crate::front_door::Shared;
use crate::refusal::{Answer, Operation, Refusal};
use crate::stream::Stream;

/// Connections the kernel may hold for us: a fleet reconnects all at once.
const BACKLOG: i32 = 4096;

/// How long a handshake keeps its turn. What is dear in one happens at its beginning.
const TURN: Duration = Duration::from_millis(100);

/// Binds a listening socket.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts until the front door closes; each connection is served by a task of its own.
pub(crate) async fn accept<B, F, R>(listener: TcpListener, shared: Arc<Shared<B>>, serve: F)
where
    B: Backend,
    F: Fn(Stream, Peer, Arc<Shared<B>>) -> R + Clone + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.closing.cancelled() => return,
        };
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Mostly too many open files: others must be served before more can enter.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(local) = stream.local_addr() else {
            continue;
        };
        // Files of the store and of the event log are opened later on: sockets must leave them room.
        if descriptor(&stream) >= shared.limits.descriptors {
            let sentence = "the process has too few file descriptors for more connections; raise the limit of open files";
            refuse_crowd(&shared, remote, sentence.into(), shared.limits.descriptors);
            continue;
        }
        let most = shared.limits.connections;
        if shared.connections.fetch_add(1, Ordering::Relaxed) >= most {
            shared.connections.fetch_sub(1, Ordering::Relaxed);
            let limit = shared.limits.connections;
            refuse_crowd(
                &shared,
                remote,
                format!("{limit} connections are open already"),
                limit,
            );
            continue;
        }
        let _ = stream.set_nodelay(true);
        let peer = Peer {
            remote,
            local,
            server_name: None,
            certificates: Vec::new(),
        };
        let stream = lay(stream, remote, &shared);
        let task = serve(stream, peer, shared.clone());
        let owner = shared.clone();
        shared.tasks.spawn(async move {
            let _place = Place(&owner.connections);
            task.await;
        });
    }
}

/// A peer in another region gets a long way, under everything that is said on it.
fn lay<B>(stream: TcpStream, remote: SocketAddr, shared: &Shared<B>) -> Stream {
    let delay = shared.delay.as_ref();
    let Some(round_trip) = delay.and_then(|delay| delay.round_trip(remote.ip())) else {
        return Stream::Near(stream);
    };
    let (read, write) = stream.into_split();
    // All of it on the way out: an answer is late by one round trip, and so is the next question.
    let (stream, carried) = Distant::new(read, write, round_trip);
    shared.tasks.spawn(carried);
    Stream::Far(stream)
}

/// Descriptors are given out from the lowest on: the number of one says how many are taken.
#[cfg(unix)]
fn descriptor(stream: &TcpStream) -> usize {
    use std::os::fd::AsRawFd;
    usize::try_from(stream.as_raw_fd()).unwrap_or_default()
}

#[cfg(not(unix))]
fn descriptor(_: &TcpStream) -> usize {
    0
}

/// One of the connections that may be open at once.
pub(crate) struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    pub fn take(taken: &'a AtomicUsize, most: usize) -> Option<Self> {
        let place = Self(taken);
        // Given back at once where there was none.
        (taken.fetch_add(1, Ordering::Relaxed) < most).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(crate) fn refuse_crowd<B: Backend>(
    shared: &Shared<B>,
    remote: SocketAddr,
    sentence: String,
    limit: usize,
) {
    let refusal =
        Refusal::new("too-many-connections", Answer::Close, sentence).fact("limit", limit);
    shared.ledger.record(
        shared.clock.utc(),
        Operation::Handshake,
        None,
        Some(remote),
        refusal,
    );
}

/// The TLS handshake, within its time and among a bounded number of others. A client takes its turn
/// with a whole ClientHello, and has it for a moment: whoever says nothing, half of a ClientHello, or
/// nothing after it, keeps nobody waiting for long.
pub(crate) async fn handshake<B: Backend>(
    stream: Stream,
    mut peer: Peer,
    shared: &Shared<B>,
) -> Option<(Box<TlsStream<Stream>>, Arc<Peer>)> {
    let attempt = async {
        let greeted = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let turn = shared
            .handshakes
            .acquire()
            .await
            .map_err(io::Error::other)?;
        let shaken = greeted.into_stream(shared.tls.clone());
        tokio::pin!(shaken);
        if let Ok(shaken) = tokio::time::timeout(TURN, shaken.as_mut()).await {
            return shaken;
        }
        drop(turn);
        shaken.await
    };
    let timed = tokio::time::timeout(shared.limits.handshake_time, attempt);
    let outcome = tokio::select! {
        outcome = timed => outcome,
        () = shared.closing.cancelled() => return None,
    };
    let refusal = match outcome {
        Ok(Ok(stream)) => {
            let (_, connection) = stream.get_ref();
            peer.server_name = connection.server_name().map(Into::into);
            let chain = connection.peer_certificates().unwrap_or_default();
            peer.certificates = chain
                .iter()
                .map(|certificate| certificate.to_vec())
                .collect();
            return Some((Box::new(stream), Arc::new(peer)));
        }
        Ok(Err(error)) => explain(&error)?,
        Err(_) => {
            let allowed = shared.limits.handshake_time.as_secs_f64();
            Refusal::new(
                "handshake-timeout",
                Answer::Close,
                format!("no whole TLS handshake came within {allowed:.0} s; is the client speaking TLS on this port?"),
            )
            .fact("seconds allowed", allowed)
        }
    };
    shared.ledger.record(
        shared.clock.utc(),
        Operation::Handshake,
        None,
        Some(peer.remote),
        refusal,
    );
    None
}

/// Why a handshake failed, for people; `None` when the client merely went away.
fn explain(error: &io::Error) -> Option<Refusal> {
    use rustls::{AlertDescription, Error, PeerIncompatible};
    let cause = error.get_ref()?.downcast_ref::<Error>()?;
    let (kind, alert, sentence) = match cause {
        Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            // It knows a CA of this name with another key: one from before the CA was made anew.
            | AlertDescription::DecryptError,
        ) => (
            "untrusted-server",
            "sent by the client",
            "the client does not trust this simulator's CA (perhaps one made earlier), or not the name it dialled; \
             give it the CA file (`azimuth trust` says how for each SDK)"
                .to_owned(),
        ),
        Error::AlertReceived(alert) => {
            ("client-alert", "sent by the client", format!("the client ended the handshake: {alert:?}"))
        }
        Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon | PeerIncompatible::NoKxGroupsInCommon) => (
            "no-common-cipher",
            "handshake_failure",
            "the client offers no cipher suite or key exchange in common: ECDHE with AES-GCM or ChaCha20 is needed"
                .to_owned(),
        ),
        Error::PeerIncompatible(why) => {
            ("tls-version", "protocol_version", format!("the client cannot speak TLS 1.2 or 1.3 as needed: {why:?}"))
        }
        Error::InvalidMessage(_) => (
            "not-tls",
            "decode_error",
            "the client does not speak TLS on this port; MQTT without TLS is not served, as in Azure".to_owned(),
        ),
        other => ("handshake", "internal_error", format!("the TLS handshake failed: {other}")),
    };
    Some(Refusal::new(kind, Answer::Alert(alert.into()), sentence))
}
