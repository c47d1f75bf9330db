//! Leads one device through its life: carries out what the pure device decides, on one line at a
//! time. One task per device, so what is alive across a wait must be small.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use azimuth_clock::Clock;
use azimuth_wire::time::unix_seconds;
use bytes::BytesMut;
use rumqttc::mqttbytes::v4::Packet;
use rustls::client::ResolvesClientCert;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use crate::device::{Count, Device, Endpoint, Now, Output, Request};
use crate::fault::{Fault, FaultKind};
use crate::https;
use crate::latency::{HubIndex, Latencies, record};
use crate::plan::Plan;
use crate::progress::{Progress, online_after};
use crate::resolve::Resolver;
use crate::step::{Observer, Step};
use crate::transport::{self, Line, Scratch};

/// What the devices of a thread share.
pub(crate) struct Shared {
    pub plan: Arc<Plan>,
    pub tls: TlsConnector,
    pub clock: Arc<dyn Clock>,
    pub observer: Arc<dyn Observer>,
    pub progress: Arc<Progress>,
    /// No message becomes due any more; what is due has until `leave_by`.
    pub stop: CancellationToken,
    /// Cancelled with or after `stop`, when `leave_by` has come nearer.
    pub hurry: CancellationToken,
    /// None until `stop` is cancelled.
    pub leave_by: Cell<Option<Instant>>,
    pub connects: Semaphore,
    pub resolver: Resolver,
    pub scratch: Scratch,
    pub latencies: RefCell<Latencies>,
}

impl Shared {
    pub(crate) fn now(&self) -> Now {
        Now {
            at: self.clock.now(),
            unix: unix_seconds(self.clock.utc()),
        }
    }

    /// Ends the time of messages, and gives those that are due `drain` from now, or less.
    pub(crate) fn end(&self, drain: Duration) {
        let by = self.clock.now() + drain;
        let before = self.leave_by.get().unwrap_or(by);
        self.leave_by.set(Some(before.min(by)));
        self.stop.cancel();
    }
}

enum Event {
    Packet(Packet),
    Lost(Fault),
    Time,
    Stop,
}

/// From the first dial to the end. `number` picks the source address.
pub(crate) async fn live(device: Device, number: u64, shared: Rc<Shared>) {
    let mut life = Life {
        device,
        number,
        line: None,
        permit: None,
        stopping: Stopping::No,
        online: false,
        lost: false,
        hub: None,
        moved: false,
        shared: &shared,
    };
    shared.progress.note_start();
    loop {
        // Boxed: it is there for moments, and large.
        Box::pin(life.carry_out()).await;
        if life.device.over() {
            break;
        }
        let event = life.wait().await;
        let now = shared.now();
        match event {
            Event::Packet(packet) => {
                // The first answer ends the connect; others may begin theirs.
                life.permit = None;
                life.device.handle_packet(packet, now);
                life.hear_the_rest(now);
            }
            Event::Lost(fault) => {
                life.let_go();
                life.device.handle_lost(fault, now);
            }
            Event::Time => life.device.handle_timeout(now),
            Event::Stop => life.hear_stop(now),
        }
    }
}

/// What the device has heard of the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stopping {
    No,
    Stopped,
    Hurried,
}

/// Comes back when there is something about the end that was not heard yet.
async fn next_stop(shared: &Shared, heard: Stopping) {
    match heard {
        Stopping::No => shared.stop.cancelled().await,
        Stopping::Stopped => shared.hurry.cancelled().await,
        Stopping::Hurried => std::future::pending().await,
    }
}

struct Life<'a> {
    device: Device,
    number: u64,
    line: Option<Box<Line>>,
    permit: Option<SemaphorePermit<'a>>,
    stopping: Stopping,
    online: bool,
    /// Whether it lost its connection before.
    lost: bool,
    /// Of its latest connection.
    hub: Option<HubIndex>,
    /// Whether it changed its hub before.
    moved: bool,
    shared: &'a Shared,
}

