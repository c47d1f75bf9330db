#![allow(clippy::unwrap_used, clippy::disallowed_methods)]
//! The life of one device in made-up time.

use std::collections::BTreeSet;

use azimuth_wire::SymmetricKey;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{
    ConnAck, ConnectReturnCode, PubAck, Publish, SubAck, SubscribeReasonCode,
};

use super::*;
use crate::plan::{BackOff, Credential, Dps, Who};

const KEY: &str = "p3w2DQr9WqEGBLUSlFi1jPQ7UWQL4siAGy75HFTFbf8=";
const HUB: &str = "h.azure-devices.net";

/// A device and the time; `tell` gives what happened and returns what the device does, in words.
struct Bench {
    device: Device,
    start: Instant,
    /// Milliseconds since the start.
    at: u64,
}

impl Bench {
    fn new(plan: Plan) -> Self {
        let start = Instant::now();
        let device = Device::new(Arc::new(plan), 0, start).unwrap();
        let at = 0;
        Self { device, start, at }
    }

    fn now(&self) -> Now {
        Now {
            at: self.start + Duration::from_millis(self.at),
            unix: 1_000_000 + self.at / 1000,
        }
    }

    fn tell(&mut self, happen: impl FnOnce(&mut Device, Now)) -> Vec<String> {
        let now = self.now();
        happen(&mut self.device, now);
        std::iter::from_fn(|| self.device.poll())
            .map(words)
            .collect()
    }

    fn time(&mut self, at: u64) -> Vec<String> {
        self.at = at;
        self.tell(Device::handle_timeout)
    }

    fn packet(&mut self, packet: Packet) -> Vec<String> {
        self.tell(|device, now| device.handle_packet(packet, now))
    }

    fn lost(&mut self) -> Vec<String> {
        self.tell(|device, now| device.handle_lost(Fault::new(FaultKind::Closed, "gone"), now))
    }

    /// Tells the device to stop and to be gone at the millisecond `by`.
    fn stop(&mut self, by: u64) -> Vec<String> {
        let by = self.start + Duration::from_millis(by);
        self.tell(|device, now| device.handle_stop(by, now))
    }

    fn connack(&mut self, code: ConnectReturnCode) -> Vec<String> {
        self.tell(Device::handle_line);
        self.packet(Packet::ConnAck(ConnAck::new(code, false)))
    }

    /// Milliseconds since the start.
    fn deadline(&self) -> Option<u64> {
        let by = self.device.deadline()?;
        Some(by.duration_since(self.start).as_millis() as u64)
    }

    /// Registers until an answer is awaited.
    fn register(&mut self) {
        self.time(self.at);
        self.connack(ConnectReturnCode::Success);
        let granted = vec![SubscribeReasonCode::Success(QoS::AtLeastOnce)];
        let done = self.packet(Packet::SubAck(SubAck::new(1, granted)));
        assert_eq!(
            done.last().unwrap(),
            "PUBLISH $dps/registrations/PUT/iotdps-register/?$rid=1"
        );
    }

    fn answer(&mut self, topic: &str, body: &str) -> Vec<String> {
        let topic = format!("$dps/registrations/res/{topic}");
        self.packet(Packet::Publish(Publish::new(topic, QoS::AtMostOnce, body)))
    }
}

fn words(output: Output) -> String {
    match output {
        Output::Dial(Endpoint::Dps | Endpoint::DpsHttps) => "dial dps".into(),
        Output::Ask(request) => format!("{request:?}"),
        Output::Dial(Endpoint::Hub(hub)) => format!("dial {hub}"),
        Output::Hang => "hang".into(),
        Output::Count(count) => format!("{count:?}"),
        Output::Step(Step::BackingOff { wait, tries }) => {
            format!("back off {} ms after {tries}", wait.as_millis())
        }
        Output::Step(Step::Lost { fault, .. }) => format!("lost {}", fault.kind),
        Output::Step(Step::Failed { fault, .. }) => format!("failed {}", fault.kind),
        Output::Step(step) => step.to_string(),
        Output::Send(Packet::Publish(publish)) if publish.topic.starts_with('$') => {
            format!("PUBLISH {}", publish.topic)
        }
        Output::Send(Packet::Publish(publish)) => {
            let again = if publish.dup { " dup" } else { "" };
            format!("PUBLISH {}{again}", publish.pkid)
        }
        Output::Send(Packet::Connect(connect)) => format!("CONNECT {}", connect.client_id),
        Output::Send(packet) => format!("{packet:?}"),
    }
}

