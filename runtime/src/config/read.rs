//! From a file's text, and the environment that is laid over it, to settings that can be used.
//!
//! Invariant: a key that nobody knows is an error, and so is a value that would have to be guessed at.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::id::{NodeId, check_name};

use super::access::Rule;
use super::error::ConfigError;
use super::field::{Value, is_address};
use super::keys::{self, ACCESS, KEYS, LABELS, NODES, ROUTE, RULE, SERVICE};
use super::nearest::nearest;
use super::place::Place;
use super::routes::{self, RoutesError};
use super::services;
use super::settings::{Problem, Settings};
use super::table::Problems;

/// The beginning of the names of the environment variables that are laid over a file.
pub(crate) const PREFIX: &str = "SKYHOLD__";

/// The longest name of a cluster, in bytes.
pub(crate) const MAX_CLUSTER: usize = 128;

/// What was read.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) settings: Settings,
    file: PathBuf,
    places: BTreeMap<String, Place>,
}

/// Reads and checks a configuration. `environment` are the variables whose names begin with [`PREFIX`].
pub(crate) fn read(file: &Path, text: &str, environment: &[(String, String)]) -> Result<Read, ConfigError> {
    let document = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
        place: Place::in_text(file, text, error.span().unwrap_or(0..0)),
        problem: error.message().to_owned(),
    })?;
    let settings = Settings::new(String::new());
    let read = Read { settings, file: file.to_owned(), places: BTreeMap::new() };
    let mut reader =
        Reader { read, text, folder: file.parent().unwrap_or(Path::new("")), errors: Vec::new() };
    reader.document(document.get_ref());
    // The first one in the file, as the tables are sorted by name.
    if let Some((_, error)) = reader.errors.into_iter().min_by_key(|(at, _)| *at) {
        return Err(error);
    }
    let mut read = reader.read;
    for (name, value) in environment {
        read.variable(name, value)?;
    }
    read.check()?;
    Ok(read)
}

impl Read {
    /// An error about a key, with the place where its value stands.
    pub(crate) fn invalid(&self, key: &str, problem: impl Into<String>) -> ConfigError {
        let place = self.places.get(key).cloned().unwrap_or_else(|| Place::nowhere(&self.file));
        ConfigError::Invalid { place, key: key.to_owned(), problem: problem.into() }
    }

    fn folder(&self) -> PathBuf {
        self.file.parent().map(Path::to_owned).unwrap_or_default()
    }

    /// Lays an environment variable over what the file says.
    fn variable(&mut self, name: &str, text: &str) -> Result<(), ConfigError> {
        let place = Place::in_variable(&self.file, name);
        let path = name.strip_prefix(PREFIX).unwrap_or(name).to_ascii_lowercase().replace("__", ".");
        let invalid = |problem| ConfigError::Invalid { place: place.clone(), key: path.clone(), problem };
        if let Some(key) = keys::find(&path) {
            let folder = self.folder();
            key.field.set(&mut self.settings, &key.field.read(text), &folder).map_err(invalid)?;
        } else if let Some(node) = path.strip_prefix(NODES).and_then(|rest| rest.strip_prefix('.')) {
            let value = if text == "false" { Value::Flag(false) } else { Value::Text(text.to_owned()) };
            self.settings.set_node(node, &value).map_err(invalid)?;
        } else if let Some(label) = path.strip_prefix(LABELS).and_then(|rest| rest.strip_prefix('.')) {
            self.settings.set_label(label, &Value::Text(text.to_owned())).map_err(invalid)?;
        } else if [ACCESS, ROUTE, SERVICE, NODES, LABELS].contains(&&*path) {
            return Err(invalid("can be set in the file alone".to_owned()));
        } else {
            let nearest = nearest_key(&path);
            return Err(ConfigError::UnknownKey { place, key: path, nearest });
        }
        self.places.insert(path, place);
        Ok(())
    }

    fn check(&self) -> Result<(), ConfigError> {
        let Settings { name, cluster, .. } = &self.settings;
        if name.is_empty() {
            return Err(
                self.invalid("node.name", "is missing; expected the node's name, as in `name = \"a\"`")
            );
        }
        let unusable = |key: &'static str, error: &dyn std::fmt::Display| {
            self.invalid(key, format!("cannot be used: {error}"))
        };
        NodeId::new(name).map_err(|error| unusable("node.name", &error))?;
        check_name("cluster", cluster, MAX_CLUSTER).map_err(|error| unusable("node.cluster", &error))?;
        let settings = &self.settings;
        let problem = settings.problem().or_else(|| settings.incomplete_security());
        match problem.or_else(|| settings.missing_feature()) {
            Some(Problem { key, text, .. }) => Err(self.invalid(key, text)),
            None => Ok(()),
        }
    }
}

