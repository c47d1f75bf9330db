//! Expressions, and what they are worth over a document: a value, or undefined.
//!
//! Conditions know three answers; only true selects a row. Chains of one operator are lists and nothing
//! else nests deeper than the parser lets it, so no text makes this recurse far.

use std::borrow::Cow;

use serde_json::Value;

use super::function::Function;
use super::path::Path;
use super::value::{self, Operator, Relation};

#[derive(Debug, Clone, PartialEq)]
pub enum Expression {
    Constant(Value),
    Undefined,
    Path(Path),
    Negative(Box<Expression>),
    /// From left to right.
    Arithmetic(Box<Expression>, Vec<(Operator, Expression)>),
    Comparison(Box<Expression>, Relation, Box<Expression>),
    In(Box<Expression>, Vec<Expression>),
    Not(Box<Expression>),
    All(Vec<Expression>),
    Any(Vec<Expression>),
    Call(Function, Vec<Expression>),
}

impl Expression {
    /// What it is worth; `None` is undefined.
    pub fn value<'a>(&'a self, document: &'a Value) -> Option<Cow<'a, Value>> {
        match self {
            Self::Constant(value) => Some(Cow::Borrowed(value)),
            Self::Undefined => None,
            Self::Path(path) => path.of(document).map(Cow::Borrowed),
            Self::Negative(of) => {
                let of = of.value(document)?.as_f64()?;
                value::number(-of).map(Cow::Owned)
            }
            Self::Arithmetic(first, rest) => {
                let mut result = first.value(document)?.as_f64()?;
                for (operator, operand) in rest {
                    result = operator.apply(result, operand.value(document)?.as_f64()?)?;
                }
                value::number(result).map(Cow::Owned)
            }
            Self::Call(function, arguments) => {
                let mut values = arguments.iter().map(|argument| argument.value(document));
                let (first, second) = (values.next().flatten(), values.next().flatten());
                let answer = function.apply(first.as_deref(), second.as_deref());
                answer.map(|answer| Cow::Owned(answer.into()))
            }
            Self::Comparison(..) | Self::In(..) | Self::Not(_) | Self::All(_) | Self::Any(_) => {
                self.truth(document).map(|truth| Cow::Owned(truth.into()))
            }
        }
    }

    /// What it is worth as a condition.
    pub fn truth(&self, document: &Value) -> Option<bool> {
        match self {
            Self::Comparison(left, relation, right) => {
                let (left, right) = (left.value(document)?, right.value(document)?);
                relation.holds(&left, &right)
            }
            Self::In(item, list) => {
                let item = item.value(document)?;
                dominated(true, list.iter(), |candidate| {
                    Relation::Equal.holds(&item, &*candidate.value(document)?)
                })
            }
            Self::Not(condition) => condition.truth(document).map(|truth| !truth),
            Self::All(conditions) => dominated(false, conditions.iter(), |c| c.truth(document)),
            Self::Any(conditions) => dominated(true, conditions.iter(), |c| c.truth(document)),
            Self::Constant(_)
            | Self::Undefined
            | Self::Path(_)
            | Self::Negative(_)
            | Self::Arithmetic(..)
            | Self::Call(..) => self.value(document)?.as_bool(),
        }
    }

    /// Every path in it.
    pub fn each_path(&self, visit: &mut impl FnMut(&Path)) {
        match self {
            Self::Constant(_) | Self::Undefined => {}
            Self::Path(path) => visit(path),
            Self::Negative(of) | Self::Not(of) => of.each_path(visit),
            Self::Arithmetic(first, rest) => {
                first.each_path(visit);
                rest.iter()
                    .for_each(|(_, operand)| operand.each_path(visit));
            }
            Self::Comparison(left, _, right) => {
                left.each_path(visit);
                right.each_path(visit);
            }
            Self::In(item, list) => {
                item.each_path(visit);
                list.iter().for_each(|candidate| candidate.each_path(visit));
            }
            Self::All(all) | Self::Any(all) | Self::Call(_, all) => {
                all.iter().for_each(|one| one.each_path(visit));
            }
        }
    }
}

/// One answer decides; without it, a single undefined leaves all undefined.
fn dominated<'a>(
    decides: bool,
    mut conditions: impl Iterator<Item = &'a Expression>,
    truth: impl Fn(&'a Expression) -> Option<bool>,
) -> Option<bool> {
    let mut result = Some(!decides);
    let decided = conditions.any(|condition| {
        let truth = truth(condition);
        if truth.is_none() {
            result = None;
        }
        truth == Some(decides)
    });
    if decided { Some(decides) } else { result }
}
