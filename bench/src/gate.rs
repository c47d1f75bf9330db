//! What a release must hold, and what it works towards.

use crate::scenario::Scenario;

/// A bound on a figure of Azimuth, absolute or as a multiple of mosquitto's in the same run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    Most(f64),
    Least(f64),
    MostTimesMosquitto(f64),
    LeastTimesMosquitto(f64),
}

/// A row of the report.
pub struct Goal {
    pub what: &'static str,
    pub scenario: Scenario,
    pub figure: &'static str,
    pub unit: &'static str,
    pub gate: Option<Bound>,
    pub ambition: Option<Bound>,
}

/// Whether a figure keeps to a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Holds,
    Missed,
    /// A figure is missing.
    Unknown,
}

impl Verdict {
    pub fn word(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Missed => "**missed**",
            Self::Unknown => "not measured",
        }
    }
}

impl Bound {
    pub fn judge(self, azimuth: Option<f64>, mosquitto: Option<f64>) -> Verdict {
        let ratio = || Some(azimuth? / mosquitto.filter(|value| *value > 0.0)?);
        let holds = match self {
            Self::Most(limit) => azimuth.map(|value| value <= limit),
            Self::Least(limit) => azimuth.map(|value| value >= limit),
            Self::MostTimesMosquitto(limit) => ratio().map(|value| value <= limit),
            Self::LeastTimesMosquitto(limit) => ratio().map(|value| value >= limit),
        };
        match holds {
            Some(true) => Verdict::Holds,
            Some(false) => Verdict::Missed,
            None => Verdict::Unknown,
        }
    }

    pub fn text(self, unit: &str) -> String {
        match self {
            Self::Most(limit) => format!("≤ {limit} {unit}"),
            Self::Least(limit) => format!("≥ {limit} {unit}"),
            Self::MostTimesMosquitto(limit) => format!("≤ {limit:.2} × mosquitto"),
            Self::LeastTimesMosquitto(limit) => format!("≥ {limit:.2} × mosquitto"),
        }
    }
}

const fn goal(
    what: &'static str,
    scenario: Scenario,
    figure: &'static str,
    unit: &'static str,
    gate: Option<Bound>,
    ambition: Option<Bound>,
) -> Goal {
    Goal {
        what,
        scenario,
        figure,
        unit,
        gate,
        ambition,
    }
}

use Bound::{Least, LeastTimesMosquitto, Most, MostTimesMosquitto};
use Scenario::{
    Connect, Enrollments, Import, Intruders, Monitor, Paced, Query, Registration, Registry,
    RoundTrip, Scale, StartUp, Storm, Telemetry,
};

