//! From tokens to expressions, by the strength with which operators bind (Pratt).
//!
//! May not enter: SELECT and what follows it.

use serde_json::Value;

use super::cursor::Cursor;
use super::expression::Expression;
use super::function::Function;
use super::lexer::Token;
use super::path::{DEEPEST, Path, Step};
use super::value::{Operator, Relation};
use super::{Collection, InvalidQuery};

pub struct Parser<'a> {
    pub cursor: Cursor<'a>,
    depth: usize,
    /// Whose members the paths name.
    pub collection: Collection,
}

/// What expressions nest in each other, parentheses included.
const MOST_NESTED: usize = 100;

// How strongly operators bind.
const OR: u8 = 1;
const AND: u8 = 2;
const NOT: u8 = 3;
const COMPARISON: u8 = 4;
const SUM: u8 = 5;
const PRODUCT: u8 = 6;
const SIGN: u8 = 7;

/// Words that name nothing where a path could begin.
const RESERVED: [&str; 11] = [
    "select", "from", "where", "group", "by", "as", "and", "or", "not", "in", "nin",
];

/// What can stand behind an operand.
enum Infix {
    Between(Between),
    In,
    NotIn,
}

/// An operator between two operands.
enum Between {
    Or,
    And,
    Relation(Relation),
    Arithmetic(Operator),
}

impl<'a> Parser<'a> {
    pub fn new(text: &'a str) -> Result<Self, InvalidQuery> {
        Ok(Self {
            cursor: Cursor::new(text)?,
            depth: 0,
            collection: Collection::Devices,
        })
    }

    pub fn condition(&mut self) -> Result<Expression, InvalidQuery> {
        self.expression(OR)
    }

    /// Everything from here on that binds at least so strongly.
    fn expression(&mut self, floor: u8) -> Result<Expression, InvalidQuery> {
        self.depth += 1;
        if self.depth > MOST_NESTED {
            return Err(self
                .cursor
                .invalid(format!("more than {MOST_NESTED} expressions in each other")));
        }
        let mut left = self.operand(floor)?;
        let mut compared = false;
        while let Some((infix, strength)) = self.infix().filter(|(_, strength)| *strength >= floor)
        {
            if strength == COMPARISON && std::mem::replace(&mut compared, true) {
                return Err(self
                    .cursor
                    .invalid("a comparison of a comparison; parentheses say which"));
            }
            self.cursor.skip(1);
            left = match infix {
                Infix::In => Expression::In(left.into(), self.list()?),
                Infix::NotIn => {
                    let found = Expression::In(left.into(), self.list()?);
                    Expression::Not(found.into())
                }
                Infix::Between(between) => joined(left, between, self.expression(strength + 1)?),
            };
        }
        self.depth -= 1;
        Ok(left)
    }

    fn operand(&mut self, floor: u8) -> Result<Expression, InvalidQuery> {
        if floor <= NOT && self.cursor.skip_word("not") {
            return Ok(Expression::Not(self.expression(NOT)?.into()));
        }
        if self.cursor.skip_symbol("-") {
            return Ok(Expression::Negative(self.expression(SIGN)?.into()));
        }
        if self.cursor.skip_symbol("(") {
            let inner = self.expression(OR)?;
            self.cursor.symbol(")")?;
            return Ok(inner);
        }
        let constant = match self.cursor.peek() {
            Token::Number(number) => Some(Value::Number(number.clone())),
            Token::Text(text) => Some(Value::String(text.clone())),
            Token::Word(word) => match word.to_ascii_lowercase().as_str() {
                "true" => Some(Value::Bool(true)),
                "false" => Some(Value::Bool(false)),
                "null" => Some(Value::Null),
                "undefined" => {
                    self.cursor.skip(1);
                    return Ok(Expression::Undefined);
                }
                _ if self.cursor.second_is_symbol("(") => return self.call(),
                _ => None,
            },
            _ => None,
        };
        match constant {
            Some(value) => {
                self.cursor.skip(1);
                Ok(Expression::Constant(value))
            }
            None => Ok(Expression::Path(
                self.path("a value, a path or a function")?,
            )),
        }
    }

