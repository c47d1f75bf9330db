//! `GET /azimuth/refusals?after=N&follow=`: the ledger, one record a line, oldest first.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::response::Response;
use azimuth_broker::{Ledger, Record};
use azimuth_wire::time::Timestamp;
use serde::Serialize;

use super::lines::{Lines, Over};
use super::{Rest, paths};
use crate::error::Error;

impl Rest {
    pub(super) fn refusals(&self, query: Option<&str>) -> Result<Response, Error> {
        let after = match paths::parameter(query, "after") {
            None => 0,
            Some(text) => text
                .parse()
                .map_err(|_| Error::Argument("`after` must be the number of a record".into()))?,
        };
        let follow = follow(query)?;
        let (lines, response) = Lines::answer(&self.stopping);
        let ledger = self.ledger.clone();
        tokio::spawn(async move {
            // Over is how every such task ends.
            let _ = tell(&ledger, after, follow, &lines).await;
        });
        Ok(response)
    }
}

/// Whether a stream waits for more at its end.
pub fn follow(query: Option<&str>) -> Result<bool, Error> {
    match paths::parameter(query, "follow").as_deref() {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(Error::Argument("`follow` must be `true` or `false`".into())),
    }
}

async fn tell(
    ledger: &Arc<Ledger>,
    mut after: u64,
    follow: bool,
    lines: &Lines,
) -> Result<(), Over> {
    loop {
        let records = ledger.since(after);
        after = records.last().map_or(after, |record| record.number);
        lines.write(records.iter().flat_map(line).collect()).await?;
        if !follow {
            return Ok(());
        }
        lines.until(ledger.wait(after)).await?;
    }
}

fn line(record: &Record) -> Vec<u8> {
    #[derive(Serialize)]
    struct Line<'a> {
        number: u64,
        at: Timestamp,
        operation: &'a str,
        who: Option<&'a str>,
        remote: Option<String>,
        kind: &'a str,
        sentence: &'a str,
        facts: BTreeMap<&'a str, &'a str>,
        answer: String,
    }
    let refusal = &record.refusal;
    let facts = refusal.facts.iter();
    let line = Line {
        number: record.number,
        at: record.at.into(),
        operation: record.operation.name(),
        who: record.who.as_deref(),
        remote: record.remote.map(|remote| remote.to_string()),
        kind: refusal.kind,
        sentence: &refusal.sentence,
        facts: facts.map(|(name, value)| (*name, value.as_str())).collect(),
        answer: refusal.answer.to_string(),
    };
    let mut json = serde_json::to_vec(&line).expect("texts and numbers are JSON");
    json.push(b'\n');
    json
}
