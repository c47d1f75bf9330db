//! The heartbeat pattern, as Azure advises back ends to watch their devices: whoever has not sent for longer than
//! expected is late.
//!
//! [`Watch`] decides, in made-up time; [`monitor()`] reads one hub's event stream and its queries as any back end does,
//! and tells what changed. Azure's other advice, a command that must be received before it expires, belongs here
//! once hubs take cloud-to-device messages.
//! May not enter: how a hub is found and who signs requests ([`Hub`] is handed in), how changes are shown.

mod change;
mod error;
mod event;
mod hub;
mod intervals;
mod lines;
mod monitor;
mod positions;
mod span;
mod standing;
mod watch;
mod webhook;

pub use change::{Change, News};
pub use error::Error;
pub use event::Wanted;
pub use hub::{Hub, Request};
pub use intervals::{Grace, Intervals, Rule};
pub use lines::Lines;
pub use monitor::{Settings, Since, Tell, monitor};
pub use span::{Span, shown};
pub use standing::TagPath;
pub use watch::{Absence, Counts, Watch};
pub use webhook::{Webhook, deliver};
