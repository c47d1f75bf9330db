//! Groups of documents and what they come to, a page of them at a time. Pure.
//!
//! Groups have an order of their own, that of their values as text, so that pages go on behind the last
//! group shown. Of all groups only those are kept that can still be on the page: a group that has enough
//! others before it will never be.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::aggregate::{Aggregate, Tally};
use super::path::Path;

/// By what documents are grouped, and what is shown of a group.
#[derive(Debug, Clone, PartialEq)]
pub struct Grouping {
    /// Empty where all documents are one group.
    pub by: Vec<Path>,
    pub members: Vec<Member>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    pub name: String,
    pub source: Source,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// One of the paths that are grouped by.
    Group(usize),
    Aggregate(Aggregate),
}

/// The groups found so far.
#[derive(Debug, Clone)]
pub struct Groups {
    grouping: Arc<Grouping>,
    found: BTreeMap<String, Group>,
}

#[derive(Debug, Clone)]
struct Group {
    values: Vec<Option<Value>>,
    tallies: Vec<Tally>,
}

/// Bytes of a group's place in the order; a continuation carries it.
const LONGEST_KEY: usize = 1024;

impl Grouping {
    pub fn each_path(&self, visit: &mut impl FnMut(&Path)) {
        self.by.iter().for_each(&mut *visit);
        self.aggregates()
            .filter_map(Aggregate::path)
            .for_each(visit);
    }

    fn aggregates(&self) -> impl Iterator<Item = &Aggregate> {
        self.members
            .iter()
            .filter_map(|member| match &member.source {
                Source::Aggregate(aggregate) => Some(aggregate),
                Source::Group(_) => None,
            })
    }
}

impl Groups {
    pub fn new(grouping: Arc<Grouping>) -> Self {
        let mut found = BTreeMap::new();
        if grouping.by.is_empty() {
            // Also over nothing there is one row.
            let tallies = grouping.aggregates().map(Aggregate::start).collect();
            let values = Vec::new();
            found.insert(String::new(), Group { values, tallies });
        }
        Self { grouping, found }
    }

    /// Adds a document.
    pub fn add(&mut self, document: &Value) {
        let by = self.grouping.by.iter();
        let values: Vec<_> = by.map(|path| path.of(document).cloned()).collect();
        let tallies = self.grouping.aggregates().map(|a| a.of(document)).collect();
        self.put(key(&values), Group { values, tallies });
    }

    /// Adds what was found elsewhere, and keeps the first `most` behind `after`.
    pub fn merge(&mut self, others: Self, after: Option<&str>, most: usize) {
        for (key, group) in others.found {
            if after.is_some_and(|after| key.as_str() <= after) {
                continue;
            }
            let last = self.found.last_key_value();
            if self.found.len() >= most && last.is_some_and(|(last, _)| key > *last) {
                break;
            }
            self.put(key, group);
            if self.found.len() > most {
                self.found.pop_last();
            }
        }
    }

    /// The rows in their order, each with its key.
    pub fn rows(self) -> impl Iterator<Item = (String, Value)> {
        let grouping = self.grouping;
        self.found.into_iter().map(move |(key, group)| {
            let (values, mut tallies) = (group.values, group.tallies.into_iter());
            let shown = grouping.members.iter().filter_map(|member| {
                let value = match member.source {
                    Source::Group(place) => values.get(place).cloned().flatten(),
                    Source::Aggregate(_) => tallies.next().and_then(Tally::value),
                };
                Some((member.name.clone(), value?))
            });
            (key, Value::Object(shown.collect::<Map<_, _>>()))
        })
    }

    fn put(&mut self, key: String, group: Group) {
        let Some(found) = self.found.get_mut(&key) else {
            self.found.insert(key, group);
            return;
        };
        let tallies = found.tallies.iter_mut().zip(group.tallies);
        tallies.for_each(|(tally, more)| tally.add(more));
    }
}

/// The same for equal values, whole and broken numbers alike; undefined is like nothing else.
fn key(values: &[Option<Value>]) -> String {
    let mut key = String::new();
    for value in values {
        match value {
            None => key.push('!'),
            Some(Value::Number(number)) => {
                key.push_str(&number.as_f64().unwrap_or_default().to_string());
            }
            Some(value) => key.push_str(&value.to_string()),
        }
        key.push('\t');
    }
    if key.len() <= LONGEST_KEY {
        return key;
    }
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    let hash = format!("{:016x}", hasher.finish());
    let kept = key.floor_char_boundary(LONGEST_KEY - hash.len());
    key.truncate(kept);
    key + &hash
}
