//! The shell: one socket drives one [`Session`].
//!
//! An idle connection holds no buffer: bytes are read through one scratch buffer per thread, and what
//! waits to be written is dropped once written. What may not enter: rules of MQTT (they live in
//! `session`) and of services (they live behind [`Backend`]).

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rumqttc::mqttbytes::QoS as WireQoS;
use rumqttc::mqttbytes::v4::{
    ConnAck, Connect, ConnectReturnCode, LastWill, Packet, PubAck, Publish as PublishPacket,
    SubAck, Subscribe, SubscribeReasonCode, UnsubAck, Unsubscribe,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::backend::{
    Admission, Backend, Granted, Hello, Inward, Outbound, Owner, Peer, Principal, Publish, QoS,
    Secret, Will,
};
use crate::front_door::Shared;
use crate::line::{CloseReason, Line};
use crate::packet;
use crate::refusal::{Answer, Operation, Refusal};
use crate::router::Turn;
use crate::session::{Kept, Session, Step};

/// Bytes that may wait for a slow reader before nothing more is made for it.
const WRITE_LIMIT: usize = 64 << 10;

/// QoS 1 packets a device may have under way before its socket is not read.
const INBOUND_LIMIT: usize = 256;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; 16 << 10].into_boxed_slice());
}

/// Serves one connection until it ends.
pub(crate) async fn serve<S, B>(stream: S, peer: Arc<Peer>, shared: Arc<Shared<B>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    B: Backend,
{
    let now = shared.clock.now();
    let mut wire = Wire::new(stream, shared.limits.connect_time);
    let mut session = Session::new(now + shared.limits.connect_time);
    // What happens once in a connection's life is boxed: its task stays small for the rest of it.
    let connect = Box::pin(async {
        tokio::select! {
            connect = first_packet(&mut wire, &mut session, &shared) => Some(connect),
            () = shared.closing.cancelled() => None,
        }
    });
    let Some(connect) = connect.await else { return };
    let connect = match connect {
        Ok(connect) => connect,
        Err(end) => {
            let record = end.record(&shared, None, &peer, &mut wire);
            return Box::pin(record).await;
        }
    };
    let admitted = Box::pin(shared.backend.authenticate(hello(&connect, &peer))).await;
    let admission = match admitted {
        Ok(admission) => admission,
        Err(refusal) => {
            let who = Some(connect.client_id.as_str());
            let record = End::Refused(refusal).record(&shared, who, &peer, &mut wire);
            return Box::pin(record).await;
        }
    };
    let place = Place {
        shared,
        owner: admission.principal.owner().clone(),
        line: Line::new(),
    };
    let resumed = Box::pin(take_place(&place, &admission, &connect)).await;
    let now = place.shared.clock.now();
    wire.send(&Packet::ConnAck(ConnAck::new(
        ConnectReturnCode::Success,
        resumed.is_some(),
    )));
    session.admit(
        connect.keep_alive,
        admission.longest_silence,
        admission.expires,
        resumed.unwrap_or_default(),
        now,
    );
    for again in session.redeliver() {
        wire.send(&Packet::Publish(again));
    }
    let persistent = !connect.clean_session && admission.persistent_sessions;
    // The CONNECT with its token ends here, and so does the certificate chain: a connection may last
    // for weeks.
    let will = connect.last_will.map(Box::new);
    let mut open = Open {
        wire,
        session,
        place,
        who: admission.principal,
        remote: peer.remote,
    };
    drop(peer);
    open.shared().backend.arrived(&open.who, &open.place.line);
    for filter in open.session.filters() {
        open.shared().backend.restored(&open.who, filter);
    }
    let end = open.converse().await;
    Box::pin(open.finish(end, will, persistent)).await;
}

/// Waits for the CONNECT.
async fn first_packet<S, B>(
    wire: &mut Wire<S>,
    session: &mut Session,
    shared: &Shared<B>,
) -> Result<Box<Connect>, End>
where
    S: AsyncRead + AsyncWrite + Unpin,
    B: Backend,
{
    loop {
        let decoded = packet::decode(&mut wire.inbound, shared.limits.packet_bytes);
        match decoded.map_err(|malformed| End::malformed(&malformed))? {
            Some(packet) => match session.handle(packet, shared.clock.now()) {
                Ok(Step::Authenticate(connect)) => return Ok(connect),
                Ok(_) => {}
                Err(violation) => return Err(End::violation(violation)),
            },
            None => match next_event(wire, shared).await {
                Event::Read => {}
                Event::Closed => return Err(End::Closed(CloseReason::Lost)),
                Event::Timer => {
                    wire.arm(session.deadline(), shared.clock.now());
                    if let Some(reason) = session.overdue(shared.clock.now()) {
                        return Err(End::Closed(reason));
                    }
                }
            },
        }
    }
}

/// The next thing that happens to a connection that has not said CONNECT. A front door that closes
/// hangs up on it.
async fn next_event<S, B>(wire: &mut Wire<S>, shared: &Shared<B>) -> Event
where
    S: AsyncRead + AsyncWrite + Unpin,
    B: Backend,
{
    let closing = shared.closing.cancelled();
    tokio::pin!(closing);
    poll_fn(|context| {
        if closing.as_mut().poll(context).is_ready() {
            return Poll::Ready(Event::Closed);
        }
        wire.poll(context, true)
    })
    .await
}

fn hello(connect: &Connect, peer: &Arc<Peer>) -> Hello {
    let login = connect.login.as_ref();
    let some = |text: &String| (!text.is_empty()).then(|| text.clone());
    Hello {
        client_id: connect.client_id.clone(),
        user_name: login.and_then(|login| some(&login.username)),
        password: login.and_then(|login| some(&login.password)).map(Secret),
        clean_session: connect.clean_session,
        will: connect.last_will.as_ref().map(|will| Will {
            topic: will.topic.clone(),
            payload: will.message.clone(),
            qos: quality(will.qos).unwrap_or(QoS::AtLeastOnce),
            exactly_once: will.qos == WireQoS::ExactlyOnce,
            retain: will.retain,
        }),
        peer: peer.clone(),
    }
}

/// A principal's place on the line. It is given up even where the connection is dropped half way, for
/// the next one waits for it.
struct Place<B: Backend> {
    shared: Arc<Shared<B>>,
    owner: Owner,
    line: Line,
}

impl<B: Backend> Drop for Place<B> {
    fn drop(&mut self) {
        self.shared.presence.leave(&self.owner, &self.line);
        self.line.end();
    }
}

/// Puts the principal on the line. A connection it takes over is over, its session stored and its
/// end told to the service, before the new one begins. Hands out the stored session, if the client
/// wants it.
async fn take_place<B: Backend>(
    place: &Place<B>,
    admission: &Admission<B::Principal>,
    connect: &Connect,
) -> Option<Kept> {
    let (owner, line) = (&place.owner, &place.line);
    let presence = &place.shared.presence;
    if let Some(old) = presence.arrive(owner, line.clone()) {
        old.close(CloseReason::TakenOver);
        old.ended().await;
    }
    if place.shared.closing.is_cancelled() {
        // Too late to be among those that were told.
        line.close(CloseReason::Shutdown);
    }
    if connect.clean_session || !admission.persistent_sessions {
        presence.sessions.forget(owner);
        return None;
    }
    presence.sessions.resume(owner)
}

/// Why a conversation ended.
enum End {
    Closed(CloseReason),
    Refused(Refusal),
}

impl End {
    fn malformed(malformed: &packet::Malformed) -> Self {
        let (kind, answer) = match malformed {
            packet::Malformed::TooLarge { .. } => ("oversize", Answer::Close),
            packet::Malformed::Protocol(_) => ("protocol-version", Answer::Connack(1)),
            _ => ("malformed-packet", Answer::Close),
        };
        Self::Refused(Refusal::new(kind, answer, malformed.to_string()))
    }

    fn violation(violation: crate::session::Violation) -> Self {
        Self::Refused(Refusal::new(
            violation.kind(),
            Answer::Close,
            violation.to_string(),
        ))
    }

    /// The end of a connection that never opened: what the client sees, and a record of why.
    async fn record<S, B>(
        self,
        shared: &Shared<B>,
        who: Option<&str>,
        peer: &Peer,
        wire: &mut Wire<S>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin,
        B: Backend,
    {
        let refusal = match self {
            Self::Refused(refusal) => refusal,
            Self::Closed(CloseReason::Refused(why)) => {
                Refusal::new("connect-timeout", Answer::Close, why)
                    .fact("seconds allowed", shared.limits.connect_time.as_secs())
            }
            Self::Closed(_) => return,
        };
        if let Answer::Connack(code) = refusal.answer {
            wire.refuse(code);
        }
        shared.ledger.record(
            shared.clock.utc(),
            Operation::Connect,
            who,
            Some(peer.remote),
            refusal,
        );
        wire.close().await;
    }
}

/// A connection after CONNACK 0.
struct Open<S, B: Backend> {
    wire: Wire<S>,
    session: Session,
    place: Place<B>,
    who: B::Principal,
    remote: SocketAddr,
}

impl<S, B> Open<S, B>
where
    S: AsyncRead + AsyncWrite + Unpin,
    B: Backend,
{
    fn shared(&self) -> &Shared<B> {
        &self.place.shared
    }

    async fn converse(&mut self) -> End {
        let now = self.shared().clock.now();
        self.wire.arm(self.session.deadline(), now);
        loop {
            if let Err(end) = self.take_packets() {
                return end;
            }
            match poll_fn(|context| self.poll(context)).await {
                Ok(()) => {}
                Err(end) => return end,
            }
        }
    }

    /// Waits for bytes, mail, room or time, whichever comes first, and acts on it.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), End>> {
        let writable = self.wire.outbound.len() < WRITE_LIMIT;
        let room = writable && self.session.has_room();
        if let Poll::Ready(mail) = self.place.line.poll_mail(room, context) {
            for packet in mail.acknowledged {
                self.session.stored(packet);
            }
            self.acknowledge();
            if let Some(reason) = mail.close {
                return Poll::Ready(Err(End::Closed(reason)));
            }
            if let Some(message) = mail.outbound {
                self.deliver(message);
            }
            return Poll::Ready(Ok(()));
        }
        if self.wire.poll_write(context).is_err() {
            return Poll::Ready(Err(End::Closed(CloseReason::Lost)));
        }
        if !writable && self.wire.outbound.len() < WRITE_LIMIT {
            // The reader has caught up: mail and packets that waited for it are looked at again.
            return Poll::Ready(Ok(()));
        }
        let open = self.session.unacknowledged() < INBOUND_LIMIT;
        let intake = &self.place.shared.intake;
        let taken = open && intake.poll_room(&mut self.wire.turn, context).is_ready();
        let readable = writable && taken;
        if readable && !self.wire.inbound.is_empty() && self.wire.whole {
            // Packets waited for room and there is some.
            return Poll::Ready(Ok(()));
        }
        Poll::Ready(match ready!(self.wire.poll_event(context, readable)) {
            Event::Read => Ok(()),
            Event::Closed => Err(End::Closed(CloseReason::Lost)),
            Event::Timer => self.overdue(taken),
        })
    }

    /// Time passed. Whoever is not read because the store is behind is not silent.
    fn overdue(&mut self, taken: bool) -> Result<(), End> {
        let now = self.shared().clock.now();
        if !taken {
            self.session.excuse(now);
        }
        self.wire.arm(self.session.deadline(), now);
        self.session
            .overdue(now)
            .map_or(Ok(()), |reason| Err(End::Closed(reason)))
    }

    /// Acts on whole packets, as long as there is room for what they bring.
    fn take_packets(&mut self) -> Result<(), End> {
        let now = self.shared().clock.now();
        self.wire.whole = false;
        loop {
            let full = self.session.unacknowledged() >= INBOUND_LIMIT
                || self.wire.outbound.len() >= WRITE_LIMIT
                || !self.shared().intake.has_room();
            if full {
                self.wire.whole = true;
                return Ok(());
            }
            let limit = self.shared().limits.packet_bytes;
            let decoded = packet::decode(&mut self.wire.inbound, limit);
            let Some(packet) = decoded.map_err(|malformed| End::malformed(&malformed))? else {
                return Ok(());
            };
            match self.session.handle(packet, now).map_err(End::violation)? {
                Step::Idle | Step::Authenticate(_) | Step::Delivered => {}
                Step::Publish(publish) => self.publish(publish)?,
                Step::Subscribe(subscribe) => self.subscribe(subscribe)?,
                Step::Unsubscribe(unsubscribe) => self.unsubscribe(unsubscribe)?,
                Step::Pong => self.wire.send(&Packet::PingResp),
                Step::Goodbye => return Err(End::Closed(CloseReason::Goodbye)),
            }
        }
    }

    fn publish(&mut self, packet: PublishPacket) -> Result<(), End> {
        let publish = Publish {
            topic: &packet.topic,
            payload: &packet.payload,
            qos: quality(packet.qos).unwrap_or(QoS::AtLeastOnce),
            retain: packet.retain,
            duplicate: packet.dup,
            will: false,
        };
        let meant = self.shared().backend.publish(&self.who, publish);
        match meant.map_err(End::Refused)? {
            Inward::Store { lane, envelope } => {
                let line = &self.place.line;
                self.shared()
                    .intake
                    .send(lane, &envelope, line, packet.pkid)
            }
            Inward::Answer(answer) => {
                self.session.stored(packet.pkid);
                self.acknowledge();
                if let Some(answer) = answer {
                    self.answer(answer)?;
                }
            }
        }
        Ok(())
    }

    /// Sends an answer at once, or among the mail where the device owes acknowledgements. A device
    /// that goes on asking without giving them is not answered for ever.
    fn answer(&mut self, answer: Outbound) -> Result<(), End> {
        if self.session.has_room() {
            self.deliver(answer);
            return Ok(());
        }
        self.place.line.deliver(answer).map_err(|_| {
            End::Refused(Refusal::new(
                "unacknowledged-answers",
                Answer::Close,
                "the device asks on and acknowledges none of the answers; \
                 send PUBACK for QoS 1 messages, or subscribe with QoS 0",
            ))
        })
    }

    fn subscribe(&mut self, packet: Subscribe) -> Result<(), End> {
        let mut codes = Vec::with_capacity(packet.filters.len());
        for wanted in &packet.filters {
            let qos = quality(wanted.qos).unwrap_or(QoS::AtLeastOnce);
            let granted = self
                .shared()
                .backend
                .subscribe(&self.who, &wanted.path, qos);
            codes.push(match granted.map_err(End::Refused)? {
                Granted::UpTo(most) => {
                    let qos = qos.min(most);
                    let limit = self.shared().limits.subscriptions;
                    if !self.session.subscribe(&wanted.path, qos, limit) {
                        let sentence = format!("a session holds at most {limit} subscriptions");
                        return Err(End::Refused(Refusal::new(
                            "too-many-subscriptions",
                            Answer::Close,
                            sentence,
                        )));
                    }
                    SubscribeReasonCode::Success(wire_quality(qos))
                }
                Granted::Failure => SubscribeReasonCode::Failure,
            });
        }
        self.wire
            .send(&Packet::SubAck(SubAck::new(packet.pkid, codes)));
        Ok(())
    }

    fn unsubscribe(&mut self, packet: Unsubscribe) -> Result<(), End> {
        for filter in &packet.topics {
            self.shared()
                .backend
                .unsubscribe(&self.who, filter)
                .map_err(End::Refused)?;
            self.session.unsubscribe(filter);
        }
        self.wire
            .send(&Packet::UnsubAck(UnsubAck::new(packet.pkid)));
        Ok(())
    }

    fn deliver(&mut self, message: Outbound) {
        if let Some(publish) = self.session.deliver(message) {
            self.wire.send(&Packet::Publish(publish));
        }
    }

    fn acknowledge(&mut self) {
        while let Some(packet) = self.session.next_acknowledged() {
            self.wire.send(&Packet::PubAck(PubAck::new(packet)));
        }
    }

    /// Publishes the will where one is due, tells the service, keeps the session, lets go.
    async fn finish(mut self, end: End, will: Option<Box<LastWill>>, persistent: bool) {
        let reason = match end {
            End::Closed(reason) => {
                self.explain(&reason);
                reason
            }
            End::Refused(refusal) => {
                let why = refusal.sentence.clone();
                let operation = operation_of(refusal.kind);
                self.record(operation, refusal);
                CloseReason::Refused(why)
            }
        };
        // [MQTT-3.1.2-8]: every end but DISCONNECT publishes the will.
        if let Some(will) = will.filter(|_| reason != CloseReason::Goodbye) {
            self.publish_will(&will).await;
        }
        self.shared().backend.left(&self.who, &reason);
        let Self {
            mut wire,
            session,
            place,
            ..
        } = self;
        if persistent {
            let sessions = &place.shared.presence.sessions;
            sessions.keep(&place.owner, session.into_kept());
            // Looked at after the session is kept: whoever removes the principal closes its line
            // first and forgets its session after that.
            if matches!(place.line.closing(), Some(CloseReason::Removed(_))) {
                sessions.forget(&place.owner);
            }
        }
        drop(place);
        wire.close().await;
    }

    /// A fleet that is lost at once has as many wills: each waits for room.
    async fn publish_will(&mut self, will: &LastWill) {
        let publish = Publish {
            topic: &will.topic,
            payload: &will.message,
            qos: QoS::AtMostOnce,
            retain: will.retain,
            duplicate: false,
            will: true,
        };
        match self.shared().backend.publish(&self.who, publish) {
            Ok(Inward::Store { lane, envelope }) => {
                let mut turn = Turn::default();
                let intake = &self.place.shared.intake;
                poll_fn(|context| intake.poll_room(&mut turn, context)).await;
                intake.send(lane, &envelope, &self.place.line, 0);
            }
            Ok(Inward::Answer(_)) => {}
            Err(refusal) => self.record(Operation::Publish, refusal),
        }
    }

    /// A connection that a rule ended leaves a record.
    fn explain(&self, reason: &CloseReason) {
        let refusal = match reason {
            CloseReason::KeepAlive => {
                let silence = self.session.silence();
                let sentence = format!(
                    "nothing was heard for {:.1} s, one and a half times the keep-alive; send PINGREQ in time",
                    silence.as_secs_f64()
                );
                Refusal::new("keep-alive", Answer::Close, sentence)
                    .fact("silence allowed (s)", silence.as_secs_f64())
            }
            CloseReason::TakenOver => Refusal::new(
                "taken-over",
                Answer::Close,
                "the same identity connected again (400027 ConnectionForcefullyClosedOnNewConnection); \
                 if this repeats, two clients share one identity",
            ),
            CloseReason::Expired => Refusal::new(
                "expired-in-use",
                Answer::Close,
                "the token this connection was opened with has expired; connect again with a fresh one before it does",
            ),
            CloseReason::Removed(why) => Refusal::new("removed", Answer::Close, *why),
            CloseReason::Refused(why) => {
                let refusal = Refusal::new("not-stored", Answer::Close, why.clone());
                return self.record(Operation::Publish, refusal);
            }
            CloseReason::Goodbye | CloseReason::Lost | CloseReason::Shutdown => return,
        };
        self.record(Operation::Connection, refusal);
    }

    fn record(&self, operation: Operation, refusal: Refusal) {
        let shared = self.shared();
        shared.ledger.record(
            shared.clock.utc(),
            operation,
            Some(self.place.owner.as_str()),
            Some(self.remote),
            refusal,
        );
    }
}

fn operation_of(kind: &str) -> Operation {
    if kind.contains("filter") || kind.contains("subscri") {
        Operation::Subscribe
    } else {
        Operation::Publish
    }
}

fn quality(qos: WireQoS) -> Option<QoS> {
    match qos {
        WireQoS::AtMostOnce => Some(QoS::AtMostOnce),
        WireQoS::AtLeastOnce => Some(QoS::AtLeastOnce),
        WireQoS::ExactlyOnce => None,
    }
}

fn wire_quality(qos: QoS) -> WireQoS {
    match qos {
        QoS::AtMostOnce => WireQoS::AtMostOnce,
        QoS::AtLeastOnce => WireQoS::AtLeastOnce,
    }
}

/// A socket with what was read and what is to be written.
struct Wire<S> {
    stream: S,
    inbound: BytesMut,
    /// Whole packets are left in `inbound`: they wait for room.
    whole: bool,
    outbound: BytesMut,
    /// The stream may hold bytes that its own buffers took.
    unflushed: bool,
    /// The wait for room in the router, if one is registered.
    turn: Turn,
    timer: Pin<Box<Sleep>>,
}

enum Event {
    Read,
    Closed,
    Timer,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    fn new(stream: S, patience: Duration) -> Self {
        Self {
            stream,
            inbound: BytesMut::new(),
            whole: false,
            outbound: BytesMut::new(),
            unflushed: false,
            turn: Turn::default(),
            timer: Box::pin(tokio::time::sleep(patience)),
        }
    }

    fn send(&mut self, packet: &Packet) {
        if let Err(error) = packet.write(&mut self.outbound, usize::MAX) {
            tracing::error!(%error, "a packet could not be written");
        }
    }

    /// A CONNACK with a return code of 3.2.2.3, written by number.
    fn refuse(&mut self, code: u8) {
        self.outbound.extend_from_slice(&[0x20, 2, 0, code]);
    }

    /// Sets the alarm. It is set by how long there is to wait: the clock need not be tokio's.
    fn arm(&mut self, deadline: Option<Instant>, now: Instant) {
        let wait = deadline.map_or(Duration::from_secs(3600), |deadline| {
            // Never zero: a deadline that has passed is acted on, not waited for.
            deadline
                .saturating_duration_since(now)
                .max(Duration::from_millis(1))
        });
        let alarm = tokio::time::Instant::now() + wait;
        self.timer.as_mut().reset(alarm);
    }

    fn poll(&mut self, context: &mut Context<'_>, readable: bool) -> Poll<Event> {
        if self.poll_write(context).is_err() {
            return Poll::Ready(Event::Closed);
        }
        self.poll_event(context, readable)
    }

    fn poll_event(&mut self, context: &mut Context<'_>, readable: bool) -> Poll<Event> {
        if readable && let Poll::Ready(event) = self.poll_read(context) {
            return Poll::Ready(event);
        }
        self.timer.as_mut().poll(context).map(|()| Event::Timer)
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            match ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer)) {
                Ok(()) if buffer.filled().is_empty() => Poll::Ready(Event::Closed),
                Ok(()) => {
                    self.inbound.extend_from_slice(buffer.filled());
                    Poll::Ready(Event::Read)
                }
                Err(_) => Poll::Ready(Event::Closed),
            }
        })
    }

    /// Writes as much as the socket takes.
    fn poll_write(&mut self, context: &mut Context<'_>) -> std::io::Result<()> {
        while !self.outbound.is_empty() {
            match Pin::new(&mut self.stream).poll_write(context, &self.outbound)? {
                Poll::Ready(0) => return Err(std::io::ErrorKind::WriteZero.into()),
                Poll::Ready(written) => {
                    let _ = self.outbound.split_to(written);
                    self.unflushed = true;
                }
                Poll::Pending => return Ok(()),
            }
        }
        if self.unflushed {
            self.outbound = BytesMut::new();
            if Pin::new(&mut self.stream).poll_flush(context)?.is_ready() {
                self.unflushed = false;
            }
        }
        Ok(())
    }

    /// Writes what is left and shuts the stream, within a second.
    async fn close(&mut self) {
        let finish = async {
            use tokio::io::AsyncWriteExt;
            let _ = self.stream.write_all(&self.outbound).await;
            let _ = self.stream.shutdown().await;
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), finish).await;
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
