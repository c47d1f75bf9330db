//! A handle on a live connection: how a service speaks to one device, or hangs up on it.
//!
//! Cheap to clone, safe from any thread. What may not enter: sockets and topics.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::backend::Outbound;

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseReason {
    /// The client sent DISCONNECT.
    Goodbye,
    /// The socket closed or broke without DISCONNECT.
    Lost,
    /// Silence for one and a half keep-alives, or the service's ceiling.
    KeepAlive,
    /// The same principal connected again.
    TakenOver,
    /// The credential it connected with expired.
    Expired,
    /// The service threw it off the line; the text says why.
    Removed(&'static str),
    /// The client broke a rule of MQTT or of the service; the text is for people. On a [`Line`] only
    /// the router sets it, where a message could not be stored: a service hangs up with `Removed`.
    Refused(String),
    /// The simulator is stopping.
    Shutdown,
}

/// A live connection. Speaking to one that has ended does nothing.
#[derive(Debug, Clone)]
pub struct Line(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    mailbox: Mutex<Mailbox>,
    ended: Notify,
}

#[derive(Debug, Default)]
struct Mailbox {
    outbound: VecDeque<Outbound>,
    acknowledged: Vec<u16>,
    close: Option<CloseReason>,
    over: bool,
    /// The connection's task, when it waits.
    waker: Option<Waker>,
}

/// What waits for a connection to act on.
#[derive(Debug)]
pub(crate) struct Mail {
    /// Taken only when asked for.
    pub outbound: Option<Outbound>,
    /// Packets of the device that are stored.
    pub acknowledged: Vec<u16>,
    pub close: Option<CloseReason>,
}

/// The line was gone, or its mailbox full; the message is handed back.
#[derive(Debug)]
pub struct Undelivered(pub Outbound);

impl Line {
    /// Messages that may wait for a connection before [`Line::deliver`] refuses.
    const MAILBOX: usize = 256;

    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    /// A line without a connection: for tests of services.
    pub fn unconnected() -> Self {
        Self::new()
    }

    /// Hands a message to the connection. Order is kept.
    pub fn deliver(&self, message: Outbound) -> Result<(), Undelivered> {
        let mut mailbox = self.0.mailbox.lock();
        if mailbox.over || mailbox.close.is_some() || mailbox.outbound.len() >= Self::MAILBOX {
            return Err(Undelivered(message));
        }
        mailbox.outbound.push_back(message);
        mailbox.ring();
        Ok(())
    }

    /// Ends the connection. The first reason counts.
    pub fn close(&self, reason: CloseReason) {
        let mut mailbox = self.0.mailbox.lock();
        mailbox.close.get_or_insert(reason);
        mailbox.ring();
    }

    /// Whether both are handles on one connection.
    pub fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Why the connection is to end, if it is.
    pub fn closing(&self) -> Option<CloseReason> {
        self.0.mailbox.lock().close.clone()
    }

    /// Takes all messages that wait: for tests of services.
    pub fn take_outbound(&self) -> Vec<Outbound> {
        std::mem::take(&mut self.0.mailbox.lock().outbound).into()
    }

    /// PUBLISH packets of this connection are stored.
    pub(crate) fn acknowledge(&self, packets: impl Iterator<Item = u16>) {
        let mut mailbox = self.0.mailbox.lock();
        mailbox.acknowledged.extend(packets);
        mailbox.ring();
    }

    /// Takes mail, or leaves a waker for when there is some. Messages stay where they are unless
    /// there is `room` for one.
    pub(crate) fn poll_mail(&self, room: bool, context: &Context<'_>) -> Poll<Mail> {
        let mut mailbox = self.0.mailbox.lock();
        let outbound = if room {
            mailbox.outbound.pop_front()
        } else {
            None
        };
        if outbound.is_none() && mailbox.acknowledged.is_empty() && mailbox.close.is_none() {
            match &mut mailbox.waker {
                Some(waker) => waker.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
            return Poll::Pending;
        }
        if mailbox.outbound.is_empty() {
            // An idle connection holds no buffer.
            mailbox.outbound = VecDeque::new();
        }
        let acknowledged = std::mem::take(&mut mailbox.acknowledged);
        Poll::Ready(Mail {
            outbound,
            acknowledged,
            close: mailbox.close.clone(),
        })
    }

    /// The connection is over: no mail will be taken any more.
    pub(crate) fn end(&self) {
        let mut mailbox = self.0.mailbox.lock();
        mailbox.over = true;
        mailbox.waker = None;
        drop(mailbox);
        self.0.ended.notify_waiters();
    }

    /// Waits until the connection is over and its session stored.
    pub(crate) async fn ended(&self) {
        loop {
            let ended = self.0.ended.notified();
            if self.0.mailbox.lock().over {
                return;
            }
            ended.await;
        }
    }
}

impl Mailbox {
    fn ring(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}
