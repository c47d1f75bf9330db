//! Changes on their way to a webhook: an array of them in each POST, again when it fails, and given up in the end.
//!
//! What may not enter: what a change is, how the client trusts.

use std::cell::Cell;
use std::time::Duration;

use reqwest::{Client, Url};
use tokio::sync::mpsc;

use crate::change::Change;

/// The near end of a webhook: never waits.
#[derive(Debug)]
pub struct Webhook {
    out: mpsc::Sender<Change>,
    dropped: Cell<u64>,
}

/// Changes that wait.
const WAITING: usize = 10_000;
/// Changes in one POST.
const TOGETHER: usize = 100;
/// Pauses between attempts; then a POST is given up. Seven minutes in all.
const PAUSES: [u64; 8] = [1, 2, 5, 15, 30, 60, 120, 180];

impl Webhook {
    /// The end to push to, and the one that [`deliver`] takes from.
    pub fn channel() -> (Self, mpsc::Receiver<Change>) {
        let (out, waiting) = mpsc::channel(WAITING);
        let dropped = Cell::new(0);
        (Self { out, dropped }, waiting)
    }

    pub fn push(&self, change: Change) {
        if self.out.try_send(change).is_ok() {
            return;
        }
        self.dropped.set(self.dropped.get() + 1);
        if self.dropped.get() % 1000 == 1 {
            let dropped = self.dropped.get();
            tracing::error!(
                dropped,
                "{WAITING} changes wait for the webhook already; more are dropped"
            );
        }
    }
}

/// Delivers until the near end is gone and nothing waits.
pub async fn deliver(url: Url, client: Client, mut waiting: mpsc::Receiver<Change>) {
    let mut changes = Vec::new();
    while waiting.recv_many(&mut changes, TOGETHER).await > 0 {
        let body = serde_json::to_vec(&changes).expect("texts and numbers are JSON");
        let mut pauses = PAUSES.iter();
        loop {
            let Err(failure) = post(&client, &url, body.clone()).await else {
                break;
            };
            let pause = pauses.next().filter(|_| failure.passing);
            let (changes, why) = (changes.len(), &failure.sentence);
            let Some(pause) = pause else {
                tracing::error!(changes, "changes were not delivered to the webhook: {why}");
                break;
            };
            tracing::warn!(
                changes,
                "the webhook did not take changes, it is asked again in {pause} s: {why}"
            );
            tokio::time::sleep(Duration::from_secs(*pause)).await;
        }
        changes.clear();
    }
}

struct Failure {
    sentence: String,
    /// Another attempt may succeed.
    passing: bool,
}

async fn post(client: &Client, url: &Url, body: Vec<u8>) -> Result<(), Failure> {
    let request = client
        .post(url.clone())
        .header("content-type", "application/json; charset=utf-8")
        .body(body);
    let answer = request.send().await.map_err(|error| Failure {
        sentence: told(error),
        passing: true,
    })?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    Err(Failure {
        sentence: format!("it answered {status}"),
        passing: status.is_server_error() || matches!(status.as_u16(), 408 | 429),
    })
}

/// The innermost cause; the error itself shows the URL, and with it a key that may stand in its query.
fn told(error: reqwest::Error) -> String {
    let error = error.without_url();
    if error.is_timeout() {
        return "it did not answer in time".into();
    }
    let mut cause: &dyn std::error::Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