/// Walks through a document.
struct Reader<'t> {
    read: Read,
    text: &'t str,
    folder: &'t Path,
    /// Each with where it stands.
    errors: Vec<(usize, ConfigError)>,
}

type Table<'t> = DeTable<'t>;

/// Sets one entry of a table whose keys are the user's.
type SetEntry = fn(&mut Settings, &str, &Value) -> Result<(), String>;

impl Reader<'_> {
    fn document(&mut self, document: &Table<'_>) {
        for (name, value) in document {
            let path = name.get_ref().as_ref();
            match value.get_ref() {
                DeValue::Array(rules) if path == ACCESS => rules.iter().for_each(|rule| self.rule(rule)),
                DeValue::Array(routes) if path == ROUTE => self.routes(routes),
                DeValue::Array(services) if path == SERVICE => {
                    services.iter().for_each(|entry| self.service(entry));
                }
                _ if [ACCESS, ROUTE, SERVICE].contains(&path) => {
                    let expected = format!("rules, each under its own `[[{path}]]`");
                    self.invalid(path, value.span(), found(value, &expected));
                }
                DeValue::Table(section) if keys::sections().any(|known| known == path) => {
                    section
                        .iter()
                        .for_each(|(name, value)| self.key(path, name.get_ref(), name.span(), value));
                }
                _ if keys::sections().any(|known| known == path) => {
                    self.invalid(path, value.span(), found(value, &format!("a section, as in `[{path}]`")));
                }
                _ => self.unknown(path.to_owned(), name.span()),
            }
        }
    }

    fn key(&mut self, section: &str, name: &str, span: Range<usize>, value: &Spanned<DeValue<'_>>) {
        let path = format!("{section}.{name}");
        let entry: Option<(SetEntry, _)> = match &*path {
            NODES => Some((Settings::set_node, "a table of nodes by name")),
            LABELS => Some((Settings::set_label, "a table of labels, each with its value in quotes")),
            _ => None,
        };
        if let Some((set, expected)) = entry {
            let DeValue::Table(table) = value.get_ref() else {
                return self.invalid(&path, value.span(), found(value, expected));
            };
            for (name, value) in table {
                let set = set(&mut self.read.settings, name.get_ref(), &plain(value.get_ref()));
                self.done(format!("{path}.{}", name.get_ref()), value.span(), set);
            }
            return;
        }
        let Some(key) = keys::find(&path) else { return self.unknown(path, span) };
        let set = key.field.set(&mut self.read.settings, &plain(value.get_ref()), self.folder);
        self.done(path, value.span(), set);
    }

    fn rule(&mut self, rule: &Spanned<DeValue<'_>>) {
        let DeValue::Table(table) = rule.get_ref() else {
            return self.invalid(ACCESS, rule.span(), found(rule, "a rule with `peers` and `service`"));
        };
        let errors = self.errors.len();
        let (mut peers, mut service, mut methods) = (None, None, None);
        for (name, value) in table {
            let (name, place) = (name.get_ref().as_ref(), name.span());
            let target = match name {
                "peers" => &mut peers,
                "service" => &mut service,
                "methods" => {
                    match names(value.get_ref()) {
                        Some(names) => methods = Some(names),
                        None => self.invalid("access.methods", value.span(), found(value, "a list of names")),
                    }
                    continue;
                }
                _ => {
                    self.unknown(format!("{ACCESS}.{name}"), place);
                    continue;
                }
            };
            match value.get_ref() {
                DeValue::String(text) if !text.is_empty() => *target = Some(text.to_string()),
                _ => {
                    let problem = found(value, "a name, or the beginning of one with a `*` behind it");
                    self.invalid(&format!("{ACCESS}.{name}"), value.span(), problem);
                }
            }
        }
        if self.errors.len() > errors {
            return; // what is wrong may be what is missing
        }
        match (peers, service) {
            (Some(peers), Some(service)) => {
                self.read.settings.access.rules.push(Rule { peers, service, methods });
            }
            (None, _) => {
                self.invalid("access.peers", rule.span(), "is missing: whom the rule is for".to_owned());
            }
            (_, None) => {
                self.invalid("access.service", rule.span(), "is missing: what they may call".to_owned());
            }
        }
    }

    fn routes(&mut self, rules: &[Spanned<DeValue<'_>>]) {
        let errors = self.errors.len();
        for rule in rules {
            match routes::route(rule) {
                Ok(route) => self.read.settings.routes.routes.push(route),
                Err(problems) => self.problems(problems),
            }
        }
        if self.errors.len() == errors
            && let Err(RoutesError { number, problem, .. }) = self.read.settings.routes.check()
        {
            let span = rules.get(number - 1).map_or(0..0, Spanned::span);
            self.invalid(ROUTE, span, problem);
        }
    }

    fn service(&mut self, entry: &Spanned<DeValue<'_>>) {
        let place = Place::in_text(&self.read.file, self.text, entry.span());
        let others = &mut self.read.settings.services;
        match services::entry(entry, place) {
            Ok(entry) if others.iter().all(|other| other.name != entry.name) => others.push(entry),
            Ok(other) => {
                let problem = format!("is {:?}, as that of another service of this file", other.name);
                self.invalid("service.name", entry.span(), problem);
            }
            Err(problems) => self.problems(problems),
        }
    }

    fn problems(&mut self, problems: Problems) {
        for (key, span, problem) in problems {
            match problem {
                Some(problem) => self.invalid(&key, span, problem),
                None => self.unknown(key, span),
            }
        }
    }

    fn done(&mut self, path: String, span: Range<usize>, set: Result<(), String>) {
        match set {
            Ok(()) => {
                let place = Place::in_text(&self.read.file, self.text, span);
                self.read.places.insert(path, place);
            }
            Err(problem) => self.invalid(&path, span, problem),
        }
    }

    fn invalid(&mut self, key: &str, span: Range<usize>, problem: String) {
        let place = Place::in_text(&self.read.file, self.text, span.clone());
        self.errors.push((span.start, ConfigError::Invalid { place, key: key.to_owned(), problem }));
    }

    fn unknown(&mut self, key: String, span: Range<usize>) {
        let place = Place::in_text(&self.read.file, self.text, span.clone());
        let nearest = nearest_key(&key);
        self.errors.push((span.start, ConfigError::UnknownKey { place, key, nearest }));
    }
}

