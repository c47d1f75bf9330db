//! What a DPS holds many of, page after page: as columns, or as JSON.
//!
//! Written as it comes, so that a long list needs no memory. What may not enter: which columns.

use std::io::{Write, stdout};

use reqwest::Method;
use serde_json::{Value, json};

use super::Ask;
use crate::endpoint::Open;
use crate::follow::print_line;

/// Reads page after page of a query.
#[derive(Debug)]
pub struct Pages {
    path: String,
    /// `None` when the last page was read.
    token: Option<String>,
}

impl Pages {
    pub fn of(path: String) -> Self {
        Self {
            path,
            token: Some(String::new()),
        }
    }

    pub async fn next(&mut self, dps: &Open) -> anyhow::Result<Option<Vec<Value>>> {
        let Some(token) = self.token.take() else {
            return Ok(None);
        };
        let headers = [(CONTINUATION, token.as_str())];
        let headers = if token.is_empty() { &[][..] } else { &headers };
        let query = json!({ "query": "SELECT *" });
        let answer = Ask::new(Method::POST, &self.path)
            .headers(headers)
            .body(query)
            .of(dps)
            .await?;
        let token = answer.headers.get(CONTINUATION);
        self.token = token
            .and_then(|token| token.to_str().ok())
            .map(str::to_owned);
        match answer.body {
            Value::Array(items) => Ok(Some(items)),
            _ => anyhow::bail!("{} answered what is no list", dps.label()),
        }
    }

    /// All that is left.
    pub async fn all(mut self, dps: &Open) -> anyhow::Result<Vec<Value>> {
        let mut all = Vec::new();
        while let Some(page) = self.next(dps).await? {
            all.extend(page);
        }
        Ok(all)
    }
}

/// Writes a list to the end: as a JSON array, or a row for each.
pub async fn print<const N: usize>(
    dps: &Open,
    mut pages: Pages,
    as_json: bool,
    columns: [&str; N],
    row: fn(&Value) -> [String; N],
) -> anyhow::Result<()> {
    if as_json {
        let mut before = "[\n";
        while let Some(page) = pages.next(dps).await? {
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
        return print_line(if before == ",\n" { "\n]" } else { "[]" });
    }
    let mut table = Table::of(columns);
    while let Some(page) = pages.next(dps).await? {
        let rows: Vec<_> = page.iter().map(row).collect();
        table.lines(&rows).iter().try_for_each(print_line)?;
    }
    Ok(())
}

/// Columns that only grow, so that later pages line up under earlier ones where they can.
#[derive(Debug)]
pub struct Table<const N: usize> {
    head: Option<[String; N]>,
    widths: [usize; N],
}

impl<const N: usize> Table<N> {
    pub fn of(columns: [&str; N]) -> Self {
        Self {
            head: Some(columns.map(String::from)),
            widths: [0; N],
        }
    }

    /// The next lines; the first ones begin with the head.
    pub fn lines(&mut self, rows: &[[String; N]]) -> Vec<String> {
        let head = self.head.take();
        let all: Vec<_> = head.iter().chain(rows).collect();
        for row in &all {
            for (width, cell) in self.widths.iter_mut().zip(row.iter()) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let line = |row: &&[String; N]| {
            let cells = row.iter().zip(self.widths);
            let cells = cells.map(|(cell, width)| format!("{cell:width$}"));
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
