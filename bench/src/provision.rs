//! Devices that are provisioned, and what that costs the servers.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use azimuth_wire::topic::dps::RESPONSES;

use crate::credentials::{Credentials, bench_key, device_filters, far_expiry};
use crate::crowd::{Crowd, each};
use crate::line::{Line, Target};
use crate::process::Spent;
use crate::round_trip::{be_refused, register};
use crate::server::Server;

/// CPU of one of many, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    pub dps: f64,
    pub dps_store: f64,
    pub hub: f64,
    pub hub_store: f64,
}

impl Cost {
    pub fn of_each(spent: &Spent, count: usize) -> Self {
        let each = |seconds: &[f64], at: usize| {
            seconds.get(at).copied().unwrap_or_default() * 1000.0 / count.max(1) as f64
        };
        Self {
            dps: each(&spent.servers, 0),
            dps_store: each(&spent.stores, 0),
            hub: each(&spent.servers, 1),
            hub_store: each(&spent.stores, 1),
        }
    }

    pub fn all(self) -> f64 {
        self.dps + self.hub
    }
}

/// How far a device goes.
#[derive(Clone)]
pub enum Way {
    /// TLS, and goodbye.
    Handshake,
    /// CONNECT and SUBSCRIBE as well.
    Session,
    /// And a register that is answered 401.
    Refused,
    /// And polls until it is assigned, each after this time.
    Assigned(Duration),
    /// And from there to the hub, where it subscribes and stays. Polls at once.
    Connected(Target),
}

/// What `clients` brought home, and what they cost.
pub struct Provisioned {
    pub crowd: Crowd<Device>,
    pub spent: Spent,
    pub cost: Cost,
}

impl Provisioned {
    pub fn per_second(&self) -> f64 {
        self.crowd.brought.len() as f64 / self.spent.wall
    }

    pub fn polls_each(&self) -> f64 {
        let devices = &self.crowd.brought;
        devices.iter().map(|device| device.polls).sum::<usize>() as f64 / devices.len() as f64
    }
}

/// A device at the end of its way.
#[derive(Default)]
pub struct Device {
    pub polls: usize,
    /// Held, so that the server holds it as well.
    _line: Option<Line>,
}

pub async fn provision(
    server: &Server,
    dps: &Target,
    clients: Range<usize>,
    concurrency: usize,
    way: Way,
) -> Result<Provisioned> {
    let (count, dps) = (clients.len(), dps.clone());
    let meter = server.meter()?;
    let go = move |client| {
        let (dps, way) = (dps.clone(), way.clone());
        async move { one(&dps, client, &way).await }
    };
    let crowd = each(clients, concurrency, go).await?;
    let spent = meter.read()?;
    let cost = Cost::of_each(&spent, count);
    Ok(Provisioned { crowd, spent, cost })
}

async fn one(dps: &Target, client: usize, way: &Way) -> Result<Device> {
    let mut device = Device::default();
    if matches!(way, Way::Handshake) {
        dps.greet(client).await?;
        return Ok(device);
    }
    let mut line = dps.enter(client).await?;
    line.subscribe(&[RESPONSES.to_owned()]).await?;
    match way {
        Way::Handshake | Way::Session => {}
        Way::Refused => be_refused(&mut line).await?,
        Way::Assigned(pause) => {
            device.polls = register(&mut line, client, *pause).await?.polls.into()
        }
        Way::Connected(hub) => {
            device.polls = register(&mut line, client, Duration::ZERO)
                .await?
                .polls
                .into();
            line.leave().await?;
            let mut line = hub.enter(client).await?;
            line.subscribe(&device_filters(client)).await?;
            line.rest();
            device._line = Some(line);
            return Ok(device);
        }
    }
    line.leave().await?;
    Ok(device)
}

/// The same DPS, entered with tokens that no enrollment's key signed.
pub fn with_a_wrong_key(dps: &Target, id_scope: &str) -> Target {
    Target {
        credentials: Arc::new(Credentials::Dps {
            id_scope: id_scope.to_owned(),
            group: bench_key(),
            expiry: far_expiry(),
        }),
        ..dps.clone()
    }
}
