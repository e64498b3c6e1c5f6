//! The values of a table that stands in a list, such as a rule, and all that is wrong with them.
//!
//! Invariant: what is wrong is said with its key, its place, and what was expected.

use std::ops::Range;

use toml::Spanned;
use toml::de::DeValue;

use super::labels::Labels;
use super::read::{found, names};

/// What is wrong in a table: with which key, where, and what; nothing, if there is no such key.
pub(super) type Problems = Vec<(String, Range<usize>, Option<String>)>;

/// Reads the values of one table.
pub(super) struct TableReader {
    /// The name of the list.
    list: &'static str,
    pub(super) problems: Problems,
}

type Found<'v> = Spanned<DeValue<'v>>;

impl TableReader {
    pub(super) fn new(list: &'static str) -> Self {
        Self { list, problems: Vec::new() }
    }

    /// A text that is not empty; else an empty one, and a problem.
    pub(super) fn text(&mut self, name: &str, value: &Found<'_>, expected: &str) -> String {
        match value.get_ref().as_str() {
            Some(text) if !text.is_empty() => return text.to_owned(),
            _ => self.invalid(name, value, expected),
        }
        String::new()
    }

    /// A list of texts.
    pub(super) fn texts(&mut self, name: &str, value: &Found<'_>) -> Vec<String> {
        names(value.get_ref()).unwrap_or_else(|| {
            self.invalid(name, value, "a list of names in quotes");
            Vec::new()
        })
    }

    /// A table of texts.
    pub(super) fn labels(&mut self, name: &str, value: &Found<'_>) -> Labels {
        let expected = "labels such as { zone = \"eu\" }";
        let mut labels = Labels::default();
        let DeValue::Table(table) = value.get_ref() else {
            self.invalid(name, value, expected);
            return labels;
        };
        for (key, value) in table {
            match value.get_ref().as_str() {
                Some(text) => labels.set(key.get_ref().to_string(), text.to_owned()),
                None => self.invalid(name, value, expected),
            }
        }
        labels
    }

    /// There is no such key.
    pub(super) fn unknown(&mut self, name: &str, span: Range<usize>) {
        self.problems.push((self.key(name), span, None));
    }

    pub(super) fn invalid(&mut self, name: &str, value: &Found<'_>, expected: &str) {
        self.problems.push((self.key(name), value.span(), Some(found(value, expected))));
    }

    pub(super) fn wrong(&mut self, name: &str, span: Range<usize>, problem: impl Into<String>) {
        self.problems.push((self.key(name), span, Some(problem.into())));
    }

    fn key(&self, name: &str) -> String {
        if name.is_empty() { self.list.to_owned() } else { format!("{}.{name}", self.list) }
    }
}
