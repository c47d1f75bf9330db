//! The shell: one socket drives one [`Session`].
//!
//! An idle connection holds no buffer: bytes are read through one scratch buffer per thread, and what
//! waits to be written is dropped once written. What may not enter: rules of MQTT (they live in
//! `session`) and of services (they live behind [`Backend`]).

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::BytesMut;
use rumqttc::mqttbytes::QoS as WireQoS;
use rumqttc::mqttbytes::v4::{
    ConnAck, Connect, ConnectReturnCode, Packet, PubAck, Publish as PublishPacket, SubAck,
    Subscribe, SubscribeReasonCode, UnsubAck, Unsubscribe,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::backend::{
    Admission, Backend, Granted, Hello, Inward, Outbound, Peer, Principal, Publish, QoS, Secret,
    Will,
};
use crate::front_door::Shared;
use crate::line::{CloseReason, Line};
use crate::packet;
use crate::refusal::{Answer, Operation, Refusal};
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
    let deadline = now + shared.limits.connect_time;
    let mut wire = Wire::new(stream, deadline);
    let mut session = Session::new(deadline);
    let connect = match first_packet(&mut wire, &mut session, &shared).await {
        Ok(connect) => connect,
        Err(end) => {
            return end
                .record(&shared, Operation::Connect, None, &peer, &mut wire)
                .await;
        }
    };
    let client_id = connect.client_id.clone();
    let admitted = Box::pin(shared.backend.authenticate(hello(&connect, &peer))).await;
    let admission = match admitted {
        Ok(admission) => admission,
        Err(refusal) => {
            return End::Refused(refusal)
                .record(
                    &shared,
                    Operation::Connect,
                    Some(&client_id),
                    &peer,
                    &mut wire,
                )
                .await;
        }
    };
    let line = Line::new();
    let resumed = Box::pin(take_place(&shared, &admission, &connect, &line)).await;
    wire.send(&Packet::ConnAck(ConnAck::new(
        ConnectReturnCode::Success,
        resumed.is_some(),
    )));
    session.admit(
        connect.keep_alive,
        admission.longest_silence,
        admission.expires,
        resumed.unwrap_or_default(),
        shared.clock.now(),
    );
    for again in session.redeliver() {
        wire.send(&Packet::Publish(again));
    }
    let will = connect.last_will;
    let persistent = !connect.clean_session && admission.persistent_sessions;
    let mut open = Open {
        wire,
        session,
        line,
        who: admission.principal,
        shared,
        peer,
    };
    open.shared.backend.arrived(&open.who, &open.line);
    let end = open.converse().await;
    open.finish(end, will, persistent).await;
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
            None => match poll_fn(|context| wire.poll(context, true)).await {
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

/// Puts the principal on the line. A connection it takes over is over, its session stored and its
/// end told to the service, before the new one begins. Hands out the stored session, if the client
/// wants it.
async fn take_place<B: Backend>(
    shared: &Shared<B>,
    admission: &Admission<B::Principal>,
    connect: &Connect,
    line: &Line,
) -> Option<Kept> {
    let owner = admission.principal.owner();
    if let Some(old) = shared.presence.arrive(owner, line.clone()) {
        old.close(CloseReason::TakenOver);
        old.ended().await;
    }
    if connect.clean_session || !admission.persistent_sessions {
        shared.presence.sessions.forget(owner);
        return None;
    }
    shared.presence.sessions.resume(owner)
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
        operation: Operation,
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
            operation,
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
    line: Line,
    who: B::Principal,
    shared: Arc<Shared<B>>,
    peer: Arc<Peer>,
}

impl<S, B> Open<S, B>
where
    S: AsyncRead + AsyncWrite + Unpin,
    B: Backend,
{
    async fn converse(&mut self) -> End {
        self.wire
            .arm(self.session.deadline(), self.shared.clock.now());
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
        if let Poll::Ready(mail) = self.line.poll_mail(room, context) {
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
        let open = writable && self.session.unacknowledged() < INBOUND_LIMIT;
        let readable = open && self.shared.intake.poll_room(context).is_ready();
        if readable && !self.wire.inbound.is_empty() && self.wire.whole {
            // Packets waited for room and there is some.
            return Poll::Ready(Ok(()));
        }
        Poll::Ready(match ready!(self.wire.poll(context, readable)) {
            Event::Read => Ok(()),
            Event::Closed => Err(End::Closed(CloseReason::Lost)),
            Event::Timer => {
                let now = self.shared.clock.now();
                self.wire.arm(self.session.deadline(), now);
                self.session
                    .overdue(now)
                    .map_or(Ok(()), |reason| Err(End::Closed(reason)))
            }
        })
    }

    /// Acts on whole packets, as long as there is room for what they bring.
    fn take_packets(&mut self) -> Result<(), End> {
        let now = self.shared.clock.now();
        self.wire.whole = false;
        loop {
            let full = self.session.unacknowledged() >= INBOUND_LIMIT
                || self.wire.outbound.len() >= WRITE_LIMIT
                || !self.shared.intake.has_room();
            if full {
                self.wire.whole = true;
                return Ok(());
            }
            let decoded = packet::decode(&mut self.wire.inbound, self.shared.limits.packet_bytes);
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
        match self
            .shared
            .backend
            .publish(&self.who, publish)
            .map_err(End::Refused)?
        {
            Inward::Store { lane, envelope } => {
                self.shared
                    .intake
                    .send(lane, &envelope, &self.line, packet.pkid)
            }
            Inward::Answer(answer) => {
                self.session.stored(packet.pkid);
                self.acknowledge();
                if let Some(answer) = answer {
                    self.deliver(answer);
                }
            }
        }
        Ok(())
    }

    fn subscribe(&mut self, packet: Subscribe) -> Result<(), End> {
        let mut codes = Vec::with_capacity(packet.filters.len());
        for wanted in &packet.filters {
            let qos = quality(wanted.qos).unwrap_or(QoS::AtLeastOnce);
            let granted = self.shared.backend.subscribe(&self.who, &wanted.path, qos);
            codes.push(match granted.map_err(End::Refused)? {
                Granted::UpTo(most) => {
                    let qos = qos.min(most);
                    if !self
                        .session
                        .subscribe(&wanted.path, qos, self.shared.limits.subscriptions)
                    {
                        let limit = self.shared.limits.subscriptions;
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
            self.shared
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
    async fn finish(
        mut self,
        end: End,
        will: Option<rumqttc::mqttbytes::v4::LastWill>,
        persistent: bool,
    ) {
        let reason = match end {
            End::Closed(reason) => reason,
            End::Refused(refusal) => {
                let why = refusal.sentence.clone();
                let operation = operation_of(refusal.kind);
                self.record(operation, refusal);
                CloseReason::Refused(why)
            }
        };
        self.explain(&reason);
        // [MQTT-3.1.2-8]: every end but DISCONNECT publishes the will.
        if let Some(will) = will.filter(|_| reason != CloseReason::Goodbye) {
            self.publish_will(&will);
        }
        let owner = self.who.owner().clone();
        self.shared.backend.left(&self.who, &reason);
        self.shared.presence.leave(&owner, &self.line);
        if persistent && !matches!(reason, CloseReason::Removed(_)) {
            self.shared
                .presence
                .sessions
                .keep(&owner, self.session.into_kept());
        }
        self.line.end();
        self.wire.close().await;
    }

    fn publish_will(&mut self, will: &rumqttc::mqttbytes::v4::LastWill) {
        let publish = Publish {
            topic: &will.topic,
            payload: &will.message,
            qos: QoS::AtMostOnce,
            retain: will.retain,
            duplicate: false,
            will: true,
        };
        match self.shared.backend.publish(&self.who, publish) {
            Ok(Inward::Store { lane, envelope }) => {
                self.shared.intake.send(lane, &envelope, &self.line, 0)
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
            CloseReason::Goodbye
            | CloseReason::Lost
            | CloseReason::Refused(_)
            | CloseReason::Shutdown => return,
        };
        self.record(Operation::Connection, refusal);
    }

    fn record(&self, operation: Operation, refusal: Refusal) {
        let owner = self.who.owner();
        let shared = &self.shared;
        shared.ledger.record(
            shared.clock.utc(),
            operation,
            Some(owner.as_str()),
            Some(self.peer.remote),
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
    timer: Pin<Box<Sleep>>,
}

enum Event {
    Read,
    Closed,
    Timer,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    fn new(stream: S, deadline: Instant) -> Self {
        Self {
            stream,
            inbound: BytesMut::new(),
            whole: false,
            outbound: BytesMut::new(),
            unflushed: false,
            timer: Box::pin(tokio::time::sleep_until(deadline.into())),
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

    fn arm(&mut self, deadline: Option<Instant>, now: Instant) {
        let far = now + std::time::Duration::from_secs(3600);
        self.timer.as_mut().reset(deadline.unwrap_or(far).into());
    }

    fn poll(&mut self, context: &mut Context<'_>, readable: bool) -> Poll<Event> {
        if self.poll_write(context).is_err() {
            return Poll::Ready(Event::Closed);
        }
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
        let _ = tokio::time::timeout(std::time::Duration::from_secs(1), finish).await;
    }
}
