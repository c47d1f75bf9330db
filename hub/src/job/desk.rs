//! Where jobs are asked for: one runs at a time, each state of it is stored, and what is over is kept a while.
//!
//! May not enter: what a job reads and writes.

use std::path::PathBuf;
use std::sync::Arc;

use azimuth_broker::Presence;
use azimuth_clock::Clock;
use azimuth_storage::{Change, Expect, Key, Store};
use azimuth_wire::job::{JobBody, JobProperties};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::record::{Job, Progress};
use super::work::{Stopped, Work};
use crate::error::Error;
use crate::registry::Registry;

/// What jobs are told at start.
#[derive(Debug, Clone)]
pub struct JobConfig {
    /// Of the hub: for the name of the thread.
    pub name: String,
    /// Containers of `file:` are below it.
    pub folder: PathBuf,
    /// The authority that is trusted beside those of the system, PEM.
    pub roots_pem: String,
}

/// The jobs of one hub.
pub struct Jobs {
    pub(super) config: JobConfig,
    pub(super) registry: Arc<Registry>,
    pub(super) presence: Arc<Presence>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    stopping: CancellationToken,
    active: Mutex<Option<Active>>,
}

/// The job that runs, or is about to.
#[derive(Clone)]
struct Active {
    job: Job,
    cancel: CancellationToken,
    over: CancellationToken,
}

impl Jobs {
    /// `stopping` ends the job that runs.
    pub fn new(
        config: JobConfig,
        store: Arc<dyn Store>,
        registry: Arc<Registry>,
        presence: Arc<Presence>,
        clock: Arc<dyn Clock>,
        stopping: CancellationToken,
    ) -> Self {
        Self {
            config,
            registry,
            presence,
            store,
            clock,
            stopping,
            active: Mutex::default(),
        }
    }

    /// Ends jobs that ran when the hub was killed.
    pub async fn recover(&self) -> Result<(), Error> {
        let now = self.clock.utc();
        let mut changes = Vec::new();
        for mut job in self.stored()? {
            if !job.is_over() {
                job.interrupt(now);
                changes.push(put(&job)?);
            }
        }
        match changes.is_empty() {
            true => Ok(()),
            false => Ok(self.store.commit(changes).await.map(drop)?),
        }
    }

    /// Checks the containers, stores the job and lets it run. Goes on also where the client has left.
    pub async fn create(self: &Arc<Self>, body: JobBody) -> Result<JobProperties, Error> {
        let slot = self.occupy(&body)?;
        let made = slot.active.job.properties();
        let (input, output) = match &body {
            JobBody::Import { input, output } => (Some(input), output),
            JobBody::Export { output, .. } => (None, output),
        };
        let shown = JobProperties {
            input_blob_container_uri: input.map(|place| place.container.clone()),
            output_blob_container_uri: Some(output.container.clone()),
            ..made
        };
        let (checked, answer) = oneshot::channel();
        let thread = std::thread::Builder::new().name(format!("{}-job", self.config.name));
        thread
            .spawn(move || slot.run(&body, checked))
            .map_err(Error::Thread)?;
        match answer.await {
            Ok(Ok(())) => Ok(shown),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(azimuth_storage::Error::Closed.into()),
        }
    }

    /// All that are kept, the newest first.
    pub fn all(&self) -> Result<Vec<JobProperties>, Error> {
        let now = self.clock.utc();
        let mut jobs = self.stored()?;
        jobs.retain(|job| !job.is_history(now));
        jobs.sort_by_key(|job| std::cmp::Reverse(job.started()));
        let newest = jobs.into_iter().map(|job| self.as_it_is(job).properties());
        Ok(newest.collect())
    }

    pub fn one(&self, id: &str) -> Result<JobProperties, Error> {
        let stored = self.store.get(&key(id))?;
        let job: Option<Job> = stored
            .map(|document| serde_json::from_slice(&document.body))
            .transpose()?;
        let job = job.filter(|job| !job.is_history(self.clock.utc()));
        let job = job.ok_or_else(|| Error::JobNotFound(id.chars().take(128).collect()))?;
        Ok(self.as_it_is(job).properties())
    }

