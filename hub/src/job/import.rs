//! An import: lines in, identities written, the errors of single lines beside.
//!
//! A few hundred lines are carried out side by side, so that one flush of the store carries many; lines about one
//! device stay in their order. May not enter: what a line says, what an import mode does.

use std::collections::HashMap;
use std::sync::Arc;

use azimuth_wire::registry::bulk::BulkItem;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::desk::Jobs;
use super::import_line::{LineError, read};
use super::lines::{Line, Lines};
use super::record::{AT_ONCE, Progress};
use super::work::{Stopped, Target, failed, unless_cancelled};
use crate::blob::{Container, Source, Writer};
use crate::rest::carry_out;

pub async fn run(
    jobs: &Jobs,
    container: &Container,
    input: &Source,
    errors: &Target,
    cancel: &CancellationToken,
    progress: impl Fn(Progress),
) -> Result<(), Stopped> {
    let log = errors.container.write(&errors.blob);
    let mut log = log.map_err(|failure| failed(LOG_FAILED, &failure))?;
    let mut lines = Lines::default();
    let mut offset = 0;
    let mut waiting = Vec::new();
    loop {
        let asked = container.read(input, offset);
        let piece = unless_cancelled(cancel, "the input blob could not be read", asked).await?;
        let begun = offset;
        offset += piece.len() as u64;
        match piece.is_empty() {
            false => waiting.extend(lines.feed(&piece)),
            true => waiting.extend(lines.finish()),
        }
        let in_all = waiting.len().max(1) as u64;
        let mut done = 0;
        for batch in waiting.chunks(AT_ONCE) {
            if cancel.is_cancelled() {
                return Err(Stopped::Cancelled);
            }
            let wrong = carry_out_all(jobs, batch).await;
            write_log(&mut log, &wrong, cancel).await?;
            done += batch.len() as u64;
            let read = begun + (offset - begun) * done / in_all;
            let last = batch.last().map_or(0, |line| line.number);
            progress(Progress::of(read, input.size(), last));
        }
        waiting.clear();
        if piece.is_empty() {
            break;
        }
    }
    unless_cancelled(cancel, LOG_FAILED, log.finish()).await
}

/// Hands out the errors in the order of the lines.
async fn carry_out_all(jobs: &Jobs, batch: &[Line]) -> Vec<LineError> {
    let mut wrong: Vec<(u64, LineError)> = Vec::new();
    let mut devices: HashMap<String, Vec<(u64, BulkItem)>> = HashMap::new();
    for line in batch {
        match read(line) {
            Ok(item) => {
                let of_device = devices.entry(item.id.to_string()).or_default();
                of_device.push((line.number, item));
            }
            Err(error) => wrong.push((line.number, error)),
        }
    }
    let mut under_way = JoinSet::new();
    for items in devices.into_values() {
        let (registry, presence) = (Arc::clone(&jobs.registry), Arc::clone(&jobs.presence));
        under_way.spawn(async move {
            let mut wrong = Vec::new();
            for (number, item) in items {
                let done = carry_out(registry.clone(), presence.clone(), item).await;
                wrong.extend(done.err().map(|error| (number, LineError::from(error))));
            }
            wrong
        });
    }
    for wrong_of_one in under_way.join_all().await {
        wrong.extend(wrong_of_one);
    }
    wrong.sort_by_key(|(number, _)| *number);
    wrong.into_iter().map(|(_, error)| error).collect()
}

async fn write_log(
    log: &mut Writer,
    wrong: &[LineError],
    cancel: &CancellationToken,
) -> Result<(), Stopped> {
    if wrong.is_empty() {
        return Ok(());
    }
    let mut text = Vec::new();
    for error in wrong {
        serde_json::to_writer(&mut text, error)
            .map_err(|error| Stopped::Failed(format!("{LOG_FAILED}: {error}")))?;
        text.push(b'\n');
    }
    unless_cancelled(cancel, LOG_FAILED, log.add(&text)).await
}

const LOG_FAILED: &str = "the log of errors could not be written";
