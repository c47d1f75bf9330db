//! COUNT, SUM, AVG, MIN and MAX: what they add up, document by document. Pure.
//!
//! What is no number adds nothing; of nothing there is a count only.

use serde_json::{Number, Value};

use super::path::Path;
use super::value::{self, Relation};

#[derive(Debug, Clone, PartialEq)]
pub enum Aggregate {
    /// Documents.
    Count,
    CountDefined(Path),
    Sum(Path),
    Average(Path),
    Least(Path),
    Greatest(Path),
}

/// What an aggregate has come to.
#[derive(Debug, Clone, PartialEq)]
pub enum Tally {
    Count(u64),
    /// Exact while all are whole numbers.
    Sum(Option<Total>),
    Average {
        sum: f64,
        count: u64,
    },
    Extreme {
        of: Option<Number>,
        by: Relation,
    },
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Total {
    Whole(i128),
    Broken(f64),
}

impl Aggregate {
    pub fn start(&self) -> Tally {
        let extreme = |by| Tally::Extreme { of: None, by };
        match self {
            Self::Count | Self::CountDefined(_) => Tally::Count(0),
            Self::Sum(_) => Tally::Sum(None),
            Self::Average(_) => Tally::Average { sum: 0.0, count: 0 },
            Self::Least(_) => extreme(Relation::Less),
            Self::Greatest(_) => extreme(Relation::Greater),
        }
    }

    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Count => None,
            Self::CountDefined(path)
            | Self::Sum(path)
            | Self::Average(path)
            | Self::Least(path)
            | Self::Greatest(path) => Some(path),
        }
    }

    /// What one document comes to.
    pub fn of(&self, document: &Value) -> Tally {
        let found = self.path().and_then(|path| path.of(document));
        let number = found.and_then(Value::as_number);
        match (self, number) {
            (Self::Count, _) => Tally::Count(1),
            (Self::CountDefined(_), _) => Tally::Count(found.is_some().into()),
            (_, None) => self.start(),
            (Self::Sum(_), Some(number)) => Tally::Sum(Some(Total::of(number))),
            (Self::Average(_), Some(number)) => Tally::Average {
                sum: number.as_f64().unwrap_or_default(),
                count: 1,
            },
            (Self::Least(_) | Self::Greatest(_), Some(number)) => match self.start() {
                Tally::Extreme { by, .. } => Tally::Extreme {
                    of: Some(number.clone()),
                    by,
                },
                start => start,
            },
        }
    }
}

impl Tally {
    /// Takes in what others of its kind have come to.
    pub fn add(&mut self, other: Self) {
        match (self, other) {
            (Self::Count(count), Self::Count(more)) => *count += more,
            (Self::Sum(total), Self::Sum(more)) => {
                *total = match (*total, more) {
                    (Some(total), Some(more)) => Some(total.plus(more)),
                    (total, more) => total.or(more),
                }
            }
            (
                Self::Average { sum, count },
                Self::Average {
                    sum: more,
                    count: others,
                },
            ) => {
                *sum += more;
                *count += others;
            }
            (
                Self::Extreme { of, by },
                Self::Extreme {
                    of: Some(other), ..
                },
            ) => {
                let holds = |of: &Number| {
                    let (other, of) = (Value::Number(other.clone()), Value::Number(of.clone()));
                    by.holds(&other, &of) == Some(true)
                };
                if of.as_ref().is_none_or(holds) {
                    *of = Some(other);
                }
            }
            // Nothing to add; and of another kind there is none.
            _ => {}
        }
    }

    /// What a row shows.
    pub fn value(self) -> Option<Value> {
        match self {
            Self::Count(count) => Some(count.into()),
            Self::Sum(total) => total?.value(),
            Self::Average { count: 0, .. } => None,
            Self::Average { sum, count } => value::number(sum / count as f64),
            Self::Extreme { of, .. } => of.map(Value::Number),
        }
    }
}

impl Total {
    fn of(number: &Number) -> Self {
        match number.as_i128() {
            Some(whole) => Self::Whole(whole),
            None => Self::Broken(number.as_f64().unwrap_or_default()),
        }
    }

    fn plus(self, other: Self) -> Self {
        match (self, other) {
            (Self::Whole(one), Self::Whole(other)) => Self::Whole(one.saturating_add(other)),
            (one, other) => Self::Broken(one.rounded() + other.rounded()),
        }
    }

    fn rounded(self) -> f64 {
        match self {
            Self::Whole(whole) => whole as f64,
            Self::Broken(broken) => broken,
        }
    }

    fn value(self) -> Option<Value> {
        let whole = match self {
            Self::Whole(whole) => i64::try_from(whole).ok().map(Value::from),
            Self::Broken(_) => None,
        };
        whole.or_else(|| value::number(self.rounded()))
    }
}
