//! Many clients that connect, so many at a time.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::figure::Latencies;
use crate::line::{Line, Target};

/// What a storm brought: lines in the order of their clients, and how long each client waited from TCP SYN to CONNACK.
pub struct Storm {
    pub lines: Vec<Line>,
    pub latencies: Latencies,
    /// Seconds until the last was in.
    pub wall: f64,
}

/// Connects these clients, `concurrency` at a time.
pub async fn storm(
    target: &Target,
    clients: Range<usize>,
    concurrency: usize,
) -> anyhow::Result<Storm> {
    let next = Arc::new(AtomicUsize::new(clients.start));
    let began = Instant::now();
    let mut workers = JoinSet::new();
    for _ in 0..concurrency {
        let (target, next) = (target.clone(), next.clone());
        workers.spawn(async move {
            let (mut lines, mut latencies) = (Vec::new(), Latencies::default());
            loop {
                let client = next.fetch_add(1, Ordering::Relaxed);
                if client >= clients.end {
                    return anyhow::Ok((lines, latencies));
                }
                let began = Instant::now();
                let mut line = target.enter(client).await?;
                latencies.record(began.elapsed());
                line.rest();
                lines.push((client, line));
            }
        });
    }
    let (mut lines, mut latencies) = (Vec::with_capacity(clients.len()), Latencies::default());
    while let Some(worker) = workers.join_next().await {
        let (some, waited) = worker??;
        lines.extend(some);
        latencies.add(&waited);
    }
    let wall = began.elapsed().as_secs_f64();
    lines.sort_by_key(|(client, _)| *client);
    Ok(Storm {
        lines: lines.into_iter().map(|(_, line)| line).collect(),
        latencies,
        wall,
    })
}
