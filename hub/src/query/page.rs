//! One page of rows, made of parts that come in the order of their keys. Pure.
//!
//! Knows when it is full, and whether another page follows. May not enter: how parts are read.

use serde_json::Value;

use super::Query;
use super::continuation::Place;
use super::grouping::Groups;

/// A row as JSON, and the key that a page after it goes on behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub key: String,
    pub json: Vec<u8>,
}

/// What a stretch of documents came to.
#[derive(Debug)]
pub enum Part {
    Rows(Vec<Row>),
    Groups(Groups),
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

    /// Whether nothing that comes later changes the page.
    pub fn is_full(&self) -> bool {
        self.more || self.rows.len() as u64 >= self.left
    }

    pub fn take(&mut self, part: Part) {
        match (part, &mut self.groups) {
            (Part::Groups(part), Some(groups)) => {
                groups.merge(part, self.after.as_deref(), self.limits.rows + 1);
            }
            (Part::Rows(rows), _) => rows.into_iter().for_each(|row| self.push(row)),
            (Part::Groups(_), None) => {}
        }
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
            shown: self.shown + self.rows.len() as u64,
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
        query.groups().map_or(Self::Rows(Vec::new()), Self::Groups)
    }

    /// Takes a document that passes the query's filter.
    pub fn add(
        &mut self,
        query: &Query,
        key: &str,
        document: &Value,
    ) -> Result<(), serde_json::Error> {
        match self {
            Self::Groups(groups) => groups.add(document),
            Self::Rows(rows) => {
                let (key, json) = (key.to_owned(), serde_json::to_vec(&query.row(document))?);
                rows.push(Row { key, json });
            }
        }
        Ok(())
    }
}
