//! Leads one device through its life: carries out what the pure device decides, on one line at a
//! time. One task per device, so what is alive across a wait must be small.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use azimuth_clock::Clock;
use azimuth_wire::time::unix_seconds;
use bytes::BytesMut;
use rumqttc::mqttbytes::v4::Packet;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use crate::device::{Count, Device, Endpoint, Now, Output};
use crate::fault::{Fault, FaultKind};
use crate::latency::{Latencies, record};
use crate::plan::Plan;
use crate::progress::{Progress, online_after};
use crate::report::Faults;
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
    pub stop: CancellationToken,
    pub connects: Semaphore,
    pub resolver: Resolver,
    pub scratch: Scratch,
    pub latencies: RefCell<Latencies>,
    pub faults: RefCell<Faults>,
}

impl Shared {
    pub(crate) fn now(&self) -> Now {
        Now {
            at: self.clock.now(),
            unix: unix_seconds(self.clock.utc()),
        }
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
        online: false,
        connected: false,
        shared: &shared,
    };
    shared.progress.note_start();
    let mut stopping = false;
    loop {
        // Boxed: it is there for moments, and large.
        Box::pin(life.carry_out()).await;
        if life.device.over() {
            break;
        }
        let event = life.wait(stopping).await;
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
            Event::Stop => {
                stopping = true;
                life.device.handle_stop(now);
            }
        }
    }
}

struct Life<'a> {
    device: Device,
    number: u64,
    line: Option<Box<Line>>,
    permit: Option<SemaphorePermit<'a>>,
    online: bool,
    connected: bool,
    shared: &'a Shared,
}

impl<'a> Life<'a> {
    async fn wait(&mut self, stopping: bool) -> Event {
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
            () = shared.stop.cancelled(), if !stopping => Event::Stop,
            read = read => read.map_or_else(Event::Lost, Event::Packet),
            () = sleep => Event::Time,
        }
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
        let open = async {
            let permit = shared.connects.acquire().await;
            let permit = permit.expect("the semaphore is never closed");
            let line = open(shared, endpoint, self.number).await;
            (permit, line)
        };
        let opened = tokio::select! {
            biased;
            () = shared.stop.cancelled() => None,
            opened = open => Some(opened),
        };
        let now = shared.now();
        match opened {
            // The stop is noticed once more, in `wait`.
            None => {}
            Some((permit, Ok(line))) => {
                self.permit = Some(permit);
                self.line = Some(line);
                self.device.handle_line(now);
            }
            Some((_, Err(fault))) => self.device.handle_lost(fault, now),
        }
    }

    fn tell(&mut self, step: &Step) {
        let shared = self.shared;
        shared.progress.note_step(step, self.online, self.connected);
        self.online = online_after(step).unwrap_or(self.online);
        let mut latencies = shared.latencies.borrow_mut();
        match step {
            Step::Assigned { took, .. } => record(&mut latencies.provision, *took),
            Step::Connected { took, .. } => {
                self.connected = true;
                record(&mut latencies.connect, *took);
            }
            Step::Lost { fault } | Step::Failed { fault } => {
                shared.faults.borrow_mut().note(self.device.name(), fault);
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
        if let Count::Acknowledged(late) = count {
            let mut latencies = self.shared.latencies.borrow_mut();
            record(&mut latencies.telemetry, late);
        }
    }
}

async fn open(shared: &Shared, endpoint: Endpoint, number: u64) -> Result<Box<Line>, Fault> {
    let plan = &shared.plan;
    let (host, port, told) = match (&endpoint, &plan.provisioning) {
        (Endpoint::Hub(hub), _) => (hub.as_ref(), plan.hub_port, None),
        (Endpoint::Dps, Some(dps)) => (dps.host.as_str(), dps.port, dps.address),
        (Endpoint::Dps, None) => {
            let sentence = "the plan names no DPS to register with";
            return Err(Fault::new(FaultKind::Dns, sentence));
        }
    };
    let now = shared.clock.now();
    let address = shared.resolver.address(plan, host, port, told, now).await?;
    let source = plan.sources.pick(number / plan.shard.of.max(1));
    transport::dial(&shared.tls, host, address, source)
        .await
        .map(Box::new)
}
