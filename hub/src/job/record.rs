//! One job: what is told of it, and the states it goes through. Pure.
//!
//! May not enter: containers, the store, what a job reads and writes.

use std::time::{Duration, SystemTime};

use azimuth_wire::job::{JobKind, JobProperties, JobStatus};
use azimuth_wire::time::Timestamp;
use serde::{Deserialize, Serialize};

/// A job as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    pub id: String,
    kind: JobKind,
    started: Timestamp,
    exclude_keys: bool,
    state: State,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum State {
    Enqueued,
    Running(Progress),
    Over { ended: Timestamp, how: Ending },
}

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Hundredths.
    pub percent: u8,
    /// Lines of the file that are done for certain.
    pub lines: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Ending {
    Completed,
    Cancelled(Progress),
    Failed { at: Progress, reason: String },
}

impl Progress {
    /// 100 is for a job that is over.
    pub fn of(done: u64, of: u64, lines: u64) -> Self {
        let percent = (u128::from(done) * 100).checked_div(u128::from(of));
        Self {
            percent: percent.unwrap_or(0).min(99) as u8,
            lines,
        }
    }
}

impl Job {
    pub fn new(id: String, kind: JobKind, exclude_keys: bool, now: SystemTime) -> Self {
        Self {
            id,
            kind,
            started: now.into(),
            exclude_keys,
            state: State::Enqueued,
        }
    }

    pub fn run(&mut self, progress: Progress) {
        self.state = State::Running(progress);
    }

    pub fn complete(&mut self, now: SystemTime) {
        self.end(now, |_| Ending::Completed);
    }

    pub fn cancel(&mut self, now: SystemTime) {
        self.end(now, Ending::Cancelled);
    }

    pub fn fail(&mut self, now: SystemTime, reason: &str) {
        let reason = reason.to_owned();
        self.end(now, |at| Ending::Failed { at, reason });
    }

    /// The hub stopped, or was killed, before the job was over.
    pub fn interrupt(&mut self, now: SystemTime) {
        let reason = match (self.kind, self.progress().lines) {
            (JobKind::Export, _) => {
                "the hub stopped while this job ran; nothing was exported".into()
            }
            (JobKind::Import, lines) => format!(
                "the hub stopped while this job ran; the first {lines} lines were carried out, and perhaps some of \
                 those after them"
            ),
        };
        self.fail(now, &reason);
    }

    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over { .. })
    }

    /// Azure keeps jobs for 30 days.
    pub fn is_history(&self, now: SystemTime) -> bool {
        let State::Over { ended, .. } = &self.state else {
            return false;
        };
        let age = ended.get().and_then(|ended| now.duration_since(ended).ok());
        age.is_some_and(|age| age > KEPT_FOR)
    }

    pub fn started(&self) -> Timestamp {
        self.started
    }

    /// Without the containers.
    pub fn properties(&self) -> JobProperties {
        let (status, ended, reason) = match &self.state {
            State::Enqueued => (JobStatus::Enqueued, None, None),
            State::Running(_) => (JobStatus::Running, None, None),
            State::Over { ended, how } => {
                let (status, reason) = match how {
                    Ending::Completed => (JobStatus::Completed, None),
                    Ending::Cancelled(_) => (JobStatus::Cancelled, None),
                    Ending::Failed { reason, .. } => (JobStatus::Failed, Some(reason.clone())),
                };
                (status, Some(*ended), reason)
            }
        };
        JobProperties {
            job_id: self.id.clone(),
            start_time_utc: self.started,
            end_time_utc: ended,
            kind: self.kind,
            status,
            progress: self.progress().percent,
            input_blob_container_uri: None,
            output_blob_container_uri: None,
            exclude_keys_in_export: self.exclude_keys,
            failure_reason: reason,
            use_secondary_storage_as_source: false,
        }
    }

    fn progress(&self) -> Progress {
        match &self.state {
            State::Enqueued => Progress::default(),
            State::Running(progress) => *progress,
            State::Over { how, .. } => match how {
                Ending::Completed => Progress {
                    percent: 100,
                    lines: 0,
                },
                Ending::Cancelled(at) | Ending::Failed { at, .. } => *at,
            },
        }
    }

    fn end(&mut self, now: SystemTime, how: impl FnOnce(Progress) -> Ending) {
        self.state = State::Over {
            ended: now.into(),
            how: how(self.progress()),
        };
    }
}

/// Lines of an import that are carried out at once.
pub const AT_ONCE: usize = 512;

const KEPT_FOR: Duration = Duration::from_secs(30 * 24 * 3600);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::UNIX_EPOCH;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn job(kind: JobKind) -> Job {
        Job::new("j".into(), kind, false, at(1))
    }

    #[test]
    fn a_job_goes_from_nothing_to_a_hundred() {
        let mut job = job(JobKind::Import);
        let told = |job: &Job| {
            let told = job.properties();
            (told.status, told.progress, told.end_time_utc.is_some())
        };
        assert_eq!(told(&job), (JobStatus::Enqueued, 0, false));
        job.run(Progress::of(1, 3, 7));
        assert_eq!(told(&job), (JobStatus::Running, 33, false));
        job.run(Progress::of(3, 3, 20));
        assert_eq!(told(&job), (JobStatus::Running, 99, false));
        assert!(!job.is_over());
        let mut cancelled = job.clone();
        cancelled.cancel(at(5));
        assert_eq!(told(&cancelled), (JobStatus::Cancelled, 99, true));
        job.complete(at(5));
        assert_eq!(told(&job), (JobStatus::Completed, 100, true));
        assert_eq!(Progress::of(0, 0, 0).percent, 0);
        assert_eq!(Progress::of(u64::MAX, u64::MAX, 0).percent, 99);
    }

    #[test]
    fn an_interrupted_job_says_how_far_it_came() {
        let mut import = job(JobKind::Import);
        import.run(Progress::of(1, 2, 1024));
        import.interrupt(at(9));
        let told = import.properties();
        assert_eq!((told.status, told.progress), (JobStatus::Failed, 50));
        let reason = told.failure_reason.unwrap();
        assert!(reason.contains("the first 1024 lines"), "{reason}");
        let mut export = job(JobKind::Export);
        export.interrupt(at(9));
        let reason = export.properties().failure_reason.unwrap();
        assert!(reason.contains("nothing was exported"), "{reason}");
    }

    #[test]
    fn jobs_are_history_thirty_days_after_their_end() {
        let mut job = job(JobKind::Export);
        let days = 24 * 3600;
        assert!(!job.is_history(at(99 * days)));
        job.complete(at(days));
        assert!(!job.is_history(at(31 * days)));
        assert!(job.is_history(at(31 * days + 1)));
    }

    #[test]
    fn a_stored_job_is_read_back() {
        let mut job = job(JobKind::Import);
        for change in [
            |job: &mut Job| job.run(Progress::of(1, 2, 3)),
            |job: &mut Job| job.fail(at(2), "why"),
        ] {
            let text = serde_json::to_string(&job).unwrap();
            assert_eq!(serde_json::from_str::<Job>(&text).unwrap(), job);
            change(&mut job);
        }
    }
}
