//! An import: lines in, identities written, the errors of single lines beside.
//!
//! A few hundred lines are carried out side by side, so that one flush of the store carries many; lines about one
//! device stay in their order. May not enter: what a line says, what an import mode does.

use std::collections::HashMap;
use std::sync::Arc;

use azimuth_broker::Presence;
use azimuth_wire::registry::bulk::BulkItem;
use azimuth_wire::{DeviceId, ErrorCode, Identity};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::desk::Jobs;
use super::import_line::{LineError, read};
use super::lines::{Line, Lines};
use super::record::{AT_ONCE, Progress};
use super::work::{Stopped, Target, failed, unless_cancelled};
use crate::blob::{Container, Source, Writer};
use crate::registry::Registry;
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
    let mut later = Later::default();
    let mut offset = 0;
    loop {
        let asked = container.read(input, offset);
        let piece = unless_cancelled(cancel, "the input blob could not be read", asked).await?;
        let begun = offset;
        offset += piece.len() as u64;
        let whole = match piece.is_empty() {
            false => lines.feed(&piece),
            true => lines.finish().into_iter().collect(),
        };
        let mut done = 0;
        for batch in whole.chunks(AT_ONCE) {
            let wrong = carry_out_all(jobs, batch, &mut later, cancel).await?;
            write_log(&mut log, &wrong, cancel).await?;
            done += batch.len();
            let read = begun + (offset - begun) * done as u64 / whole.len() as u64;
            let last = batch.last().map_or(0, |line| line.number);
            progress(Progress::of(read, input.size(), last));
        }
        if piece.is_empty() {
            break;
        }
    }
    again(jobs, later, &mut log, cancel).await?;
    unless_cancelled(cancel, LOG_FAILED, log.finish()).await
}

/// Lines about devices whose parent is not there yet: it may stand further down in the file.
#[derive(Default)]
struct Later {
    lines: Vec<(Line, LineError)>,
    /// Of the lines.
    bytes: usize,
    /// What is about one of these waits too, and why.
    devices: HashMap<DeviceId, LineError>,
}

impl Later {
    /// Puts a line off, where there is room for it.
    fn put_off(
        &mut self,
        line: &Line,
        device: DeviceId,
        error: LineError,
    ) -> Result<(), LineError> {
        let bytes = self.bytes + line.text.as_ref().map_or(0, Vec::len);
        if self.lines.len() >= MOST_LATER || bytes > MOST_BYTES_LATER {
            return Err(error);
        }
        self.bytes = bytes;
        self.devices.entry(device).or_insert_with(|| error.clone());
        self.lines.push((line.clone(), error));
        Ok(())
    }
}

/// Carries out what was put off, as often as that makes fewer of them.
async fn again(
    jobs: &Jobs,
    mut later: Later,
    log: &mut Writer,
    cancel: &CancellationToken,
) -> Result<(), Stopped> {
    for _ in 0..ROUNDS {
        let lines: Vec<_> = later.lines.into_iter().map(|(line, _)| line).collect();
        let mut still = Later::default();
        for batch in lines.chunks(AT_ONCE) {
            let wrong = carry_out_all(jobs, batch, &mut still, cancel).await?;
            write_log(log, &wrong, cancel).await?;
        }
        later = still;
        if later.lines.len() == lines.len() {
            break;
        }
    }
    let wrong: Vec<_> = later.lines.into_iter().map(|(_, error)| error).collect();
    write_log(log, &wrong, cancel).await
}

/// Hands out the errors in the order of the lines.
async fn carry_out_all(
    jobs: &Jobs,
    batch: &[Line],
    later: &mut Later,
    cancel: &CancellationToken,
) -> Result<Vec<LineError>, Stopped> {
    if cancel.is_cancelled() {
        return Err(Stopped::Cancelled);
    }
    let mut outcome = Outcome::default();
    let mut devices: HashMap<DeviceId, Vec<(usize, BulkItem)>> = HashMap::new();
    for (place, line) in batch.iter().enumerate() {
        match read(line) {
            Ok(item) => {
                if let Some(why) = later.devices.get(&item.name.device) {
                    outcome.put_off(place, item.name, why.clone());
                    continue;
                }
                let of_device = devices.entry(item.name.device.clone());
                of_device.or_default().push((place, item));
            }
            Err(error) => outcome.wrong.push((place, error)),
        }
    }
    let mut under_way = JoinSet::new();
    for items in devices.into_values() {
        let (registry, presence) = (Arc::clone(&jobs.registry), Arc::clone(&jobs.presence));
        under_way.spawn(async move { one_device(&registry, &presence, items).await });
    }
    for of_one in under_way.join_all().await {
        outcome.wrong.extend(of_one.wrong);
        outcome.waiting.extend(of_one.waiting);
    }
    outcome.waiting.sort_by_key(|(place, ..)| *place);
    for (place, device, error) in outcome.waiting {
        if let Err(error) = later.put_off(&batch[place], device, error) {
            outcome.wrong.push((place, error));
        }
    }
    outcome.wrong.sort_by_key(|(place, _)| *place);
    Ok(outcome.wrong.into_iter().map(|(_, error)| error).collect())
}

/// What became of lines, by their place.
#[derive(Default)]
struct Outcome {
    wrong: Vec<(usize, LineError)>,
    waiting: Vec<(usize, DeviceId, LineError)>,
}

impl Outcome {
    fn put_off(&mut self, place: usize, name: Identity, why: LineError) {
        let why = LineError {
            device_id: Some(name.device.to_string()),
            module_id: name.module.map(|module| module.to_string()),
            ..why
        };
        self.waiting.push((place, name.device, why));
    }
}

/// One line after the other.
async fn one_device(
    registry: &Registry,
    presence: &Presence,
    items: Vec<(usize, BulkItem)>,
) -> Outcome {
    let mut outcome = Outcome::default();
    for (place, item) in items {
        let name = item.name.clone();
        if let Some((_, _, why)) = outcome.waiting.first() {
            let why = why.clone();
            outcome.put_off(place, name, why);
            continue;
        }
        let Err(error) = carry_out(registry, presence, item).await else {
            continue;
        };
        match error.number() == Some(ErrorCode::InvalidDeviceScope.number()) {
            true => outcome.put_off(place, name, error.into()),
            false => outcome.wrong.push((place, error.into())),
        }
    }
    outcome
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

/// Lines that are put off; of more the error is told at once.
const MOST_LATER: usize = 10_000;
const MOST_BYTES_LATER: usize = 64 << 20;

/// Azure lets five edge devices stand one behind the other.
const ROUNDS: usize = 10;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::lines::LONGEST;
    use super::*;

    #[test]
    fn lines_that_are_put_off_take_a_bounded_part_of_the_memory() {
        let mut later = Later::default();
        let error = LineError {
            device_id: None,
            module_id: None,
            error_code: 0.into(),
            error_status: String::new(),
        };
        for (length, room) in [(LONGEST, MOST_BYTES_LATER / LONGEST), (0, MOST_LATER)] {
            let line = Line {
                number: 1,
                text: Some(vec![b' '; length]),
            };
            let mut put_off = || later.put_off(&line, "d".parse().unwrap(), error.clone());
            while put_off().is_ok() {}
            assert_eq!(later.lines.len(), room);
        }
    }
}