fn of_policy() -> Plan {
    let text = format!("HostName={HUB};SharedAccessKeyName=device;SharedAccessKey={KEY}");
    let who = Who::Named(vec!["d".into()]);
    let mut plan = Plan::new(who, Credential::HubPolicy(text.parse().unwrap()), None);
    plan.heartbeat = Some(Duration::from_millis(100));
    plan.jitter = 0.0;
    plan.back_off = BackOff {
        first: Duration::from_secs(1),
        most: Duration::from_secs(8),
    };
    plan
}

fn of_group() -> Plan {
    let key: SymmetricKey = KEY.parse().unwrap();
    let dps = Dps {
        host: "dps.test.net".into(),
        port: 8883,
        address: None,
        id_scope: "0ne00002193".parse().unwrap(),
    };
    Plan {
        credential: Credential::GroupKey(key),
        provisioning: Some(dps),
        ..of_policy()
    }
}

fn online(plan: Plan) -> Bench {
    let mut bench = Bench::new(plan);
    assert_eq!(bench.time(0), [format!("dial {HUB}")]);
    let done = bench.connack(ConnectReturnCode::Success);
    assert_eq!(done[0], format!("Connected to {HUB}"));
    bench
}

fn puback(packet_id: u16) -> Packet {
    Packet::PubAck(PubAck::new(packet_id))
}

#[test]
fn heartbeats_are_due_on_the_beat_and_late_ones_count_from_when_they_were_due() {
    let mut bench = online(Plan {
        in_flight: 1,
        ..of_policy()
    });
    assert_eq!(bench.deadline(), Some(100));
    // The server is slow: two more become due while message 1 waits; none goes out.
    assert_eq!(bench.time(250), ["Due(2)"]);
    let done = bench.packet(puback(1));
    assert_eq!(
        done,
        [
            "Acknowledged(250ms)",
            "First message acknowledged",
            "PUBLISH 2",
            "Sent"
        ]
    );
    bench.at = 260;
    // Due at 100, acknowledged at 260.
    assert_eq!(bench.packet(puback(2))[0], "Acknowledged(160ms)");
    assert!(
        bench.packet(puback(2)).is_empty(),
        "a second PUBACK is for nothing"
    );
}

#[test]
fn what_waits_goes_out_again_under_its_id_and_what_became_due_follows() {
    let mut bench = online(of_policy());
    bench.time(100);
    assert_eq!(bench.packet(puback(1))[0], "Acknowledged(100ms)");
    let lost = bench.lost();
    assert_eq!(lost[0], "lost closed");
    let until = bench.deadline().unwrap();
    assert_eq!(until, 200, "messages become due while the line is down");
    assert_eq!(bench.time(1100), ["Due(10)", &format!("dial {HUB}")]);
    let done = bench.connack(ConnectReturnCode::Success);
    let outage = "Outage { took: 1s, over: true }";
    assert_eq!(done[1..5], [outage, "PUBLISH 2 dup", "Resent", "PUBLISH 3"]);
    assert_eq!(done.last().unwrap(), "Sent");
}

#[test]
fn waits_double_up_to_the_longest_and_begin_anew_after_a_connect() {
    let mut bench = Bench::new(of_policy());
    bench.time(0);
    for (tries, from, to) in [
        (1, 500, 1000),
        (2, 1000, 2000),
        (3, 2000, 4000),
        (4, 4000, 8000),
        (5, 4000, 8000),
    ] {
        let lost = bench.lost();
        let text = lost.last().unwrap();
        let wait = bench.deadline().unwrap() - bench.at;
        assert_eq!(*text, format!("back off {wait} ms after {tries}"));
        assert!((from..=to).contains(&wait), "{text}");
        assert!(bench.time(bench.at + wait - 1).is_empty());
        assert_eq!(bench.time(bench.at + 2), [format!("dial {HUB}")]);
    }
    bench.connack(ConnectReturnCode::Success);
    assert!(bench.lost().last().unwrap().ends_with("after 1"));
}