impl<'a> Life<'a> {
    async fn wait(&mut self) -> Event {
        let shared = self.shared;
        let deadline = self.device.deadline();
        let wait = deadline.map(|by| by.saturating_duration_since(shared.clock.now()));
        let sleep = async {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        let line = &mut self.line;
        let read = async {
            match line {
                Some(line) => line.read(&shared.scratch).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = next_stop(shared, self.stopping) => Event::Stop,
            read = read => read.map_or_else(Event::Lost, Event::Packet),
            () = sleep => Event::Time,
        }
    }

    fn hear_stop(&mut self, now: Now) {
        self.stopping = match self.stopping {
            Stopping::No => Stopping::Stopped,
            Stopping::Stopped | Stopping::Hurried => Stopping::Hurried,
        };
        let by = self.shared.leave_by.get();
        self.device.handle_stop(by.unwrap_or(now.at), now);
    }

    /// Packets that came along with one, so that one write answers them all. A device that has
    /// turned to another line must not hear the old one.
    fn hear_the_rest(&mut self, now: Now) {
        while self.device.online()
            && let Some(line) = &mut self.line
        {
            match line.take() {
                Ok(Some(packet)) => self.device.handle_packet(packet, now),
                Ok(None) => return,
                Err(fault) => {
                    self.let_go();
                    return self.device.handle_lost(fault, now);
                }
            }
        }
    }

    /// Does what the device wants done, until it wants nothing more.
    async fn carry_out(&mut self) {
        let mut batch = BytesMut::new();
        loop {
            match self.device.poll() {
                Some(Output::Send(packet)) => {
                    if let Err(fault) = transport::encode(&packet, &mut batch) {
                        self.break_off(fault);
                    }
                }
                Some(Output::Step(step)) => self.tell(&step),
                Some(Output::Count(count)) => self.count(count),
                Some(Output::Hang) => {
                    // A goodbye that does not get through is none that is missed.
                    let _ = self.flush(&mut batch).await;
                    self.permit = None;
                    if let Some(line) = self.line.take() {
                        line.close(&self.shared.scratch).await;
                    }
                }
                Some(Output::Dial(endpoint)) => {
                    batch.clear();
                    self.dial(endpoint).await;
                }
                Some(Output::Ask(request)) => Box::pin(self.ask(request)).await,
                None if batch.is_empty() => return,
                None => {
                    if let Err(fault) = self.flush(&mut batch).await {
                        self.break_off(fault);
                    }
                }
            }
        }
    }

    /// What has no line any more is dropped: the device sends it again.
    async fn flush(&mut self, batch: &mut BytesMut) -> Result<(), Fault> {
        let packets = std::mem::take(batch);
        match &mut self.line {
            Some(line) if !packets.is_empty() => line.write(packets).await,
            Some(_) | None => Ok(()),
        }
    }

    fn break_off(&mut self, fault: Fault) {
        self.let_go();
        let now = self.shared.now();
        self.device.handle_lost(fault, now);
    }

    fn let_go(&mut self) {
        self.line = None;
        self.permit = None;
    }

    async fn dial(&mut self, endpoint: Endpoint) {
        let shared = self.shared;
        let number = self.number;
        let open = async {
            let permit = shared.connects.acquire().await;
            let permit = permit.expect("the semaphore is never closed");
            let line = open(shared, endpoint, number).await;
            (permit, line)
        };
        tokio::pin!(open);
        let opened = loop {
            tokio::select! {
                biased;
                () = next_stop(shared, self.stopping) => self.hear_stop(shared.now()),
                () = self.end() => self.device.handle_timeout(shared.now()),
                opened = &mut open => break opened,
            }
            // Who has nothing to send, or no time left, does not wait for the line.
            if self.device.over() {
                return;
            }
        };
        let now = shared.now();
        match opened {
            (permit, Ok(line)) => {
                self.permit = Some(permit);
                self.line = Some(line);
                self.device.handle_line(now);
            }
            (_, Err(fault)) => self.device.handle_lost(fault, now),
        }
    }

    async fn ask(&mut self, request: Request) {
        let shared = self.shared;
        let number = self.number;
        let ask = async {
            let permit = shared.connects.acquire().await;
            let _permit = permit.expect("the semaphore is never closed");
            let line = open(shared, Endpoint::DpsHttps, number).await?;
            let dps = shared.plan.provisioning.as_ref();
            let host = dps.map_or("", |dps| &dps.host);
            https::ask(*line, host, request).await
        };
        tokio::pin!(ask);
        let answered = loop {
            tokio::select! {
                biased;
                () = next_stop(shared, self.stopping) => self.hear_stop(shared.now()),
                () = self.end() => self.device.handle_timeout(shared.now()),
                answered = &mut ask => break answered,
            }
            if self.device.over() {
                return;
            }
        };
        let now = shared.now();
        match answered {
            Ok(reply) => self.device.handle_reply(&reply, now),
            Err(fault) => self.device.handle_lost(fault, now),
        }
    }

    /// The time by which a device that is told to stop must have left.
    async fn end(&self) {
        match self.shared.leave_by.get() {
            None => std::future::pending().await,
            Some(by) => {
                let left = by.saturating_duration_since(self.shared.clock.now());
                tokio::time::sleep(left).await;
            }
        }
    }

    fn tell(&mut self, step: &Step) {
        let shared = self.shared;
        let was_online = self.online;
        shared
            .progress
            .note_step(step, was_online, self.hub.is_some());
        self.online = online_after(step).unwrap_or(was_online);
        let mut latencies = shared.latencies.borrow_mut();
        match step {
            Step::Assigned { hub, took, .. } => {
                record(&mut latencies.provision, *took);
                let other = self
                    .hub
                    .is_some_and(|latest| *latencies.at(latest).host != **hub);
                if other && !self.moved {
                    self.moved = true;
                    shared.progress.note_move();
                }
            }
            Step::Connected { hub, took } => {
                let hub = latencies.find(hub);
                record(&mut latencies.at(hub).connect, *took);
                if let Some(latest) = self.hub.replace(hub) {
                    latencies.at(latest).devices -= 1;
                }
                latencies.at(hub).devices += 1;
            }
            Step::Lost { fault, .. } | Step::Failed { fault, .. } => {
                let device = self.device.name();
                shared.progress.note_fault(device, fault, was_online);
                if was_online && !self.lost {
                    self.lost = true;
                    shared.progress.note_first_loss();
                }
            }
            Step::Registering
            | Step::ProvisioningConnected
            | Step::Assigning { .. }
            | Step::Throttled { .. }
            | Step::FirstAcknowledged
            | Step::Renewing
            | Step::BackingOff { .. }
            | Step::Reprovisioning
            | Step::Ended => {}
        }
        drop(latencies);
        shared.observer.step(self.device.name(), step);
    }

    fn count(&self, count: Count) {
        self.shared.progress.note_count(count);
        let mut latencies = self.shared.latencies.borrow_mut();
        match (count, self.hub) {
            (Count::Acknowledged(late), Some(hub)) => {
                record(&mut latencies.at(hub).telemetry, late);
            }
            (Count::Outage { took, .. }, _) => record(&mut latencies.outage, took),
            (Count::Acknowledged(_) | Count::Due(_) | Count::Sent | Count::Resent, _) => {}
        }
    }
}

async fn open(shared: &Shared, endpoint: Endpoint, number: u64) -> Result<Box<Line>, Fault> {
    let plan = &shared.plan;
    let (host, port, told) = match (&endpoint, &plan.provisioning) {
        (Endpoint::Hub(hub), _) => (hub.as_ref(), plan.hub_port, None),
        (Endpoint::Dps, Some(dps)) => (dps.host.as_str(), dps.port, dps.address),
        (Endpoint::DpsHttps, Some(dps)) => (dps.host.as_str(), plan.dps_https_port, dps.address),
        (Endpoint::Dps | Endpoint::DpsHttps, None) => {
            let sentence = "the plan names no DPS to register with";
            return Err(Fault::new(FaultKind::Dns, sentence));
        }
    };
    let now = shared.clock.now();
    let address = shared.resolver.address(plan, host, port, told, now).await?;
    let place = plan.place(number) / plan.shard.of.max(1);
    let tls = match plan.certificate(number) {
        Some(certificate) => showing(&shared.tls, certificate),
        None => shared.tls.clone(),
    };
    let line = transport::dial(&tls, host, address, plan.sources.pick(place)).await;
    if line.is_err() {
        shared.resolver.note_failure(host, address.ip());
    }
    line.map(Box::new)
}

/// The same with a certificate. Made for each handshake: thousands of idle devices need not keep theirs.
fn showing(tls: &TlsConnector, certificate: &Arc<dyn ResolvesClientCert>) -> TlsConnector {
    let mut config = tls.config().as_ref().clone();
    config.client_auth_cert_resolver = certificate.clone();
    TlsConnector::from(Arc::new(config))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use azimuth_clock::SystemClock;
    use rustls::crypto::aws_lc_rs::default_provider;

    use super::*;
    use crate::plan::{Credential, Who};
    use crate::step::Silent;

    const HUB: &str = "no-such-name.invalid";

    fn shared() -> Rc<Shared> {
        let key = "A".repeat(44);
        let text = format!("HostName={HUB};SharedAccessKeyName=device;SharedAccessKey={key}");
        let who = Who::Named(vec!["d".into()]);
        let plan = Plan::new(who, Credential::HubPolicy(text.parse().unwrap()), None);
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        Rc::new(Shared {
            // Nobody listens there.
            plan: Arc::new(Plan {
                hub_port: 1,
                ..plan
            }),
            tls: TlsConnector::from(Arc::new(tls)),
            clock: Arc::new(SystemClock),
            observer: Arc::new(Silent),
            progress: Arc::default(),
            stop: CancellationToken::new(),
            hurry: CancellationToken::new(),
            leave_by: Cell::default(),
            connects: Semaphore::new(1),
            resolver: Resolver::default(),
            scratch: Scratch::new(),
            latencies: RefCell::new(Latencies::new()),
        })
    }

    #[test]
    fn the_task_of_a_device_stays_small() {
        let shared = shared();
        let device = Device::new(shared.plan.clone(), 0, shared.clock.now()).unwrap();
        let bytes = std::mem::size_of_val(&live(device, 0, shared));
        assert!(bytes <= 1536, "{bytes}");
    }

    #[tokio::test]
    async fn a_name_is_asked_for_again_when_its_address_failed() {
        let shared = shared();
        let moved = [127, 0, 0, 1].into();
        shared.resolver.know(HUB, moved, shared.clock.now());
        for kind in [FaultKind::ConnectRefused, FaultKind::Dns] {
            let line = open(&shared, Endpoint::Hub(HUB.into()), 0).await;
            assert_eq!(line.map(drop).unwrap_err().kind, kind);
        }
    }
}
