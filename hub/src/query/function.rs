//! The functions of twin queries: their names, their arguments, what they answer.
//!
//! Routing conditions have others, and spell some of these with an underscore.

use serde_json::Value;

use super::value::{Relation, is_primitive};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    IsDefined,
    IsBool,
    IsNull,
    IsNumber,
    IsObject,
    IsArray,
    IsPrimitive,
    IsString,
    StartsWith,
    EndsWith,
    ArrayContains,
}

const ALL: [(&str, Function); 11] = [
    ("IS_DEFINED", Function::IsDefined),
    ("STARTSWITH", Function::StartsWith),
    ("ENDSWITH", Function::EndsWith),
    ("ARRAY_CONTAINS", Function::ArrayContains),
    ("IS_BOOL", Function::IsBool),
    ("IS_NULL", Function::IsNull),
    ("IS_NUMBER", Function::IsNumber),
    ("IS_OBJECT", Function::IsObject),
    ("IS_ARRAY", Function::IsArray),
    ("IS_PRIMITIVE", Function::IsPrimitive),
    ("IS_STRING", Function::IsString),
];

impl Function {
    pub fn named(name: &str) -> Option<Self> {
        let mut all = ALL.iter();
        all.find_map(|(known, function)| known.eq_ignore_ascii_case(name).then_some(*function))
    }

    /// The names of all, for somebody who asked for another.
    pub fn names() -> String {
        ALL.map(|(name, _)| name).join(", ")
    }

    pub fn arguments(self) -> usize {
        match self {
            Self::StartsWith | Self::EndsWith | Self::ArrayContains => 2,
            Self::IsDefined
            | Self::IsBool
            | Self::IsNull
            | Self::IsNumber
            | Self::IsObject
            | Self::IsArray
            | Self::IsPrimitive
            | Self::IsString => 1,
        }
    }

    /// `None` where it cannot be said: a text function of what is no text.
    pub fn apply(self, first: Option<&Value>, second: Option<&Value>) -> Option<bool> {
        let texts = || Some((first?.as_str()?, second?.as_str()?));
        match self {
            Self::IsDefined => Some(first.is_some()),
            Self::IsBool => Some(first.is_some_and(Value::is_boolean)),
            Self::IsNull => Some(first.is_some_and(Value::is_null)),
            Self::IsNumber => Some(first.is_some_and(Value::is_number)),
            Self::IsObject => Some(first.is_some_and(Value::is_object)),
            Self::IsArray => Some(first.is_some_and(Value::is_array)),
            Self::IsPrimitive => Some(first.is_some_and(is_primitive)),
            Self::IsString => Some(first.is_some_and(Value::is_string)),
            Self::StartsWith => texts().map(|(text, start)| text.starts_with(start)),
            Self::EndsWith => texts().map(|(text, end)| text.ends_with(end)),
            Self::ArrayContains => {
                let (mut elements, wanted) = (first?.as_array()?.iter(), second?);
                Some(elements.any(|element| Relation::Equal.holds(element, wanted) == Some(true)))
            }
        }
    }
}
