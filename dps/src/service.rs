//! A DPS as a running thing: everything put together on a thread of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use azimuth_broker::{
    Backend, Behind, Consumer, Envelopes, FrontDoor, FrontDoorConfig, Lane, Ledger, Presence,
};
use azimuth_certs::CaCertificates;
use azimuth_clock::Clock;
use azimuth_storage::Store;
use azimuth_wire::ca_certificate::CA_CERTIFICATE_OF_DPS;
use azimuth_wire::connection_string::ConnectionString;
use azimuth_wire::enrollment::EnrollmentGroup;
use azimuth_wire::{IdScope, SymmetricKey};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::assigner::Assigner;
use crate::attempt::Waiting;
use crate::challenges::Challenges;
use crate::config::{DpsConfig, LinkedHubConfig};
use crate::device::{self, Desk};
use crate::enrollment::{Enrollments, Entry};
use crate::error::Error;
use crate::linked_hubs::LinkedHubs;
use crate::operation::Operations;
use crate::policies::Policies;
use crate::quota::Meter;
use crate::records;
use crate::rest::{self, Office};
use azimuth_webhook::Webhooks;

/// A Device Provisioning Service.
#[derive(Debug)]
pub struct Dps;

impl Dps {
    /// Starts; returns once it listens. Blocks the caller for that long.
    pub fn start(config: DpsConfig, clock: Arc<dyn Clock>) -> Result<RunningDps, Error> {
        let stop = CancellationToken::new();
        let (ready, started) = oneshot::channel();
        let name = config.name.clone();
        let signal = stop.clone();
        let thread = std::thread::Builder::new()
            .name(name)
            .spawn(move || run(config, clock, signal, ready))
            .map_err(Error::Thread)?;
        let gone = || Error::Thread(std::io::Error::other("it ended while starting"));
        let facts = started.blocking_recv().unwrap_or_else(|_| Err(gone()))?;
        Ok(RunningDps {
            facts,
            stop,
            thread: Some(thread),
        })
    }

    /// Opens on the caller's own runtime and hands out the front door, for streams that come another
    /// way than over a socket. What runs behind it ends with that runtime.
    pub async fn open(
        config: DpsConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<FrontDoor<impl Backend>, Error> {
        let store = open_store(&config)?;
        let (door, _) = open(config, store, clock, CancellationToken::new()).await?;
        Ok(door)
    }
}

/// A DPS that listens. Stops when dropped.
#[derive(Debug)]
pub struct RunningDps {
    facts: Facts,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Facts {
    mqtt: Vec<SocketAddr>,
    https: Vec<SocketAddr>,
    unbound: Vec<(SocketAddr, String)>,
    connection_strings: Vec<ConnectionString>,
    id_scope: IdScope,
    group_keys: Vec<(String, SymmetricKey)>,
}

impl RunningDps {
    /// Where MQTT is served.
    pub fn mqtt(&self) -> &[SocketAddr] {
        &self.facts.mqtt
    }

    /// Where HTTPS is served.
    pub fn https(&self) -> &[SocketAddr] {
        &self.facts.https
    }

    /// HTTPS addresses that could not be bound, and why.
    pub fn unbound(&self) -> &[(SocketAddr, String)] {
        &self.facts.unbound
    }

    /// Of the policy `provisioningserviceowner`.
    pub fn connection_string(&self) -> &ConnectionString {
        &self.facts.connection_strings[0]
    }

    /// Of all policies; the first is `provisioningserviceowner`.
    pub fn connection_strings(&self) -> &[ConnectionString] {
        &self.facts.connection_strings
    }

    /// The primary key of a declared group with symmetric keys, whether it was given or made.
    pub fn group_key(&self, id: &str) -> Option<&SymmetricKey> {
        let found = self.facts.group_keys.iter().find(|(group, _)| group == id);
        found.map(|(_, key)| key)
    }

    pub fn id_scope(&self) -> &IdScope {
        &self.facts.id_scope
    }

    /// Ends every connection and waits until all is stored.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the DPS panicked");
        }
    }
}

impl Drop for RunningDps {
    fn drop(&mut self) {
        self.end();
    }
}

fn run(
    config: DpsConfig,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
    ready: oneshot::Sender<Result<Facts, Error>>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = ready.send(Err(Error::Thread(error)));
            return;
        }
    };
    runtime.block_on(async {
        let store = match open_store(&config) {
            Ok(store) => store,
            Err(error) => {
                let _ = ready.send(Err(error));
                return;
            }
        };
        match open(config, store.clone(), clock, stop.clone()).await {
            Ok((door, facts)) => {
                // Nobody waits any more: the caller is gone and will drop what it never got.
                if ready.send(Ok(facts)).is_ok() {
                    stop.cancelled().await;
                }
                door.close().await;
            }
            Err(error) => {
                let _ = ready.send(Err(error));
            }
        }
        store.close();
    });
}

fn open_store(config: &DpsConfig) -> Result<Arc<dyn Store>, Error> {
    let Some(folder) = &config.folder else {
        return Ok(azimuth_storage::memory());
    };
    std::fs::create_dir_all(folder).map_err(Error::Thread)?;
    Ok(azimuth_storage::open(&folder.join("dps.redb"))?)
}