#[test]
fn the_same_seed_gives_the_same_schedule_and_another_seed_another() {
    let schedule = |seed, first| {
        let name = "d{n}".into();
        let count = 1;
        let mut bench = online(Plan {
            who: Who::Numbered { name, first, count },
            seed,
            jitter: 1.0,
            ..of_policy()
        });
        let mut times = Vec::new();
        for _ in 0..20 {
            let due = bench.device.deadline().unwrap().duration_since(bench.start);
            times.push(due);
            bench.at = due.as_millis() as u64 + 1;
            bench.tell(Device::handle_timeout);
        }
        times
    };
    assert_eq!(schedule(1, 1), schedule(1, 1));
    assert_ne!(schedule(1, 1), schedule(2, 1));
    assert_ne!(schedule(1, 1), schedule(1, 2), "slots are out of step");
    // Each in its own interval, so none overtakes another.
    assert_eq!(schedule(1, 1).iter().collect::<BTreeSet<_>>().len(), 20);
}

#[test]
fn a_token_is_renewed_at_85_percent_of_its_life() {
    let mut bench = online(Plan {
        heartbeat: None,
        keep_alive: Duration::from_secs(65_535),
        ..of_policy()
    });
    assert_eq!(bench.deadline(), Some(3_060_000));
    assert!(bench.time(3_059_999).is_empty());
    let done = bench.time(3_060_000);
    let renewing = Step::Renewing.to_string();
    assert_eq!(
        done,
        [
            renewing.as_str(),
            "Disconnect",
            "hang",
            &format!("dial {HUB}")
        ]
    );
}

#[test]
fn silence_is_broken_by_a_ping_and_a_ping_without_answer_is_a_loss() {
    for (keep_alive, patience) in [
        (240_000, 30_000),
        (60_000, 30_000),
        (5000, 2500),
        (1000, 500),
    ] {
        let mut bench = online(Plan {
            heartbeat: None,
            keep_alive: Duration::from_millis(keep_alive),
            ..of_policy()
        });
        let silence = keep_alive * 3 / 4;
        assert_eq!(bench.deadline(), Some(silence));
        assert_eq!(bench.time(silence), ["PingReq"]);
        bench.packet(Packet::PingResp);
        assert_eq!(bench.deadline(), Some(2 * silence));
        assert_eq!(bench.time(2 * silence), ["PingReq"]);
        assert_eq!(bench.deadline(), Some(2 * silence + patience));
        let lost = bench.time(2 * silence + patience);
        assert_eq!(lost[..2], ["hang", "lost ping-lost"]);
    }
}

#[test]
fn a_hub_that_is_not_heard_is_pinged_though_messages_go_out() {
    for at_least_once in [true, false] {
        let mut bench = online(Plan {
            heartbeat: Some(Duration::from_secs(1)),
            keep_alive: Duration::from_secs(8),
            at_least_once,
            ..of_policy()
        });
        // Messages leave for a network that is cut.
        for second in 1..6 {
            assert_eq!(bench.time(second * 1000).last().unwrap(), "Sent");
        }
        assert!(bench.time(6000).contains(&"PingReq".to_owned()));
        // An answer to something else is none to the ping.
        bench.packet(puback(1));
        assert!(!bench.time(9999).contains(&"lost ping-lost".to_owned()));
        let lost = bench.time(10_000);
        assert!(lost.contains(&"lost ping-lost".to_owned()), "{lost:?}");
        assert!(bench.device.deadline().is_some(), "it tries again");
    }
}

