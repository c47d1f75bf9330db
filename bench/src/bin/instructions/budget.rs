//! The table of budgets, and what a count means beside it. Pure but for reading the file.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::{Context, bail};
use serde::Deserialize;

/// What each operation cost when it was last looked at, and how far it may be from that.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Budgets {
    tolerance_percent: u64,
    instructions: BTreeMap<String, u64>,
}

/// How a count stands beside its budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Within {
        budget: u64,
    },
    /// Too dear.
    Over {
        measured: u64,
        budget: u64,
    },
    /// So cheap that the budget would let a regression through.
    Loose {
        measured: u64,
    },
}

impl Budgets {
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("{} cannot be read", path.display()))?;
        toml::from_str(&text)
            .with_context(|| format!("{} is not a table of budgets", path.display()))
    }

    pub fn judge(&self, operation: &str, counted: u64) -> anyhow::Result<Verdict> {
        let Some(&measured) = self.instructions.get(operation) else {
            bail!("`{operation}` has no budget; it takes {counted} instructions");
        };
        let part = measured * self.tolerance_percent / 100;
        let budget = measured + part;
        Ok(if counted > budget {
            Verdict::Over { measured, budget }
        } else if counted < measured - part {
            Verdict::Loose { measured }
        } else {
            Verdict::Within { budget }
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Within { budget } => write!(f, "within its budget of {budget}"),
            Self::Over { measured, budget } => {
                write!(f, "OVER its budget of {budget} (it was {measured})")
            }
            Self::Loose { measured } => write!(
                f,
                "far below the {measured} it was: lower the figure, so that it guards again"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_count_is_judged_by_its_distance() {
        let budgets: Budgets =
            toml::from_str("tolerance-percent = 10\n[instructions]\nconnect = 1000").unwrap();
        let (measured, budget) = (1000, 1100);
        for (counted, verdict) in [
            (899, Verdict::Loose { measured }),
            (900, Verdict::Within { budget }),
            (1000, Verdict::Within { budget }),
            (1100, Verdict::Within { budget }),
            (1101, Verdict::Over { measured, budget }),
        ] {
            assert_eq!(
                budgets.judge("connect", counted).unwrap(),
                verdict,
                "{counted}"
            );
        }
        assert!(budgets.judge("telemetry", 1).is_err());
    }

    #[test]
    fn every_operation_has_a_budget() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.toml");
        let budgets = Budgets::read(&path).unwrap();
        let named: Vec<_> = budgets.instructions.keys().map(String::as_str).collect();
        let mut operations = crate::operation::Operation::ALL.map(|operation| operation.name());
        operations.sort_unstable();
        assert_eq!(named, operations);
    }
}
