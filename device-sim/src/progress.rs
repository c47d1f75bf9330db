//! How far a fleet is: counters that any thread may read while it runs.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};

use serde::Serialize;

use crate::device::Count;
use crate::fault::Fault;
use crate::report::Faults;
use crate::step::Step;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Written by the fleet's thread, read by anyone.
        #[derive(Debug, Default)]
        pub struct Progress { losses: Mutex<Losses>, $($name: AtomicU64),* }

        /// All counters at one time.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
        pub struct Snapshot { $($(#[$doc])* pub $name: u64),* }

        impl Progress {
            /// The counters as they stand.
            pub fn snapshot(&self) -> Snapshot {
                Snapshot { $($name: self.$name.load(Relaxed)),* }
            }
        }
    };
}

counters! {
    /// Devices whose life has begun.
    started,
    /// Registrations that ended in a hub.
    provisioned,
    /// Devices that were connected to their hub at least once.
    connected,
    /// Devices connected now.
    online,
    /// Connections after the first of a device, renewals of tokens included.
    reconnects,
    /// Reconnects that a token's end was the reason of.
    renewals,
    /// Devices that lost their connection to a hub at least once.
    bereft,
    /// Devices that were without their connection when they ended.
    out,
    /// Devices that another hub was assigned to when they registered again.
    moved,
    /// Devices that gave up for good.
    failed,
    /// Devices that are done.
    ended,
    /// Faults of all kinds.
    faults,
    /// Messages that have become due.
    due,
    /// Messages sent for the first time.
    sent,
    /// Messages sent again after a reconnect.
    resent,
    /// Messages whose PUBACK came; each counts once.
    acknowledged,
}

/// What went wrong, by kind; rare, so a lock does.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    pub faults: Faults,
    /// Those of the faults that ended a connection to a hub.
    pub disconnections: Faults,
}

impl Progress {
    /// The kinds of faults so far and how often each occurred, the most frequent first.
    pub fn faults(&self) -> Vec<(String, u64)> {
        self.losses().faults.counts()
    }

    pub(crate) fn losses(&self) -> MutexGuard<'_, Losses> {
        self.losses
            .lock()
            .expect("no holder of this lock can panic")
    }

    pub(crate) fn note_fault(&self, device: &str, fault: &Fault, was_online: bool) {
        let mut losses = self.losses();
        losses.faults.note(device, fault);
        if was_online {
            losses.disconnections.note(device, fault);
        }
    }

    pub(crate) fn note_first_loss(&self) {
        self.bereft.fetch_add(1, Relaxed);
    }

    pub(crate) fn note_move(&self) {
        self.moved.fetch_add(1, Relaxed);
    }

    pub(crate) fn note_start(&self) {
        self.started.fetch_add(1, Relaxed);
    }

    /// `was_online` and `was_connected` speak of the device before this step.
    pub(crate) fn note_step(&self, step: &Step, was_online: bool, was_connected: bool) {
        let one = |counter: &AtomicU64| {
            counter.fetch_add(1, Relaxed);
        };
        match step {
            Step::Assigned { .. } => one(&self.provisioned),
            Step::Connected { .. } if was_connected => one(&self.reconnects),
            Step::Connected { .. } => one(&self.connected),
            Step::Renewing => one(&self.renewals),
            Step::Lost { .. } => one(&self.faults),
            Step::Failed { .. } => {
                one(&self.faults);
                one(&self.failed);
            }
            Step::Ended => one(&self.ended),
            Step::Registering
            | Step::ProvisioningConnected
            | Step::Assigning { .. }
            | Step::Throttled { .. }
            | Step::FirstAcknowledged
            | Step::BackingOff { .. }
            | Step::Reprovisioning => {}
        }
        match online_after(step) {
            Some(true) if !was_online => one(&self.online),
            Some(false) if was_online => {
                self.online.fetch_sub(1, Relaxed);
            }
            _ => {}
        }
    }

    pub(crate) fn note_count(&self, count: Count) {
        let (counter, by) = match count {
            Count::Due(by) => (&self.due, by),
            Count::Sent => (&self.sent, 1),
            Count::Resent => (&self.resent, 1),
            Count::Acknowledged(_) => (&self.acknowledged, 1),
            Count::Outage { over, .. } => (&self.out, u64::from(!over)),
        };
        counter.fetch_add(by, Relaxed);
    }
}

/// Whether the device is connected after this step; `None` changes nothing.
pub(crate) fn online_after(step: &Step) -> Option<bool> {
    match step {
        Step::Connected { .. } => Some(true),
        Step::Renewing | Step::Lost { .. } | Step::Failed { .. } | Step::Ended => Some(false),
        Step::Registering
        | Step::ProvisioningConnected
        | Step::Assigning { .. }
        | Step::Throttled { .. }
        | Step::Assigned { .. }
        | Step::FirstAcknowledged
        | Step::BackingOff { .. }
        | Step::Reprovisioning => None,
    }
}