#[test]
fn a_registration_obeys_retry_after_and_asks_again_on_the_same_line() {
    let assigning = r#"{"operationId":"op","status":"assigning"}"#;
    let poll = "PUBLISH $dps/registrations/GET/iotdps-get-operationstatus/?$rid=2&operationId=op";
    let register = "PUBLISH $dps/registrations/PUT/iotdps-register/?$rid=2";
    for (topic, body, wait, then) in [
        ("202/?$rid=1&retry-after=3", assigning, 3, poll),
        ("202/?$rid=1", assigning, 1, poll),
        ("429/?$rid=1&retry-after=7", "", 7, register),
    ] {
        let mut bench = Bench::new(of_group());
        bench.register();
        bench.answer(topic, body);
        assert_eq!(bench.deadline(), Some(wait * 1000), "{topic}");
        assert!(bench.time(wait * 1000 - 1).is_empty());
        assert_eq!(bench.time(wait * 1000), [then]);
    }
}

#[test]
fn a_wait_the_dps_asked_for_outlives_the_line() {
    let mut bench = Bench::new(of_group());
    bench.register();
    bench.answer("429/?$rid=1&retry-after=30", "");
    bench.lost();
    assert_eq!(bench.deadline(), Some(30_000));
}

#[test]
fn what_the_dps_refuses_for_good_ends_the_device() {
    for (topic, body, kind) in [
        (
            "401/?$rid=1",
            r#"{"errorCode":401002}"#,
            "failed provisioning-401",
        ),
        (
            "200/?$rid=1",
            r#"{"status":"disabled"}"#,
            "failed provisioning-disabled",
        ),
        (
            "200/?$rid=1",
            r#"{"status":"failed"}"#,
            "failed provisioning-failed",
        ),
    ] {
        let mut bench = Bench::new(of_group());
        bench.register();
        let done = bench.answer(topic, body);
        assert_eq!(done, ["Disconnect", "hang", kind]);
        assert!(bench.device.over());
        assert_eq!(bench.deadline(), None);
    }
    let mut bench = Bench::new(of_group());
    bench.register();
    assert!(
        bench.answer("401/?$rid=9", "").is_empty(),
        "another request's answer"
    );
}

#[test]
fn a_hub_that_keeps_refusing_sends_the_device_back_to_the_dps() {
    let mut bench = Bench::new(of_group());
    bench.register();
    let body = format!(
        r#"{{"status":"assigned","registrationState":{{"assignedHub":"{HUB}","deviceId":"d"}}}}"#
    );
    let done = bench.answer("200/?$rid=1", &body);
    assert_eq!(done[1..], ["Disconnect", "hang", &format!("dial {HUB}")]);
    for refusal in 1..=3 {
        let done = bench.connack(ConnectReturnCode::NotAuthorized);
        assert_eq!(done[..2], ["hang", "lost hub-connack-5"]);
        let anew = done.contains(&Step::Reprovisioning.to_string());
        assert_eq!(anew, refusal == 3);
        let at = bench.deadline().unwrap() + 1;
        let expected = if anew {
            "dial dps".into()
        } else {
            format!("dial {HUB}")
        };
        assert_eq!(*bench.time(at).last().unwrap(), expected);
    }
}

#[test]
fn a_plan_may_say_when_to_give_up() {
    let mut bench = Bench::new(Plan {
        give_up_after: Some(2),
        ..of_policy()
    });
    bench.time(0);
    assert!(!bench.lost().is_empty());
    bench.time(10_000);
    assert_eq!(bench.lost(), ["failed closed"]);
    assert!(bench.device.over());
}

#[test]
fn a_stopped_device_waits_for_what_is_under_way_but_not_for_ever() {
    for acknowledged in [true, false] {
        let mut bench = online(of_policy());
        assert!(bench.stop(5000).is_empty());
        assert_eq!(bench.deadline(), Some(5000));
        assert!(bench.time(4999).is_empty(), "no message becomes due");
        let done = if acknowledged {
            bench.packet(puback(1))
        } else {
            bench.time(5000)
        };
        assert_eq!(
            done[done.len() - 3..],
            ["Disconnect", "hang", "Disconnected"]
        );
        assert!(bench.device.over());
    }
    // A device that was never connected has nothing to wait for.
    let mut bench = Bench::new(of_policy());
    bench.time(0);
    assert_eq!(bench.stop(5000), ["hang", "Disconnected"]);
}

