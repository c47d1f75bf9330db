//! What a fleet did, for people (`Display`) and for machines (serde).

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::fault::Fault;
use crate::latency::{AtHub, Latencies};
use crate::plan::Plan;
use crate::progress::{Losses, Snapshot};

/// The summary of one fleet, or of one shard of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// From the start to the end, acknowledgements at the end included.
    pub seconds: f64,
    pub devices: Devices,
    pub messages: Messages,
    /// From when a registration was due to the hub's name.
    pub provision: Option<Latency>,
    /// From when a connection was due to CONNACK.
    pub connect: Option<Latency>,
    /// From when a message was due to its PUBACK.
    pub telemetry: Option<Latency>,
    pub outages: Outages,
    /// By host name.
    pub hubs: Vec<HubRow>,
    /// By kind, the most frequent first.
    pub faults: Vec<FaultRow>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Devices {
    /// Of this shard.
    pub planned: u64,
    pub started: u64,
    pub provisioned: u64,
    /// Connected to their hub at least once.
    pub connected: u64,
    pub failed: u64,
    /// All but the renewals of tokens.
    pub reconnects: u64,
    pub renewals: u64,
    /// Connections a second, over the whole time.
    pub connects_per_second: f64,
    /// Devices that another hub was assigned to when they registered again.
    pub moved: u64,
}

/// Connections to a hub that were lost, by anything but the renewal of a token.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outages {
    /// Devices that lost their connection at least once.
    pub devices: u64,
    /// Of these, those that had none when they ended.
    pub lasting: u64,
    /// Connections lost, by cause, the most frequent first.
    pub causes: Vec<FaultRow>,
    /// From when a device noticed the loss until it was connected again, or until it ended.
    pub took: Option<Latency>,
}

/// What was measured at one hub.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HubRow {
    pub host: String,
    /// Devices whose latest connection was to this hub.
    pub devices: u64,
    pub acknowledged: u64,
    pub connect: Option<Latency>,
    pub telemetry: Option<Latency>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Messages {
    pub due: u64,
    pub sent: u64,
    pub resent: u64,
    pub acknowledged: u64,
    /// Due, and not acknowledged (QoS 1) or not sent (QoS 0) at the end.
    pub outstanding: u64,
    pub sent_per_second: f64,
    pub acknowledged_per_second: f64,
}

/// Milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Latency {
    pub count: u64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FaultRow {
    pub kind: String,
    pub count: u64,
    /// The device and the sentence of the first of them.
    pub example: String,
}

/// Faults by kind, with the first example of each. The kinds of a hostile server are bounded.
#[derive(Debug, Default)]
pub(crate) struct Faults(BTreeMap<String, (u64, String)>);

const MOST_KINDS: usize = 64;

impl Faults {
    pub(crate) fn note(&mut self, device: &str, fault: &Fault) {
        let mut kind = fault.kind.to_string();
        if self.0.len() >= MOST_KINDS && !self.0.contains_key(&kind) {
            kind = "other".into();
        }
        let entry = self.0.entry(kind);
        let row = entry.or_insert_with(|| (0, format!("{device}: {fault}")));
        row.0 += 1;
    }

    pub(crate) fn counts(&self) -> Vec<(String, u64)> {
        let counts = self
            .0
            .iter()
            .map(|(kind, (count, _))| (kind.clone(), *count));
        let mut counts: Vec<_> = counts.collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        counts
    }

    fn rows(&self) -> Vec<FaultRow> {
        let row = |(kind, (count, example)): (&String, &(u64, String))| FaultRow {
            kind: kind.clone(),
            count: *count,
            example: example.clone(),
        };
        let mut rows: Vec<_> = self.0.iter().map(row).collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.count));
        rows
    }
}

impl Report {
    pub(crate) fn new(
        plan: &Plan,
        took: Duration,
        counts: Snapshot,
        latencies: &Latencies,
        losses: &Losses,
    ) -> Self {
        let seconds = took.as_secs_f64();
        let rate = |count: u64| {
            if seconds > 0.0 {
                count as f64 / seconds
            } else {
                0.0
            }
        };
        let settled = if plan.at_least_once {
            counts.acknowledged
        } else {
            counts.sent
        };
        Self {
            seconds,
            devices: Devices {
                planned: plan.of_this_shard().count() as u64,
                started: counts.started,
                provisioned: counts.provisioned,
                connected: counts.connected,
                failed: counts.failed,
                reconnects: counts.reconnects.saturating_sub(counts.renewals),
                renewals: counts.renewals,
                connects_per_second: rate(counts.connected + counts.reconnects),
                moved: counts.moved,
            },
            messages: Messages {
                due: counts.due,
                sent: counts.sent,
                resent: counts.resent,
                acknowledged: counts.acknowledged,
                outstanding: counts.due.saturating_sub(settled),
                sent_per_second: rate(counts.sent),
                acknowledged_per_second: rate(counts.acknowledged),
            },
            provision: Latency::of(&latencies.provision),
            connect: Latency::of(&latencies.connect()),
            telemetry: Latency::of(&latencies.telemetry()),
            outages: Outages {
                devices: counts.bereft,
                lasting: counts.out,
                causes: losses.disconnections.rows(),
                took: Latency::of(&latencies.outage),
            },
            hubs: hub_rows(latencies.hubs()),
            faults: losses.faults.rows(),
        }
    }

