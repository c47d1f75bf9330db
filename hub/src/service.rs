//! A whole hub: opens what it stands on, runs on one thread, stops without losing anything.
//!
//! May not enter: rules of any room.

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use azimuth_broker::{Behind, FrontDoor, FrontDoorConfig, Ledger, Presence};
use azimuth_clock::Clock;
use azimuth_storage::Store;
use tokio_util::sync::CancellationToken;

use crate::auth::Rules;
use crate::config::{HubConfig, PolicyKeySource};
use crate::device::DeviceDoor;
use crate::error::Error;
use crate::event::store::EventStore;
use crate::event::{Appender, Cut, Log};
use crate::policies::Policies;
use crate::registry::{Registry, Row};
use crate::rest::{self, Rest};

/// Starts hubs.
pub struct Hub;

/// A hub that serves. Dropping it stops it.
pub struct RunningHub {
    name: String,
    region: String,
    host_names: Vec<String>,
    policies: Policies,
    registry: Arc<Registry>,
    cuts: Vec<Cut>,
    mqtt: Vec<SocketAddr>,
    https: Vec<SocketAddr>,
    unbound: Vec<(SocketAddr, std::io::Error)>,
    stopping: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Hub {
    /// Opens the data folder and listens. Returns once devices can connect.
    pub fn start(config: HubConfig, clock: Arc<dyn Clock>) -> Result<RunningHub, Error> {
        check(&config)?;
        let foundation = Foundation::open(&config, &clock)?;
        let stopping = CancellationToken::new();
        let (ready, opened) = mpsc::sync_channel(1);
        let (name, region) = (config.name.clone(), config.region.clone());
        let host_names = config.host_names.clone();
        let thread = std::thread::Builder::new()
            .name(name.clone())
            .spawn({
                let stopping = stopping.clone();
                move || run(config, foundation, clock, stopping, &ready)
            })
            .map_err(Error::Thread)?;
        let opened = match opened.recv() {
            Ok(Ok(opened)) => opened,
            failed => {
                // It ends by itself, and closes what was opened.
                let _ = thread.join();
                return Err(match failed {
                    Ok(Err(error)) => error,
                    Ok(Ok(_)) | Err(_) => Error::Ended,
                });
            }
        };
        Ok(RunningHub {
            name,
            region,
            host_names,
            policies: opened.policies,
            registry: opened.registry,
            cuts: opened.cuts,
            mqtt: opened.mqtt,
            https: opened.https,
            unbound: opened.unbound,
            stopping,
            thread: Some(thread),
        })
    }
}

impl RunningHub {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn region(&self) -> &str {
        &self.region
    }

    /// The canonical name.
    pub fn host_name(&self) -> &str {
        self.host_names.first().map_or(&self.name, String::as_str)
    }

    /// Where MQTT is served: real ports where 0 was asked for.
    pub fn mqtt(&self) -> &[SocketAddr] {
        &self.mqtt
    }

    /// Where HTTPS is served.
    pub fn https(&self) -> &[SocketAddr] {
        &self.https
    }

    /// HTTPS addresses that could not be bound, and why; everything else runs.
    pub fn unbound(&self) -> &[(SocketAddr, std::io::Error)] {
        &self.unbound
    }

    /// What was cut off the event log at start, because it was never wholly written: sentences.
    pub fn cuts(&self) -> impl Iterator<Item = String> {
        self.cuts.iter().map(ToString::to_string)
    }

    /// The connection string of a policy under a name or address of the hub. Holds a key.
    pub fn connection_string(&self, policy: &str, host: &str) -> Option<String> {
        let string = self.policies.connection_string(policy, host)?;
        Some(string.reveal())
    }

    /// The first `limit` devices seen since the start, by id.
    pub fn rows(&self, limit: usize) -> Vec<Row> {
        self.registry.live().rows(limit)
    }

    /// Ends every connection, stores what was taken, and closes the store.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stopping.cancel();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(hub = %self.name, "the hub's thread had failed");
        }
    }
}

impl Drop for RunningHub {
    fn drop(&mut self) {
        self.end();
    }
}

/// What a hub stands on.
struct Foundation {
    store: Arc<dyn Store>,
    appender: Appender,
    log: Arc<Log>,
    cuts: Vec<Cut>,
}

impl Foundation {
    fn open(config: &HubConfig, clock: &Arc<dyn Clock>) -> Result<Self, Error> {
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
struct Opened {
    policies: Policies,
    registry: Arc<Registry>,
    cuts: Vec<Cut>,
    mqtt: Vec<SocketAddr>,
    https: Vec<SocketAddr>,
    unbound: Vec<(SocketAddr, std::io::Error)>,
}

fn check(config: &HubConfig) -> Result<(), Error> {
    const MOST_PARTITIONS: u16 = 128;
    let partitions = config.event_log.partitions;
    if !(1..=MOST_PARTITIONS).contains(&partitions) {
        return Err(Error::Partitions(partitions));
    }
    match (config.keys, config.exposed()) {
        (PolicyKeySource::Published, Some(address)) => Err(Error::Exposed(address)),
        (PolicyKeySource::Published, None) | (PolicyKeySource::Kept, _) => Ok(()),
    }
}

/// The hub's thread, from start to stop.
fn run(
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

async fn open(
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
    let registry = Arc::new(Registry::open(store, clock.clone())?);
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
        ledger: ledger.clone(),
        clock: clock.clone(),
        partitions: lanes,
        sas_grace: config.sas_grace,
        longest_silence: config.longest_silence,
    };
    let rest = Rest {
        rules,
        registry: registry.clone(),
        log,
        presence: presence.clone(),
        ledger: ledger.clone(),
        clock: clock.clone(),
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
        lanes,
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
