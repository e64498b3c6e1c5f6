//! One rule of the configuration, from the table in which it stands.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::field::Value;
use crate::config::read::plain;
use crate::config::table::{Problems, TableReader};

use super::{Route, Subset};

/// The keys of a rule.
pub(in crate::config) const FIELDS: [&str; 10] =
    ["service", "methods", "caller", "keys", "to", "split", "redirect", "deny", "mirror", "otherwise"];

/// Reads a rule.
pub(in crate::config) fn route(rule: &Spanned<DeValue<'_>>) -> Result<Route, Problems> {
    let mut reader = Reader { table: TableReader::new("route") };
    let route = if let DeValue::Table(table) = rule.get_ref() {
        reader.route(table, rule.span())
    } else {
        reader.table.invalid("", rule, "a rule with `service`, under its own `[[route]]`");
        Route::of("")
    };
    if reader.table.problems.is_empty() { Ok(route) } else { Err(reader.table.problems) }
}

struct Reader {
    table: TableReader,
}

/// What a service is called by.
const SERVICE: &str = "the name of a service";

/// Of which a rule may have one.
const ACTIONS: [&str; 4] = ["to", "split", "redirect", "deny"];

impl Reader {
    fn route(&mut self, table: &DeTable<'_>, span: Range<usize>) -> Route {
        let mut route = Route::of("");
        let mut or_any = false;
        for (name, value) in table {
            let (name, place) = (name.get_ref().as_ref(), name.span());
            match name {
                "service" => route.service = self.table.text(name, value, SERVICE),
                "methods" => route.methods = Some(self.table.texts(name, value)),
                "caller" => route.caller = self.table.labels(name, value),
                "keys" => {
                    for key in self.table.texts(name, value) {
                        route = route.key(key.as_str());
                    }
                }
                "to" => route = route.to(self.subset(name, value)),
                "split" => route = route.split(self.parts(value)),
                "redirect" => route = route.redirect(self.table.text(name, value, SERVICE)),
                "deny" => match value.get_ref() {
                    DeValue::Boolean(true) => route = route.deny(),
                    _ => self.table.invalid(name, value, "true, or nothing"),
                },
                "mirror" => route = route.mirror(self.subset(name, value)),
                "otherwise" => match value.get_ref().as_str() {
                    Some("any") => or_any = true,
                    Some("none") => {}
                    _ => self.table.invalid(name, value, "\"any\" or \"none\""),
                },
                _ => self.table.unknown(name, place),
            }
        }
        let has = |name: &&&str| table.get(**name).is_some();
        if !self.table.problems.is_empty() {
            return route; // what is wrong may be what is missing
        }
        let actions: Vec<_> = ACTIONS.iter().filter(has).map(|name| format!("`{name}`")).collect();
        if table.get("service").is_none() {
            self.table.wrong("service", span, "is missing: what the rule is about");
        } else if actions.len() > 1 {
            let problem = format!("has {}; expected one of them", actions.join(" and "));
            self.table.wrong("", span, problem);
        } else if or_any && !route.set_or_any() {
            self.table.wrong("otherwise", span, "needs `to` or `split`");
        }
        route
    }

    /// The parts of a split: `{ to = { version = "2" }, weight = 10 }`.
    fn parts(&mut self, value: &Spanned<DeValue<'_>>) -> Vec<(u32, Subset)> {
        let expected = "a list of parts such as { to = { version = \"2\" }, weight = 10 }";
        let DeValue::Array(list) = value.get_ref() else {
            self.table.invalid("split", value, expected);
            return Vec::new();
        };
        let mut parts = Vec::new();
        for part in list {
            let DeValue::Table(table) = part.get_ref() else {
                self.table.invalid("split", part, expected);
                continue;
            };
            let (mut weight, mut subset) = (None, None);
            for (name, value) in table {
                match name.get_ref().as_ref() {
                    "weight" => match plain(value.get_ref()) {
                        Value::Integer(number) if u32::try_from(number).is_ok() => {
                            weight = u32::try_from(number).ok();
                        }
                        _ => self.table.invalid("split.weight", value, "a whole number from 0 to 4294967295"),
                    },
                    "to" => subset = Some(self.subset("split.to", value)),
                    other => self.table.unknown(&format!("split.{other}"), name.span()),
                }
            }
            match (weight, subset) {
                (Some(weight), Some(subset)) => parts.push((weight, subset)),
                _ if !self.table.problems.is_empty() => {}
                (None, _) => self.table.wrong("split.weight", part.span(), "is missing: the part's share"),
                (_, None) => self.table.wrong("split.to", part.span(), "is missing: where the part goes"),
            }
        }
        parts
    }

    /// Labels, among which `node` is the name of a node.
    fn subset(&mut self, name: &str, value: &Spanned<DeValue<'_>>) -> Subset {
        let labels = self.table.labels(name, value);
        let mut subset = Subset::default();
        for (key, value) in labels.iter() {
            subset = match key {
                "node" => Subset { node: Some(value.to_owned()), ..subset },
                _ => subset.and(key, value),
            };
        }
        subset
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
