//! Paths into a document: how they are read, and what stands at their end.
//!
//! Members that Azure itself names are found in any case and shown in its own; what users named, exactly.

use serde_json::Value;

use super::Collection;

/// The way to a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Member(String),
    Element(usize),
}

/// JSON is not read deeper, so nothing can be there.
pub const DEEPEST: usize = 128;

impl Path {
    /// A path as it is written, the collection's own name before it taken away.
    pub fn new(collection: Collection, mut steps: Vec<Step>) -> Self {
        let words: &[&str] = match collection {
            Collection::Devices => &["devices"],
            Collection::Modules => &["devices", "modules"],
            Collection::Jobs => &["devices", "jobs"],
        };
        // `devices` alone before the members of a module or a job does no harm.
        for prefix in [words, &["devices"]] {
            let mut names = steps.iter().zip(prefix);
            if steps.len() > prefix.len() && names.all(|(step, name)| step.is(name)) {
                steps.drain(..prefix.len());
                break;
            }
        }
        let mut known: &[Known] = match collection {
            Collection::Devices | Collection::Modules => TWIN,
            Collection::Jobs => JOB,
        };
        for step in &mut steps {
            let Some(Known(name, within)) = known.iter().find(|Known(name, _)| step.is(name))
            else {
                break;
            };
            *step = Step::Member((*name).to_owned());
            known = within;
        }
        Self { steps }
    }

    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The name of the column that a path is, where nobody gives it another.
    pub fn last_name(&self) -> Option<&str> {
        let mut names = self.steps.iter().rev();
        names.find_map(|step| match step {
            Step::Member(name) => Some(name.as_str()),
            Step::Element(_) => None,
        })
    }

    /// Whether the path is this one member of the document.
    pub fn is_member(&self, name: &str) -> bool {
        matches!(&self.steps[..], [Step::Member(only)] if only == name)
    }

    /// Whether the path begins with a member that twins have and jobs have not.
    pub fn leads_into_a_twin(&self) -> bool {
        let first = self.steps.first();
        let of = |known: &[Known]| {
            known
                .iter()
                .any(|Known(name, _)| first.is_some_and(|s| s.is(name)))
        };
        of(TWIN) && !of(JOB)
    }

    /// What stands there; nothing is undefined.
    pub fn of<'a>(&self, document: &'a Value) -> Option<&'a Value> {
        let mut steps = self.steps.iter();
        steps.try_fold(document, |value, step| match (step, value) {
            (Step::Member(name), Value::Object(members)) => members.get(name),
            (Step::Element(index), Value::Array(elements)) => elements.get(*index),
            _ => None,
        })
    }
}

impl Step {
    fn is(&self, name: &str) -> bool {
        matches!(self, Self::Member(member) if member.eq_ignore_ascii_case(name))
    }
}

/// A member that Azure names, and those in it.
struct Known(&'static str, &'static [Known]);

const TWIN: &[Known] = &[
    Known("deviceId", &[]),
    Known("moduleId", &[]),
    Known("etag", &[]),
    Known("deviceEtag", &[]),
    Known("status", &[]),
    Known("statusReason", &[]),
    Known("statusUpdateTime", &[]),
    Known("connectionState", &[]),
    Known("lastActivityTime", &[]),
    Known("cloudToDeviceMessageCount", &[]),
    Known("authenticationType", &[]),
    Known(
        "x509Thumbprint",
        &[
            Known("primaryThumbprint", &[]),
            Known("secondaryThumbprint", &[]),
        ],
    ),
    Known("modelId", &[]),
    Known("version", &[]),
    Known("tags", &[]),
    Known(
        "properties",
        &[Known("desired", &[]), Known("reported", &[])],
    ),
    Known("capabilities", &[Known("iotEdge", &[])]),
    Known("deviceScope", &[]),
    Known("parentScopes", &[]),
    Known("configurations", &[]),
];

const JOB: &[Known] = &[
    Known("deviceId", &[]),
    Known("moduleId", &[]),
    Known("jobId", &[]),
    Known("jobType", &[]),
    Known("status", &[]),
    Known("startTimeUtc", &[]),
    Known("endTimeUtc", &[]),
    Known("createdDateTimeUtc", &[]),
    Known("lastUpdatedDateTimeUtc", &[]),
    Known("outcome", &[]),
    Known("error", &[]),
];
