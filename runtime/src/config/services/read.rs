//! One service of the configuration, from the table in which it stands.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::field::Value;
use crate::config::labels::Labels;
use crate::config::place::Place;
use crate::config::read::plain;
use crate::config::table::{Problems, TableReader};

use super::ServiceEntry;

/// The keys of a service.
pub(in crate::config) const FIELDS: [&str; 6] = ["name", "kind", "instances", "unique", "labels", "config"];

/// Reads a service that stands at that place.
pub(in crate::config) fn entry(
    service: &Spanned<DeValue<'_>>,
    place: Place,
) -> Result<ServiceEntry, Problems> {
    let mut reader = TableReader::new("service");
    let mut entry = ServiceEntry {
        name: String::new(),
        kind: String::new(),
        instances: 1,
        is_unique: false,
        labels: Labels::default(),
        config: toml::Table::new(),
        place: Some(place),
        is_unsure: false,
    };
    match service.get_ref() {
        DeValue::Table(table) => read(&mut reader, &mut entry, table),
        _ => reader.invalid("", service, "a service with `name`, under its own `[[service]]`"),
    }
    if reader.problems.is_empty() {
        if entry.name.is_empty() {
            reader.wrong("name", service.span(), "is missing: the name under which the service is found");
        } else if entry.kind.is_empty() {
            entry.kind.clone_from(&entry.name);
        }
    }
    if reader.problems.is_empty() { Ok(entry) } else { Err(reader.problems) }
}

fn read(reader: &mut TableReader, entry: &mut ServiceEntry, table: &DeTable<'_>) {
    for (name, value) in table {
        let (name, place) = (name.get_ref().as_ref(), name.span());
        match name {
            "name" => entry.name = reader.text(name, value, "the name of a service"),
            "kind" => entry.kind = reader.text(name, value, "the name of a kind"),
            "instances" => match plain(value.get_ref()) {
                Value::Integer(number @ 1..) => {
                    entry.instances = usize::try_from(number).unwrap_or(usize::MAX);
                }
                _ => reader.invalid(name, value, "a whole number from 1"),
            },
            "unique" => match value.get_ref() {
                DeValue::Boolean(flag) => entry.is_unique = *flag,
                _ => reader.invalid(name, value, "true or false"),
            },
            "labels" => entry.labels = reader.labels(name, value),
            "config" => match owned(value.get_ref()) {
                toml::Value::Table(table) => entry.config = table,
                _ => reader.invalid(name, value, "a table, as in `[service.config]`"),
            },
            _ => reader.unknown(name, place),
        }
    }
}

/// A value by itself, for whoever reads it by serde.
fn owned(value: &DeValue<'_>) -> toml::Value {
    match value {
        DeValue::String(text) => toml::Value::String(text.to_string()),
        // What is no number of 64 bits is a text, which no number's reader takes.
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => toml::Value::Integer(number),
            Err(_) => toml::Value::String(number.as_str().to_owned()),
        },
        DeValue::Float(number) => match number.as_str().parse() {
            Ok(number) => toml::Value::Float(number),
            Err(_) => toml::Value::String(number.as_str().to_owned()),
        },
        DeValue::Boolean(flag) => toml::Value::Boolean(*flag),
        DeValue::Datetime(time) => toml::Value::Datetime(*time),
        DeValue::Array(list) => toml::Value::Array(list.iter().map(|value| owned(value.get_ref())).collect()),
        DeValue::Table(table) => {
            let entry = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
                let key: &std::borrow::Cow<'_, str> = key.get_ref();
                (key.to_string(), owned(value.get_ref()))
            };
            toml::Value::Table(table.iter().map(entry).collect())
        }
    }
}
