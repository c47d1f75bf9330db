//! `azimuth why --registration ID`: why a device got the hub it has, or none, as the DPS explains it.
//!
//! What may not enter: the explanation; the DPS has it.

use serde_json::Value;

use super::{Target, path};
use crate::ask::Ask;
use crate::config::Config;

/// What the DPS answers: a sentence first, then step by step; or JSON, whole.
pub async fn explained(
    target: &Target,
    config: &Config,
    id: &str,
    as_json: bool,
) -> anyhow::Result<String> {
    let dps = target.open(config).await?;
    let path = path("/azimuth/why/registrations", id);
    let explanation = Ask::get(&path).of(&dps).await?.body;
    Ok(match as_json {
        true => serde_json::to_string_pretty(&explanation)?,
        false => text(&explanation),
    })
}

fn text(explanation: &Value) -> String {
    let said = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut text = said(&explanation["answer"]);
    for section in explanation["sections"].as_array().into_iter().flatten() {
        text += &format!("\n\n{}", said(&section["about"]));
        for line in section["lines"].as_array().into_iter().flatten() {
            text += &format!("\n  {}", said(line));
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
        assert_eq!(shown, "It was assigned.\n\nEnrollment\n  One.\n  Two.");
    }
}
