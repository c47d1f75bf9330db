//! A handle on a live connection: how a service speaks to one device, or hangs up on it.
//!
//! Cheap to clone, safe from any thread. What may not enter: sockets and topics.

use std::collections::VecDeque;
use std::sync::Arc;

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
    /// The client broke a rule of MQTT or of the service; the text is for people.
    Refused(String),
    /// The simulator is stopping.
    Shutdown,
}

/// A live connection. Speaking to one that has ended does nothing.
#[derive(Debug, Clone)]
pub struct Line(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    mailbox: Mutex<Mailbox>,
    bell: Notify,
}

#[derive(Debug, Default)]
struct Mailbox {
    outbound: VecDeque<Outbound>,
    acknowledged: Vec<u16>,
    close: Option<CloseReason>,
    over: bool,
}

/// What waits for a connection to act on.
#[derive(Debug, Default)]
pub(crate) struct Mail {
    pub outbound: VecDeque<Outbound>,
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
        Self(Arc::new(Inner {
            mailbox: Mutex::default(),
            bell: Notify::new(),
        }))
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
        drop(mailbox);
        self.0.bell.notify_one();
        Ok(())
    }

    /// Ends the connection. The first reason counts.
    pub fn close(&self, reason: CloseReason) {
        let mut mailbox = self.0.mailbox.lock();
        if mailbox.close.is_none() {
            mailbox.close = Some(reason);
        }
        drop(mailbox);
        self.0.bell.notify_one();
    }

    /// Whether both are handles on one connection.
    pub fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// PUBLISH packets of this connection that are stored, by packet id.
    pub(crate) fn acknowledge(&self, packets: impl IntoIterator<Item = u16>) {
        self.0.mailbox.lock().acknowledged.extend(packets);
        self.0.bell.notify_one();
    }

    /// Waits until [`Line::take`] has something to give.
    pub(crate) async fn rung(&self) {
        self.0.bell.notified().await;
    }

    /// Takes all mail.
    pub fn take_outbound(&self) -> Vec<Outbound> {
        self.take().outbound.into()
    }

    pub(crate) fn take(&self) -> Mail {
        let mut mailbox = self.0.mailbox.lock();
        Mail {
            outbound: std::mem::take(&mut mailbox.outbound),
            acknowledged: std::mem::take(&mut mailbox.acknowledged),
            close: mailbox.close.clone(),
        }
    }

    /// No message will be taken any more.
    pub(crate) fn over(&self) {
        self.0.mailbox.lock().over = true;
    }
}