    fn infix(&self) -> Option<(Infix, u8)> {
        let compared = |relation| (Between::Relation(relation), COMPARISON);
        let sum = |operator| (Between::Arithmetic(operator), SUM);
        let product = |operator| (Between::Arithmetic(operator), PRODUCT);
        let (between, strength) = match self.cursor.peek() {
            Token::Word(word) => match word.to_ascii_lowercase().as_str() {
                "or" => (Between::Or, OR),
                "and" => (Between::And, AND),
                "in" => return Some((Infix::In, COMPARISON)),
                "nin" => return Some((Infix::NotIn, COMPARISON)),
                _ => return None,
            },
            Token::Symbol(symbol) => match *symbol {
                "=" => compared(Relation::Equal),
                "!=" | "<>" => compared(Relation::Unequal),
                "<" => compared(Relation::Less),
                "<=" => compared(Relation::AtMost),
                ">" => compared(Relation::Greater),
                ">=" => compared(Relation::AtLeast),
                "+" => sum(Operator::Plus),
                "-" => sum(Operator::Minus),
                "*" => product(Operator::Times),
                "/" => product(Operator::Over),
                "%" => product(Operator::Modulo),
                _ => return None,
            },
            _ => return None,
        };
        Some((Infix::Between(between), strength))
    }

    fn call(&mut self) -> Result<Expression, InvalidQuery> {
        let name = self.cursor.word().unwrap_or_default().to_owned();
        let function = Function::named(&name).ok_or_else(|| {
            let (known, name) = (Function::names(), name.to_ascii_uppercase());
            let hint = match name.as_str() {
                "STARTS_WITH" => " (in a twin query STARTS_WITH is spelled STARTSWITH)",
                "ENDS_WITH" => " (in a twin query ENDS_WITH is spelled ENDSWITH)",
                "COUNT" | "SUM" | "AVG" | "MIN" | "MAX" => " (aggregates stand after SELECT only)",
                _ => "",
            };
            self.cursor
                .invalid(format!("no function {name}{hint}; there are {known}"))
        })?;
        self.cursor.skip(2);
        let mut arguments = Vec::new();
        if function == Function::IsDefined {
            arguments.push(Expression::Path(self.path("a path")?));
        } else {
            while arguments.len() < function.arguments() {
                if !arguments.is_empty() {
                    self.cursor.symbol(",")?;
                }
                arguments.push(self.expression(OR)?);
            }
        }
        self.cursor.symbol(")")?;
        Ok(Expression::Call(function, arguments))
    }

    /// `[a, b]`
    fn list(&mut self) -> Result<Vec<Expression>, InvalidQuery> {
        self.cursor.symbol("[")?;
        let mut list = Vec::new();
        if self.cursor.skip_symbol("]") {
            return Ok(list);
        }
        loop {
            list.push(self.expression(SUM)?);
            if !self.cursor.skip_symbol(",") {
                self.cursor.symbol("]")?;
                return Ok(list);
            }
        }
    }

    pub fn path(&mut self, wanted: &str) -> Result<Path, InvalidQuery> {
        let begins = match self.cursor.peek() {
            Token::Word(word) => !RESERVED.iter().any(|r| word.eq_ignore_ascii_case(r)),
            token => matches!(token, Token::Bracketed(_)),
        };
        if !begins {
            return Err(self.cursor.expected(wanted));
        }
        let mut steps = vec![Step::Member(self.cursor.name(wanted)?)];
        loop {
            if self.cursor.skip_symbol(".") {
                steps.push(Step::Member(self.cursor.name("a name")?));
            } else if self.cursor.is_symbol("[")
                && let Token::Number(number) = self.cursor.peek_second()
            {
                let index = number
                    .as_u64()
                    .and_then(|index| usize::try_from(index).ok());
                let index =
                    index.ok_or_else(|| self.cursor.expected("a whole number in brackets"))?;
                self.cursor.skip(2);
                self.cursor.symbol("]")?;
                steps.push(Step::Element(index));
            } else {
                return Ok(Path::new(self.collection, steps));
            }
            if steps.len() > DEEPEST {
                return Err(self
                    .cursor
                    .invalid(format!("a path of more than {DEEPEST} steps")));
            }
        }
    }
}

/// Operators of one strength, one after the other, are one list.
fn joined(left: Expression, between: Between, right: Expression) -> Expression {
    match (between, left) {
        (Between::Or, Expression::Any(mut any)) => {
            any.push(right);
            Expression::Any(any)
        }
        (Between::Or, left) => Expression::Any(vec![left, right]),
        (Between::And, Expression::All(mut all)) => {
            all.push(right);
            Expression::All(all)
        }
        (Between::And, left) => Expression::All(vec![left, right]),
        (Between::Arithmetic(operator), Expression::Arithmetic(first, mut rest)) => {
            rest.push((operator, right));
            Expression::Arithmetic(first, rest)
        }
        (Between::Arithmetic(operator), left) => {
            Expression::Arithmetic(left.into(), vec![(operator, right)])
        }
        (Between::Relation(relation), left) => {
            Expression::Comparison(left.into(), relation, right.into())
        }
    }
}
