//! What a write means to the device on the line: it is hung up on, or told of its new desired properties.
//!
//! May not enter: what is written.

use azimuth_broker::{CloseReason, Outbound, Owner, Presence, QoS};
use azimuth_wire::DeviceId;
use azimuth_wire::topic::hub::HubTopic;

use crate::twin::DesiredChange;

pub fn shut_out(presence: &Presence, id: &DeviceId) {
    let reason = CloseReason::Removed("the device was disabled");
    presence.close(&Owner::new(id.as_str()), reason);
}

pub fn forget(presence: &Presence, id: &DeviceId) {
    let reason = CloseReason::Removed("the device was deleted");
    presence.forget(&Owner::new(id.as_str()), reason);
}

/// Tells a device of its new desired properties. One that is not on the line reads them when it comes; one
/// that takes nothing more has to come again, so that it misses none.
pub fn tell(presence: &Presence, id: &DeviceId, change: Option<DesiredChange>) {
    let Some(change) = change else { return };
    let Some(line) = presence.line(&Owner::new(id.as_str())) else {
        return;
    };
    let topic = HubTopic::DesiredPatch {
        version: change.version,
    };
    let message = Outbound {
        topic: topic.to_string(),
        payload: change.payload.to_string().into(),
        qos: QoS::AtLeastOnce,
    };
    if line.deliver(message).is_err() {
        line.close(CloseReason::Removed(
            "the device took too few messages to be told of its new desired properties",
        ));
    }
}
