//! The query language of twins and jobs: text in, a query out that judges documents. Pure.
//!
//! ```text
//!  text ── lexer ── parser ─► Query ─┬─ filter (expression) ─► which documents
//!                                    ├─ columns, grouping ───► which rows of them
//!                                    ├─ keys ────────────────► which keys can hold any
//!                                    └─ wanted ──────────────► which parts must be read
//! ```
//! May not enter: where documents come from, HTTP, what a twin means.

mod aggregate;
pub mod continuation;
mod cursor;
mod expression;
mod function;
mod grouping;
mod keys;
mod lexer;
mod page;
mod parser;
mod path;
mod select;
mod value;
mod wanted;

pub use keys::Keys;
pub use page::{Limits, Page, Part};
pub use wanted::Wanted;

use std::sync::Arc;

use serde_json::{Map, Value};

use expression::Expression;
use grouping::{Grouping, Groups};
use path::Path;

/// A query that was understood.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    pub collection: Collection,
    /// At most so many rows, of all pages together.
    pub top: Option<u64>,
    selection: Selection,
    filter: Option<Expression>,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collection {
    Devices,
    Modules,
    Jobs,
}

/// What a row is made of.
#[derive(Debug, Clone, PartialEq)]
enum Selection {
    /// The document as it is.
    Everything,
    Columns(Vec<Column>),
    Groups(Arc<Grouping>),
}

/// One member of a row.
#[derive(Debug, Clone, PartialEq)]
struct Column {
    name: String,
    path: Path,
}

/// Why a text is no query: what stands where something else should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at character {position} of the query: {what}")]
pub struct InvalidQuery {
    /// The first character is 1.
    pub position: usize,
    pub what: String,
}

/// Characters of the longest query, as Azure has it.
pub const LONGEST: usize = 8192;

impl Query {
    pub fn parse(text: &str) -> Result<Self, InvalidQuery> {
        let length = text.chars().count();
        if length > LONGEST {
            let what = format!("it is {length} characters long; {LONGEST} are possible");
            return Err(InvalidQuery {
                position: LONGEST + 1,
                what,
            });
        }
        select::query(parser::Parser::new(text)?)
    }

    /// As Azure names what the rows are.
    pub fn item_type(&self) -> &'static str {
        match (self.collection, &self.selection) {
            (Collection::Jobs, _) => "DeviceJob",
            (_, Selection::Everything) => "Twin",
            (_, Selection::Columns(_) | Selection::Groups(_)) => "Raw",
        }
    }

    /// Whether a row is the whole document, written as it is.
    pub fn selects_everything(&self) -> bool {
        self.selection == Selection::Everything
    }

    /// Whether each document is a row.
    pub fn selects_each(&self) -> bool {
        self.filter.is_none() && self.groups().is_none()
    }

    /// Empty groups to collect documents in, where rows are groups.
    fn groups(&self) -> Option<Groups> {
        match &self.selection {
            Selection::Groups(grouping) => Some(Groups::new(grouping.clone())),
            Selection::Everything | Selection::Columns(_) => None,
        }
    }

    /// Which device ids can pass the filter.
    pub fn keys(&self) -> Keys {
        self.filter.as_ref().map_or(Keys::All, Keys::of)
    }

    /// The parts of a document that [`passes`](Self::passes) and [`Part::add`] look at.
    pub fn wanted(&self) -> Wanted {
        let mut wanted = Wanted::nothing();
        if let Some(filter) = &self.filter {
            filter.each_path(&mut |path| wanted.add(path));
        }
        match &self.selection {
            Selection::Everything => {}
            Selection::Columns(columns) => {
                columns.iter().for_each(|column| wanted.add(&column.path));
            }
            Selection::Groups(grouping) => grouping.each_path(&mut |path| wanted.add(path)),
        }
        wanted
    }

    /// Whether the filter is true of a document; undefined is not true.
    pub fn passes(&self, document: &Value) -> bool {
        let filter = self.filter.as_ref();
        filter.is_none_or(|filter| filter.truth(document) == Some(true))
    }

    /// The row of a document: what is undefined is left out.
    pub(crate) fn row(&self, document: &Value) -> Value {
        let Selection::Columns(columns) = &self.selection else {
            return document.clone();
        };
        let row = columns.iter().filter_map(|column| {
            let value = column.path.of(document)?;
            Some((column.name.clone(), value.clone()))
        });
        Value::Object(row.collect::<Map<_, _>>())
    }
}

#[cfg(test)]
mod tests;
