//! `POST /devices/query`: a question in, a page of rows out.
//!
//! The store is read off the hub's thread, stretch by stretch and a few of them side by side, so that devices
//! on the line do not wait; the client that leaves ends it. May not enter: what a query means.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use azimuth_wire::registry::InvalidBody;
use serde_json::Value;
use tokio::sync::Semaphore;

use super::registry::whole;
use super::{Rest, answer, header};
use crate::error::Error;
use crate::query::continuation::Place;
use crate::query::{Limits, Page, Query};
use crate::registry::Rows;

const CONTINUATION: HeaderName = HeaderName::from_static("x-ms-continuation");
const ITEM_TYPE: HeaderName = HeaderName::from_static("x-ms-item-type");
const MAX_ITEM_COUNT: HeaderName = HeaderName::from_static("x-ms-max-item-count");

/// Rows of a page where the client does not say, and at most.
const ROWS: usize = 100;
const MOST_ROWS: usize = 1000;

/// A page of rather large twins ends early.
const PAGE_BYTES: usize = 4 << 20;

/// Bytes of a body that are read: the longest query, each character escaped.
const BODY_LIMIT: usize = 128 << 10;

/// Documents that are judged in one go: some milliseconds.
const STRETCH: usize = 512;

/// Stretches that are read or judged at the same time.
const SIDE_BY_SIDE: usize = 3;

/// Queries that read at the same time, of all hubs of the process: more threads would take the processors from the
/// devices on the line.
static TURNS: Semaphore = Semaphore::const_new(4);

impl Rest {
    pub(super) async fn query(&self, headers: &HeaderMap, body: Body) -> Result<Response, Error> {
        let text = text(&whole(body, BODY_LIMIT).await?)?;
        let query = Query::parse(&text)?;
        let limits = Limits {
            rows: rows(headers)?,
            bytes: PAGE_BYTES,
        };
        let mut page = Page::new(&query, limits, place(headers, &text)?);
        let item_type = query.item_type();
        self.fill(&mut page, query, limits).await?;
        let (json, next) = page.end()?;
        let mut response = answer::written_json(json);
        let answered = response.headers_mut();
        answered.insert(ITEM_TYPE, HeaderValue::from_static(item_type));
        // Its presence alone says that there is more.
        let token = next.and_then(|next| HeaderValue::try_from(next.token(&text)).ok());
        token.map(|token| answered.insert(CONTINUATION, token));
        Ok(response)
    }

    async fn fill(&self, page: &mut Page, query: Query, limits: Limits) -> Result<(), Error> {
        let most = match query.selects_each() {
            true => limits.rows + 1,
            false => STRETCH,
        };
        let are_few = Rows::are_few(&query);
        // Before a state of the store is taken: who waits holds none.
        let _turn = match are_few {
            true => None,
            false => TURNS.acquire().await.ok(),
        };
        let Some(rows) = Rows::open(Arc::clone(&self.registry), query)? else {
            return Ok(());
        };
        let mut from = Some(page.reads_behind().map(|name| rows.key(name)));
        if are_few {
            // Sooner read than handed to another thread.
            while !page.is_full()
                && let Some(behind) = from.take()
            {
                let stretch = rows.stretch(behind.as_ref(), most)?;
                page.take(rows.part(&stretch, limits)?);
                from = stretch.next.map(Some);
            }
            return Ok(());
        }
        let rows = Arc::new(rows);
        let mut ahead = VecDeque::new();
        while !page.is_full() {
            while ahead.len() < SIDE_BY_SIDE
                && let Some(behind) = from.take()
            {
                let reader = Arc::clone(&rows);
                let stretch = off_thread(move || reader.stretch(behind.as_ref(), most)).await?;
                from = stretch.next.clone().map(Some);
                let judge = Arc::clone(&rows);
                ahead.push_back(off_thread(move || judge.part(&stretch, limits)));
            }
            match ahead.pop_front() {
                Some(part) => page.take(part.await?),
                None => break,
            }
        }
        Ok(())
    }
}

/// Begins at once. What was begun and is not waited for any more ends by itself, soon.
fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> impl Future<Output = Result<T, Error>> {
    let under_way = tokio::task::spawn_blocking(work);
    // It is cut off only where the hub stops.
    async {
        under_way
            .await
            .map_err(|_| azimuth_storage::Error::Closed)?
    }
}

/// The text of the query.
fn text(json: &[u8]) -> Result<String, Error> {
    let body: Value =
        serde_json::from_slice(json).map_err(|error| InvalidBody::NotJson(error.to_string()))?;
    let Value::Object(members) = body else {
        return Err(Error::Argument("the body must be an object".into()));
    };
    let mut members = members.into_iter();
    let found = members.find(|(name, _)| name.eq_ignore_ascii_case("query"));
    match found.map(|(_, value)| value) {
        Some(Value::String(text)) => Ok(text),
        None | Some(Value::Null) => Err(Error::NoQuery),
        Some(_) => Err(Error::Argument("the member query must be a text".into())),
    }
}

/// How many rows the client takes.
fn rows(headers: &HeaderMap) -> Result<usize, Error> {
    let Some(text) = filled(headers, &MAX_ITEM_COUNT) else {
        return Ok(ROWS);
    };
    match text.parse::<u64>() {
        Ok(count) if count > 0 => Ok(usize::try_from(count).unwrap_or(MOST_ROWS).min(MOST_ROWS)),
        _ => Err(Error::Argument(format!(
            "{MAX_ITEM_COUNT} must be a number from 1 on"
        ))),
    }
}

/// Where the page begins.
fn place(headers: &HeaderMap, query: &str) -> Result<Option<Place>, Error> {
    let Some(token) = filled(headers, &CONTINUATION) else {
        return Ok(None);
    };
    match Place::of(token, query) {
        Some(place) => Ok(Some(place)),
        None => Err(Error::Argument(format!(
            "{CONTINUATION} is not a token that this query gave out"
        ))),
    }
}

fn filled<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let text = header(headers, name).map(str::trim);
    text.filter(|text| !text.is_empty())
}
