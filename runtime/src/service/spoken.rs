//! Messages as JSON: how one is built from the text of its arguments, how its reply becomes a text, and how it is shown.
//!
//! Payloads do not say what is in them, so that JSON is read where the types are known: on the node of the instance.
//!
//! Invariant: a text becomes the message that a typed call would make, or an error that names the argument.

use std::any::Any;
use std::fmt;
use std::io;

use serde_json::{Map, Value};
use tokio::sync::oneshot;

use crate::config::nearest;
use crate::error::CallError;
use crate::service::message::{Method, Wire};

/// What comes back: the reply as JSON.
pub(crate) type TextAnswer = Result<String, CallError>;

/// The way back of a reply that is written as JSON; none for a send.
#[derive(Debug)]
pub struct TextPath(pub(crate) Option<oneshot::Sender<TextAnswer>>);

/// The arguments of one message, read in their order.
#[derive(Debug)]
pub struct Arguments<'a> {
    method: &'a Method,
    given: Given,
    next: usize,
}

/// How they were given.
#[derive(Debug)]
enum Given {
    ByName(Map<String, Value>),
    InOrder(Vec<Value>),
}

impl<'a> Arguments<'a> {
    /// Parses a text: an object of arguments by name, or an array of them in order. An empty text is no arguments.
    ///
    /// # Errors
    /// It is neither, or holds an argument that there is not.
    pub(crate) fn parse(method: &'a Method, text: &str) -> Result<Self, ArgumentError> {
        let text = if text.trim().is_empty() { "{}" } else { text };
        let value: Value = serde_json::from_str(text)
            .map_err(|error| ArgumentError::new(format!("the arguments are not JSON: {error}")))?;
        let takes = method.arguments();
        let given = match value {
            Value::Object(fields) => {
                let is_known = |name: &&String| takes.iter().any(|(known, _)| known == name);
                if let Some(unknown) = fields.keys().find(|name| !is_known(name)) {
                    return Err(unknown_argument(unknown, takes));
                }
                Given::ByName(fields)
            }
            Value::Array(values) if values.len() > takes.len() => {
                let problem = format!("{} arguments are given, and it takes {}", values.len(), takes.len());
                return Err(ArgumentError::new(problem));
            }
            Value::Array(values) => Given::InOrder(values),
            other => {
                let problem = format!(
                    "the arguments are {other}: an object of them by name is expected, or an array of them in order"
                );
                return Err(ArgumentError::new(problem));
            }
        };
        Ok(Self { method, given, next: 0 })
    }

    /// Reads the next argument. One that is not given is `null`, if it may be.
    ///
    /// # Errors
    /// It is missing, or something else.
    pub fn take<T: Wire>(&mut self) -> Result<T, ArgumentError> {
        let (name, expected) = self.method.arguments().get(self.next).copied().unwrap_or(("?", "?"));
        let given = match &mut self.given {
            Given::ByName(fields) => fields.remove(name),
            Given::InOrder(values) => values.get_mut(self.next).map(Value::take),
        };
        self.next += 1;
        let is_missing = given.is_none();
        serde_path_to_error::deserialize(given.unwrap_or_default()).map_err(|error| {
            if is_missing {
                return ArgumentError::new(format!("`{name}` is missing: {expected} is expected"));
            }
            let path = match error.path().to_string() {
                path if path == "." => String::new(),
                path if path.starts_with('[') => path,
                path => format!(".{path}"),
            };
            ArgumentError::new(format!("`{name}{path}`: {}", error.inner()))
        })
    }
}

fn unknown_argument(unknown: &str, takes: &[(&str, &str)]) -> ArgumentError {
    let names = || takes.iter().map(|(name, _)| *name);
    let hint = match nearest(unknown, names()) {
        Some(near) => format!("; did you mean `{near}`?"),
        None if takes.is_empty() => "; it takes none".to_owned(),
        None => format!("; it takes {}", names().collect::<Vec<_>>().join(", ")),
    };
    ArgumentError::new(format!("there is no argument `{unknown}`{hint}"))
}

/// Why no message could be made of a text.
#[derive(Debug)]
pub struct ArgumentError(String);

impl ArgumentError {
    fn new(problem: String) -> Self {
        Self(problem)
    }

    /// The interface has no such method.
    pub fn unknown() -> Self {
        Self("there is no such method".to_owned())
    }
}

impl fmt::Display for ArgumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Writes a reply.
pub(crate) fn write<T: Wire>(reply: &T) -> TextAnswer {
    serde_json::to_string(reply)
        .map_err(|error| CallError::BadReply(format!("the reply cannot be written as JSON: {error}").into()))
}

/// Shows a reply; `None` if it is of another type, or cannot be written.
pub fn show_reply<T: Wire>(reply: &dyn Any) -> Option<String> {
    beginning(reply.downcast_ref::<T>()?).ok()
}

/// How many bytes are shown of one value.
const SHOWN: usize = 1024;

/// No more than [`SHOWN`] bytes of a text, and an ellipsis if that is not all.
pub(crate) fn cut(mut text: String) -> String {
    if text.len() > SHOWN {
        let end = (0..=SHOWN).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('\u{2026}');
    }
    text
}

/// A value as JSON, [`cut`] while it is written.
fn beginning<T: Wire>(value: &T) -> Result<String, serde_json::Error> {
    let mut out = Beginning(Vec::new());
    let written = serde_json::to_writer(&mut out, value);
    if out.0.len() < Beginning::MOST {
        written?;
    }
    // Only behind what is shown a character may be cut in two.
    Ok(cut(String::from_utf8_lossy(&out.0).into_owned()))
}

/// Takes the beginning of what is written, and then nothing more.
struct Beginning(Vec<u8>);

impl Beginning {
    /// One character more than is shown.
    const MOST: usize = SHOWN + 4;
}

impl io::Write for Beginning {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(Self::MOST - self.0.len());
        self.0.extend_from_slice(&bytes[..taken]);
        Ok(taken) // none any more is an error to whoever writes
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The arguments of a message, as they are shown: one object.
#[derive(Debug)]
pub struct Fields {
    left: std::slice::Iter<'static, (&'static str, &'static str)>,
    shown: String,
}

impl Fields {
    pub(crate) fn new(method: &'static Method) -> Self {
        Self { left: method.arguments().iter(), shown: String::new() }
    }

    /// Shows the next argument.
    pub fn add<T: Wire>(&mut self, value: &T) {
        let name = self.left.next().map_or("?", |(name, _)| *name);
        let value = beginning(value).unwrap_or_else(|error| Value::String(format!("<{error}>")).to_string());
        let comma = if self.shown.is_empty() { "{" } else { "," };
        self.shown.extend([comma, "\"", name, "\":", &value]);
    }

    pub(crate) fn into_text(self) -> String {
        if self.shown.is_empty() { "{}".to_owned() } else { self.shown + "}" }
    }
}
