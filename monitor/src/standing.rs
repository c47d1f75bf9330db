//! How devices stand in the registry: asked with queries, as any back end asks.
//!
//! What may not enter: what follows for a device.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::Error;
use crate::hub::{Hub, Request, answered, in_time};
use crate::span::Span;
use crate::watch::Absence;

/// The tag that says how many seconds may pass between two heartbeats, as a path of a query: `tags.site.seconds`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagPath(String);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not the path of a tag: names with dots between, such as heartbeatSeconds or site.heartbeat"
)]
pub struct InvalidTag(String);

impl FromStr for TagPath {
    type Err = InvalidTag;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut path = "tags".to_owned();
        for name in text.strip_prefix("tags.").unwrap_or(text).split('.') {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.is_empty() || name.contains(['[', ']']) || name.chars().any(char::is_control) {
                return Err(InvalidTag(text.into()));
            }
            path +=
                &match name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(plain) {
                    true => format!(".[[{name}]]"),
                    false => format!(".{name}"),
                };
        }
        Ok(Self(path))
    }
}

/// Tells of each device that has the tag, or of all that may send, and the interval of the tag.
pub async fn list(
    hub: &impl Hub,
    tag: Option<&TagPath>,
    all: bool,
    each: impl FnMut(&str, Option<Span>),
) -> Result<(), Error> {
    let mut each = each;
    rows(hub, &listing(tag, all), |row| {
        each(row.device_id, row.interval())
    })
    .await
}

/// Of these devices, those of whom nothing can be expected.
pub async fn absences(
    hub: &impl Hub,
    devices: &[Arc<str>],
) -> Result<Vec<(Arc<str>, Absence)>, Error> {
    let mut absences = Vec::new();
    for (query, devices) in by_id(devices) {
        let mut enabled = HashMap::new();
        rows(hub, &query, |row| {
            enabled.insert(row.device_id.to_owned(), row.status != Some("disabled"));
        })
        .await?;
        for device in devices {
            let absence = match enabled.get(&**device) {
                Some(true) => continue,
                Some(false) => Absence::Disabled,
                None => Absence::Deleted,
            };
            absences.push((device.clone(), absence));
        }
    }
    Ok(absences)
}

/// Rows asked for at once.
const PAGE: &str = "1000";

async fn rows(hub: &impl Hub, query: &str, mut each: impl FnMut(Row<'_>)) -> Result<(), Error> {
    let mut place: Option<String> = None;
    loop {
        let mut headers = vec![("x-ms-max-item-count", PAGE)];
        headers.extend(place.as_deref().map(|place| ("x-ms-continuation", place)));
        let request = Request {
            method: Method::POST,
            path: "/devices/query",
            query: &[],
            headers: &headers,
            body: Some(json!({ "query": query })),
        };
        let answer = answered(hub, request).await?;
        let next = answer.headers().get("x-ms-continuation");
        let next = next.and_then(|next| next.to_str().ok());
        let next = next.filter(|next| !next.is_empty()).map(str::to_owned);
        let body = in_time(answer.bytes()).await??;
        let page: Vec<Row<'_>> = serde_json::from_slice(&body).map_err(Error::Rows)?;
        page.into_iter().for_each(&mut each);
        place = next;
        if place.is_none() {
            return Ok(());
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row<'a> {
    device_id: &'a str,
    status: Option<&'a str>,
    seconds: Option<Value>,
}

impl Row<'_> {
    /// A tag that is no number of seconds is none.
    fn interval(&self) -> Option<Span> {
        Span::seconds(self.seconds.as_ref()?.as_f64()?)
    }
}

fn listing(tag: Option<&TagPath>, all: bool) -> String {
    let seconds = tag.map_or(String::new(), |TagPath(path)| {
        format!(", {path} AS seconds")
    });
    let which = match tag {
        Some(TagPath(path)) if !all => format!("is_defined({path})"),
        _ => "status = 'enabled'".to_owned(),
    };
    format!("SELECT deviceId{seconds} FROM devices WHERE {which}")
}

/// Azure takes queries of 8192 characters.
const LONGEST: usize = 8000;

/// Queries that name all of them, each with those it names.
fn by_id(devices: &[Arc<str>]) -> Vec<(String, &[Arc<str>])> {
    let mut queries = Vec::new();
    let mut left = devices;
    while !left.is_empty() {
        let (mut names, mut named) = (String::new(), 0);
        for device in left {
            let name = format!("'{}'", device.replace('\'', "\\'"));
            if named > 0 && names.len() + name.len() > LONGEST - 100 {
                break;
            }
            names += if named > 0 { "," } else { "" };
            names += &name;
            named += 1;
        }
        let (these, others) = left.split_at(named);
        let query = format!("SELECT deviceId, status FROM devices WHERE deviceId IN [{names}]");
        queries.push((query, these));
        left = others;
    }
    queries
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_tag_is_written_as_a_path_of_a_query() {
        for (text, path) in [
            ("heartbeatSeconds", "tags.heartbeatSeconds"),
            ("tags.heartbeatSeconds", "tags.heartbeatSeconds"),
            ("site.heart-beat.1st", "tags.site.[[heart-beat]].[[1st]]"),
        ] {
            let tag: TagPath = text.parse().unwrap();
            assert_eq!(tag.0, path);
        }
        for text in ["", "a..b", ".", "tags.", "a]b", "a[0]", "a\nb"] {
            assert!(text.parse::<TagPath>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_listing_asks_for_what_is_needed() {
        let tag = "beat".parse().unwrap();
        for (tag, all, query) in [
            (
                None,
                true,
                "SELECT deviceId FROM devices WHERE status = 'enabled'",
            ),
            (
                Some(&tag),
                false,
                "SELECT deviceId, tags.beat AS seconds FROM devices WHERE is_defined(tags.beat)",
            ),
            (
                Some(&tag),
                true,
                "SELECT deviceId, tags.beat AS seconds FROM devices WHERE status = 'enabled'",
            ),
        ] {
            assert_eq!(listing(tag, all), query);
        }
    }

    #[test]
    fn every_device_is_named_once_and_no_query_is_too_long() {
        let devices: Vec<Arc<str>> = (0..500).map(|n| format!("{n:0>128}").into()).collect();
        let queries = by_id(&devices);
        assert!(queries.iter().all(|(query, _)| query.len() <= 8192));
        assert!(queries.len() < 12);
        let named: Vec<_> = queries
            .iter()
            .flat_map(|(_, named)| *named)
            .cloned()
            .collect();
        assert_eq!(named, devices);
        assert!(by_id(&[]).is_empty());
        let quoted = by_id(&["it's".into()]).len();
        assert_eq!(quoted, 1);
        let devices: [Arc<str>; 2] = ["it's".into(), "b".into()];
        assert!(by_id(&devices)[0].0.ends_with(r"IN ['it\'s','b']"));
    }

    #[test]
    fn a_row_tells_an_interval_where_the_tag_is_a_number_of_seconds() {
        for (seconds, interval) in [
            ("2.5", Span::seconds(2.5)),
            ("\"30\"", None),
            ("0", None),
            ("-1", None),
            ("{}", None),
            ("null", None),
        ] {
            let row = format!(r#"{{"deviceId":"lamp","seconds":{seconds},"more":1}}"#);
            let row: Row<'_> = serde_json::from_str(&row).unwrap();
            assert_eq!(row.interval(), interval, "{seconds}");
        }
    }
}