    /// Whether something was wrong: a device that failed, never started or never connected, or a
    /// message that was due and did not come to be acknowledged. Exit code 1.
    pub fn failed(&self) -> bool {
        let missing = self.devices.connected < self.devices.planned;
        self.devices.failed > 0 || missing || self.messages.outstanding > 0
    }
}

fn hub_rows(hubs: &[AtHub]) -> Vec<HubRow> {
    let mut rows: Vec<_> = hubs
        .iter()
        .map(|hub| HubRow {
            host: hub.host.to_string(),
            devices: hub.devices,
            acknowledged: hub.telemetry.len(),
            connect: Latency::of(&hub.connect),
            telemetry: Latency::of(&hub.telemetry),
        })
        .collect();
    rows.sort_by(|one, other| one.host.cmp(&other.host));
    rows
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        (!histogram.is_empty()).then(|| Self {
            count: histogram.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 / 1000.0,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            devices, messages, ..
        } = self;
        writeln!(
            f,
            "Devices    {} planned, {} provisioned, {} connected ({:.1}/s), {} failed, {} reconnects, {} token renewals, in {:.1} s",
            devices.planned,
            devices.provisioned,
            devices.connected,
            devices.connects_per_second,
            devices.failed,
            devices.reconnects,
            devices.renewals,
            self.seconds
        )?;
        writeln!(
            f,
            "Messages   {} due, {} sent ({:.1}/s), {} acknowledged ({:.1}/s), {} resent, {} outstanding",
            messages.due,
            messages.sent,
            messages.sent_per_second,
            messages.acknowledged,
            messages.acknowledged_per_second,
            messages.resent,
            messages.outstanding
        )?;
        let measured = [
            ("Provision", &self.provision),
            ("Connect", &self.connect),
            ("Telemetry", &self.telemetry),
            ("Outage", &self.outages.took),
        ];
        for (what, latency) in measured {
            if let Some(latency) = latency {
                writeln!(
                    f,
                    "{what:<10} p50 {:.1} ms, p90 {:.1}, p99 {:.1}, p99.9 {:.1}, max {:.1}",
                    latency.p50, latency.p90, latency.p99, latency.p999, latency.max
                )?;
            }
        }
        self.outages.fmt(f)?;
        if devices.moved > 0 {
            writeln!(f, "Moved      {} devices changed their hub", devices.moved)?;
        }
        for hub in &self.hubs {
            hub.fmt(f)?;
        }
        for row in &self.faults {
            writeln!(f, "{:>8} x {}: {}", row.count, row.kind, row.example)?;
        }
        Ok(())
    }
}

impl fmt::Display for Outages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.devices == 0 {
            return Ok(());
        }
        let causes: Vec<_> = self
            .causes
            .iter()
            .map(|row| format!("{} {}", row.count, row.kind))
            .collect();
        writeln!(
            f,
            "Lost       {} devices lost their connection ({}), {} of them to the end",
            self.devices,
            causes.join(", "),
            self.lasting
        )
    }
}

