//! What comes out of the router goes into the event log, a batch of a lane with one write.
//!
//! Runs on the front door's store thread. May not enter: what an envelope says.

use std::sync::Arc;

use azimuth_broker::{Consumer, Envelopes, Lane};
use azimuth_clock::Clock;

use super::Appender;

/// The end of the way of a message: lane n is partition n.
pub struct EventStore {
    appender: Appender,
    clock: Arc<dyn Clock>,
}

impl EventStore {
    pub fn new(appender: Appender, clock: Arc<dyn Clock>) -> Self {
        Self { appender, clock }
    }
}

impl Consumer for EventStore {
    fn consume(&mut self, lane: Lane, envelopes: Envelopes<'_>) -> Result<(), String> {
        let now = self.clock.utc();
        match self.appender.append(lane.0.into(), envelopes, now) {
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::error!(%error, partition = lane.0, "events could not be stored");
                Err(error.to_string())
            }
        }
    }

    fn idle(&mut self) {
        if let Err(error) = self.appender.retain(self.clock.utc()) {
            tracing::warn!(%error, "old events could not be dropped from the event log");
        }
    }
}