async fn open(
    config: DpsConfig,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) -> Result<(FrontDoor<Desk>, Facts), Error> {
    let policies = Policies::open(&config, &*store).await?;
    let hubs = Arc::new(LinkedHubs::open(
        store.clone(),
        &config.roots_pem,
        config.pace.hub_timeout,
        clock.clone(),
    )?);
    hubs.declare(&config.linked_hubs).await?;
    records::list_registrations(&*store).await?;
    let linked = hubs.clone();
    let enrollments = Arc::new(Enrollments::open(store.clone(), move || linked.hosts())?);
    let ca_certificates = Arc::new(CaCertificates::open(store.clone(), CA_CERTIFICATE_OF_DPS)?);
    declare(&config, &enrollments, &*clock).await?;
    let group_keys = group_keys(&config, &enrollments)?;
    let ledger = Arc::new(Ledger::new(&config.name));
    let operations = Arc::new(Operations::new(
        config.pace.operation_memory,
        config.pace.assigning_polls,
        Operations::REGISTRATIONS,
    ));
    let (jobs, received) = mpsc::channel(Assigner::WAITING);
    let waiting = Arc::new(Waiting::default());
    let desk = Arc::new(Desk {
        id_scope: config.id_scope.clone(),
        enrollments: enrollments.clone(),
        ca_certificates: ca_certificates.clone(),
        challenges: Challenges::new(Challenges::CAPACITY),
        operations: operations.clone(),
        store: store.clone(),
        jobs,
        ledger: ledger.clone(),
        clock: clock.clone(),
        retry_after: config.pace.retry_after,
        operation_life: config.pace.operation_life,
        quotas: config.pace.quotas.map(Meter::new),
        assigned_hub_form: config.assigned_hub_form,
        hubs: hubs.clone(),
    });
    let office = Arc::new(Office {
        enrollments,
        ca_certificates,
        hubs: hubs.clone(),
        store: store.clone(),
        operations: operations.clone(),
        waiting: waiting.clone(),
        regions: config.regions.clone(),
        allocation: config.allocation,
        policies: policies.clone(),
        host_names: config.host_names.clone(),
        ledger: ledger.clone(),
        clock: clock.clone(),
        stop: stop.clone(),
    });
    let assigner = Arc::new(Assigner {
        store,
        operations,
        hubs,
        webhooks: Webhooks::new(&config.roots_pem, config.pace.webhook_timeout),
        regions: config.regions,
        allocation: config.allocation,
        pace: config.pace,
        ledger: ledger.clone(),
        waiting,
        clock: clock.clone(),
    });
    let door = FrontDoorConfig {
        service: config.name,
        tls: config.tls,
        mqtt: config.mqtt,
        https: config.https,
        // Python, Node and C; C#; Java.
        websocket: &["/$iothub/websocket", "/", "/mqtt"],
        lanes: 1,
        // Azure's global endpoint is everywhere: no device is far from it.
        delay: None,
        limits: config.limits,
    };
    let behind = Behind {
        backend: desk.clone(),
        consumer: Box::new(Nothing),
        http: device::https::before(rest::router(office), desk.clone()),
        presence: Arc::new(Presence::new()),
        ledger,
        clock,
    };
    let door = FrontDoor::open(door, behind)
        .await
        .map_err(Error::FrontDoor)?;
    tokio::spawn(assigner.run(received, stop));
    let host = config.host_names.first().cloned().unwrap_or_default();
    let strings = policies.all().iter().map(|policy| {
        let keys = &policy.keys;
        ConnectionString::policy(&host, &keys.name, keys.primary_key.clone())
    });
    let unbound = door.unbound().iter();
    let facts = Facts {
        mqtt: door.mqtt().to_vec(),
        https: door.https().to_vec(),
        unbound: unbound
            .map(|(address, error)| (*address, error.to_string()))
            .collect(),
        connection_strings: strings.collect(),
        id_scope: config.id_scope,
        group_keys,
    };
    Ok((door, facts))
}

async fn declare(
    config: &DpsConfig,
    enrollments: &Enrollments,
    clock: &dyn Clock,
) -> Result<(), Error> {
    let hubs = config.linked_hubs.iter().map(LinkedHubConfig::host);
    let hubs: Vec<_> = hubs.collect();
    for group in &config.enrollment_groups {
        enrollments
            .declare(group.clone(), &hubs, clock.utc())
            .await?;
    }
    for individual in &config.individual_enrollments {
        enrollments
            .declare(individual.clone(), &hubs, clock.utc())
            .await?;
    }
    Ok(())
}

fn group_keys(
    config: &DpsConfig,
    enrollments: &Enrollments,
) -> Result<Vec<(String, SymmetricKey)>, Error> {
    let mut keys = Vec::new();
    for declared in &config.enrollment_groups {
        let group: Option<EnrollmentGroup> = enrollments.entry(&declared.folded_id())?;
        let pair = group.and_then(|group| group.attestation.symmetric_key);
        let key = pair.and_then(|pair| pair.primary_key);
        keys.extend(key.map(|key| (declared.shown_id(), key)));
    }
    Ok(keys)
}

/// Nothing a device sends to a DPS is stored as it came.
struct Nothing;

impl Consumer for Nothing {
    fn consume(&mut self, _: Lane, _: Envelopes<'_>) -> Result<(), String> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
