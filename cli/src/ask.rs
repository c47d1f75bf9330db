//! One request to a service that runs, and its answer in words.
//!
//! Everything that commands ask of a service goes over its REST API, as any back end would do it. What may not enter:
//! which service, what is asked.

use std::process::ExitCode;

use anyhow::{Context, bail};
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::endpoint::Open;
use crate::follow::print_line;

/// Runs one command to its end.
pub fn run(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(command)
}

/// What is asked of a service.
#[derive(Debug)]
pub struct Ask<'a> {
    method: Method,
    path: &'a str,
    query: &'a [(&'a str, String)],
    headers: &'a [(&'a str, &'a str)],
    body: Option<Value>,
    /// What to do next when it is refused with a status.
    hints: &'a [(StatusCode, &'a str)],
}

/// What a service answered.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
    text: String,
}

impl<'a> Ask<'a> {
    pub fn new(method: Method, path: &'a str) -> Self {
        Self {
            method,
            path,
            query: &[],
            headers: &[],
            body: None,
            hints: &[],
        }
    }

    pub fn get(path: &'a str) -> Self {
        Self::new(Method::GET, path)
    }

    pub fn query(self, query: &'a [(&'a str, String)]) -> Self {
        Self { query, ..self }
    }

    pub fn headers(self, headers: &'a [(&'a str, &'a str)]) -> Self {
        Self { headers, ..self }
    }

    pub fn body(self, body: Value) -> Self {
        let body = Some(body);
        Self { body, ..self }
    }

    pub fn hints(self, hints: &'a [(StatusCode, &'a str)]) -> Self {
        Self { hints, ..self }
    }

    /// The answer; what the service refuses is an error in its own words, with the next step.
    pub async fn of(self, service: &Open) -> anyhow::Result<Answer> {
        let hints = self.hints;
        let answer = self.of_any(service).await?;
        if answer.status.is_success() {
            return Ok(answer);
        }
        bail!(answer.refusal(service, hints))
    }

    /// The answer, or nothing where the service knows no such record.
    pub async fn find(self, service: &Open) -> anyhow::Result<Option<Value>> {
        let hints = self.hints;
        let answer = self.of_any(service).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(Some(answer.body)),
            _ => bail!(answer.refusal(service, hints)),
        }
    }

    /// The answer, whatever it is.
    pub async fn of_any(self, service: &Open) -> anyhow::Result<Answer> {
        let sent = service.send(self.method, self.path, self.query, self.headers, self.body);
        let response = sent.await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.context("the answer broke off")?;
        Ok(Answer {
            status,
            headers,
            body: serde_json::from_str(&text).unwrap_or_default(),
            text,
        })
    }
}

impl Answer {
    /// What the service refused, in its own words, with the next step.
    pub fn refusal(&self, service: &Open, hints: &[(StatusCode, &str)]) -> String {
        // A DPS writes `message`, a hub `Message`.
        let said = ["message", "Message"].iter();
        let said = said.filter_map(|member| self.body[member].as_str()).next();
        let hint = hints.iter().find(|(status, _)| *status == self.status);
        let next = match (hint, self.status) {
            (Some((_, hint)), _) => hint,
            (None, StatusCode::UNAUTHORIZED) => "`azimuth why` says what was wrong.",
            (None, StatusCode::PRECONDITION_FAILED) => {
                "Somebody else changed it meanwhile; try again."
            }
            _ => "",
        };
        let message = said.unwrap_or(&self.text).trim();
        let text = format!(
            "{} answered {}: {message} {next}",
            service.label(),
            self.status
        );
        text.trim_end().into()
    }
}

/// One record: whole as JSON, or the members that people ask for, one a line. `lines` tells a member in lines of its own.
pub fn print_record(
    record: &Value,
    as_json: bool,
    members: &[&str],
    lines: impl Fn(&str, &Value) -> Option<Vec<(String, String)>>,
) -> anyhow::Result<()> {
    if as_json {
        return print_line(serde_json::to_string_pretty(record)?);
    }
    let width = members.iter().map(|member| member.len() + 1);
    let width = width.max().unwrap_or_default().max(24);
    for member in members {
        let value = &record[member];
        let said = match value {
            Value::Null => continue,
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let one = || vec![((*member).to_owned(), said)];
        for (name, said) in lines(member, value).unwrap_or_else(one) {
            print_line(format!("{name:<width$}{said}"))?;
        }
    }
    Ok(())
}
