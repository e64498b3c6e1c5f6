//! Reads Prometheus' text line by line, and takes nothing that its format does not allow.

use std::collections::{BTreeMap, BTreeSet};

/// A text that was read as a whole.
#[derive(Debug)]
pub(crate) struct Text {
    /// The kind of each family.
    pub(crate) kinds: BTreeMap<String, String>,
    /// The values, by name and labels.
    samples: BTreeMap<(String, Labels), f64>,
}

type Labels = BTreeMap<String, String>;

impl Text {
    /// # Panics
    /// If a line is not as the format wants it.
    pub(crate) fn read(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line has an end");
        let mut read = Self { kinds: BTreeMap::new(), samples: BTreeMap::new() };
        let (mut helped, mut family) = (BTreeSet::new(), String::new());
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').unwrap_or_else(|| panic!("{line}"));
                assert!(helped.insert(name.to_owned()) && !help.is_empty(), "{line}");
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap_or_else(|| panic!("{line}"));
                assert!(["counter", "gauge"].contains(&kind) && helped.contains(name), "{line}");
                assert!(read.kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "twice: {line}");
                name.clone_into(&mut family);
            } else {
                let (name, labels, value) = sample(line).unwrap_or_else(|| panic!("{line}"));
                assert_eq!(name, family, "it stands with its family: {line}");
                assert!(value.is_finite() && value >= 0.0, "{line}");
                assert!(read.samples.insert((name, labels), value).is_none(), "twice: {line}");
            }
        }
        read
    }

    /// The one value of that name with these labels among its own.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let found: Vec<_> = self.all(name, labels).collect();
        let [(_, value)] = found[..] else { panic!("{name} {labels:?} is there {} times", found.len()) };
        value
    }

    /// All values of that name with these labels among their own.
    pub(crate) fn all<'t>(
        &'t self,
        name: &'t str,
        labels: &'t [(&str, &str)],
    ) -> impl Iterator<Item = (&'t Labels, f64)> {
        let has =
            |own: &Labels| labels.iter().all(|(key, value)| own.get(*key).is_some_and(|own| own == value));
        let named = self.samples.iter().filter(move |((own, labels), _)| own == name && has(labels));
        named.map(|((_, labels), value)| (labels, *value))
    }

    /// The different values of a label.
    pub(crate) fn labelled(&self, label: &str) -> BTreeSet<&str> {
        self.samples.keys().filter_map(|(_, labels)| labels.get(label).map(String::as_str)).collect()
    }

    /// The values of all counters, by name and labels.
    pub(crate) fn counters(&self) -> impl Iterator<Item = (&(String, Labels), f64)> {
        let is_counter = |(name, _): &(String, Labels)| self.kinds[name] == "counter";
        self.samples.iter().filter(move |(key, _)| is_counter(key)).map(|(key, value)| (key, *value))
    }

    pub(crate) fn get(&self, key: &(String, Labels)) -> Option<f64> {
        self.samples.get(key).copied()
    }
}

/// `name{label="value",..} number`.
fn sample(line: &str) -> Option<(String, Labels, f64)> {
    let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Labels::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (key, after) = rest.split_once("=\"")?;
            assert!(key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{line}");
            let (value, after) = quoted(after)?;
            assert!(labels.insert(key.to_owned(), value).is_none(), "a label twice: {line}");
            match after.split_at_checked(1)? {
                (",", after) => rest = after,
                ("}", after) => break rest = after,
                _ => return None,
            }
        }
    }
    let value = rest.strip_prefix(' ')?.parse().ok()?;
    Some((name.to_owned(), labels, value))
}

/// What stands before the closing quotation mark, and what behind it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let (mut value, mut characters) = (String::new(), text.char_indices());
    loop {
        match characters.next()? {
            (at, '"') => return Some((value, &text[at + 1..])),
            (_, '\\') => value.push(match characters.next()?.1 {
                'n' => '\n',
                other @ ('\\' | '"') => other,
                _ => return None,
            }),
            (_, other) => value.push(other),
        }
    }
}
