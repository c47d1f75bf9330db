//! The one thread that writes: everything queued goes into one transaction and one flush.
//!
//! ```text
//!  Idle ──lazy──► Owing(ticks) ──commit, or 20 ticks of 50 ms, or close──► Idle
//! ```
//! Owing means: visible, not yet flushed. Time is counted in waits, so no clock is asked.
//!
//! After a flush that carried many the next one gathers a moment longer: a flush costs the same for one and for a
//! hundred. Few writers never wait for each other.

use std::sync::Arc;
use std::time::Duration;

use redb::{Database, Durability, ReadableTable, Table};

use crate::change::versions;
use crate::format::{DOCUMENTS, META, VERSION, seal, version_of};
use crate::queue::{COMPANY, Job, Queue};
use crate::{Action, Change, Error};

/// Runs until the queue is closed and empty.
pub(crate) fn run(database: &Database, queue: &Arc<Queue>) {
    let _farewell = Farewell(queue.clone());
    let mut owing: Option<u32> = None;
    let mut crowded = false;
    loop {
        if crowded {
            std::thread::sleep(GATHERING);
        }
        let batch = queue.take(owing.map(|_| COMPANY));
        let ticks = owing.map_or(0, |ticks| ticks + 1);
        let waiting = batch.jobs.iter().filter(|job| job.answer.is_some());
        let waiting = waiting.count();
        let urgent = waiting > 0;
        crowded = waiting >= CROWD;
        let flush = urgent || batch.last || ticks >= FLUSH_TICKS;
        if !batch.jobs.is_empty() || (flush && owing.is_some()) {
            let written = write(database, batch.jobs, flush);
            owing = (!flush && written).then_some(ticks);
        } else if owing.is_some() {
            owing = Some(ticks);
        }
        if batch.last {
            return;
        }
    }
}

/// Writes a batch and answers it. False when it failed.
fn write(database: &Database, jobs: Vec<Job>, flush: bool) -> bool {
    let outcome = transact(database, &jobs, flush);
    let written = outcome.is_ok();
    match outcome {
        Ok(results) => jobs
            .into_iter()
            .zip(results)
            .for_each(|(job, result)| answer(job, result)),
        Err(error) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "a batch was not written"
            );
            jobs.into_iter()
                .for_each(|job| answer(job, Err(error.clone())));
        }
    }
    written
}

fn answer(job: Job, result: Result<Vec<u64>, Error>) {
    match (job.answer, result) {
        // An asker who has left does not mind.
        (Some(asker), result) => drop(asker.send(result)),
        (None, Err(error)) => tracing::warn!(%error, "a lazy write was not made"),
        (None, Ok(_)) => {}
    }
}

/// One transaction for all jobs: a conflicting set gets its error and leaves no trace; an error
/// of the database fails them all.
fn transact(
    database: &Database,
    jobs: &[Job],
    flush: bool,
) -> Result<Vec<Result<Vec<u64>, Error>>, Error> {
    let mut transaction = database.begin_write().map_err(Error::storage)?;
    let durability = if flush {
        Durability::Immediate
    } else {
        Durability::None
    };
    transaction
        .set_durability(durability)
        .map_err(Error::storage)?;
    let mut results = Vec::with_capacity(jobs.len());
    {
        let mut documents = transaction.open_table(DOCUMENTS).map_err(Error::storage)?;
        let mut meta = transaction.open_table(META).map_err(Error::storage)?;
        let before = meta
            .get(VERSION)
            .map_err(Error::storage)?
            .map_or(0, |version| version.value());
        let mut latest = before;
        for job in jobs {
            match apply(&mut documents, &job.changes, &mut latest) {
                Err(error @ Error::Conflict { .. }) => results.push(Err(error)),
                Err(error) => return Err(error),
                Ok(given) => results.push(Ok(given)),
            }
        }
        if latest != before {
            meta.insert(VERSION, latest).map_err(Error::storage)?;
        }
    }
    transaction.commit().map_err(Error::storage)?;
    Ok(results)
}

fn apply(
    documents: &mut Table<'_, &'static [u8], &'static [u8]>,
    changes: &[Change],
    latest: &mut u64,
) -> Result<Vec<u64>, Error> {
    let given = versions(changes, latest, |key| {
        let stored = documents.get(key.as_bytes()).map_err(Error::storage)?;
        stored.map(|stored| version_of(stored.value())).transpose()
    })?;
    for (change, version) in changes.iter().zip(&given) {
        let key = change.key.as_bytes();
        match &change.action {
            Action::Put(body) => {
                let mut value = documents
                    .insert_reserve(key, body.len() + 8)
                    .map_err(Error::storage)?;
                seal(value.as_mut(), *version, body);
            }
            Action::Delete => drop(documents.remove(key).map_err(Error::storage)?),
            Action::Leave => {}
        }
    }
    Ok(given)
}

/// However the writer ends, nobody waits for it for ever.
struct Farewell(Arc<Queue>);

impl Drop for Farewell {
    fn drop(&mut self) {
        self.0.close();
        self.0.clear();
    }
}

const FLUSH_TICKS: u32 = 20;
/// Commits in one flush that make a crowd.
const CROWD: usize = 4;
const GATHERING: Duration = Duration::from_millis(3);
