//! What waits for the writer: bounded, in order, and closed at the end.
//!
//! May not enter: the database.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, oneshot};

use crate::{Action, Change, Error};

/// One set on its way to the writer. Its share of the queue is free again when it is dropped.
pub(crate) struct Job {
    pub changes: Vec<Change>,
    /// Nobody waits for a lazy one.
    pub answer: Option<oneshot::Sender<Result<Vec<u64>, Error>>>,
    share: OwnedSemaphorePermit,
}

pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    news: Condvar,
    /// In shares of 1 KiB. Lazy sets have their own, so that a flood of them holds up no commit.
    commits: Arc<Semaphore>,
    lazy: Arc<Semaphore>,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    commits: usize,
    closed: bool,
}

/// What the writer got, and whether more can ever come.
pub(crate) struct Batch {
    pub jobs: Vec<Job>,
    pub last: bool,
}

impl Queue {
    pub fn new() -> Self {
        Self {
            waiting: Mutex::default(),
            news: Condvar::new(),
            commits: Arc::new(Semaphore::new(SHARES as usize)),
            lazy: Arc::new(Semaphore::new(SHARES as usize)),
        }
    }

    /// Queues at once if there is room, else gives `changes` back with what to wait for.
    pub fn try_commit(
        &self,
        changes: Vec<Change>,
    ) -> Result<oneshot::Receiver<Result<Vec<u64>, Error>>, Refused> {
        match self
            .commits
            .clone()
            .try_acquire_many_owned(shares(&changes))
        {
            Ok(share) => self
                .push_commit(changes, share)
                .map_err(|_| Refused::Closed),
            Err(TryAcquireError::Closed) => Err(Refused::Closed),
            Err(TryAcquireError::NoPermits) => Err(Refused::Full(changes)),
        }
    }

    /// Waits for room, then queues.
    pub async fn commit(
        &self,
        changes: Vec<Change>,
    ) -> Result<oneshot::Receiver<Result<Vec<u64>, Error>>, Error> {
        let share = self
            .commits
            .clone()
            .acquire_many_owned(shares(&changes))
            .await;
        self.push_commit(changes, share.map_err(|_| Error::Closed)?)
    }

    /// Queues a set nobody waits for; false when there is no room.
    pub fn commit_lazily(&self, changes: Vec<Change>) -> bool {
        let Ok(share) = self.lazy.clone().try_acquire_many_owned(shares(&changes)) else {
            return false;
        };
        self.push(Job {
            changes,
            answer: None,
            share,
        })
        .is_ok()
    }

    /// The next jobs: at once if a commit waits, else after `patience` (for ever if `None` and
    /// nothing is queued).
    pub fn take(&self, patience: Option<Duration>) -> Batch {
        let mut waiting = self.waiting.lock();
        if patience.is_none() {
            self.news.wait_while(&mut waiting, |waiting| {
                waiting.jobs.is_empty() && !waiting.closed
            });
        }
        // Lazy sets wait a moment for company.
        self.news.wait_while_for(
            &mut waiting,
            |waiting| waiting.commits == 0 && !waiting.closed,
            patience.unwrap_or(COMPANY),
        );
        let mut jobs = Vec::new();
        let mut taken = 0;
        while taken < BATCH_SHARES
            && let Some(job) = waiting.jobs.pop_front()
        {
            taken += job.share.num_permits();
            waiting.commits -= usize::from(job.answer.is_some());
            jobs.push(job);
        }
        Batch {
            jobs,
            last: waiting.closed && waiting.jobs.is_empty(),
        }
    }

    /// Takes nothing more; what is queued stays for the writer.
    pub fn close(&self) {
        self.waiting.lock().closed = true;
        self.commits.close();
        self.lazy.close();
        self.news.notify_all();
    }

    /// Forgets what is queued: their askers hear that the store is closed.
    pub fn clear(&self) {
        let mut waiting = self.waiting.lock();
        waiting.commits = 0;
        waiting.jobs.clear();
    }

    fn push_commit(
        &self,
        changes: Vec<Change>,
        share: OwnedSemaphorePermit,
    ) -> Result<oneshot::Receiver<Result<Vec<u64>, Error>>, Error> {
        let (answer, answered) = oneshot::channel();
        self.push(Job {
            changes,
            answer: Some(answer),
            share,
        })?;
        Ok(answered)
    }

    fn push(&self, job: Job) -> Result<(), Error> {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return Err(Error::Closed);
        }
        waiting.commits += usize::from(job.answer.is_some());
        waiting.jobs.push_back(job);
        drop(waiting);
        self.news.notify_one();
        Ok(())
    }
}

pub(crate) enum Refused {
    Full(Vec<Change>),
    Closed,
}

/// One share per KiB begun, and one for the set itself; the largest set takes the whole queue.
fn shares(changes: &[Change]) -> u32 {
    let bytes: usize = changes
        .iter()
        .map(|change| match &change.action {
            Action::Put(body) => change.key.as_bytes().len() + body.len(),
            Action::Delete | Action::Leave => change.key.as_bytes().len(),
        })
        .sum();
    u32::try_from(bytes / 1024 + 1)
        .unwrap_or(SHARES)
        .min(SHARES)
}

/// 32 MiB may wait.
const SHARES: u32 = 32 * 1024;
/// 8 MiB, or 8,192 small sets, go into one transaction.
const BATCH_SHARES: usize = 8 * 1024;
pub(crate) const COMPANY: Duration = Duration::from_millis(50);
