#![allow(clippy::unwrap_used)]
use azimuth_wire::registration::RegistrationStatus;

use super::*;

fn record(id: &str, group: Option<&str>) -> Record {
    Record {
        state: RegistrationState::new(id.parse().unwrap(), RegistrationStatus::Assigned),
        group: group.map(|group| group.parse().unwrap()),
        operation: String::new(),
        attempt: None,
        tpm: None,
    }
}

async fn store(store: &dyn Store, id: &str, group: Option<&str>) {
    let before = registration(store, id).unwrap();
    let changes = put(id, before.as_ref(), &record(id, group));
    store.commit(changes).await.unwrap();
}

fn listed(store: &dyn Store, group: &str, limit: usize) -> Vec<Vec<String>> {
    let group = group.parse().unwrap();
    let (mut pages, mut after): (Vec<_>, Option<String>) = (Vec::new(), None);
    loop {
        let (states, next) = of_group(store, &group, after.as_deref(), limit).unwrap();
        let ids = states.iter().map(|state| state.registration_id.to_string());
        pages.push(ids.collect());
        after = next;
        if after.is_none() {
            return pages;
        }
    }
}

#[tokio::test]
async fn a_group_lists_its_own_registrations_in_pages() {
    let memory = azimuth_storage::memory();
    // `g-1` and `g.1` would be mixed by a list that ends names where another character may follow.
    for (id, group) in [
        ("c", Some("G")),
        ("a", Some("g")),
        ("b", Some("g")),
        ("d", Some("g-1")),
        ("e", Some("g.1")),
        ("f", None),
    ] {
        store(&*memory, id, group).await;
    }
    assert_eq!(listed(&*memory, "g", 2), [vec!["a", "b"], vec!["c"]]);
    assert_eq!(listed(&*memory, "g-1", 2), [["d"]]);
    assert_eq!(listed(&*memory, "none", 2), [Vec::<String>::new()]);
}

#[tokio::test]
async fn who_leaves_a_group_leaves_its_list() {
    let memory = azimuth_storage::memory();
    for id in ["a", "b", "c"] {
        store(&*memory, id, Some("g")).await;
    }
    store(&*memory, "a", Some("h")).await;
    store(&*memory, "b", None).await;
    assert_eq!(listed(&*memory, "g", 9), [["c"]]);
    assert_eq!(listed(&*memory, "h", 9), [["a"]]);
    let before = registration(&*memory, "c").unwrap().unwrap();
    let changes = delete("c", &before, Expect::Anything);
    memory.commit(changes).await.unwrap();
    assert_eq!(memory.scan(LISTED, "", None, 9).unwrap().documents.len(), 1);
}

#[tokio::test]
async fn a_page_goes_on_where_it_ended_whatever_is_written_meanwhile() {
    let memory = azimuth_storage::memory();
    for id in ["b", "d", "f"] {
        store(&*memory, id, Some("g")).await;
    }
    let group = "g".parse().unwrap();
    let (first, next) = of_group(&*memory, &group, None, 2).unwrap();
    assert_eq!(first.len(), 2);
    store(&*memory, "a", Some("g")).await;
    store(&*memory, "e", Some("g")).await;
    let gone = registration(&*memory, "d").unwrap().unwrap();
    let changes = delete("d", &gone, Expect::Anything);
    memory.commit(changes).await.unwrap();
    let (rest, end) = of_group(&*memory, &group, next.as_deref(), 2).unwrap();
    let ids: Vec<_> = rest
        .iter()
        .map(|state| state.registration_id.as_str())
        .collect();
    assert_eq!((ids, end), (vec!["e", "f"], None));
}

#[tokio::test]
async fn registrations_from_before_the_lists_are_listed_once() {
    let memory = azimuth_storage::memory();
    for at in 0..501 {
        let id = format!("old-{at:03}");
        let change = Change::put(
            registration_key(&id),
            Expect::Absent,
            write(&record(&id, Some("g"))),
        );
        memory.commit(vec![change]).await.unwrap();
    }
    list_registrations(&*memory).await.unwrap();
    assert_eq!(listed(&*memory, "g", 1000)[0].len(), 501);
}