    /// Ends a job, if it is not over, and waits until it is.
    pub async fn cancel(&self, id: &str) -> Result<(), Error> {
        self.one(id)?;
        if let Some(active) = self.active(id) {
            active.cancel.cancel();
            active.over.cancelled().await;
        }
        Ok(())
    }

    /// Waits for the job that runs, if one does.
    pub async fn idle(&self) {
        let active = self.active.lock().clone();
        if let Some(active) = active {
            active.over.cancelled().await;
        }
    }

    fn active(&self, id: &str) -> Option<Active> {
        let active = self.active.lock();
        active.clone().filter(|active| active.job.id == id)
    }

    /// What runs is newer here than in the store.
    fn as_it_is(&self, stored: Job) -> Job {
        self.active(&stored.id).map_or(stored, |active| active.job)
    }

    fn stored(&self) -> Result<Vec<Job>, Error> {
        let page = self.store.scan(ROOM, "", None, 2 * MOST_KEPT)?;
        let documents = page.documents.iter();
        let jobs = documents.map(|(_, document)| serde_json::from_slice(&document.body));
        Ok(jobs.collect::<Result<_, _>>()?)
    }

    /// Azure runs one job of a hub at a time.
    fn occupy(self: &Arc<Self>, body: &JobBody) -> Result<Slot, Error> {
        let exclude_keys = match body {
            JobBody::Import { .. } => false,
            JobBody::Export { exclude_keys, .. } => *exclude_keys,
        };
        let mut active = self.active.lock();
        if active.is_some() {
            return Err(Error::JobQuota);
        }
        let id = Uuid::new_v4().to_string();
        let job = Job::new(id, body.kind(), exclude_keys, self.clock.utc());
        let occupied = active.insert(Active {
            job,
            cancel: self.stopping.child_token(),
            over: CancellationToken::new(),
        });
        Ok(Slot {
            jobs: self.clone(),
            active: occupied.clone(),
        })
    }

    /// The changes that store a job and forget what is too old or too much.
    fn first(&self, job: &Job) -> Result<Vec<Change>, Error> {
        let now = self.clock.utc();
        let mut kept = self.stored()?;
        kept.sort_by_key(|job| std::cmp::Reverse(job.started()));
        let kept = kept.iter().enumerate();
        let gone = kept.filter(|(place, job)| *place + 1 >= MOST_KEPT || job.is_history(now));
        let mut changes: Vec<_> = gone
            .map(|(_, job)| Change::delete(key(&job.id), Expect::Anything))
            .collect();
        changes.push(put(job)?);
        Ok(changes)
    }
}

/// The one place for a job. Free again when it is dropped.
struct Slot {
    jobs: Arc<Jobs>,
    active: Active,
}

impl Slot {
    /// The job's thread, from check to end.
    fn run(self, body: &JobBody, checked: oneshot::Sender<Result<(), Error>>) {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build();
        match runtime {
            Ok(runtime) => runtime.block_on(self.carry_out(body, checked)),
            Err(error) => drop(checked.send(Err(Error::Thread(error)))),
        }
    }

    async fn carry_out(self, body: &JobBody, checked: oneshot::Sender<Result<(), Error>>) {
        let jobs = &self.jobs;
        let work = match self.begin(body).await {
            Ok(work) => work,
            Err(error) => {
                // Whoever hears of the failure may ask for the next job at once.
                drop(self);
                return drop(checked.send(Err(error)));
            }
        };
        let _ = checked.send(Ok(()));
        let outcome = work
            .run(jobs, &self.active.cancel, |progress| {
                self.progress(progress)
            })
            .await;
        let now = jobs.clock.utc();
        let mut job = self.job();
        match outcome {
            Ok(()) => job.complete(now),
            Err(Stopped::Cancelled) if jobs.stopping.is_cancelled() => job.interrupt(now),
            Err(Stopped::Cancelled) => job.cancel(now),
            Err(Stopped::Failed(reason)) => {
                tracing::warn!(job = job.id, reason, "a job failed");
                job.fail(now, &reason);
            }
        }
        self.store(&job).await;
    }