#[test]
fn a_device_that_is_stopped_without_its_hub_comes_back_with_what_is_due() {
    let mut bench = online(of_policy());
    bench.time(100);
    bench.packet(puback(1));
    // So many tries that the next would be beyond the end.
    for _ in 0..6 {
        bench.lost();
        bench.time(bench.at + 10_000);
    }
    bench.lost();
    let before = bench.deadline().unwrap();
    let told = bench.at;
    assert_eq!(bench.stop(told + 30_000), Vec::<String>::new());
    let soon = bench.deadline().unwrap();
    assert!(soon <= told + 1000, "{soon}, {told}, {before}");
    assert_eq!(bench.time(soon + 1), [format!("dial {HUB}")]);
    for _ in 0..4 {
        bench.lost();
        let wait = bench.deadline().unwrap() - bench.at;
        assert!(wait <= 4000, "{wait}");
        assert_eq!(bench.time(bench.at + wait + 1), [format!("dial {HUB}")]);
    }
    let done = bench.connack(ConnectReturnCode::Success);
    assert!(done.contains(&"PUBLISH 2 dup".to_owned()), "{done:?}");
    assert!(!bench.device.over());
    // Everything that was due before the stop goes out, window by window; nothing after it.
    let due = told / 100 + 1;
    let last = (2..=due as u16).flat_map(|id| bench.packet(puback(id)));
    let last: Vec<_> = last.collect();
    assert_eq!(last.last().unwrap(), "Disconnected");
    assert!(bench.device.over());
}

#[test]
fn a_stop_has_an_end_and_may_be_hastened() {
    let mut bench = online(of_policy());
    bench.lost();
    bench.stop(30_000);
    bench.at = 10_000;
    bench.stop(15_000);
    bench.stop(40_000);
    assert_eq!(bench.time(14_999), [format!("dial {HUB}")]);
    assert_eq!(bench.deadline(), Some(15_000));
    let outage = "Outage { took: 15s, over: false }";
    assert_eq!(bench.time(15_000), ["hang", "Disconnected", outage]);
    assert!(bench.device.over());
}

#[test]
fn a_device_is_done_when_its_messages_are_acknowledged_or_sent_at_most_once() {
    let mut bench = online(Plan {
        messages: Some(1),
        ..of_policy()
    });
    assert_eq!(
        bench.packet(puback(1))[2..],
        ["Disconnect", "hang", "Disconnected"]
    );
    let mut bench = Bench::new(Plan {
        messages: Some(1),
        at_least_once: false,
        ..of_policy()
    });
    bench.time(0);
    let done = bench.connack(ConnectReturnCode::Success);
    assert_eq!(
        done[1..],
        [
            "Due(1)",
            "PUBLISH 0",
            "Sent",
            "Disconnect",
            "hang",
            "Disconnected"
        ]
    );
}

#[test]
fn a_subscribed_device_answers_methods_and_acknowledges_messages() {
    let mut bench = Bench::new(Plan {
        subscribe: true,
        heartbeat: None,
        ..of_policy()
    });
    bench.time(0);
    let done = bench.connack(ConnectReturnCode::Success);
    assert!(done[1].contains("Subscribe"), "{done:?}");
    let method = Publish::new("$iothub/methods/POST/reboot/?$rid=a", QoS::AtMostOnce, "{}");
    assert_eq!(
        bench.packet(Packet::Publish(method)),
        ["PUBLISH $iothub/methods/res/200/?$rid=a"]
    );
    let topic = "devices/d/messages/devicebound/%24.to=x";
    let mut message = Publish::new(topic, QoS::AtLeastOnce, "hi");
    message.pkid = 9;
    assert_eq!(
        bench.packet(Packet::Publish(message)),
        ["PubAck(PubAck { pkid: 9 })"]
    );
}
