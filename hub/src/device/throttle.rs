//! Devices beyond what the hub's tier allows, and how each is told over MQTT.
//!
//! A burst of a minute is taken, and then nobody waits: the line has no word for it. What may not enter:
//! rates, and how much of them is used.

use std::time::{Duration, SystemTime};

use azimuth_broker::{Answer, Refusal};
use azimuth_wire::message::PropertyBag;

use super::DeviceDoor;
use super::twins::Asks;
use crate::error::Error;
use crate::quota::{DayIsFull, Operation, Throttled};

impl DeviceDoor {
    /// One more connection: closed without a CONNACK where it is one too many.
    pub(super) fn may_connect(&self) -> Result<(), Refusal> {
        let Some(meter) = &self.meter else {
            return Ok(());
        };
        let taken = meter.take(Operation::Connection, Duration::ZERO, self.clock.now());
        taken.map(drop).map_err(throttled)
    }

    /// One more message: no PUBACK, and the connection is closed, where it is one too many.
    pub(super) fn may_send(
        &self,
        bag: &PropertyBag<'_>,
        payload: &[u8],
        now: SystemTime,
    ) -> Result<(), Refusal> {
        let Some(meter) = &self.meter else {
            return Ok(());
        };
        let taken = meter.take(Operation::Telemetry, Duration::ZERO, self.clock.now());
        taken.map_err(throttled)?;
        let properties = bag.0.iter();
        let properties: usize = properties
            .map(|(name, value)| name.len() + value.as_ref().map_or(0, |value| value.len()))
            .sum();
        let counted = meter.message(payload.len() + properties, now);
        counted.map_err(day_is_full)
    }

    /// One more request for a twin: answered with an error where it is one too many.
    pub(super) fn may_ask(&self, asks: &Asks, now: SystemTime) -> Result<(), Error> {
        let Some(meter) = &self.meter else {
            return Ok(());
        };
        if meter.plan().is_basic() {
            return Err(Error::NotInTier);
        }
        let (operation, bytes) = match asks {
            Asks::Read => (Operation::TwinRead, 0),
            Asks::Report { patch, .. } => (Operation::TwinUpdate, patch.len()),
        };
        meter.take(operation, Duration::ZERO, self.clock.now())?;
        Ok(meter.message(bytes, now)?)
    }
}

fn throttled(beyond: Throttled) -> Refusal {
    let (name, rate) = (beyond.operation.name(), beyond.per_minute);
    let sentence = format!(
        "the tier of the hub allows {rate} a minute of {name}, and the burst that it takes is used up; slow down, \
         or take a larger `tier` or more `units`"
    );
    Refusal::new("throttled", Answer::Close, sentence)
        .fact("allowed a minute", rate)
        .fact("milliseconds until the next", beyond.wait.as_millis())
}

fn day_is_full(full: DayIsFull) -> Refusal {
    let DayIsFull { allowed, counted } = full;
    let sentence = format!(
        "the tier of the hub allows {allowed} messages a day, and this would be number {counted}; the next day begins \
         at 00:00 UTC"
    );
    Refusal::new("quota-exceeded", Answer::Close, sentence)
        .fact("messages allowed", allowed)
        .fact("messages counted", counted)
}
