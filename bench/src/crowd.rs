//! Many clients that each do one thing, so many at a time.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::figure::Latencies;

/// What a crowd brought.
pub struct Crowd<T> {
    /// In the order of the clients.
    pub brought: Vec<T>,
    /// How long each client took.
    pub latencies: Latencies,
    /// Seconds until the last was done.
    pub wall: f64,
}

/// Lets every client do `what`, `concurrency` at a time.
pub async fn each<T, F>(
    clients: Range<usize>,
    concurrency: usize,
    what: impl Fn(usize) -> F + Clone + Send + 'static,
) -> anyhow::Result<Crowd<T>>
where
    T: Send + 'static,
    F: Future<Output = anyhow::Result<T>> + Send,
{
    let next = Arc::new(AtomicUsize::new(clients.start));
    let began = Instant::now();
    let mut workers = JoinSet::new();
    for _ in 0..concurrency {
        let (what, next) = (what.clone(), next.clone());
        workers.spawn(async move {
            let (mut brought, mut latencies) = (Vec::new(), Latencies::default());
            loop {
                let client = next.fetch_add(1, Ordering::Relaxed);
                if client >= clients.end {
                    return anyhow::Ok((brought, latencies));
                }
                let began = Instant::now();
                let one = what(client).await?;
                latencies.record(began.elapsed());
                brought.push((client, one));
            }
        });
    }
    let (mut brought, mut latencies) = (Vec::with_capacity(clients.len()), Latencies::default());
    while let Some(worker) = workers.join_next().await {
        let (some, took) = worker??;
        brought.extend(some);
        latencies.add(&took);
    }
    let wall = began.elapsed().as_secs_f64();
    brought.sort_by_key(|(client, _)| *client);
    Ok(Crowd {
        brought: brought.into_iter().map(|(_, one)| one).collect(),
        latencies,
        wall,
    })
}