impl fmt::Display for HubRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hub        {}: {} devices", self.host, self.devices)?;
        if let Some(connect) = &self.connect {
            write!(f, ", connect p50 {:.1} ms", connect.p50)?;
        }
        if let Some(telemetry) = &self.telemetry {
            write!(
                f,
                ", telemetry p50 {:.1} ms, p99 {:.1}",
                telemetry.p50, telemetry.p99
            )?;
        }
        writeln!(f, ", {} acknowledged", self.acknowledged)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::fault::FaultKind;
    use crate::latency::record;
    use crate::plan::{Credential, Who};

    const KEY: &str = "p3w2DQr9WqEGBLUSlFi1jPQ7UWQL4siAGy75HFTFbf8=";

    fn plan() -> Plan {
        let text = format!("HostName=h.net;SharedAccessKeyName=device;SharedAccessKey={KEY}");
        let name = "d{n}".into();
        let who = Who::Numbered {
            name,
            first: 1,
            count: 4,
        };
        Plan::new(who, Credential::HubPolicy(text.parse().unwrap()), None)
    }

    fn good() -> Snapshot {
        Snapshot {
            started: 4,
            connected: 4,
            reconnects: 3,
            renewals: 2,
            bereft: 1,
            out: 1,
            moved: 2,
            due: 10,
            sent: 10,
            resent: 1,
            acknowledged: 10,
            ..Snapshot::default()
        }
    }

    fn report(plan: &Plan, counts: Snapshot) -> Report {
        let mut latencies = Latencies::new();
        let ms = Duration::from_millis;
        for (host, devices, from, to) in [("west.net", 1, 51, 100), ("east.net", 3, 1, 50)] {
            let hub = latencies.find(host);
            let hub = latencies.at(hub);
            hub.devices = devices;
            (from..=to).for_each(|late| record(&mut hub.telemetry, ms(late)));
            record(&mut hub.connect, ms(to));
        }
        record(&mut latencies.outage, ms(2000));
        record(&mut latencies.outage, ms(7000));
        let mut losses = Losses::default();
        for (device, kind, sentence, disconnected) in [
            ("d1", FaultKind::Dns, "no such name", false),
            ("d2", FaultKind::HubConnack(5), "refused", false),
            ("d3", FaultKind::HubConnack(5), "refused again", false),
            ("d4", FaultKind::PingLost, "silent", true),
        ] {
            let fault = Fault::new(kind, sentence);
            losses.faults.note(device, &fault);
            if disconnected {
                losses.disconnections.note(device, &fault);
            }
        }
        Report::new(plan, ms(2000), counts, &latencies, &losses)
    }

    #[test]
    fn a_report_reads_the_same_for_people_and_for_machines() {
        let report = report(&plan(), good());
        assert_eq!(
            report.to_string(),
            "Devices    4 planned, 0 provisioned, 4 connected (3.5/s), 0 failed, 1 reconnects, 2 token renewals, in 2.0 s\n\
             Messages   10 due, 10 sent (5.0/s), 10 acknowledged (5.0/s), 1 resent, 0 outstanding\n\
             Connect    p50 50.0 ms, p90 100.0, p99 100.0, p99.9 100.0, max 100.0\n\
             Telemetry  p50 50.0 ms, p90 90.0, p99 99.0, p99.9 100.0, max 100.0\n\
             Outage     p50 2000.9 ms, p90 7000.1, p99 7000.1, p99.9 7000.1, max 7000.1\n\
             Lost       1 devices lost their connection (1 ping-lost), 1 of them to the end\n\
             Moved      2 devices changed their hub\n\
             Hub        east.net: 3 devices, connect p50 50.0 ms, telemetry p50 25.0 ms, p99 50.0, 50 acknowledged\n\
             Hub        west.net: 1 devices, connect p50 100.0 ms, telemetry p50 75.0 ms, p99 100.0, 50 acknowledged\n       \
             2 x hub-connack-5: d2: refused\n       \
             1 x dns: d1: no such name\n       \
             1 x ping-lost: d4: silent\n"
        );
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["devices"]["connectsPerSecond"], 3.5);
        assert_eq!(json["messages"]["outstanding"], 0);
        assert_eq!(json["telemetry"]["count"], 100);
        assert_eq!(json["provision"], serde_json::Value::Null);
        assert_eq!(json["faults"][0]["kind"], "hub-connack-5");
        assert_eq!(json["devices"]["moved"], 2);
        assert_eq!(json["outages"]["causes"][0]["kind"], "ping-lost");
        assert_eq!(json["outages"]["lasting"], 1);
        assert_eq!(json["hubs"][1]["host"], "west.net");
        assert_eq!(json["hubs"][1]["telemetry"]["count"], 50);
    }

    #[test]
    fn what_was_planned_and_did_not_happen_fails_the_run() {
        let at_most_once = Plan {
            at_least_once: false,
            ..plan()
        };
        for (plan, counts, failed) in [
            (plan(), good(), false),
            (
                plan(),
                Snapshot {
                    failed: 1,
                    ..good()
                },
                true,
            ),
            (
                plan(),
                Snapshot {
                    connected: 3,
                    ..good()
                },
                true,
            ),
            (
                plan(),
                Snapshot {
                    acknowledged: 9,
                    ..good()
                },
                true,
            ),
            (
                at_most_once.clone(),
                Snapshot {
                    acknowledged: 0,
                    ..good()
                },
                false,
            ),
            (at_most_once, Snapshot { sent: 9, ..good() }, true),
        ] {
            assert_eq!(report(&plan, counts).failed(), failed, "{counts:?}");
        }
    }

    #[test]
    fn kinds_of_faults_are_bounded() {
        let mut faults = Faults::default();
        for status in 0..1000 {
            faults.note("d", &Fault::new(FaultKind::ProvisioningStatus(status), "x"));
        }
        let rows = faults.rows();
        assert_eq!(rows.len(), MOST_KINDS + 1);
        assert_eq!(rows[0].kind, "other");
        assert_eq!(rows.iter().map(|row| row.count).sum::<u64>(), 1000);
    }
}
