//! The one thread of a hub: what it opens, what runs on it, and in which order it ends.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use azimuth_broker::{Behind, FrontDoor, FrontDoorConfig, Ledger, Presence, RegionalDelay};
use azimuth_certs::CaCertificates;
use azimuth_clock::Clock;
use azimuth_storage::Store;
use azimuth_webhook::Webhooks;
use azimuth_wire::ca_certificate::CA_CERTIFICATE_OF_HUB;
use tokio_util::sync::CancellationToken;

use crate::auth::Rules;
use crate::config::{ConnectionStateReports, HubConfig};
use crate::device::DeviceDoor;
use crate::error::Error;
use crate::event::store::EventStore;
use crate::event::{Appender, Cut, Log};
use crate::event_grid::{self, Post, PostOffice};
use crate::job::{JobConfig, Jobs};
use crate::notification::{Notifier, NotifierConfig};
use crate::policies::Policies;
use crate::quota::{Meter, Plan};
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
    pub jobs: Arc<Jobs>,
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
    let (front_door, registry, jobs) = match opened {
        Ok((front_door, opened)) => {
            let (registry, jobs) = (opened.registry.clone(), opened.jobs.clone());
            drop(ready.send(Ok(opened)));
            (front_door, registry, jobs)
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
    jobs.idle().await;
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
    let ca_certificates = Arc::new(CaCertificates::open(store.clone(), CA_CERTIFICATE_OF_HUB)?);
    let ledger = Arc::new(Ledger::new(&config.name));
    let posts = posts(&config, &store, &clock, &ledger).await?;
    let notifier = NotifierConfig {
        hub: config.name.clone(),
        sources: config.notifications,
        posts,
        partitions,
        snapshots: config.connection_state == ConnectionStateReports::Faithful,
    };
    let notifier = Arc::new(Notifier::open(notifier, store.clone(), clock.clone()).await?);
    let found_at = found_at(&config.host_names);
    let registry = Registry::open(&config.name, store.clone(), clock.clone())?;
    let most = config.plan.map_or(u64::MAX, Plan::devices);
    let registry = Arc::new(registry.telling(notifier.clone()).allowing(most));
    let meter = config.plan.map(|plan| Arc::new(Meter::new(plan)));
    let rules = Arc::new(Rules {
        host_names: config.host_names,
        policies: policies.clone(),
        clock_skew: config.clock_skew,
    });
    let presence = Arc::new(Presence::new());
    let jobs = Jobs::new(
        JobConfig {
            name: config.name.clone(),
            folder: config.job_folder,
            roots_pem: config.roots_pem,
        },
        store,
        registry.clone(),
        presence.clone(),
        clock.clone(),
        stopping.clone(),
    );
    jobs.recover().await?;
    let jobs = Arc::new(jobs);
    let backend = DeviceDoor {
        rules: rules.clone(),
        registry: registry.clone(),
        ca_certificates: ca_certificates.clone(),
        notifier: notifier.clone(),
        ledger: ledger.clone(),
        clock: clock.clone(),
        meter: meter.clone(),
        partitions: lanes,
        sas_grace: config.sas_grace,
        longest_silence: config.longest_silence,
        lost_after: match config.connection_state {
            ConnectionStateReports::Immediate => Duration::ZERO,
            ConnectionStateReports::Faithful => NOTICED_AFTER,
        },
    };
    let rest = Rest {
        rules,
        registry: registry.clone(),
        ca_certificates,
        notifier: notifier.clone(),
        log,
        jobs: jobs.clone(),
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
    let port = front_door.https().first().map_or(443, SocketAddr::port);
    tokio::spawn(notifier.run(format!("https://{found_at}:{port}"), stopping.clone()));
    let opened = Opened {
        policies,
        registry,
        jobs,
        cuts,
        mqtt: front_door.mqtt().to_vec(),
        https: front_door.https().to_vec(),
        unbound: front_door.unbound().iter().map(copied).collect(),
    };
    Ok((front_door, opened))
}

/// The subscriptions that are configured; what waited for others is forgotten.
async fn posts(
    config: &HubConfig,
    store: &Arc<dyn Store>,
    clock: &Arc<dyn Clock>,
    ledger: &Arc<Ledger>,
) -> Result<Vec<Arc<Post>>, Error> {
    let subscriptions = &config.event_subscriptions;
    let names: Vec<_> = subscriptions.iter().map(|one| one.name.as_str()).collect();
    event_grid::forget_others(&**store, &names).await?;
    let office = PostOffice {
        topic: event_grid::topic(&config.name),
        store: store.clone(),
        clock: clock.clone(),
        ledger: ledger.clone(),
        webhooks: Arc::new(Webhooks::new(&config.roots_pem, PATIENCE)),
    };
    let posts = subscriptions.iter().map(|subscription| {
        let post = Post::open(subscription.clone(), office.clone())?;
        Ok(Arc::new(post))
    });
    posts.collect()
}

/// An address where there is one, for names of Azure's need not be known here.
fn found_at(host_names: &[String]) -> String {
    let address = host_names.iter().find_map(|name| name.parse().ok());
    match address {
        Some(IpAddr::V4(address)) => address.to_string(),
        Some(IpAddr::V6(address)) => format!("[{address}]"),
        None => host_names.first().cloned().unwrap_or_default(),
    }
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

/// How long Azure waits for the answer of a webhook.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long Azure may take to notice that a connection is lost.
const NOTICED_AFTER: Duration = Duration::from_secs(300);

const WRITE_DOWN_EVERY: Duration = Duration::from_secs(3);