/// Every row, in the order of the report.
#[rustfmt::skip]
pub const GOALS: &[Goal] = &[
    goal("Telemetry, server CPU", Telemetry, "server_cpu_s_per_100k", "s per 100,000", Some(MostTimesMosquitto(1.0)), Some(MostTimesMosquitto(0.8))),
    goal("Telemetry, acknowledged", Telemetry, "per_s", "/s", None, Some(Least(75_000.0))),
    goal("Telemetry at the given rate, p50", Paced, "p50_ms", "ms", None, None),
    goal("Telemetry at the given rate, p99", Paced, "p99_ms", "ms", Some(Most(3.6)), Some(Most(2.7))),
    goal("Telemetry at the given rate, server CPU", Paced, "server_cpu_s_per_100k", "s per 100,000", None, None),
    goal("Connect, server CPU", Connect, "server_cpu_ms_each", "ms each", Some(MostTimesMosquitto(1.0)), Some(Most(0.18))),
    goal("Connect, rate", Connect, "connects_per_s", "/s", Some(LeastTimesMosquitto(1.0)), Some(Least(4_000.0))),
    goal("Connect, p99", Connect, "p99_ms", "ms", None, None),
    goal("Idle TLS device, memory", Connect, "idle_kib_each", "KiB", None, None),
    goal("Idle TLS device with its subscriptions, memory", Connect, "idle_subscribed_kib_each", "KiB", Some(Most(20.0)), Some(Most(15.0))),
    goal("DPS poll, server CPU (mosquitto: with a responder)", RoundTrip, "server_cpu_s_per_100k", "s per 100,000", Some(MostTimesMosquitto(0.6)), Some(MostTimesMosquitto(0.4))),
    goal("DPS poll, answered", RoundTrip, "per_s", "/s", None, None),
    goal("DPS poll, one client, p50", RoundTrip, "alone_p50_ms", "ms", Some(Most(1.0)), Some(Most(0.2))),
    goal("DPS poll, one client, p99 (40 ms would be Nagle)", RoundTrip, "alone_p99_ms", "ms", Some(Most(10.0)), None),
    goal("Bare TLS handshakes at the DPS, its CPU", Registration, "handshake_cpu_ms_each", "ms each", None, None),
    goal("Registrations, polled at once", Registration, "registrations_per_s", "/s", None, None),
    goal("From connect to assigned, p50", Registration, "p50_ms", "ms", None, None),
    goal("From connect to assigned, p99", Registration, "p99_ms", "ms", None, None),
    goal("Registration with a key and one poll, in handshakes", Registration, "in_handshakes", "×", Some(Most(3.0)), None),
    goal("… of it CONNECT and SUBSCRIBE", Registration, "session_cpu_ms_each", "ms each", None, None),
    goal("… of it attestation, and the answer", Registration, "attestation_cpu_ms_each", "ms each", None, None),
    goal("… of it the store of the DPS", Registration, "dps_store_cpu_ms_each", "ms each", None, None),
    goal("… of it asking the hub, and the poll", Registration, "hub_call_cpu_ms_each", "ms each", None, None),
    goal("… of it the hub", Registration, "hub_cpu_ms_each", "ms each", None, None),
    goal("… of the hub its store", Registration, "hub_store_cpu_ms_each", "ms each", None, None),
    goal("Polls of a registration", Registration, "polls_each", "", None, None),
    goal("Bare TLS handshakes with client certificates, CPU of the DPS", Registration, "x509_handshake_cpu_ms_each", "ms each", None, None),
    goal("Registration with a certificate and one poll, in such handshakes", Registration, "x509_in_handshakes", "×", Some(Most(3.0)), None),
    goal("Registrations with certificates", Registration, "x509_per_s", "/s", None, None),
    goal("Registration beside 200,000 stored, CPU × beside one", Enrollments, "cost_ratio", "×", Some(Most(1.25)), None),
    goal("Registration beside one stored, p99", Enrollments, "few_p99_ms", "ms", None, None),
    goal("Registration beside 200,000 stored, p99", Enrollments, "many_p99_ms", "ms", None, None),
    goal("Registration while all are listed, p99", Enrollments, "listed_p99_ms", "ms", None, None),
    goal("A page of 100 enrollments, p99", Enrollments, "page_p99_ms", "ms", None, None),
    goal("Start-up beside 200,000 stored, to Ready", Enrollments, "stored_ready_ms", "ms", None, None),
    goal("A request that looks at no identity, CPU of the hub", Registry, "request_cpu_ms_each", "ms each", None, None),
    goal("Identities created one at a time, 64 clients", Registry, "create_per_s", "/s", None, None),
    goal("… CPU of the hub, in such requests", Registry, "create_in_requests", "×", Some(Most(3.0)), None),
    goal("Identities with twins created in bulk", Registry, "bulk_identities_per_s", "/s", Some(Least(5_000.0)), None),
    goal("… CPU of the hub for each, in such requests", Registry, "bulk_in_requests", "×", Some(Most(5.0)), None),
    goal("Identities read", Registry, "read_per_s", "/s", None, None),
    goal("… CPU of the hub, in such requests", Registry, "read_in_requests", "×", Some(Most(2.0)), None),
    goal("1,000,000 identities with twins, start-up to Ready", Registry, "full_ready_ms", "ms", Some(Most(10_000.0)), None),
    goal("… memory after the start", Registry, "full_resident_mib", "MiB", Some(Most(3_072.0)), None),
    goal("… memory once all were read", Registry, "full_read_resident_mib", "MiB", Some(Most(3_072.0)), None),
    goal("A scan of 100,000 twins that few pass, p50", Query, "scan_p50_ms", "ms", Some(Most(1_000.0)), None),
    goal("… its CPU", Query, "scan_cpu_ms", "ms", None, None),
    goal("100,000 twins in 50 groups", Query, "groups_ms", "ms", Some(Most(2_000.0)), None),
    goal("A look-up by id, p50", Query, "look_up_p50_ms", "ms", Some(Most(2.0)), None),
    goal("A ping of a device on the line, p99", Query, "ping_calm_p99_ms", "ms", None, None),
    goal("… while twins are scanned", Query, "ping_scanned_p99_ms", "ms", Some(Most(50.0)), None),
    goal("Connects beside 1,000,000 identities, CPU × beside those that connect", Storm, "cpu_ratio", "×", Some(Most(1.25)), None),
    goal("… p99 beside those alone", Storm, "few_p99_ms", "ms", None, None),
    goal("… p99 beside 1,000,000", Storm, "full_p99_ms", "ms", None, None),
    goal("Provisioned, connected and subscribed", Registration, "cold_starts_per_s", "/s", Some(Least(1_000.0)), Some(Least(1_430.0))),
    goal("Connect p99 beside intruders, × undisturbed", Intruders, "p99_ratio", "×", Some(Most(2.0)), Some(Most(1.2))),
    goal("Message CPU beside a crowd, × 500 devices", Scale, "message_ratio", "×", Some(Most(1.5)), Some(Most(1.15))),
    goal("Connect CPU beside a crowd, × 500 devices", Scale, "connect_ratio", "×", Some(Most(1.5)), Some(Most(1.15))),
    goal("Start-up, fresh data, to Ready", StartUp, "fresh_ready_ms", "ms", Some(Most(300.0)), None),
    goal("Start-up, fresh data, to the first CONNACK", StartUp, "fresh_connack_ms", "ms", None, None),
    goal("Start-up, existing data, to Ready", StartUp, "existing_ready_ms", "ms", Some(Most(300.0)), None),
    goal("Start-up, existing data, to the first CONNACK", StartUp, "existing_connack_ms", "ms", None, None),
    goal("100,000 identities imported", Import, "import_per_s", "/s", None, None),
    goal("… CPU of the hub", Import, "import_cpu_ms_each", "ms each", None, None),
    goal("… memory it grows by", Import, "resident_growth_mib", "MiB", None, None),
    goal("… exported", Import, "export_per_s", "/s", None, None),
    goal("PUBACK p99 beside the import", Import, "beside_p99_ms", "ms", None, None),
    goal("Monitor with 100,000 devices, memory", Monitor, "resident_kib", "KiB", Some(Most(97_656.0)), Some(Most(48_828.0))),
    goal("… of it a device", Monitor, "bytes_each", "bytes", None, None),
    goal("Monitor, CPU for heartbeats", Monitor, "cpu_s_per_100k", "s per 100,000", None, None),
    goal("Monitor, CPU while all are in time", Monitor, "idle_cpu_percent", "%", Some(Most(1.0)), None),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_judged_by_the_figure_or_the_ratio() {
        let rows = [
            (Most(3.6), Some(3.6), None, Verdict::Holds),
            (Most(3.6), Some(3.7), None, Verdict::Missed),
            (Least(10.0), Some(9.9), None, Verdict::Missed),
            (Most(3.6), None, Some(1.0), Verdict::Unknown),
            (
                MostTimesMosquitto(0.6),
                Some(1.2),
                Some(2.0),
                Verdict::Holds,
            ),
            (
                MostTimesMosquitto(0.6),
                Some(1.3),
                Some(2.0),
                Verdict::Missed,
            ),
            (
                LeastTimesMosquitto(1.0),
                Some(2.0),
                Some(2.0),
                Verdict::Holds,
            ),
            (MostTimesMosquitto(0.6), Some(1.3), None, Verdict::Unknown),
            (
                MostTimesMosquitto(0.6),
                Some(1.3),
                Some(0.0),
                Verdict::Unknown,
            ),
        ];
        for (bound, azimuth, mosquitto, expected) in rows {
            assert_eq!(
                bound.judge(azimuth, mosquitto),
                expected,
                "{bound:?} {azimuth:?} {mosquitto:?}"
            );
        }
    }
}
