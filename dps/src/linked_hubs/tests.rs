#![allow(clippy::unwrap_used, clippy::disallowed_methods)]
use azimuth_clock::SystemClock;
use azimuth_wire::SymmetricKey;

use super::*;
use crate::stub_hub::{StubHub, Trust, linked_hubs};

const A: &str = "a-hub.azure-devices.net";
const B: &str = "b-hub.azure-devices.net";

fn key(byte: u8) -> SymmetricKey {
    SymmetricKey::from_bytes(&[byte; 32])
}

fn weighing(hub: &StubHub, weight: u16) -> LinkedHubConfig {
    LinkedHubConfig {
        weight,
        ..hub.link()
    }
}

fn weight(weight: u32) -> IotHubChange {
    IotHubChange {
        allocation_weight: Some(weight),
        ..IotHubChange::default()
    }
}

fn weights(hubs: &LinkedHubs) -> Vec<(String, u16)> {
    let live = hubs.live();
    live.iter()
        .map(|hub| (hub.host().to_owned(), hub.link().weight))
        .collect()
}

struct Room {
    store: Arc<dyn Store>,
    trust: Trust,
    a: Arc<StubHub>,
    b: Arc<StubHub>,
}

impl Room {
    async fn new() -> Self {
        let trust = Trust::new();
        Self {
            store: azimuth_storage::memory(),
            a: StubHub::start(&trust, A).await,
            b: StubHub::start(&trust, B).await,
            trust,
        }
    }

    /// A start with these declarations.
    async fn start(&self, declared: &[LinkedHubConfig]) -> Arc<LinkedHubs> {
        linked_hubs(&self.store, &self.trust, declared).await
    }
}

#[tokio::test]
async fn a_hub_is_asked_once_and_only_a_key_it_refuses_is_no_link() {
    let room = Room::new().await;
    let hubs = room.start(&[]).await;
    let wrong = link::definition(&room.a.link_with(key(8)));
    let error = hubs.put(A, wrong, &IfMatch::Absent).await.unwrap_err();
    assert!(matches!(&error, Error::HubKeyRefused(host) if host == A));
    assert!(hubs.live().is_empty() && hubs.definitions().unwrap().is_empty());
    room.a.requests.lock().clear();

    let added = hubs
        .put(A, link::definition(&room.a.link()), &IfMatch::Absent)
        .await
        .unwrap();
    assert_eq!((added.warning, room.a.requests.lock().len()), (None, 1));
    let closed = LinkedHubConfig {
        https_port: 1,
        ..room.b.link()
    };
    let added = hubs
        .put(B, link::definition(&closed), &IfMatch::Absent)
        .await
        .unwrap();
    assert!(added.warning.unwrap().contains("cannot be reached"));
    assert_eq!(hubs.hosts(), [A, B]);

    // A weight needs no question, a key does.
    room.a.requests.lock().clear();
    let _ = hubs.update(A, weight(9), &IfMatch::Absent).await.unwrap();
    assert!(room.a.requests.lock().is_empty());
    let rekeyed = IotHubChange {
        connection_string: Some(room.a.link_with(key(8)).connection_string.reveal()),
        ..IotHubChange::default()
    };
    let error = hubs.update(A, rekeyed, &IfMatch::Absent).await.unwrap_err();
    assert!(matches!(error, Error::HubKeyRefused(_)));
    assert_eq!(weights(&hubs), [(A.into(), 9), (B.into(), 1)]);
    let moved = IotHubChange {
        connection_string: Some(room.b.link().connection_string.reveal()),
        ..IotHubChange::default()
    };
    let error = hubs.update(A, moved, &IfMatch::Absent).await.unwrap_err();
    assert!(
        error.to_string().contains("remove the one and add"),
        "{error}"
    );
}

#[tokio::test]
async fn preconditions_are_those_of_enrollments() {
    let etag = |text: &str| IfMatch::Etag(text.into());
    // Whether the link exists, the condition, the expected status.
    for (exists, condition, status) in [
        (false, IfMatch::Absent, 200),
        (false, IfMatch::Any, 200),
        (false, etag("old"), 412),
        (true, IfMatch::Absent, 409),
        (true, IfMatch::Any, 200),
        (true, etag("current"), 200),
        (true, etag("old"), 412),
    ] {
        let room = Room::new().await;
        let declared = exists.then(|| room.a.link());
        let hubs = room.start(&Vec::from_iter(declared)).await;
        let current = hubs.definition(A).ok().and_then(|present| present.etag);
        let condition = match (condition, current) {
            (IfMatch::Etag(text), Some(current)) if text == "current" => IfMatch::Etag(current),
            (condition, _) => condition,
        };
        let put = hubs
            .put(
                "A-HUB.azure-devices.net",
                link::definition(&room.a.link()),
                &condition,
            )
            .await;
        let got = put.map_or_else(|error| error.code() / 1000, |_| 200);
        assert_eq!(got, status, "exists {exists}, {condition:?}");
    }
}