impl Settings {
    fn set_label(&mut self, key: &str, value: &Value) -> Result<(), String> {
        let Value::Text(text) = value else { return Err(format!("is {value}; expected a text in quotes")) };
        self.labels.set(key.to_owned(), text.clone());
        Ok(())
    }

    fn set_node(&mut self, name: &str, value: &Value) -> Result<(), String> {
        NodeId::new(name).map_err(|error| format!("cannot be used: {error}"))?;
        let node = match value {
            Value::Text(address) if is_address(address, 1) => Some(address.clone()),
            Value::Flag(false) => None,
            _ => {
                return Err(format!(
                    "is {value}; expected the node's address such as \"10.0.0.2:7001\", or false to turn it off"
                ));
            }
        };
        self.nodes.insert(name.to_owned(), node);
        Ok(())
    }
}

/// The key that was meant by one that there is not: of the same section if one is near, of another if it has the same name.
fn nearest_key(path: &str) -> Option<String> {
    let Some((section, name)) = path.split_once('.') else {
        return nearest(path, keys::sections()).map(str::to_owned);
    };
    let all = KEYS.iter().map(|key| key.path).chain([NODES, LABELS]);
    let split = all.filter_map(|key| key.split_once('.')).chain(RULE.iter().map(|name| (ACCESS, *name)));
    let split = split.chain(routes::FIELDS.iter().map(|name| (ROUTE, *name)));
    let split = split.chain(services::FIELDS.iter().map(|name| (SERVICE, *name)));
    let meant = nearest(section, keys::sections()).unwrap_or(section);
    let near = nearest(name, split.clone().filter(|(section, _)| *section == meant).map(|(_, name)| name));
    let elsewhere =
        split.clone().find(|(section, other)| *other == name && ![ACCESS, ROUTE, SERVICE].contains(section));
    near.map(|name| format!("{meant}.{name}"))
        .or_else(|| elsewhere.map(|(section, name)| format!("{section}.{name}")))
        .or_else(|| (meant != section).then(|| meant.to_owned()))
}

pub(super) fn found(value: &Spanned<DeValue<'_>>, expected: &str) -> String {
    format!("is {}; expected {expected}", plain(value.get_ref()))
}

/// The strings of a list, if there is nothing else in it.
pub(super) fn names(value: &DeValue<'_>) -> Option<Vec<String>> {
    let DeValue::Array(list) = value else { return None };
    let name = |value: &Spanned<DeValue<'_>>| value.get_ref().as_str().map(str::to_owned);
    list.iter().map(name).collect()
}

pub(super) fn plain(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::Other("an integer out of range"),
        },
        DeValue::Boolean(flag) => Value::Flag(*flag),
        DeValue::Array(list) => Value::List(list.iter().map(|value| plain(value.get_ref())).collect()),
        DeValue::Float(_) => Value::Other("a number with a fraction"),
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Table(_) => Value::Other("a table"),
    }
}
