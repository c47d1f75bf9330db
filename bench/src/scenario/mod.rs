//! What is measured, one file each: a fresh server, figures out.

mod connect;
mod enrollments;
mod import;
mod intruders;
mod monitor;
mod query;
mod registration;
mod registry;
mod round_trip;
mod scale;
mod start_up;
mod storm;
mod telemetry;

use std::time::Duration;

use clap::ValueEnum;

use crate::figure::Figures;
use crate::lab::{Kind, Lab};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// A connect storm, then idle devices: rate, CPU and memory per connection
    Connect,
    /// 500 devices publish as fast as they are acknowledged
    Telemetry,
    /// 500 devices publish 10,000 messages a second together: latency
    Paced,
    /// DPS polls, against a broker with a responder client
    RoundTrip,
    /// Devices provisioned through the DPS into the hub
    Registration,
    /// Registrations beside 200,000 enrollments and registrations, and while they are listed
    Enrollments,
    /// Identities created and read, and a million of them with twins: cost, memory, start
    Registry,
    /// Queries over 100,000 twins
    Query,
    /// 15,000 known devices connect to a hub that holds a million
    Storm,
    /// The cost of a message and of a connect beside 15,000 idle devices
    Scale,
    /// Connects beside clients that never finish theirs
    Intruders,
    /// From the start of the process to its first CONNACK
    StartUp,
    /// 100,000 identities imported in a job and exported again, beside devices that publish
    Import,
    /// `azimuth monitor` with 100,000 devices: memory, CPU per heartbeat
    Monitor,
}

impl Scenario {
    pub const ALL: [Self; 14] = [
        Self::StartUp,
        Self::Connect,
        Self::Telemetry,
        Self::Paced,
        Self::RoundTrip,
        Self::Registration,
        Self::Enrollments,
        Self::Registry,
        Self::Query,
        Self::Storm,
        Self::Intruders,
        Self::Scale,
        Self::Import,
        Self::Monitor,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Telemetry => "telemetry",
            Self::Paced => "paced",
            Self::RoundTrip => "round-trip",
            Self::Registration => "registration",
            Self::Enrollments => "enrollments",
            Self::Registry => "registry",
            Self::Query => "query",
            Self::Storm => "storm",
            Self::Scale => "scale",
            Self::Intruders => "intruders",
            Self::StartUp => "start-up",
            Self::Import => "import",
            Self::Monitor => "monitor",
        }
    }

    /// Whether there is anything of this kind to measure on that server.
    pub fn concerns(self, kind: Kind) -> bool {
        let azimuth_alone = matches!(
            self,
            Self::Registration
                | Self::Enrollments
                | Self::Registry
                | Self::Query
                | Self::Storm
                | Self::Import
                | Self::Monitor
        );
        !(azimuth_alone && kind == Kind::Mosquitto)
    }

    /// No run takes longer; one that does is given up.
    pub fn limit(self) -> Duration {
        let minutes = match self {
            // The first one fills a store.
            Self::Enrollments | Self::Registry | Self::Storm => 20,
            Self::Query => 10,
            _ => 3,
        };
        Duration::from_secs(60 * minutes)
    }

    pub async fn run(self, lab: &Lab, kind: Kind) -> anyhow::Result<Figures> {
        match self {
            Self::Connect => connect::run(lab, kind).await,
            Self::Telemetry => telemetry::run(lab, kind).await,
            Self::Paced => telemetry::run_paced(lab, kind).await,
            Self::RoundTrip => round_trip::run(lab, kind).await,
            Self::Registration => registration::run(lab).await,
            Self::Enrollments => enrollments::run(lab).await,
            Self::Registry => registry::run(lab).await,
            Self::Query => query::run(lab).await,
            Self::Storm => storm::run(lab).await,
            Self::Scale => scale::run(lab, kind).await,
            Self::Intruders => intruders::run(lab, kind).await,
            Self::StartUp => start_up::run(lab, kind).await,
            Self::Import => import::run(lab).await,
            Self::Monitor => monitor::run(lab).await,
        }
    }
}
