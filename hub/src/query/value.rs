//! How two values stand to each other, and arithmetic on them. Pure.
//!
//! Texts, numbers, booleans and null can be compared; objects and arrays cannot.

use std::cmp::Ordering;

use serde_json::{Number, Value};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    Equal,
    Unequal,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    Plus,
    Minus,
    Times,
    Over,
    Modulo,
}

impl Relation {
    /// `None` where it cannot be said.
    pub fn holds(self, left: &Value, right: &Value) -> Option<bool> {
        if !is_primitive(left) || !is_primitive(right) {
            return None;
        }
        let order = order(left, right);
        match self {
            Self::Equal => Some(order == Some(Ordering::Equal)),
            Self::Unequal => Some(order != Some(Ordering::Equal)),
            Self::Less => order.map(Ordering::is_lt),
            Self::AtMost => order.map(Ordering::is_le),
            Self::Greater => order.map(Ordering::is_gt),
            Self::AtLeast => order.map(Ordering::is_ge),
        }
    }
}

impl Operator {
    pub fn apply(self, left: f64, right: f64) -> Option<f64> {
        match self {
            Self::Plus => Some(left + right),
            Self::Minus => Some(left - right),
            Self::Times => Some(left * right),
            Self::Over => (right != 0.0).then(|| left / right),
            Self::Modulo => (right != 0.0).then(|| left % right),
        }
    }
}

pub fn is_primitive(value: &Value) -> bool {
    !matches!(value, Value::Object(_) | Value::Array(_))
}

/// A number that JSON can write.
pub fn number(number: f64) -> Option<Value> {
    Number::from_f64(number).map(Value::Number)
}

/// Values of different types have no order and are not equal.
fn order(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        (Value::Number(left), Value::Number(right)) => left.as_f64()?.partial_cmp(&right.as_f64()?),
        (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
        (Value::Null, Value::Null) => Some(Ordering::Equal),
        _ => None,
    }
}
