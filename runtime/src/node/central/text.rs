//! Values as texts of TOML, and what is wrong with them.
//!
//! A text is one value, as in `8`, `"eu"` or `{ players = 8 }`, or else the lines of a table, as below `[service.config]`.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use toml::Value;

use super::error::CentralError;

/// Why somebody who watches cannot use a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Refusal {
    /// Where in the value.
    pub(super) field: Option<String>,
    pub(super) reason: String,
}

/// The value of a text.
pub(super) fn parse(key: &str, text: &str) -> Result<Value, CentralError> {
    // First as one value: `[1]` is a list, and not the head of an empty table. What more there is than a value is no value.
    if let Ok(mut table) = format!("value = {text}").parse::<toml::Table>()
        && table.len() == 1
        && let Some(value) = table.remove("value")
    {
        return Ok(value);
    }
    let table = text.parse::<toml::Table>().map_err(|error| CentralError::Syntax {
        key: key.to_owned(),
        problem: error.to_string().trim_end().to_owned(),
    })?;
    Ok(Value::Table(table))
}

/// A value as a text.
pub(super) fn write<T: Serialize + ?Sized>(key: &str, value: &T) -> Result<String, CentralError> {
    let syntax = |error: &dyn std::fmt::Display| CentralError::Syntax {
        key: key.to_owned(),
        problem: error.to_string().trim_end().to_owned(),
    };
    match Value::try_from(value).map_err(|error| syntax(&error))? {
        Value::Table(table) => toml::to_string(&table).map_err(|error| syntax(&error)),
        value => Ok(value.to_string()),
    }
}

/// Reads a value as a type.
pub(super) fn decode<T: DeserializeOwned>(value: Value) -> Result<T, Refusal> {
    T::deserialize(value).map_err(|error| refusal(&error))
}

/// What serde says. The path of the field stands in a line of its own behind the message, and nowhere else.
fn refusal(error: &toml::de::Error) -> Refusal {
    let reason = error.message().to_owned();
    let shown = error.to_string();
    let field = shown.strip_prefix(&reason).and_then(|rest| rest.trim().strip_prefix("in `"));
    Refusal { field: field.and_then(|rest| rest.strip_suffix('`')).map(str::to_owned), reason }
}
