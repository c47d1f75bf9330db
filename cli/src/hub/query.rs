//! `azimuth hub query`: what Azure's query language says of the devices and modules of a hub that runs.
//!
//! What may not enter: the language; the hub knows it.

use std::collections::BTreeSet;

use clap::Args;
use serde_json::Value;

use crate::config::Config;
use crate::follow::{Target, print_line};
use crate::listing::{self, Pages, Table, cell};

/// Asks a hub in Azure's query language, page after page.
#[derive(Debug, Args)]
pub struct Query {
    /// Such as "SELECT deviceId, tags.floor FROM devices WHERE connectionState = 'Connected'" [default: all devices]
    #[arg(
        value_name = "QUERY",
        default_value = "SELECT * FROM devices",
        hide_default_value = true
    )]
    text: String,
    #[command(flatten)]
    at: Target,
    /// As JSON, whole
    #[arg(long)]
    json: bool,
}

impl Query {
    pub async fn run(self, config: &Config) -> anyhow::Result<()> {
        let hub = self.at.open(config).await?;
        let mut pages = Pages::chosen("/devices/query".into(), self.text);
        if self.json {
            return listing::print_json(&hub, pages).await;
        }
        let mut shown: Option<(Vec<String>, Table)> = None;
        while let Some(page) = pages.next(&hub).await? {
            let (columns, table) = match &mut shown {
                Some(shown) => shown,
                None if page.is_empty() => continue,
                None => {
                    let columns = columns(&page);
                    let head = columns.iter().map(|name| heading(name));
                    let table = Table::of(head);
                    shown.insert((columns, table))
                }
            };
            let row = |item: &Value| -> Vec<String> {
                columns.iter().map(|name| cell(item, name)).collect()
            };
            let rows: Vec<_> = page.iter().map(row).collect();
            table.lines(&rows).iter().try_for_each(print_line)?;
        }
        if shown.is_none() {
            eprintln!("nothing was found");
        }
        Ok(())
    }
}

/// What of a twin people look for; of rows that were projected, all that stands in the first page.
fn columns(page: &[Value]) -> Vec<String> {
    let whole = |item: &Value| item["properties"].is_object() && item["deviceEtag"].is_string();
    if page.iter().all(whole) {
        let module = page.iter().any(|item| item["moduleId"].is_string());
        let of_twins = TWIN.iter().filter(|name| module || **name != "moduleId");
        return of_twins.map(|name| (*name).to_owned()).collect();
    }
    let names = page.iter().filter_map(Value::as_object);
    let names: BTreeSet<&String> = names.flat_map(|row| row.keys()).collect();
    names.into_iter().cloned().collect()
}

/// `lastActivityTime` as `LAST ACTIVITY TIME`.
fn heading(member: &str) -> String {
    let mut heading = String::new();
    let mut before = ' ';
    for letter in member.chars() {
        if letter.is_ascii_uppercase() && before.is_ascii_lowercase() {
            heading.push(' ');
        }
        heading.push(letter.to_ascii_uppercase());
        before = letter;
    }
    heading
}

const TWIN: [&str; 7] = [
    "deviceId",
    "moduleId",
    "status",
    "connectionState",
    "lastActivityTime",
    "version",
    "tags",
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_the_members_that_were_asked_for() {
        let rows = [json!({ "b": 1 }), json!({ "a": { "x": 1 } })];
        assert_eq!(columns(&rows), ["a", "b"]);
        let twin = json!({ "deviceId": "d", "deviceEtag": "e", "properties": {} });
        assert!(!columns(&[twin]).contains(&"moduleId".to_owned()));
        assert_eq!(heading("lastActivityTime"), "LAST ACTIVITY TIME");
        assert_eq!(heading("$1"), "$1");
    }
}
