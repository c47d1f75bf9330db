//! Many clients that connect, so many at a time, and stay.

use std::ops::Range;

use crate::crowd::{Crowd, each};
use crate::line::{Line, Target};

/// Connects these clients, `concurrency` at a time; each waits from TCP SYN to CONNACK.
pub async fn storm(
    target: &Target,
    clients: Range<usize>,
    concurrency: usize,
) -> anyhow::Result<Crowd<Line>> {
    let target = target.clone();
    let enter = move |client| {
        let target = target.clone();
        async move {
            let mut line = target.enter(client).await?;
            line.rest();
            Ok(line)
        }
    };
    each(clients, concurrency, enter).await
}
