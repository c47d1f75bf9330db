//! A whole hub: opens what it stands on, runs on one thread, stops without losing anything.
//!
//! May not enter: rules of any room.

mod thread;

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use azimuth_broker::FrontDoor;
use azimuth_clock::Clock;
use tokio_util::sync::CancellationToken;

use crate::config::{HubConfig, PolicyKeySource};
use crate::device::DeviceDoor;
use crate::error::Error;
use crate::event::Cut;
use crate::policies::Policies;
use crate::registry::{Registry, Row};

use thread::Foundation;

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
                move || thread::run(config, foundation, clock, stopping, &ready)
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

    /// Opens on the caller's own runtime and hands out the front door, for streams that come another
    /// way than over a socket. Nobody writes down now and then what devices did last.
    pub async fn open(
        config: HubConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<FrontDoor<DeviceDoor>, Error> {
        check(&config)?;
        let foundation = Foundation::open(&config, &clock)?;
        let stopping = CancellationToken::new();
        let (front_door, _) = thread::open(config, foundation, clock, &stopping).await?;
        Ok(front_door)
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
