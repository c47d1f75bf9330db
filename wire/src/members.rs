//! Objects as .NET reads them: member names in any case, null as good as absent.
//!
//! May not enter: which members there are.

use serde_json::{Map, Value};

use crate::registry::InvalidBody;

/// An object whose members are found without regard to case. Null is as good as absent.
pub struct Members<'a>(pub &'a Map<String, Value>);

impl<'a> Members<'a> {
    pub fn value(&self, name: &str) -> Option<&'a Value> {
        self.even_null(name).filter(|value| !value.is_null())
    }

    /// For the few members whose null says something.
    pub fn even_null(&self, name: &str) -> Option<&'a Value> {
        let any_case = || {
            let mut members = self.0.iter();
            members.find_map(|(known, value)| known.eq_ignore_ascii_case(name).then_some(value))
        };
        self.0.get(name).or_else(any_case)
    }

    pub fn text(&self, name: &'static str) -> Result<Option<&'a str>, InvalidBody> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        let text = value.as_str().ok_or_else(|| expected(name, "a text"))?;
        Ok(Some(text))
    }

    pub fn filled(&self, name: &'static str) -> Result<Option<&'a str>, InvalidBody> {
        Ok(self.text(name)?.filter(|text| !text.is_empty()))
    }

    pub fn flag(&self, name: &'static str) -> Result<bool, InvalidBody> {
        match self.value(name) {
            None => Ok(false),
            Some(value) => value
                .as_bool()
                .ok_or_else(|| expected(name, "true or false")),
        }
    }

    pub fn object(&self, name: &'static str) -> Result<Option<Members<'a>>, InvalidBody> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::Object(members)) => Ok(Some(Members(members))),
            Some(_) => Err(expected(name, "an object")),
        }
    }

    pub fn texts(&self, name: &'static str) -> Result<Vec<String>, InvalidBody> {
        let wrong = || expected(name, "an array of texts");
        let Some(value) = self.value(name) else {
            return Ok(Vec::new());
        };
        let items = value.as_array().ok_or_else(wrong)?.iter();
        items
            .map(|item| item.as_str().map(ToOwned::to_owned).ok_or_else(wrong))
            .collect()
    }
}

pub fn expected(member: &'static str, expected: &'static str) -> InvalidBody {
    InvalidBody::Member { member, expected }
}
