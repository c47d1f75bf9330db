//! Fleets against a small server over real TLS.
#![allow(clippy::unwrap_used)]

mod mini;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use azimuth_clock::{Clock, SystemClock};
use azimuth_device_sim::{
    BackOff, Credential, Dps, Fleet, Observer, Plan, Report, Silent, Step, Who,
};
use mini::{Mini, Reply, answer, connack, polite, trusting};
use rumqttc::mqttbytes::v4::{ConnectReturnCode, Packet};
use tokio_util::sync::CancellationToken;

const HUB: &str = "hub.test.net";
const WEST: &str = "west.test.net";
const DPS: &str = "dps.test.net";
const KEY: &str = "p3w2DQr9WqEGBLUSlFi1jPQ7UWQL4siAGy75HFTFbf8=";

#[derive(Default)]
struct Lines(Mutex<Vec<String>>);

impl Observer for Lines {
    fn step(&self, device: &str, step: &Step) {
        self.0.lock().unwrap().push(format!("{device}: {step}"));
    }
}

async fn server(manner: impl Fn(usize, &Packet) -> Vec<Reply> + Send + Sync + 'static) -> Mini {
    Mini::start(&[HUB, WEST, DPS], Arc::new(manner)).await
}

fn quick(mut plan: Plan, server: &Mini) -> Plan {
    plan.addresses = HashMap::from([HUB, WEST, DPS].map(|host| (host.into(), server.address.ip())));
    plan.hub_port = server.address.port();
    plan.heartbeat = Some(Duration::from_millis(5));
    plan.messages = Some(5);
    plan.back_off = BackOff {
        first: Duration::from_millis(10),
        most: Duration::from_millis(50),
    };
    plan
}

/// `count` devices that a policy of the hub lets in.
fn of_policy(count: u64, server: &Mini) -> Plan {
    let text = format!("HostName={HUB};SharedAccessKeyName=device;SharedAccessKey={KEY}");
    let name = "contoso-simdevice-{n}".into();
    let credential = Credential::HubPolicy(text.parse().unwrap());
    quick(
        Plan::new(
            Who::Numbered {
                name,
                first: 1,
                count,
            },
            credential,
            None,
        ),
        server,
    )
}

fn of_group(server: &Mini) -> Plan {
    let who = Who::Named(vec!["east".into()]);
    let dps = Dps {
        host: DPS.into(),
        port: server.address.port(),
        address: None,
        id_scope: "0ne00002193".parse().unwrap(),
    };
    quick(
        Plan::new(who, Credential::GroupKey(KEY.parse().unwrap()), Some(dps)),
        server,
    )
}

async fn run(plan: Plan, server: &Mini, observer: Arc<dyn Observer>) -> Report {
    run_until(CancellationToken::new(), plan, server, observer).await
}

async fn run_until(
    stop: CancellationToken,
    plan: Plan,
    server: &Mini,
    observer: Arc<dyn Observer>,
) -> Report {
    let tls = trusting(std::slice::from_ref(&server.certificate));
    let fleet = Fleet::new(plan, tls, Arc::new(SystemClock), observer).unwrap();
    tokio::time::timeout(Duration::from_secs(30), fleet.run(stop))
        .await
        .unwrap()
}

fn assigned(hub: &str) -> String {
    format!(
        r#"{{"operationId":"o","status":"assigned","registrationState":{{"assignedHub":"{hub}","deviceId":"east-1"}}}}"#
    )
}

