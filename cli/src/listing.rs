//! What a service holds many of, page after page: as columns, or as JSON.
//!
//! Written as it comes, so that a long list needs no memory. What may not enter: which columns.

use std::io::{Write, stdout};

use reqwest::Method;
use serde_json::{Value, json};

use crate::ask::Ask;
use crate::endpoint::Open;
use crate::follow::print_line;

/// Reads page after page of a query.
#[derive(Debug)]
pub struct Pages {
    path: String,
    query: String,
    /// `None` when the last page was read.
    token: Option<String>,
}

impl Pages {
    /// Of all that stands under a path.
    pub fn of(path: String) -> Self {
        Self::chosen(path, "SELECT *".into())
    }

    /// Of what a query chooses.
    pub fn chosen(path: String, query: String) -> Self {
        Self {
            path,
            query,
            token: Some(String::new()),
        }
    }

    pub async fn next(&mut self, service: &Open) -> anyhow::Result<Option<Vec<Value>>> {
        let Some(token) = self.token.take() else {
            return Ok(None);
        };
        let headers = [(CONTINUATION, token.as_str())];
        let headers = if token.is_empty() { &[][..] } else { &headers };
        let query = json!({ "query": self.query });
        let answer = Ask::new(Method::POST, &self.path)
            .headers(headers)
            .body(query)
            .of(service)
            .await?;
        let token = answer.headers.get(CONTINUATION);
        self.token = token
            .and_then(|token| token.to_str().ok())
            .map(str::to_owned);
        match answer.body {
            Value::Array(items) => Ok(Some(items)),
            _ => anyhow::bail!("{} answered what is no list", service.label()),
        }
    }

    /// All that is left.
    pub async fn all(mut self, service: &Open) -> anyhow::Result<Vec<Value>> {
        let mut all = Vec::new();
        while let Some(page) = self.next(service).await? {
            all.extend(page);
        }
        Ok(all)
    }
}

/// Writes a list to the end: as a JSON array, or a row for each.
pub async fn print<const N: usize>(
    service: &Open,
    mut pages: Pages,
    as_json: bool,
    columns: [&str; N],
    row: fn(&Value) -> [String; N],
) -> anyhow::Result<()> {
    if as_json {
        return print_json(service, pages).await;
    }
    let mut table = Table::of(columns);
    while let Some(page) = pages.next(service).await? {
        let rows: Vec<_> = page.iter().map(row).collect();
        table.lines(&rows).iter().try_for_each(print_line)?;
    }
    Ok(())
}

/// Writes a list to the end as a JSON array.
pub async fn print_json(service: &Open, mut pages: Pages) -> anyhow::Result<()> {
    let mut before = "[\n";
    while let Some(page) = pages.next(service).await? {
        for item in page {
            // What comes next says whether a comma follows.
            write!(
                stdout().lock(),
                "{before}{}",
                serde_json::to_string_pretty(&item)?
            )?;
            before = ",\n";
        }
    }
    print_line(if before == ",\n" { "\n]" } else { "[]" })
}

/// Columns that only grow, so that later pages line up under earlier ones where they can.
#[derive(Debug)]
pub struct Table {
    head: Option<Vec<String>>,
    widths: Vec<usize>,
}

impl Table {
    pub fn of(columns: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let head: Vec<String> = columns.into_iter().map(Into::into).collect();
        Self {
            widths: vec![0; head.len()],
            head: Some(head),
        }
    }

    /// The next lines; the first ones begin with the head.
    pub fn lines(&mut self, rows: &[impl AsRef<[String]>]) -> Vec<String> {
        let head = self.head.take();
        let head = head.iter().map(Vec::as_slice);
        let all: Vec<_> = head.chain(rows.iter().map(AsRef::as_ref)).collect();
        for row in &all {
            for (width, cell) in self.widths.iter_mut().zip(row.iter()) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let line = |row: &&[String]| {
            let cells = row.iter().zip(&self.widths);
            let cells = cells.map(|(cell, &width)| format!("{cell:width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        all.iter().map(line).collect()
    }
}

/// A member as a cell; what is not there is a dash.
pub fn cell(item: &Value, member: &str) -> String {
    match &item[member] {
        Value::String(text) if !text.is_empty() => text.clone(),
        Value::Array(parts) if !parts.is_empty() => {
            let parts = parts.iter().filter_map(Value::as_str);
            parts.collect::<Vec<_>>().join(" ")
        }
        Value::Null | Value::String(_) | Value::Array(_) => "-".into(),
        other => other.to_string(),
    }
}

const CONTINUATION: &str = "x-ms-continuation";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_grow_from_page_to_page() {
        let mut table = Table::of(["ID", "HUB"]);
        let row = |id: &str, hub: &str| [id.to_owned(), hub.to_owned()];
        let first = table.lines(&[row("dev-1", "a.net"), row("d", "")]);
        assert_eq!(first, ["ID     HUB", "dev-1  a.net", "d"]);
        let second = table.lines(&[row("x", "b.net"), row("device-2", "c.net")]);
        assert_eq!(second, ["x         b.net", "device-2  c.net"]);
    }

    #[test]
    fn a_cell_is_never_empty() {
        let item = json!({ "a": "x", "b": null, "c": ["p", "q"], "d": [], "e": true, "f": "" });
        let cells = ["a", "b", "c", "d", "e", "f", "g"].map(|member| cell(&item, member));
        assert_eq!(cells, ["x", "-", "p q", "-", "true", "-", "-"]);
    }
}
