//! What a device tells whoever watches: one step of its life at a time.

use std::fmt;
use std::time::Duration;

use crate::fault::Fault;

/// One step of a device's life. `Display` prints what Azure's C sample prints where it has a line.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// The device begins to register.
    Registering,
    /// The DPS has granted the subscription.
    ProvisioningConnected,
    /// The DPS answered `assigning`; the next poll follows after `retry_after`.
    Assigning { retry_after: Duration },
    /// The DPS asked to come back later.
    Throttled { retry_after: Duration },
    /// `took` counts from when the registration was due.
    Assigned {
        hub: String,
        device_id: String,
        took: Duration,
    },
    /// The hub let the device in. `took` counts from when the connection was due.
    Connected { hub: String, took: Duration },
    /// The first message of this device came to be stored.
    FirstAcknowledged,
    /// The token nears its end: the device leaves and comes back with a new one.
    Renewing,
    /// A connection to the host `at` was lost, refused, or never came about.
    Lost { at: Box<str>, fault: Fault },
    /// Nothing happens until `wait` is over.
    BackingOff { wait: Duration, tries: u32 },
    /// The hub refuses this device again and again: it asks the DPS anew.
    Reprovisioning,
    /// The device will not try again at the host `at`.
    Failed { at: Box<str>, fault: Fault },
    /// The device is done.
    Ended,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registering => f.write_str("Registering Device"),
            Self::ProvisioningConnected => {
                f.write_str("Provisioning Status: PROV_DEVICE_REG_STATUS_CONNECTED")
            }
            Self::Assigning { .. } => {
                f.write_str("Provisioning Status: PROV_DEVICE_REG_STATUS_ASSIGNING")
            }
            Self::Throttled { retry_after } => write!(
                f,
                "The provisioning service asks to wait {} s",
                retry_after.as_secs()
            ),
            Self::Assigned { hub, device_id, .. } => write!(
                f,
                "Registration Information received from service: {hub}, deviceId: {device_id}"
            ),
            Self::Connected { hub, .. } => write!(f, "Connected to {hub}"),
            Self::FirstAcknowledged => f.write_str("First message acknowledged"),
            Self::Renewing => f.write_str("Renewing the token: disconnecting and connecting again"),
            Self::Lost { fault, .. } => write!(f, "Connection lost: {fault}"),
            Self::BackingOff { wait, tries } => write!(
                f,
                "Trying again in {:.1} s (failed tries in a row: {tries})",
                wait.as_secs_f64()
            ),
            Self::Reprovisioning => {
                f.write_str("The hub keeps refusing this device: registering again")
            }
            Self::Failed { fault, .. } => write!(f, "Failed: {fault}"),
            Self::Ended => f.write_str("Disconnected"),
        }
    }
}

/// Who watches a fleet. Called on the fleet's thread: be quick.
pub trait Observer: Send + Sync + 'static {
    /// `device` is the registration id, or the device id where no DPS is asked.
    fn step(&self, device: &str, step: &Step);
}

/// Watches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn step(&self, _device: &str, _step: &Step) {}
}
