//! Which device ids a filter can be true of, where it says so: then nothing else is read.

use std::collections::BTreeSet;

use serde_json::Value;

use super::expression::Expression;
use super::function::Function;
use super::value::Relation;

/// Ids that may pass; the filter is still asked of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keys {
    All,
    /// Those that begin so.
    Prefix(String),
    These(BTreeSet<String>),
}

impl Keys {
    pub fn of(filter: &Expression) -> Self {
        match filter {
            Expression::Comparison(left, Relation::Equal, right) => {
                let id = match (&**left, &**right) {
                    (Expression::Path(path), Expression::Constant(id))
                    | (Expression::Constant(id), Expression::Path(path))
                        if path.is_member(DEVICE_ID) =>
                    {
                        id
                    }
                    _ => return Self::All,
                };
                Self::These(text(id).into_iter().collect())
            }
            Expression::In(item, list) if is_id(item) => {
                let constants = list.iter().map(|candidate| match candidate {
                    Expression::Constant(id) => Some(text(id)),
                    _ => None,
                });
                let ids: Option<Vec<_>> = constants.collect();
                ids.map_or(Self::All, |ids| {
                    Self::These(ids.into_iter().flatten().collect())
                })
            }
            Expression::Call(Function::StartsWith, arguments) => match &arguments[..] {
                [item, Expression::Constant(Value::String(prefix))] if is_id(item) => {
                    Self::Prefix(prefix.clone())
                }
                _ => Self::All,
            },
            Expression::All(conditions) => {
                let keys = conditions.iter().map(Self::of);
                keys.fold(Self::All, Self::and)
            }
            Expression::Any(conditions) => {
                let keys = conditions.iter().map(Self::of);
                keys.reduce(Self::or).unwrap_or(Self::All)
            }
            _ => Self::All,
        }
    }

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::All, keys) | (keys, Self::All) => keys,
            (Self::These(ids), Self::These(others)) => {
                Self::These(ids.intersection(&others).cloned().collect())
            }
            (Self::These(mut ids), Self::Prefix(prefix))
            | (Self::Prefix(prefix), Self::These(mut ids)) => {
                ids.retain(|id| id.starts_with(&prefix));
                Self::These(ids)
            }
            (Self::Prefix(one), Self::Prefix(other)) => {
                if one.starts_with(&other) {
                    Self::Prefix(one)
                } else if other.starts_with(&one) {
                    Self::Prefix(other)
                } else {
                    Self::These(BTreeSet::new())
                }
            }
        }
    }

    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::These(ids), Self::These(mut others)) => {
                others.extend(ids);
                Self::These(others)
            }
            _ => Self::All,
        }
    }
}

const DEVICE_ID: &str = "deviceId";

fn is_id(expression: &Expression) -> bool {
    matches!(expression, Expression::Path(path) if path.is_member(DEVICE_ID))
}

/// What is no text is no id.
fn text(constant: &Value) -> Option<String> {
    constant.as_str().map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::query::Query;

    fn keys(filter: &str) -> Keys {
        let text = format!("SELECT * FROM devices WHERE {filter}");
        Query::parse(&text).unwrap().keys()
    }

    fn these(ids: &[&str]) -> Keys {
        Keys::These(ids.iter().map(|id| (*id).to_owned()).collect())
    }

    #[test]
    fn a_filter_that_names_ids_reads_no_others() {
        for (filter, expected) in [
            ("deviceId = 'a'", these(&["a"])),
            ("'a' = devices.DEVICEID", these(&["a"])),
            ("deviceId = 7", these(&[])),
            ("deviceId IN ['a', 'b', 7]", these(&["a", "b"])),
            ("deviceId IN ['a', tags.b]", Keys::All),
            ("deviceId NIN ['a']", Keys::All),
            ("deviceId != 'a'", Keys::All),
            ("NOT deviceId = 'a'", Keys::All),
            ("tags.deviceId = 'a'", Keys::All),
            ("STARTSWITH(deviceId, 'a')", Keys::Prefix("a".into())),
            ("STARTSWITH('a', deviceId)", Keys::All),
            ("deviceId = 'a' AND tags.b = 1", these(&["a"])),
            ("deviceId = 'a' OR tags.b = 1", Keys::All),
            ("deviceId = 'a' OR deviceId IN ['b']", these(&["a", "b"])),
            ("deviceId = 'a' AND deviceId = 'b'", these(&[])),
            (
                "deviceId IN ['ab','b'] AND STARTSWITH(deviceId,'a')",
                these(&["ab"]),
            ),
            (
                "STARTSWITH(deviceId,'a') AND STARTSWITH(deviceId,'ab')",
                Keys::Prefix("ab".into()),
            ),
            (
                "STARTSWITH(deviceId,'a') AND STARTSWITH(deviceId,'b')",
                these(&[]),
            ),
        ] {
            assert_eq!(keys(filter), expected, "{filter}");
        }
    }
}
