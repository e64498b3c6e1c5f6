//! One rule of the configuration, from the table in which it stands.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::field::Value;
use crate::config::labels::Labels;
use crate::config::read::{found, names, plain};

use super::{Route, Subset};

/// The keys of a rule.
pub(in crate::config) const FIELDS: [&str; 10] =
    ["service", "methods", "caller", "keys", "to", "split", "redirect", "deny", "mirror", "otherwise"];

/// What is wrong in a table: with which key, where, and what; nothing, if there is no such key.
pub(in crate::config) type Problems = Vec<(String, Range<usize>, Option<String>)>;

/// Reads a rule.
pub(in crate::config) fn route(rule: &Spanned<DeValue<'_>>) -> Result<Route, Problems> {
    let DeValue::Table(table) = rule.get_ref() else {
        let problem = found(rule, "a rule with `service`, under its own `[[route]]`");
        return Err(vec![("route".to_owned(), rule.span(), Some(problem))]);
    };
    let mut reader = Reader { problems: Vec::new() };
    let route = reader.route(table, rule.span());
    if reader.problems.is_empty() { Ok(route) } else { Err(reader.problems) }
}

struct Reader {
    problems: Problems,
}

/// Of which a rule may have one.
const ACTIONS: [&str; 4] = ["to", "split", "redirect", "deny"];

impl Reader {
    fn route(&mut self, table: &DeTable<'_>, span: Range<usize>) -> Route {
        let mut route = Route::of("");
        let mut or_any = false;
        for (name, value) in table {
            let (name, place) = (name.get_ref().as_ref(), name.span());
            match name {
                "service" => route.service = self.text(name, value),
                "methods" => route.methods = Some(self.list(name, value)),
                "caller" => route.caller = self.labels(name, value),
                "keys" => {
                    for key in self.list(name, value) {
                        route = route.key(key.as_str());
                    }
                }
                "to" => route = route.to(self.subset(name, value)),
                "split" => route = route.split(self.parts(value)),
                "redirect" => route = route.redirect(self.text(name, value)),
                "deny" => match value.get_ref() {
                    DeValue::Boolean(true) => route = route.deny(),
                    _ => self.invalid(name, value, "true, or nothing"),
                },
                "mirror" => route = route.mirror(self.subset(name, value)),
                "otherwise" => match value.get_ref().as_str() {
                    Some("any") => or_any = true,
                    Some("none") => {}
                    _ => self.invalid(name, value, "\"any\" or \"none\""),
                },
                _ => self.problems.push((format!("route.{name}"), place, None)),
            }
        }
        let has = |name: &&&str| table.get(**name).is_some();
        if !self.problems.is_empty() {
            return route; // what is wrong may be what is missing
        }
        let actions: Vec<_> = ACTIONS.iter().filter(has).map(|name| format!("`{name}`")).collect();
        if table.get("service").is_none() {
            self.wrong("route.service", span, "is missing: what the rule is about");
        } else if actions.len() > 1 {
            let problem = format!("has {}; expected one of them", actions.join(" and "));
            self.problems.push(("route".to_owned(), span, Some(problem)));
        } else if or_any && !route.set_or_any() {
            self.wrong("route.otherwise", span, "needs `to` or `split`");
        }
        route
    }

    /// The parts of a split: `{ to = { version = "2" }, weight = 10 }`.
    fn parts(&mut self, value: &Spanned<DeValue<'_>>) -> Vec<(u32, Subset)> {
        let expected = "a list of parts such as { to = { version = \"2\" }, weight = 10 }";
        let DeValue::Array(list) = value.get_ref() else {
            self.invalid("split", value, expected);
            return Vec::new();
        };
        let mut parts = Vec::new();
        for part in list {
            let DeValue::Table(table) = part.get_ref() else {
                self.invalid("split", part, expected);
                continue;
            };
            let (mut weight, mut subset) = (None, None);
            for (name, value) in table {
                match name.get_ref().as_ref() {
                    "weight" => match plain(value.get_ref()) {
                        Value::Integer(number) if u32::try_from(number).is_ok() => {
                            weight = u32::try_from(number).ok();
                        }
                        _ => self.invalid("split.weight", value, "a whole number from 0 to 4294967295"),
                    },
                    "to" => subset = Some(self.subset("split.to", value)),
                    other => self.problems.push((format!("route.split.{other}"), name.span(), None)),
                }
            }
            match (weight, subset) {
                (Some(weight), Some(subset)) => parts.push((weight, subset)),
                _ if !self.problems.is_empty() => {}
                (None, _) => self.wrong("route.split.weight", part.span(), "is missing: the part's share"),
                (_, None) => self.wrong("route.split.to", part.span(), "is missing: where the part goes"),
            }
        }
        parts
    }

    /// Labels, among which `node` is the name of a node.
    fn subset(&mut self, name: &str, value: &Spanned<DeValue<'_>>) -> Subset {
        let labels = self.labels(name, value);
        let mut subset = Subset::default();
        for (key, value) in labels.iter() {
            subset = match key {
                "node" => Subset { node: Some(value.to_owned()), ..subset },
                _ => subset.and(key, value),
            };
        }
        subset
    }

    fn labels(&mut self, name: &str, value: &Spanned<DeValue<'_>>) -> Labels {
        let expected = "labels such as { zone = \"eu\" }";
        let DeValue::Table(table) = value.get_ref() else {
            self.invalid(name, value, expected);
            return Labels::default();
        };
        let mut labels = Labels::default();
        for (key, value) in table {
            match value.get_ref().as_str() {
                Some(text) => labels.set(key.get_ref().to_string(), text.to_owned()),
                None => self.invalid(name, value, expected),
            }
        }
        labels
    }

    fn text(&mut self, name: &str, value: &Spanned<DeValue<'_>>) -> String {
        match value.get_ref().as_str() {
            Some(text) if !text.is_empty() => return text.to_owned(),
            _ => self.invalid(name, value, "the name of a service"),
        }
        String::new()
    }

    fn list(&mut self, name: &str, value: &Spanned<DeValue<'_>>) -> Vec<String> {
        names(value.get_ref()).unwrap_or_else(|| {
            self.invalid(name, value, "a list of names in quotes");
            Vec::new()
        })
    }

    fn invalid(&mut self, name: &str, value: &Spanned<DeValue<'_>>, expected: &str) {
        self.problems.push((format!("route.{name}"), value.span(), Some(found(value, expected))));
    }

    fn wrong(&mut self, key: &str, span: Range<usize>, problem: &str) {
        self.problems.push((key.to_owned(), span, Some(problem.to_owned())));
    }
}

impl Route {
    /// Lets calls go to any instance where a part has none. `false` if there is no part.
    fn set_or_any(&mut self) -> bool {
        let super::Action::Split(parts) = &mut self.action else { return false };
        for (_, subset) in parts.iter_mut() {
            subset.or_any = true;
        }
        !parts.is_empty()
    }
}
