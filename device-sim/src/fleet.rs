//! Starts devices on schedule, ends them in good order, and sums up.
//!
//! A fleet has one thread of its own; more cores are used by more shards.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use azimuth_clock::Clock;
use rustls::client::Resumption;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::{JoinSet, LocalSet};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use crate::descriptors;
use crate::device::Device;
use crate::error::PlanError;
use crate::latency::Latencies;
use crate::life::{Shared, live};
use crate::plan::Plan;
use crate::progress::Progress;
use crate::report::Report;
use crate::resolve::Resolver;
use crate::step::Observer;
use crate::transport::Scratch;

/// A fleet that is ready to start.
pub struct Fleet {
    plan: Arc<Plan>,
    tls: Arc<rustls::ClientConfig>,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn Observer>,
    progress: Arc<Progress>,
}

impl Fleet {
    /// Checks the plan and the descriptors it needs; raises the soft limit of open files.
    ///
    /// `tls` says whom to trust; its resumption is turned off, as devices hold no tickets.
    pub fn new(
        plan: Plan,
        tls: Arc<rustls::ClientConfig>,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, PlanError> {
        plan.check()?;
        descriptors::reserve(plan.of_this_shard().count() as u64)?;
        let mut tls = tls.as_ref().clone();
        tls.resumption = Resumption::disabled();
        Ok(Self {
            plan: Arc::new(plan),
            tls: Arc::new(tls),
            clock,
            observer,
            progress: Arc::default(),
        })
    }

    /// Counters to look at while the fleet runs.
    pub fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }

    /// Runs until the plan is fulfilled or `stop` is cancelled, then says goodbye to the servers
    /// and sums up. Needs no runtime but one that polls it.
    pub async fn run(self, stop: CancellationToken) -> Report {
        let (done, report) = oneshot::channel();
        std::thread::Builder::new()
            .name("fleet".into())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime needs three descriptors, which were reserved");
                let report = LocalSet::new().block_on(&runtime, self.lead(stop));
                // A caller that went away wants no report.
                let _ = done.send(report);
            })
            .expect("a thread can be started where a fleet shall run");
        report.await.expect("the fleet's thread always sums up")
    }

    async fn lead(self, stop: CancellationToken) -> Report {
        let begin = self.clock.now();
        let shared = Rc::new(Shared {
            tls: TlsConnector::from(self.tls),
            clock: self.clock,
            observer: self.observer,
            progress: self.progress,
            stop: CancellationToken::new(),
            hurry: CancellationToken::new(),
            leave_by: Cell::default(),
            connects: Semaphore::new(self.plan.connects_at_once),
            resolver: Resolver::default(),
            scratch: Scratch::new(),
            latencies: RefCell::new(Latencies::new()),
            plan: self.plan,
        });
        let mut devices = JoinSet::new();
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = end_of_time(&shared, begin) => {
                shared.end(shared.plan.drain);
                tokio::select! {
                    biased;
                    () = stop.cancelled() => {}
                    () = all_ended(&mut devices) => {}
                }
            }
            () = start_and_wait(&shared, begin, &mut devices) => {}
        }
        shared.end(shared.plan.drain_when_stopped);
        shared.hurry.cancel();
        all_ended(&mut devices).await;
        sum_up(&shared, begin)
    }
}

/// Starts the devices of this shard on the ramp, each when it is due, and waits for them.
async fn start_and_wait(shared: &Rc<Shared>, begin: Instant, devices: &mut JoinSet<()>) {
    for (place, number) in (0u32..).zip(shared.plan.of_this_shard()) {
        let due = begin + start_of(&shared.plan, place);
        let ahead = due.saturating_duration_since(shared.clock.now());
        if !ahead.is_zero() {
            tokio::time::sleep(ahead).await;
        } else if place % 64 == 0 {
            tokio::task::yield_now().await;
        }
        let device = Device::new(shared.plan.clone(), number, due);
        // The names were checked with the plan.
        if let Some(device) = device {
            devices.spawn_local(live(device, number, shared.clone()));
        }
    }
    all_ended(devices).await;
}

async fn all_ended(devices: &mut JoinSet<()>) {
    while devices.join_next().await.is_some() {}
}

/// After how long the device at this place of the shard is due to start.
fn start_of(plan: &Plan, place: u32) -> Duration {
    let seconds = plan.ramp.map_or(0.0, |ramp| f64::from(place) / ramp);
    // Ten years: an Instant that far ahead can still be written down.
    Duration::from_secs_f64(seconds.min(315_360_000.0))
}

async fn end_of_time(shared: &Shared, begin: Instant) {
    let Some(duration) = shared.plan.duration else {
        return std::future::pending().await;
    };
    loop {
        let past = shared.clock.now().saturating_duration_since(begin);
        let Some(left) = duration.checked_sub(past).filter(|left| !left.is_zero()) else {
            return;
        };
        tokio::time::sleep(left).await;
    }
}

fn sum_up(shared: &Shared, begin: Instant) -> Report {
    let took = shared.clock.now().saturating_duration_since(begin);
    let counts = shared.progress.snapshot();
    Report::new(
        &shared.plan,
        took,
        counts,
        &shared.latencies.borrow(),
        &shared.progress.losses(),
    )
}
