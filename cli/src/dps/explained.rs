//! `azimuth why --registration ID`: why a device got the hub it has, or none, as the DPS explains it.
//!
//! What may not enter: the explanation; the DPS has it.

use std::process::ExitCode;

use serde_json::Value;

use super::{Ask, Target, path};
use crate::config::Config;

/// Asks the DPS and prints its answer, a sentence first, then step by step.
pub fn explain(
    target: &Target,
    config: &Config,
    id: &str,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    super::run(async {
        let dps = target.open(config).await?;
        let path = path("/azimuth/why/registrations", id);
        let explanation = Ask::get(&path).of(&dps).await?.body;
        if as_json {
            println!("{}", serde_json::to_string_pretty(&explanation)?);
        } else {
            print!("{}", text(&explanation));
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn text(explanation: &Value) -> String {
    let said = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut text = said(&explanation["answer"]) + "\n";
    for section in explanation["sections"].as_array().into_iter().flatten() {
        text += &format!("\n{}\n", said(&section["about"]));
        for line in section["lines"].as_array().into_iter().flatten() {
            text += &format!("  {}\n", said(line));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_answer_comes_first_and_the_steps_below_it() {
        let section = json!({ "about": "Enrollment", "lines": ["One.", "Two."] });
        let shown = text(&json!({ "answer": "It was assigned.", "sections": [section] }));
        assert_eq!(shown, "It was assigned.\n\nEnrollment\n  One.\n  Two.\n");
    }
}
