#![allow(clippy::unwrap_used)]
//! What a plan refuses, and how it says so.

use super::*;

const KEY: &str = "p3w2DQr9WqEGBLUSlFi1jPQ7UWQL4siAGy75HFTFbf8=";

fn string(text: &str) -> ConnectionString {
    format!("HostName=h.net;SharedAccessKey={KEY};{text}")
        .parse()
        .unwrap()
}

fn group() -> Plan {
    let name = "contoso-simdevice-{n}".into();
    let dps = Dps {
        host: "dps.test.net".into(),
        port: 8883,
        address: None,
        id_scope: "0ne00002193".parse().unwrap(),
    };
    let credential = Credential::GroupKey(KEY.parse().unwrap());
    Plan::new(
        Who::Numbered {
            name,
            first: 1,
            count: 3,
        },
        credential,
        Some(dps),
    )
}

fn named(names: &[&str]) -> Who {
    Who::Named(names.iter().map(|name| name.to_string()).collect())
}

#[test]
fn a_sound_plan_passes() {
    let device = string("DeviceId=d");
    for plan in [
        group(),
        Plan::new(named(&["d"]), Credential::ConnectionString(device), None),
        Plan::new(
            named(&["d", "D"]),
            Credential::HubPolicy(string("SharedAccessKeyName=device")),
            None,
        ),
    ] {
        assert_eq!(plan.check(), Ok(()));
    }
}

#[test]
fn what_cannot_work_is_refused_with_a_sentence() {
    let change = |change: &dyn Fn(&mut Plan)| {
        let mut plan = group();
        change(&mut plan);
        plan
    };
    let one = |credential| Plan::new(named(&["d"]), credential, None);
    for (plan, words) in [
        (change(&|p| p.who = named(&[])), "no devices"),
        (
            change(&|p| {
                p.who = Who::Numbered {
                    name: "x{n}".into(),
                    first: 1,
                    count: 0,
                }
            }),
            "no devices",
        ),
        (
            change(&|p| {
                p.who = Who::Numbered {
                    name: "x".into(),
                    first: 1,
                    count: 2,
                }
            }),
            "no `{n}`",
        ),
        (
            change(&|p| {
                p.who = Who::Numbered {
                    name: "x{n}".into(),
                    first: u64::MAX,
                    count: 2,
                }
            }),
            "first device",
        ),
        (change(&|p| p.who = named(&["a/b"])), "registration id"),
        (change(&|p| p.who = named(&["a", "A"])), "`A` stands twice"),
        (change(&|p| p.provisioning = None), "group key needs a DPS"),
        (
            one(Credential::Certificates(Vec::new())),
            "certificate needs a DPS",
        ),
        (
            change(&|p| p.credential = Credential::Certificates(Vec::new())),
            "3 devices with 0 certificates",
        ),
        (
            change(&|p| p.provisioning.as_mut().unwrap().host = "a b".into()),
            "not a host name",
        ),
        (
            change(&|p| p.credential = Credential::HubPolicy(string("SharedAccessKeyName=x"))),
            "leave the DPS out",
        ),
        (
            one(Credential::ConnectionString(string(
                "SharedAccessKeyName=x",
            ))),
            "no device id",
        ),
        (
            one(Credential::ConnectionString(string(
                "DeviceId=d;ModuleId=m",
            ))),
            "module `m`",
        ),
        (
            one(Credential::ConnectionString(string("DeviceId=e"))),
            "only `e`",
        ),
        (
            one(Credential::HubPolicy(string("DeviceId=d"))),
            "SharedAccessKeyName",
        ),
        (
            one(Credential::HubPolicy(
                "HostName=h.net;DeviceId=d;x509=true".parse().unwrap(),
            )),
            "no `SharedAccessKey`",
        ),
        (change(&|p| p.ramp = Some(0.0)), "ramp"),
        (change(&|p| p.ramp = Some(f64::NAN)), "ramp"),
        (change(&|p| p.heartbeat = Some(Duration::ZERO)), "heartbeat"),
        (change(&|p| p.jitter = 1.1), "jitter"),
        (change(&|p| p.payload_bytes = 262_145), "Azure's limit"),
        (change(&|p| p.messages = Some(0)), "number of messages"),
        (
            change(&|p| (p.messages, p.heartbeat) = (Some(1), None)),
            "no heartbeat interval",
        ),
        (change(&|p| p.in_flight = 0), "in flight"),
        (change(&|p| p.token_life = Duration::ZERO), "token life"),
        (change(&|p| p.keep_alive = Duration::ZERO), "keep-alive"),
        (change(&|p| p.connects_at_once = 0), "connects at a time"),
        (change(&|p| p.back_off.first = Duration::ZERO), "back-off"),
        (change(&|p| p.give_up_after = Some(0)), "tries"),
        (
            change(&|p| p.shard = Shard { index: 2, of: 2 }),
            "shards go from 0/2 to 1/2",
        ),
        (
            change(&|p| p.shard = Shard { index: 0, of: 0 }),
            "shard 0/0",
        ),
        (
            change(&|p| p.shard = Shard { index: 4, of: 9 }),
            "has no devices",
        ),
        (
            change(&|p| {
                p.sources = "::1".parse().unwrap();
                p.addresses.insert("h".into(), [127, 0, 0, 1].into());
            }),
            "one is IPv4",
        ),
    ] {
        let refusal = plan.check().map_err(|error| error.to_string());
        let sentence = refusal.expect_err(words);
        assert!(sentence.contains(words), "{sentence}");
        assert!(!sentence.contains(KEY));
    }
    assert!(!format!("{:?}", group()).contains(KEY));
}

#[test]
fn shards_share_the_devices_out() {
    let of = |index| {
        let shard = Shard { index, of: 2 };
        Plan { shard, ..group() }
            .of_this_shard()
            .collect::<Vec<_>>()
    };
    assert_eq!((of(0), of(1)), (vec![0, 2], vec![1]));
    assert_eq!(group().name(2).unwrap(), "contoso-simdevice-3");
    assert_eq!(group().name(3), None);
}

#[test]
fn numbers_go_on_from_the_first() {
    let of = |first| {
        let name = "d{n}".into();
        let count = 2;
        let who = Who::Numbered { name, first, count };
        let plan = Plan { who, ..group() };
        let devices = [0, 1, 2].map(|number| plan.name(number));
        (devices, plan.place(1))
    };
    let name = |number: u64| Some(format!("d{number}"));
    assert_eq!(of(1), ([name(1), name(2), None], 1));
    assert_eq!(of(101), ([name(101), name(102), None], 101));
}
