//! Topic filters: their form and what they match [MQTT-4.7].
//!
//! `#` and `+` at the first level match topics that begin with `$` too, against [MQTT-4.7.2-1]: IoT
//! Hub answers a subscription to `#` with everything of the identity, and no topic of another
//! identity can reach a connection's filters here.

/// Why a text is not a topic filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFilter {
    #[error("a topic filter has at least one character [MQTT-4.7.3-1]")]
    Empty,
    #[error("a topic filter holds no null character [MQTT-4.7.3-2]")]
    Null,
    #[error("`#` stands alone at the last level only [MQTT-4.7.1-2]")]
    MultiLevel,
    #[error("`+` fills a whole level [MQTT-4.7.1-3]")]
    SingleLevel,
}

/// Whether `filter` is well formed.
pub fn check(filter: &str) -> Result<(), InvalidFilter> {
    if filter.is_empty() {
        return Err(InvalidFilter::Empty);
    }
    if filter.contains('\0') {
        return Err(InvalidFilter::Null);
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        if level.contains('#') && (level != "#" || levels.peek().is_some()) {
            return Err(InvalidFilter::MultiLevel);
        }
        if level.contains('+') && level != "+" {
            return Err(InvalidFilter::SingleLevel);
        }
    }
    Ok(())
}

/// Whether `filter`, which is well formed, matches `topic`.
pub fn matches(filter: &str, topic: &str) -> bool {
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        match (wanted, levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (wanted, Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_by_level() {
        let rows = [
            ("a/b", "a/b", true),
            ("a/b", "a/b/c", false),
            ("a/b/c", "a/b", false),
            ("a/#", "a/b/c", true),
            ("a/#", "a", true),
            ("#", "a/b", true),
            ("#", "$iothub/twin/res/200/?$rid=1", true),
            ("a/+/c", "a/b/c", true),
            ("a/+", "a/b/c", false),
            ("+", "a", true),
            ("a/+", "a/", true),
            ("/a", "a", false),
            ("a", "A", false),
            (
                "$iothub/methods/POST/#",
                "$iothub/methods/POST/reboot/?$rid=1",
                true,
            ),
        ];
        for (filter, topic, expected) in rows {
            assert_eq!(matches(filter, topic), expected, "{filter} on {topic}");
        }
    }

    #[test]
    fn malformed_filters_are_told_apart() {
        let rows = [
            ("", Err(InvalidFilter::Empty)),
            ("a\0", Err(InvalidFilter::Null)),
            ("a/#/b", Err(InvalidFilter::MultiLevel)),
            ("a#", Err(InvalidFilter::MultiLevel)),
            ("a+/b", Err(InvalidFilter::SingleLevel)),
            ("+/+/#", Ok(())),
            ("/", Ok(())),
        ];
        for (filter, expected) in rows {
            assert_eq!(check(filter), expected, "{filter}");
        }
    }
}
