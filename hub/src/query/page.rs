//! One page of rows, made of parts that come in the order of their keys. Pure.
//!
//! Knows when it is full, and whether another page follows. May not enter: how parts are read.

use serde_json::Value;

use super::Query;
use super::continuation::Place;
use super::grouping::Groups;

/// A row as JSON, and the key that a page after it goes on behind.
#[derive(Debug)]
struct Row {
    key: String,
    json: Vec<u8>,
}

/// What a stretch of documents came to.
#[derive(Debug)]
pub struct Part {
    rows: Vec<Row>,
    bytes: usize,
    /// Where rows are groups.
    groups: Option<Groups>,
}

/// How large a page may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub rows: usize,
    /// Of JSON; a page has one row at least.
    pub bytes: usize,
}

/// A page that is being filled.
#[derive(Debug)]
pub struct Page {
    after: Option<String>,
    limits: Limits,
    /// Rows that earlier pages had.
    shown: u64,
    /// Rows that TOP leaves to this page and those after it.
    left: u64,
    rows: Vec<Row>,
    bytes: usize,
    groups: Option<Groups>,
    /// A row follows that is not on this page.
    more: bool,
}

impl Page {
    pub fn new(query: &Query, limits: Limits, place: Option<Place>) -> Self {
        let shown = place.as_ref().map_or(0, |place| place.shown);
        Self {
            after: place.map(|place| place.after),
            limits,
            shown,
            left: query.top.map_or(u64::MAX, |top| top.saturating_sub(shown)),
            rows: Vec::new(),
            bytes: 0,
            groups: query.groups(),
            more: false,
        }
    }

    /// The key behind which documents are to be read. For groups all are.
    pub fn reads_behind(&self) -> Option<&str> {
        self.after.as_deref().filter(|_| self.groups.is_none())
    }

    /// Whether nothing that comes later changes the page.
    pub fn is_full(&self) -> bool {
        self.more || self.rows.len() as u64 >= self.left
    }

    pub fn take(&mut self, part: Part) {
        if let (Some(groups), Some(others)) = (&mut self.groups, part.groups) {
            groups.merge(others, self.after.as_deref(), self.limits.rows + 1);
        }
        part.rows.into_iter().for_each(|row| self.push(row));
    }

    /// The rows as a JSON array, and where the next page begins, if there is one.
    pub fn end(mut self) -> Result<(Vec<u8>, Option<Place>), serde_json::Error> {
        if let Some(groups) = self.groups.take() {
            for (key, row) in groups.rows() {
                let json = serde_json::to_vec(&row)?;
                self.push(Row { key, json });
            }
        }
        let next = self.rows.last().filter(|_| self.more).map(|last| Place {
            after: last.key.clone(),
            // A client may make tokens up.
            shown: self.shown.saturating_add(self.rows.len() as u64),
        });
        let mut json = Vec::with_capacity(self.bytes + self.rows.len() + 2);
        json.push(b'[');
        for (place, row) in self.rows.iter().enumerate() {
            if place > 0 {
                json.push(b',');
            }
            json.extend_from_slice(&row.json);
        }
        json.push(b']');
        Ok((json, next))
    }

    fn push(&mut self, row: Row) {
        if self.is_full() {
            return;
        }
        let bytes = self.bytes + row.json.len();
        let full = self.rows.len() >= self.limits.rows || bytes > self.limits.bytes;
        if full && !self.rows.is_empty() {
            self.more = true;
            return;
        }
        self.bytes = bytes;
        self.rows.push(row);
    }
}

impl Part {
    pub fn new(query: &Query) -> Self {
        Self {
            rows: Vec::new(),
            bytes: 0,
            groups: query.groups(),
        }
    }

    /// Takes a document that passes the query's filter, or what of it is [wanted](Query::wanted).
    pub fn add(
        &mut self,
        query: &Query,
        key: &str,
        document: &Value,
    ) -> Result<(), serde_json::Error> {
        match &mut self.groups {
            Some(groups) => groups.add(document),
            None => self.push(key, serde_json::to_vec(&query.row(document))?),
        }
        Ok(())
    }

    /// Takes a row.
    pub fn push(&mut self, key: &str, json: Vec<u8>) {
        self.bytes += json.len();
        self.rows.push(Row {
            key: key.to_owned(),
            json,
        });
    }

    /// Whether it fills any page: what comes behind it is on none that it is on.
    pub fn is_enough(&self, limits: Limits) -> bool {
        let rows = self.rows.len();
        rows > limits.rows || (rows > 1 && self.bytes > limits.bytes)
    }
}
