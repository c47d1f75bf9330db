//! The one thread of a hub: what it opens, what runs on it, and in which order it ends.

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use azimuth_broker::{Behind, FrontDoor, FrontDoorConfig, Ledger, Presence, RegionalDelay};
use azimuth_clock::Clock;
use azimuth_storage::Store;
use tokio_util::sync::CancellationToken;

use crate::auth::Rules;
use crate::ca_certificates::CaCertificates;
use crate::config::HubConfig;
use crate::device::DeviceDoor;
use crate::error::Error;
use crate::event::store::EventStore;
use crate::event::{Appender, Cut, Log};
use crate::policies::Policies;
use crate::quota::Meter;
use crate::registry::Registry;
use crate::rest::{self, Rest};

/// What a hub stands on.
pub struct Foundation {
    store: Arc<dyn Store>,
    appender: Appender,
    log: Arc<Log>,
    cuts: Vec<Cut>,
}

impl Foundation {
    pub fn open(config: &HubConfig, clock: &Arc<dyn Clock>) -> Result<Self, Error> {
        let folder = &config.folder;
        std::fs::create_dir_all(folder).map_err(|source| Error::Folder {
            folder: folder.display().to_string(),
            source,
        })?;
        let store = azimuth_storage::open(&folder.join("registry.redb"))?;
        let events = folder.join("events");
        let (appender, log, cuts) = Log::open(&events, config.event_log.clone(), clock.utc())?;
        Ok(Self {
            store,
            appender,
            log,
            cuts,
        })
    }
}

/// A hub that has opened, for the thread that waits for it.
pub struct Opened {
    pub policies: Policies,
    pub registry: Arc<Registry>,
    pub cuts: Vec<Cut>,
    pub mqtt: Vec<SocketAddr>,
    pub https: Vec<SocketAddr>,
    pub unbound: Vec<(SocketAddr, std::io::Error)>,
}

/// The hub's thread, from start to stop.
pub fn run(
    config: HubConfig,
    foundation: Foundation,
    clock: Arc<dyn Clock>,
    stopping: CancellationToken,
    ready: &mpsc::SyncSender<Result<Opened, Error>>,
) {
    let store = foundation.store.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(READER_THREADS)
        .thread_name(format!("{}-reader", config.name))
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(serve(config, foundation, clock, stopping, ready)),
        Err(error) => drop(ready.send(Err(Error::Thread(error)))),
    }
    store.close();
}

async fn serve(
    config: HubConfig,
    foundation: Foundation,
    clock: Arc<dyn Clock>,
    stopping: CancellationToken,
    ready: &mpsc::SyncSender<Result<Opened, Error>>,
) {
    let opened = open(config, foundation, clock, &stopping).await;
    let (front_door, registry) = match opened {
        Ok((front_door, opened)) => {
            let registry = opened.registry.clone();
            drop(ready.send(Ok(opened)));
            (front_door, registry)
        }
        Err(error) => return drop(ready.send(Err(error))),
    };
    let mut tick = tokio::time::interval(WRITE_DOWN_EVERY);
    loop {
        tokio::select! {
            _ = tick.tick() => registry.live().write_down(),
            () = stopping.cancelled() => break,
        }
    }
    front_door.close().await;
    registry.live().write_down();
}

/// Everything between a foundation and an open front door.
pub async fn open(
    config: HubConfig,
    foundation: Foundation,
    clock: Arc<dyn Clock>,
    stopping: &CancellationToken,
) -> Result<(FrontDoor<DeviceDoor>, Opened), Error> {
    let Foundation {
        store,
        appender,
        log,
        cuts,
    } = foundation;
    let partitions = config.event_log.partitions;
    let lanes = u8::try_from(partitions).map_err(|_| Error::Partitions(partitions))?;
    let policies = Policies::open(config.keys, &config.name, &*store).await?;
    let ca_certificates = Arc::new(CaCertificates::open(store.clone())?);
    let mut registry = Registry::open(&config.name, store, clock.clone())?;
    if let Some(plan) = config.plan {
        registry.allow(plan.devices());
    }
    let registry = Arc::new(registry);
    let meter = config.plan.map(|plan| Arc::new(Meter::new(plan)));
    let rules = Arc::new(Rules {
        host_names: config.host_names,
        policies: policies.clone(),
        clock_skew: config.clock_skew,
    });
    let presence = Arc::new(Presence::new());
    let ledger = Arc::new(Ledger::new(&config.name));
    let backend = DeviceDoor {
        rules: rules.clone(),
        registry: registry.clone(),
        ca_certificates: ca_certificates.clone(),
        ledger: ledger.clone(),
        clock: clock.clone(),
        meter: meter.clone(),
        partitions: lanes,
        sas_grace: config.sas_grace,
        longest_silence: config.longest_silence,
    };
    let rest = Rest {
        rules,
        registry: registry.clone(),
        ca_certificates,
        log,
        presence: presence.clone(),
        ledger: ledger.clone(),
        clock: clock.clone(),
        meter,
        stopping: stopping.clone(),
    };
    let behind = Behind {
        backend: Arc::new(backend),
        consumer: Box::new(EventStore::new(appender, clock.clone())),
        http: rest::router(rest),
        presence,
        ledger,
        clock,
    };
    let front_door = FrontDoorConfig {
        service: config.name,
        tls: config.tls,
        mqtt: config.mqtt,
        https: config.https,
        // .NET and Java add a query when they show no certificate; none is ever demanded.
        websocket: &["/$iothub/websocket"],
        lanes,
        delay: config
            .simulated_latency
            .map(|regions| RegionalDelay::new(&config.region, regions)),
        limits: config.limits,
    };
    let front_door = FrontDoor::open(front_door, behind).await?;
    let opened = Opened {
        policies,
        registry,
        cuts,
        mqtt: front_door.mqtt().to_vec(),
        https: front_door.https().to_vec(),
        unbound: front_door.unbound().iter().map(copied).collect(),
    };
    Ok((front_door, opened))
}

/// An `io::Error` cannot be cloned; its kind and number can.
fn copied((address, error): &(SocketAddr, std::io::Error)) -> (SocketAddr, std::io::Error) {
    let copy = match error.raw_os_error() {
        Some(number) => std::io::Error::from_raw_os_error(number),
        None => std::io::Error::new(error.kind(), error.to_string()),
    };
    (*address, copy)
}

/// Clients that follow the event log share these.
const READER_THREADS: usize = 2;

const WRITE_DOWN_EVERY: Duration = Duration::from_secs(3);
