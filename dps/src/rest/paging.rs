//! Queries and their pages: what is asked for, how much at once, and from where on.
//!
//! Pure. A continuation says behind which id to go on, so a page costs what it holds, and what is
//! written between two pages neither shifts nor repeats anything.

use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::error::Error;

/// Which page of a collection is meant.
#[derive(Debug, PartialEq, Eq)]
pub struct Place {
    pub after: Option<String>,
    pub limit: usize,
}

impl Place {
    /// Reads the headers of a query over `collection`.
    pub fn of(headers: &HeaderMap, collection: &str) -> Result<Self, Error> {
        let text = |name| {
            let value = headers.get(name).map(|value| value.to_str().unwrap_or("?"));
            value.map(str::trim).filter(|value| !value.is_empty())
        };
        let limit = match text(MAX_ITEM_COUNT) {
            None => MOST_ITEMS,
            Some(count) => match count.parse::<u64>() {
                Ok(count) if count > 0 => {
                    usize::try_from(count).unwrap_or(MOST_ITEMS).min(MOST_ITEMS)
                }
                _ => {
                    let sentence = format!("{MAX_ITEM_COUNT} is a number from 1 on, not `{count}`");
                    return Err(Error::Invalid(sentence));
                }
            },
        };
        let after = text(CONTINUATION)
            .map(|token| id_in(token, collection))
            .transpose()?;
        Ok(Self { after, limit })
    }
}

/// The token to go on with behind the record with this id.
pub fn continuation(collection: &str, id: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("{collection}\n{id}"))
}

fn id_in(token: &str, collection: &str) -> Result<String, Error> {
    let text = URL_SAFE_NO_PAD.decode(token).ok();
    let text = text.and_then(|text| String::from_utf8(text).ok());
    let found = text.as_deref().and_then(|text| text.split_once('\n'));
    match found {
        Some((of, id)) if of == collection => Ok(id.into()),
        _ => Err(Error::Invalid(format!(
            "{CONTINUATION} is not a token that this query gave out"
        ))),
    }
}

/// Whether the body of a query asks for all there is: the one question that can be asked so far.
pub fn check_query(body: &Value) -> Result<(), Error> {
    let text = match (body, &body["query"]) {
        (Value::Null, _) | (Value::Object(_), Value::Null) => return Ok(()),
        (Value::Object(_), Value::String(text)) => text,
        _ => {
            return Err(Error::Invalid(
                "the body of a query is an object whose member query is text".into(),
            ));
        }
    };
    let text = text.trim().trim_end_matches(';').to_ascii_lowercase();
    let words: Vec<_> = text.split_whitespace().collect();
    match words.as_slice() {
        [] | ["*"] | ["select", "*"] | ["select", "*", "from", _] => Ok(()),
        ["select", "*", "from", _, "where", ..] => Err(Error::NotSupported("WHERE in a query")),
        _ => Err(Error::Invalid(
            "the query cannot be read; `SELECT *` asks for all there is".into(),
        )),
    }
}

pub const CONTINUATION: &str = "x-ms-continuation";
const MAX_ITEM_COUNT: &str = "x-ms-max-item-count";
const MOST_ITEMS: usize = 100;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn headers_say_how_much_and_from_where() {
        let token = continuation("enrollments", "dev-9");
        let place = |after: Option<&str>, limit| Some((after.map(String::from), limit));
        for (count, token, expected) in [
            ("", "", place(None, 100)),
            ("20", "", place(None, 20)),
            (" 100 ", "", place(None, 100)),
            ("99999999999", "", place(None, 100)),
            ("1", token.as_str(), place(Some("dev-9"), 1)),
            ("0", "", None),
            ("-1", "", None),
            ("many", "", None),
            ("", "rubbish", None),
            ("", &continuation("enrollmentGroups", "dev-9"), None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(MAX_ITEM_COUNT, count.parse().unwrap());
            headers.insert(CONTINUATION, token.parse().unwrap());
            let got = Place::of(&headers, "enrollments").ok();
            assert_eq!(got.map(|place| (place.after, place.limit)), expected);
        }
    }

    #[test]
    fn queries_for_everything_are_understood_and_no_others() {
        for (body, understood) in [
            (Value::Null, true),
            (json!({}), true),
            (json!({ "query": null }), true),
            (json!({ "query": "" }), true),
            (json!({ "query": "*" }), true),
            (json!({ "query": "select  *" }), true),
            (json!({ "query": "SELECT * FROM enrollments" }), true),
            (json!({ "query": "SELECT * FROM enrollmentGroups;" }), true),
            (
                json!({ "query": "SELECT * FROM enrollments WHERE a = 1" }),
                false,
            ),
            (json!({ "query": "DROP TABLE enrollments" }), false),
            (json!({ "query": 7 }), false),
            (json!([]), false),
        ] {
            assert_eq!(check_query(&body).is_ok(), understood, "{body}");
        }
    }
}
