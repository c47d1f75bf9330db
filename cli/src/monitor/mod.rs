//! `azimuth monitor`: says who has not sent for longer than expected, and who is back.
//!
//! What may not enter: when a device is late; `azimuth_monitor` knows.

mod expected;
mod patrol;

use std::cell::{Cell, RefCell};
use std::process::ExitCode;

use azimuth_monitor::{Change, News, Span};
use clap::Args;

use crate::announce::stopped;
use crate::config::Config;
use crate::follow::{Target, print_line};

pub use expected::Expected;
pub use patrol::Patrol;

/// Watches heartbeats: tells which devices are late and which are back, as Azure's heartbeat pattern has it.
///
/// Reads the telemetry of one hub, or of all that the data folder knows, as any back end would. A device is late when
/// nothing came for its interval and the grace; times are the hub's. A hub that does not answer makes nobody late.
#[derive(Debug, Args)]
pub struct Monitor {
    #[command(flatten)]
    at: Target,
    #[command(flatten)]
    expected: Expected,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    /// Stop after this time: with 1 if any device was late, else with 0
    #[arg(long = "for", value_name = "SPAN")]
    limit: Option<Span>,
    /// Stop with 1 as soon as a device is late
    #[arg(long)]
    until_late: bool,
}

impl Monitor {
    pub fn run(self, config: Config) -> anyhow::Result<ExitCode> {
        let section = config.monitor.clone().unwrap_or_default();
        let (settings, webhook) = self.expected.over(&section)?;
        let hubs = self.at.hubs(&config)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async {
            let (late, unread) = (Cell::new(0_u64), RefCell::new(None));
            let enough = tokio::sync::Notify::new();
            let tell = |change: &Change| {
                if change.news == News::Late {
                    late.set(late.get() + 1);
                }
                let printed = match self.json {
                    true => print_line(serde_json::json!(change)),
                    false => print_line(change),
                };
                if let Err(error) = printed {
                    unread.replace(Some(error));
                }
                if unread.borrow().is_some() || (self.until_late && late.get() > 0) {
                    enough.notify_one();
                }
            };
            let mut patrol = Patrol::start(hubs, settings, webhook).await?;
            let limit = async {
                match self.limit {
                    Some(limit) => tokio::time::sleep(limit.get()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                failed = patrol.walk(&tell) => failed?,
                () = limit => {}
                () = enough.notified() => {}
                done = stopped() => done?,
            }
            let counts = patrol.end().await?;
            if let Some(error) = unread.take() {
                return Err(error);
            }
            eprintln!(
                "{} devices were expected, {} of them are late; late so far: {}",
                counts.expected,
                counts.late,
                late.get()
            );
            let judged = self.limit.is_some() || self.until_late;
            Ok(match judged && late.get() > 0 {
                true => ExitCode::FAILURE,
                false => ExitCode::SUCCESS,
            })
        })
    }
}
