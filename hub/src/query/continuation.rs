//! Continuation tokens: behind which row the next page begins. Pure.
//!
//! A token is a place in the order of rows, not in a list that was made once: so it never grows old, and what
//! is written between two pages neither shifts nor repeats a row.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Where a query goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The key of the last row shown.
    pub after: String,
    /// How many rows earlier pages had, where that counts.
    pub shown: u64,
}

impl Place {
    /// The token, good for this query text only.
    pub fn token(&self, query: &str) -> String {
        let Self { after, shown } = self;
        URL_SAFE_NO_PAD.encode(format!("{:08x} {shown} {after}", digest(query)))
    }

    /// `None` for what is no token of this query.
    pub fn of(token: &str, query: &str) -> Option<Self> {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        let (of, rest) = text.split_once(' ')?;
        let (shown, after) = rest.split_once(' ')?;
        let fits = u32::from_str_radix(of, 16).ok()? == digest(query);
        fits.then_some(Self {
            after: after.to_owned(),
            shown: shown.parse().ok()?,
        })
    }
}

fn digest(query: &str) -> u32 {
    crc32fast::hash(query.as_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_token_is_good_for_its_query() {
        for after in ["dev-1", "edge/$edgeHub", "", "a b\tc\u{e9}"] {
            let place = Place {
                after: after.into(),
                shown: 7,
            };
            let token = place.token("SELECT 1");
            assert_eq!(Place::of(&token, "SELECT 1"), Some(place));
            assert_eq!(Place::of(&token, "SELECT 2"), None);
        }
        for rubbish in ["garbage", "", "e30", "\u{e9}"] {
            assert_eq!(Place::of(rubbish, "SELECT 1"), None, "{rubbish}");
        }
    }
}
