//! The two streams of lines: events and refusals.

use std::time::Duration;

use axum::http::Method;
use azimuth_hub::event::{Event, Pairs};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::desk::{Desk, Reply, VERSION};

impl Desk {
    fn append(&mut self, device: &str, bodies: &[&[u8]]) {
        let now = self.now();
        for body in bodies {
            let mut envelope = Vec::new();
            Event {
                device_id: device,
                module_id: None,
                generation_id: "17",
                auth_method: "{}",
                source: "Telemetry",
                system: Pairs::new(&[("message-id", "m")]),
                application: Pairs::new(&[("a", Some("b")), ("none", None)]),
                body,
            }
            .encode(&mut envelope);
            let partition = azimuth_hub::event::partition_for(device, 4);
            self.appender
                .append(partition, [envelope.as_slice()], now)
                .unwrap();
        }
    }

    async fn events(&self, query: &str) -> Vec<Value> {
        let reply = self
            .ask(Method::GET, &format!("/azimuth/events?{query}"), None, "")
            .await;
        assert_eq!(
            (reply.status, reply.header("content-type")),
            (200, "application/x-ndjson"),
            "{query}"
        );
        let text = reply.text().await;
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

/// The next line of an answer that goes on.
async fn next(reply: &mut Reply) -> Option<Value> {
    let frame = reply.body.frame().await?.unwrap();
    Some(serde_json::from_slice(&frame.into_data().unwrap()).unwrap())
}

#[tokio::test]
async fn an_event_is_one_line_with_everything() {
    let mut desk = Desk::new();
    desk.append("d", &[b"{\"t\":1}", b"\xff"]);
    let lines = desk.events("").await;
    let partition = azimuth_hub::event::partition_for("d", 4);
    let expected = json!({
        "partition": partition, "sequenceNumber": 0, "offset": "0",
        "enqueuedTimeUtc": "2023-11-14T22:13:20Z",
        "systemProperties": {
            "message-id": "m",
            "iothub-connection-device-id": "d",
            "iothub-connection-auth-method": "{}",
            "iothub-connection-auth-generation-id": "17",
            "iothub-enqueuedtime": "2023-11-14T22:13:20Z",
            "iothub-message-source": "Telemetry",
        },
        "properties": {"a": "b", "none": ""},
        "body": "{\"t\":1}",
    });
    assert_eq!(lines[0], expected);
    assert_eq!(
        (&lines[1]["bodyBase64"], &lines[1]["body"]),
        (&json!("/w=="), &Value::Null)
    );
}

#[tokio::test]
async fn places_devices_and_partitions_can_be_chosen() {
    let mut desk = Desk::new();
    // Both in one partition.
    let twin = (0..)
        .map(|n| format!("t{n}"))
        .find(|id| same_partition(id, "d"))
        .unwrap();
    desk.append("d", &[b"0", b"1"]);
    desk.append(&twin, &[b"2"]);
    desk.clock.advance(Duration::from_secs(10));
    desk.append("d", &[b"3"]);
    let partition = azimuth_hub::event::partition_for("d", 4);
    let bodies = async |query: &str| -> String {
        let lines = desk.events(query).await;
        lines
            .iter()
            .map(|line| line["body"].as_str().unwrap())
            .collect()
    };
    for (query, expected) in [
        ("from=earliest".to_owned(), "0123"),
        ("from=latest".into(), ""),
        ("deviceId=d".into(), "013"),
        (format!("deviceId={twin}&follow=false"), "2"),
        (format!("partition={partition}"), "0123"),
        (format!("partition={}", (partition + 1) % 4), ""),
        (format!("partition={partition}&from=sequence:2"), "23"),
        ("deviceId=d&from=sequence%3A1".into(), "13"),
        (format!("partition={partition}&from=offset:1"), "123"),
        ("from=time:2023-11-14T22:13:25Z".into(), "3"),
    ] {
        assert_eq!(bodies(&query).await, expected, "{query}");
    }
    for query in [
        "from=sequence:0",
        "from=sequence:0,0,0",
        "from=sequence:0,0,0,0,0",
        "from=sequence:0,0,0,x",
        "from=sequence:0,0,0,99",
        "from=offset:0",
        "from=yesterday",
        "from=time:x",
        "partition=x",
        "partition=4",
        "deviceId=a%20b",
        "deviceId=d&from=sequence:99",
        "follow=perhaps",
    ] {
        let reply = desk
            .ask(Method::GET, &format!("/azimuth/events?{query}"), None, "")
            .await;
        assert_eq!(
            (reply.status, reply.header("iothub-errorcode")),
            (400, "ArgumentInvalid"),
            "{query}"
        );
    }
}

#[tokio::test]
async fn a_reader_that_lost_its_stream_goes_on_where_each_partition_was() {
    let mut desk = Desk::new();
    let others: Vec<_> = (0..)
        .map(|n| format!("t{n}"))
        .filter(|id| !same_partition(id, "d"))
        .take(1)
        .collect();
    desk.append("d", &[b"0", b"1"]);
    desk.append(&others[0], &[b"2"]);
    let begin = async |query: &str| {
        let path = format!("/azimuth/events?{query}");
        let reply = desk.ask(Method::GET, &path, None, "").await;
        assert_eq!(reply.header("azimuth-time"), "2023-11-14T22:13:20Z");
        reply.header("azimuth-sequence-numbers").to_owned()
    };
    assert_eq!(begin("from=earliest").await, "0,0,0,0");
    assert_eq!(begin("deviceId=d&from=sequence:1").await, "1");
    let ends = begin("from=latest").await;
    let mut expected = [0; 4];
    for (id, events) in [("d", 2), (others[0].as_str(), 1)] {
        expected[usize::from(azimuth_hub::event::partition_for(id, 4))] = events;
    }
    assert_eq!(ends, expected.map(|number| number.to_string()).join(","));
    desk.append("d", &[b"3"]);
    desk.append(&others[0], &[b"4"]);
    let lines = desk.events(&format!("from=sequence:{ends}")).await;
    let mut bodies: Vec<_> = lines.iter().map(|line| line["body"].as_str()).collect();
    bodies.sort();
    assert_eq!(bodies, [Some("3"), Some("4")]);
}

fn same_partition(one: &str, other: &str) -> bool {
    azimuth_hub::event::partition_for(one, 4) == azimuth_hub::event::partition_for(other, 4)
}

#[tokio::test]
async fn a_follower_gets_what_comes_and_ends_with_the_hub() {
    let mut desk = Desk::new();
    desk.append("d", &[b"before"]);
    let path = "/azimuth/events?from=latest&follow=true";
    let mut reply = desk.ask(Method::GET, path, None, "").await;
    desk.append("d", &[b"after"]);
    assert_eq!(next(&mut reply).await.unwrap()["body"], "after");
    desk.stopping.cancel();
    assert!(reply.body.frame().await.is_none());
}

#[tokio::test]
async fn a_client_that_does_not_read_costs_two_chunks() {
    let mut desk = Desk::new();
    let body = vec![b'x'; 60_000];
    let bodies: Vec<&[u8]> = (0..50).map(|_| body.as_slice()).collect();
    desk.append("d", &bodies);
    let slow = desk.ask(Method::GET, "/azimuth/events", None, "").await;
    assert_eq!(desk.events("").await.len(), 50);
    assert_eq!(slow.text().await.lines().count(), 50);
}

#[tokio::test]
async fn refusals_are_lines_too_and_can_be_followed() {
    let desk = Desk::new();
    let conflict = async || {
        let path = format!("/devices/d{VERSION}");
        desk.ask(Method::DELETE, &path, None, "").await.status
    };
    assert_eq!(conflict().await, 412);
    let reply = desk.ask(Method::GET, "/azimuth/refusals", None, "").await;
    let line: Value = serde_json::from_str(reply.text().await.trim_end()).unwrap();
    assert_eq!(
        line,
        json!({
            "number": 1, "at": "2023-11-14T22:13:20Z", "operation": "request", "who": "iothubowner",
            "remote": "127.0.0.1:50000", "kind": "etag-missing", "sentence": "Etag missing",
            "facts": {"request": "DELETE /devices/d"}, "answer": "HTTP 412 PreconditionFailed",
        })
    );
    let path = "/azimuth/refusals?after=1&follow=true";
    let mut reply = desk.ask(Method::GET, path, None, "").await;
    conflict().await;
    assert_eq!(next(&mut reply).await.unwrap()["number"], 2);
    desk.stopping.cancel();
    assert!(reply.body.frame().await.is_none());
    let wrong = desk
        .ask(Method::GET, "/azimuth/refusals?after=x", None, "")
        .await;
    assert_eq!(wrong.status, 400);
}
