//! What a write means to a device or module on the line: it is hung up on, or told of its new desired properties.
//!
//! May not enter: what is written.

use azimuth_broker::{CloseReason, Outbound, Owner, Presence, QoS};
use azimuth_wire::Identity as Name;
use azimuth_wire::topic::hub::HubTopic;

use crate::registry::Written;
use crate::twin::DesiredChange;

pub fn shut_out(presence: &Presence, names: &[Name]) {
    for name in names {
        let reason = CloseReason::Removed("the device was disabled");
        presence.close(&Owner::new(&name.to_string()), reason);
    }
}

pub fn forget(presence: &Presence, names: &[Name]) {
    for name in names {
        let reason = CloseReason::Removed("the identity was deleted");
        presence.forget(&Owner::new(&name.to_string()), reason);
    }
}

/// Everything that a write of an identity means to those on the line.
pub fn follow(presence: &Presence, name: &Name, written: &Written) {
    shut_out(presence, &written.shut_out);
    forget(presence, &written.gone);
    tell(presence, name, written.desired.as_ref());
}

/// Tells a device of its new desired properties. One that is not on the line reads them when it comes; one
/// that takes nothing more has to come again, so that it misses none.
pub fn tell(presence: &Presence, name: &Name, change: Option<&DesiredChange>) {
    let Some(change) = change else { return };
    let Some(line) = presence.line(&Owner::new(&name.to_string())) else {
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
