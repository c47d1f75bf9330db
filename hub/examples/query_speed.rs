//! How long queries take: `cargo run --release --example query_speed -p azimuth-hub -- 100000`.
//!
//! Fills a store in a file with so many devices, each with tags and properties of a few hundred bytes, and prints
//! milliseconds for a full scan, for look-ups by id and for opening the registry.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::sync::Arc;
use std::time::Instant;

use azimuth_clock::SystemClock;
use azimuth_hub::query::{Limits, Page, Query};
use azimuth_hub::registry::{Registry, Rows};
use azimuth_wire::registry::bulk::BulkItem;
use serde_json::json;

const LIMITS: Limits = Limits {
    rows: 100,
    bytes: 4 << 20,
};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let devices: usize = std::env::args()
        .nth(1)
        .map_or(100_000, |n| n.parse().unwrap());
    let path = std::env::temp_dir().join(format!("azimuth-query-speed-{}", std::process::id()));
    let store = azimuth_storage::open(&path).unwrap();
    let clock = Arc::new(SystemClock);
    let registry = Arc::new(Registry::open("hub", store.clone(), clock.clone()).unwrap());
    let begin = Instant::now();
    fill(&registry, devices).await;
    println!("{devices} made in {:?}", begin.elapsed());
    drop(registry);
    store.close();
    let size = std::fs::metadata(&path).unwrap().len();
    println!("{} MiB on disk", size >> 20);

    let begin = Instant::now();
    let store = azimuth_storage::open(&path).unwrap();
    let registry = Arc::new(Registry::open("hub", store, clock).unwrap());
    println!("opened in {:?}", begin.elapsed());
    for text in [
        "SELECT COUNT() AS n FROM devices",
        "SELECT * FROM devices WHERE status = 'disabled'",
        "SELECT * FROM devices WHERE tags.site.floor = 99999",
        "SELECT * FROM devices WHERE properties.reported.firmware.version = 'none' OR tags.site.floor = -1",
        "SELECT * FROM devices WHERE connectionState = 'Connected'",
        "SELECT tags.site.floor, COUNT() AS n FROM devices GROUP BY tags.site.floor",
        "SELECT * FROM devices WHERE is_defined(properties.desired.$metadata.interval.none)",
        "SELECT * FROM devices",
        "SELECT * FROM devices WHERE deviceId = 'device-0000077'",
        "SELECT * FROM devices WHERE STARTSWITH(deviceId, 'device-000007')",
    ] {
        for threads in [1, 2] {
            let begin = Instant::now();
            let rows = ask(&registry, text, threads);
            println!("{:?} on {threads}: {rows} bytes: {text}", begin.elapsed());
        }
    }
    std::fs::remove_file(&path).unwrap();
}

/// As the REST side does it, the stretches shared out to threads.
fn ask(registry: &Arc<Registry>, text: &str, threads: usize) -> usize {
    let query = Query::parse(text).unwrap();
    let mut page = Page::new(&query, LIMITS, None);
    let most = if query.selects_each() { 101 } else { 512 };
    let rows = Rows::open(registry.clone(), query).unwrap().unwrap();
    let mut from = Some(None);
    while !page.is_full() && from.is_some() {
        let mut stretches = Vec::new();
        while stretches.len() < threads
            && let Some(behind) = from.take()
        {
            let stretch = rows.stretch(behind.as_ref(), most).unwrap();
            from = stretch.next.clone().map(Some);
            stretches.push(stretch);
        }
        std::thread::scope(|scope| {
            let parts = stretches
                .iter()
                .map(|stretch| scope.spawn(|| rows.part(stretch, LIMITS).unwrap()));
            for part in parts.collect::<Vec<_>>() {
                page.take(part.join().unwrap());
            }
        });
    }
    page.end().unwrap().0.len()
}

async fn fill(registry: &Arc<Registry>, devices: usize) {
    let numbers: Vec<_> = (0..devices).collect();
    for some in numbers.chunks(2000) {
        let tasks = some.iter().map(|number| {
            let item = json!({ "id": format!("device-{number:07}"), "importMode": "create",
                "tags": { "site": { "floor": number % 50, "name": format!("building-{}", number % 7), "city": "Redmond" }, "env": "prod" },
                "properties": { "desired": { "interval": 30, "mode": "normal", "thresholds": { "high": 80, "low": 20 } },
                    "reported": { "interval": 30, "battery": number % 100, "firmware": { "version": "1.2.3", "updated": "2026-01-02" } } } });
            let (registry, item) = (registry.clone(), BulkItem::parse(&item).unwrap());
            tokio::spawn(async move { registry.apply(item).await.unwrap() })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
    }
}