    /// Checks the containers and stores the job.
    async fn begin(&self, body: &JobBody) -> Result<Work, Error> {
        let cancel = &self.active.cancel;
        let work = tokio::select! {
            work = Work::check(body, &self.jobs.config) => work?,
            () = cancel.cancelled() => return Err(azimuth_storage::Error::Closed.into()),
        };
        let changes = self.jobs.first(&self.active.job)?;
        self.jobs.store.commit(changes).await?;
        Ok(work)
    }

    /// The last few may be lost where the hub is killed; nobody is told that lines were not carried out that were.
    fn progress(&self, progress: Progress) {
        let mut active = self.jobs.active.lock();
        if let Some(active) = active.as_mut() {
            active.job.run(progress);
            if let Ok(change) = put(&active.job) {
                self.jobs.store.commit_lazily(vec![change]);
            }
        }
    }

    fn job(&self) -> Job {
        let active = self.jobs.active.lock();
        let active = active.as_ref();
        active.map_or_else(|| self.active.job.clone(), |active| active.job.clone())
    }

    async fn store(&self, job: &Job) {
        let stored = match put(job) {
            Ok(change) => self
                .jobs
                .store
                .commit(vec![change])
                .await
                .map_err(Into::into),
            Err(error) => Err(error),
        };
        if let Err(error) = stored {
            let error: Error = error;
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the end of a job was not stored"
            );
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut job = self.job();
            job.fail(
                self.jobs.clock.utc(),
                "the job broke down; see the hub's log",
            );
            if let Ok(change) = put(&job) {
                self.jobs.store.commit_lazily(vec![change]);
            }
        }
        *self.jobs.active.lock() = None;
        self.active.over.cancel();
    }
}

fn put(job: &Job) -> Result<Change, Error> {
    let body = serde_json::to_vec(job)?;
    Ok(Change::put(key(&job.id), Expect::Anything, body))
}

fn key(id: &str) -> Key {
    Key::new(ROOM, id)
}

const ROOM: &str = "job";

/// Jobs that are kept, however young they are.
const MOST_KEPT: usize = 1000;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use azimuth_clock::SystemClock;
    use azimuth_wire::job::{BlobPlace, ContainerUri, JobStatus};

    use super::*;

    #[tokio::test]
    async fn a_job_that_breaks_down_does_not_run_for_ever() {
        let (store, clock) = (azimuth_storage::memory(), Arc::new(SystemClock));
        let registry = Registry::open("hub1", store.clone(), clock.clone()).unwrap();
        let config = JobConfig {
            name: "hub1".into(),
            folder: PathBuf::new(),
            roots_pem: String::new(),
        };
        let jobs = Arc::new(Jobs::new(
            config,
            store.clone(),
            Arc::new(registry),
            Arc::new(Presence::new()),
            clock,
            CancellationToken::new(),
        ));
        let output = BlobPlace {
            container: ContainerUri::new("file:x"),
            blob: "x".into(),
        };
        let slot = jobs.occupy(&JobBody::Export {
            output,
            exclude_keys: false,
            configurations: None,
        });
        let slot = slot.unwrap();
        let id = slot.active.job.id.clone();
        let first = jobs.first(&slot.active.job).unwrap();
        store.commit(first).await.unwrap();
        slot.progress(Progress::default());
        assert_eq!(jobs.one(&id).unwrap().status, JobStatus::Running);
        let broken = std::thread::spawn(move || {
            let _slot = slot;
            panic!("as a job should not");
        });
        assert!(broken.join().is_err());
        assert_eq!(jobs.one(&id).unwrap().status, JobStatus::Failed);
        assert!(jobs.active(&id).is_none());
    }
}
