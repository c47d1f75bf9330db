#![allow(clippy::unwrap_used)]
use std::net::{IpAddr, Ipv4Addr};

use super::*;

#[test]
fn an_unknown_key_names_its_line_and_the_nearest_key() {
    let rows = [
        (
            "data = \"x\"\ndato = 1\n",
            2,
            "`dato`; did you mean `data`?",
        ),
        (
            "[dps]\n\nid-scop = \"0ne\"\n",
            3,
            "`id-scop`; did you mean `id-scope`?",
        ),
        (
            "[[hub]]\nname = \"a\"\naddress = \"127.0.0.1\"\nreggion = \"eastus\"\n",
            4,
            "did you mean `region`?",
        ),
        (
            "[dps]\nallocation = \"geolatency\"\n",
            2,
            "did you mean `geoLatency`?",
        ),
        ("[ports]\nmqtt = \"x\"\n", 2, "invalid type"),
        (
            "[[dps.linked-hub]]\nregion = \"eastus\"\nconnection-string = \"HostName=h\"\n",
            3,
            "`SharedAccessKey` is missing",
        ),
        (
            "[[dps.linked-hub]]\nregion = \"eastus\"\nwieght = 2\n",
            3,
            "did you mean `weight`?",
        ),
        (
            "[[hub]]\nname = \"a\"\naddress = \"127.0.0.1\"\nevents = [\"DeviceLifeCycleEvents\"]\n",
            4,
            "did you mean `DeviceLifecycleEvents`?",
        ),
        (
            "[[hub]]\nname = \"a\"\naddress = \"127.0.0.1\"\n[[hub.event-subscription]]\nname = \"abc\"\nurll = \"\"\n",
            6,
            "did you mean `url`?",
        ),
        ("[ports\n", 1, ""),
    ];
    for (text, line, sentence) in rows {
        let error = Config::parse(text, Path::new("a.toml"))
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with(&format!("a.toml, line {line}: ")),
            "{text:?}: {error}"
        );
        assert!(error.contains(sentence), "{text:?}: {error}");
    }
}

#[test]
fn the_defaults_are_the_tutorials() {
    let config = Config::load(None).unwrap();
    assert_eq!(config.dps.id_scope.as_str(), "0ne00002193");
    assert!(!config.regions.simulate_latency);
    let hubs: Vec<_> = config
        .hubs
        .iter()
        .map(|hub| (hub.host_name(), hub.region.clone()))
        .collect();
    assert_eq!(
        hubs,
        [
            ("contoso-east-hub.azure-devices.net".into(), "eastus".into()),
            (
                "contoso-west-hub.azure-devices.net".into(),
                "westus".to_string()
            )
        ]
    );
}

#[test]
fn what_contradicts_itself_is_refused() {
    let hub = |name: &str, address: &str| {
        format!("[[hub]]\nname = \"{name}\"\naddress = \"{address}\"\n")
    };
    let linked = |host: &str| {
        format!(
            "[[dps.linked-hub]]\nregion = \"eastus\"\nconnection-string = \"HostName={host};SharedAccessKeyName=iothubowner;SharedAccessKey=MDEyMzQ1Njc4OWFiY2RlZg==\"\n"
        )
    };
    let rows = [
        (
            hub("a", "127.0.0.1") + &hub("A", "127.0.0.2"),
            "two hubs are called",
        ),
        (
            hub("a", "127.0.0.1") + &hub("b", "127.0.0.1"),
            "share the address",
        ),
        (hub("a", "127.0.0.10"), "and the DPS share the address"),
        (hub("a_b", "127.0.0.1"), "letters, digits and dashes"),
        (hub("a", "127.0.0.1") + "weight = 0\n", "is not 1 to 1000"),
        (
            linked("h.net") + &linked("H.net"),
            "the hub H.net is linked twice",
        ),
        (linked("h.net") + "weight = 1001\n", "h.net: weight 1001"),
        (
            linked("a.azure-devices.net") + &hub("a", "127.0.0.1"),
            "is [[hub]] a, which is linked already",
        ),
    ];
    for (text, sentence) in rows {
        let error = Config::parse(&text, Path::new("a.toml"))
            .unwrap()
            .check()
            .unwrap_err()
            .to_string();
        assert!(error.contains(sentence), "{text:?}: {error}");
    }
}

#[test]
fn a_hub_that_runs_elsewhere_is_linked_as_it_says() {
    let text = "[[dps.linked-hub]]\nregion = \"westus\"\nweight = 3\naddress = \"10.0.0.1\"\n\
            connection-string = \"HostName=h.net;SharedAccessKeyName=p;SharedAccessKey=MDEyMzQ1Njc4OWFiY2RlZg==\"\n";
    let config = Config::parse(text, Path::new("a.toml")).unwrap();
    let config = config.check().unwrap();
    let hub = &config.dps.linked_hubs[0];
    assert_eq!(
        (hub.host(), hub.region.as_str(), hub.weight),
        ("h.net", "westus", 3)
    );
    let address = Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)));
    assert_eq!((hub.address, hub.apply_allocation_policy), (address, true));
}

#[test]
fn a_hub_tells_what_its_table_says() {
    let table = |more: &str| {
        let text = format!("[[hub]]\nname = \"a\"\naddress = \"127.0.0.1\"\n{more}");
        Config::parse(&text, Path::new("a.toml")).unwrap().check()
    };
    let config = table("").unwrap();
    assert!(config.hubs[0].events.is_empty() && config.hubs[0].event_subscriptions.is_empty());
    let config = table(
        "events = [\"DeviceLifecycleEvents\", \"ModuleLifecycleEvents\", \"DeviceConnectionStateEvents\"]\n\
         connection-state = \"faithful\"\n[[hub.event-subscription]]\nname = \"mine\"\nurl = \"http://localhost:1/x\"\n\
         types = [\"Microsoft.Devices.DeviceCreated\"]\nschema = \"cloudEvents\"\nmax-delivery-attempts = 3\n",
    );
    let hub = &config.unwrap().hubs[0];
    assert_eq!(hub.events.len(), 3);
    assert_eq!(hub.connection_state, ConnectionState::Faithful);
    let mine = hub.event_subscriptions[0].subscription().unwrap();
    assert_eq!(
        (mine.types.len(), mine.retry.attempts, mine.batch.events),
        (1, 3, 1)
    );

    let subscription = |more: &str| {
        let text = format!(
            "[[hub.event-subscription]]\nname = \"mine\"\nurl = \"https://localhost/\"\n{more}"
        );
        table(&text).unwrap_err().to_string()
    };
    for (more, sentence) in [
        (
            "types = [\"Microsoft.Devices.DeviceTelemetry\"]",
            "is not simulated",
        ),
        ("max-delivery-attempts = 31", "31 is not 1 to 30"),
        ("max-events-per-batch = 0", "0 is not 1 to 5000"),
        (
            "event-time-to-live-in-minutes = 1441",
            "1441 is not 1 to 1440",
        ),
        (
            "[[hub.event-subscription]]\nname = \"MINE\"\nurl = \"http://b/\"",
            "two event subscriptions",
        ),
        (
            "[[hub.event-subscription]]\nname = \"b\"\nurl = \"http://b/\"",
            "3 to 64",
        ),
        (
            "[[hub.event-subscription]]\nname = \"other\"\nurl = \"ftp://b/\"",
            "https://",
        ),
    ] {
        let error = subscription(more);
        assert!(error.contains(sentence), "{more}: {error}");
    }
}
