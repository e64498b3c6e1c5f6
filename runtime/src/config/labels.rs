//! Labels: what tells the instances of one name apart.
//!
//! Invariant: plain values. What is too long or too many is found by [`Labels::problem`] before it is used.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::check_name;

/// Keys with a value each, which a node and its services have and the whole cluster sees: a zone, a version.
///
/// Given by [`NodeBuilder::label`](crate::NodeBuilder::label) and [`ServiceBuilder::label`](crate::ServiceBuilder::label).
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Labels(BTreeMap<String, String>);

impl Labels {
    /// The most labels that an instance has, its node's included.
    pub const MAX: usize = 32;
    /// The longest key, in bytes.
    pub const MAX_KEY: usize = 64;
    /// The longest value, in bytes.
    pub const MAX_VALUE: usize = 128;

    /// The value of a label.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// All labels, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn set(&mut self, key: String, value: String) {
        self.0.insert(key, value);
    }

    /// These labels, and those of `base` whose keys are not among them.
    pub(crate) fn over(&self, base: &Self) -> Self {
        let mut labels = base.clone();
        labels.0.extend(self.0.clone());
        labels
    }

    /// What is wrong with them.
    pub(crate) fn problem(&self) -> Option<String> {
        if self.len() > Self::MAX {
            return Some(format!("there are {} labels; at most {} are possible", self.len(), Self::MAX));
        }
        let texts = self.iter().flat_map(|(key, value)| {
            [("label", key, Self::MAX_KEY), ("label value", value, Self::MAX_VALUE)]
        });
        texts
            .into_iter()
            .find_map(|(kind, text, max)| check_name(kind, text, max).err())
            .map(|error| error.to_string())
    }
}

impl FromIterator<(String, String)> for Labels {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(labels: I) -> Self {
        Self(labels.into_iter().collect())
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (key, value)) in self.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{key}={value}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(all: &[(&str, &str)]) -> Labels {
        all.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn labels_of_a_service_go_before_those_of_its_node() {
        let node = labels(&[("zone", "eu"), ("disk", "fast")]);
        let service = labels(&[("zone", "us"), ("version", "2")]);
        assert_eq!(service.over(&node).to_string(), "disk=fast, version=2, zone=us");
    }

    #[test]
    fn what_cannot_be_a_label_is_named() {
        let many: Vec<_> = (0..33).map(|key| (key.to_string(), "x".to_owned())).collect();
        let long = "x".repeat(129);
        for (labels, expected) in [
            (labels(&[("zone", "eu")]), None),
            (labels(&[("", "eu")]), Some("label name \"\" is empty".to_owned())),
            (labels(&[("zone", "")]), Some("label value name \"\" is empty".to_owned())),
            (many.into_iter().collect(), Some("there are 33 labels; at most 32 are possible".to_owned())),
        ] {
            assert_eq!(labels.problem(), expected);
        }
        assert!(
            labels(&[("zone", &long)])
                .problem()
                .unwrap()
                .ends_with("is 129 bytes long, at most 128 are allowed")
        );
    }
}