#[tokio::test]
async fn links_outlive_the_process_and_who_took_the_set_keeps_it() {
    let room = Room::new().await;
    let hubs = room.start(&[]).await;
    for hub in [&room.b, &room.a] {
        let link = link::definition(&hub.link());
        let _ = hubs.put(&hub.host, link, &IfMatch::Absent).await.unwrap();
    }
    let taken = hubs.live();
    let _ = hubs.update(A, weight(5), &IfMatch::Any).await.unwrap();
    hubs.remove(B, &IfMatch::Absent).await.unwrap();
    assert_eq!(weights(&hubs), [(A.into(), 5)]);
    assert_eq!(taken.len(), 2);
    assert_eq!(find(&taken, A).unwrap().link().weight, 1);
    find(&taken, B).unwrap().probe().await.unwrap();

    let again = room.start(&[]).await;
    assert_eq!(weights(&again), [(A.into(), 5)]);
    again.live()[0].probe().await.unwrap();
}

/// What happens to one hub over several starts, and what its weight and key are afterwards.
enum Step {
    Start(Option<(u16, u8)>),
    Update(u32),
    Add,
    Remove,
}

#[tokio::test]
async fn a_declaration_is_applied_once_until_it_changes() {
    use Step::{Add, Remove, Start, Update};
    // Keys are told by their byte; the stub's own is 9.
    type Row = (&'static str, &'static [Step], Option<(u16, u8)>);
    let rows: [Row; 11] = [
        ("made", &[Start(Some((2, 9)))], Some((2, 9))),
        (
            "unchanged",
            &[Start(Some((2, 9))), Update(5), Start(Some((2, 9)))],
            Some((5, 9)),
        ),
        (
            "changed",
            &[Start(Some((2, 9))), Update(5), Start(Some((3, 9)))],
            Some((3, 9)),
        ),
        (
            "another key",
            &[Start(Some((2, 9))), Update(5), Start(Some((2, 7)))],
            Some((5, 7)),
        ),
        (
            "removed",
            &[Start(Some((2, 9))), Remove, Start(Some((2, 9)))],
            None,
        ),
        (
            "removed, another key",
            &[Start(Some((2, 9))), Remove, Start(Some((2, 7)))],
            None,
        ),
        (
            "removed, another key, changed",
            &[
                Start(Some((2, 9))),
                Remove,
                Start(Some((2, 7))),
                Start(Some((3, 7))),
            ],
            Some((3, 7)),
        ),
        (
            "removed and added by hand",
            &[Start(Some((2, 9))), Remove, Add, Start(Some((2, 9)))],
            Some((1, 9)),
        ),
        ("gone", &[Start(Some((2, 9))), Start(None)], None),
        (
            "gone and back",
            &[
                Start(Some((2, 9))),
                Remove,
                Start(None),
                Start(Some((2, 9))),
            ],
            Some((2, 9)),
        ),
        (
            "by hand alone",
            &[Start(None), Add, Start(None)],
            Some((1, 9)),
        ),
    ];
    for (name, steps, expected) in rows {
        let room = Room::new().await;
        let mut hubs = room.start(&[]).await;
        for step in steps {
            match *step {
                Start(declared) => {
                    let link = declared.map(|(weight, byte)| LinkedHubConfig {
                        weight,
                        ..room.a.link_with(key(byte))
                    });
                    hubs = room.start(&Vec::from_iter(link)).await;
                }
                Update(to) => {
                    let _ = hubs.update(A, weight(to), &IfMatch::Absent).await.unwrap();
                }
                Add => {
                    let link = link::definition(&room.a.link());
                    let _ = hubs.put(A, link, &IfMatch::Absent).await.unwrap();
                }
                Remove => hubs.remove(A, &IfMatch::Absent).await.unwrap(),
            }
        }
        for hubs in [hubs.live(), reopened(&room).live()] {
            let found = hubs.first().map(|hub| hub.link().clone());
            let expected = expected.map(|(weight, byte)| LinkedHubConfig {
                weight,
                ..room.a.link_with(key(byte))
            });
            assert_eq!(found, expected, "{name}");
        }
    }
}

/// What a start would find before its declarations.
fn reopened(room: &Room) -> LinkedHubs {
    let roots = room.trust.authority.certificate_pem();
    let (timeout, clock) = (Duration::from_secs(5), Arc::new(SystemClock));
    LinkedHubs::open(room.store.clone(), roots, timeout, clock).unwrap()
}

#[tokio::test]
async fn a_declaration_that_contradicts_itself_or_the_rules_is_refused_by_name() {
    let room = Room::new().await;
    let hubs = reopened(&room);
    for (declared, sentence) in [
        (
            vec![weighing(&room.a, 1), weighing(&room.a, 2)],
            "two linked hubs have this name",
        ),
        (vec![weighing(&room.a, 1001)], "is not 1 to 1000"),
    ] {
        let error = hubs.declare(&declared).await.unwrap_err().to_string();
        assert!(
            error.contains(&format!("linked hub `{A}`")) && error.contains(sentence),
            "{error}"
        );
    }
}
