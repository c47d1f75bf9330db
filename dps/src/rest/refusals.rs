//! Refusals as lines of JSON, those there are and, on demand, those to come.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use axum::response::Response;
use azimuth_broker::{Ledger, Record};
use azimuth_wire::time::Timestamp;
use bytes::Bytes;
use hyper::body::Frame;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// `after=N&follow=true|false`.
pub fn answer(ledger: &Arc<Ledger>, query: &str, stop: &CancellationToken) -> Response {
    let value = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find_map(|(given, value)| (given == name).then_some(value))
    };
    let after = value("after")
        .and_then(|after| after.parse().ok())
        .unwrap_or(0);
    let body = if value("follow") == Some("true") {
        Body::new(Lines(follow(ledger.clone(), after, stop.clone())))
    } else {
        Body::from(lines(&ledger.since(after)))
    };
    Response::builder()
        .header("content-type", "application/x-ndjson")
        .body(body)
        .expect("the header is a constant")
}

fn follow(ledger: Arc<Ledger>, mut after: u64, stop: CancellationToken) -> mpsc::Receiver<Bytes> {
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        loop {
            let records = ledger.since(after);
            if let Some(last) = records.last() {
                after = last.number;
                if sender.send(lines(&records)).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                () = ledger.wait(after) => {}
                () = sender.closed() => return,
                () = stop.cancelled() => return,
            }
        }
    });
    receiver
}

fn lines(records: &[Record]) -> Bytes {
    let mut text = String::new();
    for record in records {
        text.push_str(&line(record).to_string());
        text.push('\n');
    }
    text.into()
}

pub fn line(record: &Record) -> Value {
    let refusal = &record.refusal;
    let facts = refusal.facts.iter();
    let facts: Map<String, Value> = facts
        .map(|(name, value)| ((*name).into(), value.as_str().into()))
        .collect();
    json!({
        "number": record.number,
        "at": Timestamp::from(record.at),
        "operation": record.operation.name(),
        "who": record.who,
        "remote": record.remote.map(|remote| remote.to_string()),
        "kind": refusal.kind,
        "sentence": refusal.sentence,
        "facts": facts,
        "answer": refusal.answer.to_string(),
    })
}

struct Lines(mpsc::Receiver<Bytes>);

impl HttpBody for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0
            .poll_recv(context)
            .map(|lines| lines.map(|lines| Ok(Frame::data(lines))))
    }
}