#[tokio::test]
async fn a_device_registers_connects_and_sends_as_the_c_sample_prints_it() {
    let server = server(|_, packet| match packet {
        Packet::Publish(ask) if ask.topic.starts_with("$dps/registrations/PUT/") => answer(
            ask,
            202,
            "&retry-after=1",
            r#"{"operationId":"o","status":"assigning"}"#,
        ),
        Packet::Publish(ask) if ask.topic.starts_with("$dps/") => {
            assert!(ask.topic.ends_with("&operationId=o"));
            answer(ask, 200, "", &assigned(HUB))
        }
        other => polite(other),
    })
    .await;
    let lines = Arc::new(Lines::default());
    let report = run(of_group(&server), &server, lines.clone()).await;
    assert!(!report.failed(), "{report}");
    let lines = lines.0.lock().unwrap().join("\n");
    assert_eq!(
        lines,
        "east: Registering Device\n\
         east: Provisioning Status: PROV_DEVICE_REG_STATUS_CONNECTED\n\
         east: Provisioning Status: PROV_DEVICE_REG_STATUS_ASSIGNING\n\
         east: Registration Information received from service: hub.test.net, deviceId: east-1\n\
         east: Connected to hub.test.net\n\
         east: First message acknowledged\n\
         east: Disconnected"
    );
    assert_eq!((report.messages.due, report.messages.acknowledged), (5, 5));
    // The wait that the DPS asked for was obeyed.
    assert!(report.provision.unwrap().p50 >= 1000.0);
    let seen = server.seen();
    let hello = |number| match seen.iter().find(|(n, _)| *n == number) {
        Some((_, Packet::Connect(connect))) => connect.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(hello(1).client_id, "east");
    assert_eq!(hello(2).client_id, "east-1");
    assert!(
        hello(2)
            .login
            .unwrap()
            .username
            .starts_with("hub.test.net/east-1/?api-version=")
    );
    assert_eq!(
        seen.iter()
            .filter(|(_, p)| *p == Packet::Disconnect)
            .count(),
        2
    );
}

#[tokio::test]
async fn what_was_not_acknowledged_is_sent_again_marked_and_counts_once() {
    let server = server(|connection, packet| match packet {
        // Nothing is acknowledged, and the third message costs the line.
        Packet::Publish(publish) if connection == 1 && publish.pkid == 3 => vec![Reply::Kill],
        Packet::Publish(_) if connection == 1 => vec![],
        // Acknowledged twice: the second time must not count.
        Packet::Publish(_) => [polite(packet), polite(packet)]
            .into_iter()
            .flatten()
            .collect(),
        other => polite(other),
    })
    .await;
    let report = run(of_policy(1, &server), &server, Arc::new(Silent)).await;
    assert!(!report.failed(), "{report}");
    assert_eq!((report.messages.sent, report.messages.acknowledged), (5, 5));
    assert!(report.messages.resent >= 3, "{report}");
    assert_eq!((report.devices.reconnects, report.devices.renewals), (1, 0));
    let mut bodies = BTreeMap::<u16, Vec<_>>::new();
    for (connection, packet) in server.seen() {
        if let Packet::Publish(publish) = packet {
            assert_eq!(
                publish.dup,
                connection == 2 && bodies.contains_key(&publish.pkid)
            );
            bodies
                .entry(publish.pkid)
                .or_default()
                .push(publish.payload);
        }
    }
    assert_eq!(bodies.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert!(
        bodies
            .values()
            .all(|same| same.iter().all(|body| *body == same[0]))
    );
    let cause = &report.outages.causes[0];
    assert!(["cut", "reset"].contains(&&*cause.kind), "{report}");
    assert_eq!((report.outages.devices, report.outages.lasting), (1, 0));
    assert_eq!(report.outages.took.as_ref().map(|took| took.count), Some(1));
}

#[tokio::test]
async fn a_device_leaves_and_comes_back_before_its_token_ends() {
    let server = server(|_, packet| polite(packet)).await;
    let mut plan = of_policy(1, &server);
    plan.token_life = Duration::from_secs(2);
    plan.heartbeat = Some(Duration::from_millis(400));
    plan.jitter = 0.0;
    plan.messages = Some(6);
    let report = run(plan, &server, Arc::new(Silent)).await;
    assert!(!report.failed(), "{report}");
    assert_eq!((report.devices.renewals, report.devices.reconnects), (1, 0));
    let seen = server.seen();
    let of_first = seen.iter().filter(|(connection, _)| *connection == 1);
    assert_eq!(of_first.last().unwrap().1, Packet::Disconnect);
    let tokens = seen.iter().filter_map(|(_, packet)| match packet {
        Packet::Connect(connect) => Some(connect.login.clone().unwrap().password),
        _ => None,
    });
    let tokens = tokens.collect::<Vec<_>>();
    assert_eq!(tokens.len(), 2);
    assert_ne!(tokens[0], tokens[1]);
}

#[tokio::test]
async fn many_devices_share_a_thread_and_are_split_by_shards() {
    let server = server(|_, packet| polite(packet)).await;
    let mut connected = 0;
    for index in 0..2 {
        let mut plan = of_policy(101, &server);
        plan.shard = azimuth_device_sim::Shard { index, of: 2 };
        plan.sources = "127.0.7.0/24".parse().unwrap();
        plan.subscribe = true;
        let report = run(plan, &server, Arc::new(Silent)).await;
        assert!(!report.failed(), "{report}");
        assert_eq!(report.messages.acknowledged, 5 * report.devices.connected);
        connected += report.devices.connected;
    }
    assert_eq!(connected, 101);
}

#[tokio::test]
async fn faults_are_told_by_kind_with_name_address_and_remedy() {
    let server = server(|_, packet| match packet {
        Packet::Publish(ask) if ask.topic.starts_with("$dps/") => answer(
            ask,
            401,
            "",
            r#"{"errorCode":401002,"message":"Unauthorized"}"#,
        ),
        Packet::Connect(connect) if connect.client_id.starts_with("contoso") => {
            connack(ConnectReturnCode::NotAuthorized)
        }
        other => polite(other),
    })
    .await;
    let (stranger, _) = mini::identity(&[HUB]);
    let good = || trusting(std::slice::from_ref(&server.certificate));
    let mut refused = of_policy(1, &server);
    refused.hub_port = 1;
    let mut nameless = of_policy(1, &server);
    nameless.addresses.clear();
    let mut misnamed = of_group(&server);
    misnamed.provisioning.as_mut().unwrap().host = "other.test.net".into();
    misnamed.provisioning.as_mut().unwrap().address = Some(server.address.ip());
    let rows = [
        (
            of_policy(1, &server),
            good(),
            "hub-connack-5",
            "unknown or disabled",
        ),
        (
            of_group(&server),
            good(),
            "provisioning-401",
            "401002: Unauthorized",
        ),
        (
            of_policy(1, &server),
            trusting(&[stranger]),
            "tls-untrusted",
            "CA file",
        ),
        (misnamed, good(), "tls-name", "other.test.net"),
        (
            refused,
            good(),
            "connect-refused",
            "hub.test.net (127.0.0.1:1)",
        ),
        (nameless, good(), "dns", "hub.test.net"),
    ];
    for (mut plan, tls, kind, words) in rows {
        plan.give_up_after = Some(2);
        let fleet = Fleet::new(plan, tls, Arc::new(SystemClock), Arc::new(Silent)).unwrap();
        let report = fleet.run(CancellationToken::new()).await;
        assert!(report.failed());
        let row = &report.faults[0];
        assert_eq!(row.kind, kind, "{report}");
        assert!(row.example.contains(words), "{report}");
        assert!(!report.to_string().contains("SharedAccessSignature"));
    }
}

#[tokio::test]
async fn a_stopped_fleet_says_goodbye() {
    let server = server(|_, packet| polite(packet)).await;
    let mut plan = of_policy(3, &server);
    plan.messages = None;
    plan.duration = Some(Duration::from_millis(300));
    let report = run(plan, &server, Arc::new(Silent)).await;
    assert!(!report.failed(), "{report}");
    assert!(report.messages.acknowledged > 3);
    let goodbyes = server
        .seen()
        .iter()
        .filter(|(_, p)| *p == Packet::Disconnect)
        .count();
    assert_eq!(goodbyes, 3);
}

#[tokio::test]
async fn a_hub_killed_at_the_end_still_gets_every_message() {
    for by_signal in [true, false] {
        let duration = Duration::from_millis(1500);
        let begin = SystemClock.now();
        let stop = CancellationToken::new();
        let told = stop.clone();
        let (published, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let acknowledged = Arc::<Mutex<BTreeMap<String, Vec<u16>>>>::default();
        let noted = acknowledged.clone();
        let server = server(move |_, packet| {
            let died = published.load(SeqCst) >= 60;
            let back = if by_signal {
                refused.load(SeqCst) >= 9
            } else {
                SystemClock.now() > begin + duration + Duration::from_millis(100)
            };
            match packet {
                Packet::Connect(_) if died && !back => {
                    if refused.fetch_add(1, SeqCst) == 2 && by_signal {
                        told.cancel();
                    }
                    vec![Reply::Kill]
                }
                Packet::Publish(_) if died && !back => vec![Reply::Kill],
                Packet::Publish(publish) => {
                    // Every third loses its way back.
                    if published.fetch_add(1, SeqCst) % 3 == 2 && !back {
                        return vec![];
                    }
                    let device = publish.topic.split('/').nth(1).unwrap().into();
                    let mut noted = noted.lock().unwrap();
                    noted
                        .entry(device)
                        .or_insert_with(Vec::new)
                        .push(publish.pkid - 1);
                    polite(packet)
                }
                other => polite(other),
            }
        })
        .await;
        let mut plan = of_policy(3, &server);
        plan.messages = None;
        plan.in_flight = 1000;
        plan.duration = (!by_signal).then_some(duration);
        let report = run_until(stop, plan, &server, Arc::new(Silent)).await;
        assert!(!report.failed(), "{report}");
        assert!(report.messages.resent > 0, "{report}");
        assert_eq!(report.messages.outstanding, 0);
        assert_eq!((report.outages.devices, report.outages.lasting), (3, 0));
        assert!(report.outages.took.as_ref().unwrap().count >= 3);
        let mut acknowledged = acknowledged.lock().unwrap().clone();
        assert_eq!(acknowledged.len(), 3);
        let mut all = 0;
        for numbers in acknowledged.values_mut() {
            numbers.sort_unstable();
            numbers.dedup();
            let expected: Vec<_> = (0..numbers.len() as u16).collect();
            assert_eq!(*numbers, expected);
            all += numbers.len() as u64;
        }
        assert_eq!(
            (report.messages.due, report.messages.acknowledged),
            (all, all)
        );
        assert_eq!(report.hubs[0].acknowledged, all);
    }
}

#[tokio::test]
async fn a_fleet_with_nothing_outstanding_stops_within_a_second() {
    let stop = CancellationToken::new();
    let (told, when) = (stop.clone(), Arc::<Mutex<Option<Instant>>>::default());
    let (seen, noted) = (AtomicUsize::new(0), when.clone());
    let server = server(move |_, packet| {
        if matches!(packet, Packet::Publish(_)) && seen.fetch_add(1, SeqCst) == 60 {
            *noted.lock().unwrap() = Some(SystemClock.now());
            told.cancel();
        }
        polite(packet)
    })
    .await;
    let mut plan = of_policy(3, &server);
    plan.messages = None;
    let report = run_until(stop, plan, &server, Arc::new(Silent)).await;
    let told = when.lock().unwrap().unwrap();
    let took = SystemClock.now().duration_since(told);
    assert!(!report.failed(), "{report}");
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn a_stopped_fleet_does_not_wait_for_ever_for_a_hub_that_is_gone() {
    let stop = CancellationToken::new();
    let (told, refused) = (stop.clone(), AtomicUsize::new(0));
    let server = server(move |connection, packet| match packet {
        Packet::Connect(_) if connection > 1 => {
            if refused.fetch_add(1, SeqCst) == 3 {
                told.cancel();
            }
            vec![Reply::Kill]
        }
        Packet::Publish(_) => vec![Reply::Kill],
        other => polite(other),
    })
    .await;
    let mut plan = of_policy(1, &server);
    plan.messages = None;
    plan.drain_when_stopped = Duration::from_millis(200);
    let report = run_until(stop, plan, &server, Arc::new(Silent)).await;
    assert!(report.failed() && report.messages.outstanding > 0);
    assert_eq!((report.outages.devices, report.outages.lasting), (1, 1));
    // It went on trying until the end.
    assert!(later_connects(&server) > 4, "{report}");
}

fn later_connects(server: &Mini) -> usize {
    let seen = server.seen();
    let connects = seen.iter().filter(|(_, p)| matches!(p, Packet::Connect(_)));
    connects.count() - 1
}

#[tokio::test]
async fn a_device_that_gets_another_hub_is_counted_at_both() {
    let (registered, visits) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let server = server(move |_, packet| match packet {
        Packet::Publish(ask) if ask.topic.starts_with("$dps/") => {
            let hub = [HUB, WEST][registered.fetch_add(1, SeqCst)];
            answer(ask, 200, "", &assigned(hub))
        }
        Packet::Connect(connect) if connect.login.clone().unwrap().username.starts_with(HUB) => {
            match visits.fetch_add(1, SeqCst) {
                0 => polite(packet),
                _ => connack(ConnectReturnCode::NotAuthorized),
            }
        }
        // The second message costs the line.
        Packet::Publish(publish) if publish.pkid == 2 && visits.load(SeqCst) == 1 => {
            vec![Reply::Kill]
        }
        other => polite(other),
    })
    .await;
    let plan = Plan {
        in_flight: 1,
        ..of_group(&server)
    };
    let report = run(plan, &server, Arc::new(Silent)).await;
    assert!(!report.failed(), "{report}");
    assert_eq!((report.devices.provisioned, report.devices.moved), (2, 1));
    let rows: Vec<_> = report
        .hubs
        .iter()
        .map(|row| (&*row.host, row.devices, row.acknowledged))
        .collect();
    assert_eq!(rows, [(HUB, 0, 1), (WEST, 1, 4)]);
    assert_eq!(report.outages.devices, 1, "{report}");
}
