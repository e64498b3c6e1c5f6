//! The kinds of values in a configuration: how each is checked, shown, and taken over.
//!
//! Invariant: what is refused is refused with what was expected and what was found.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::monitoring::Monitoring;
use super::settings::Settings;
use super::units::{duration, show_size, size};

/// Which setting a key is, by its kind.
#[derive(Clone, Copy)]
pub(super) enum Field {
    Name(fn(&mut Settings) -> &mut String),
    /// Where to listen.
    Address(fn(&mut Settings) -> &mut Option<String>),
    /// Whom to dial.
    Addresses(fn(&mut Settings) -> &mut Vec<String>),
    Duration(fn(&mut Settings) -> &mut Duration),
    Size(fn(&mut Settings) -> &mut usize),
    Count(fn(&mut Settings) -> &mut usize),
    Flag(fn(&mut Settings) -> &mut bool),
    Path(fn(&mut Settings) -> &mut Option<PathBuf>),
    Monitoring(fn(&mut Settings) -> &mut Monitoring),
}

/// A value as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Flag(bool),
    List(Vec<Value>),
    /// What no key has, in words.
    Other(&'static str),
}

impl Field {
    /// Sets the setting; else says what is wrong. Relative paths are in `folder`.
    pub(super) fn set(self, settings: &mut Settings, value: &Value, folder: &Path) -> Result<(), String> {
        let expected = self.expected();
        let refused = || format!("is {value}; expected {expected}");
        match (self, value) {
            (Self::Name(field), Value::Text(text)) => field(settings).clone_from(text),
            (Self::Address(field), Value::Text(text)) if is_address(text, 0) => {
                *field(settings) = Some(text.clone());
            }
            (Self::Addresses(field), Value::List(list)) => {
                let mut addresses = Vec::new();
                for value in list {
                    match value {
                        Value::Text(text) if is_address(text, 1) => addresses.push(text.clone()),
                        _ => return Err(format!("has {value}; expected {expected}")),
                    }
                }
                *field(settings) = addresses;
            }
            (Self::Duration(field), Value::Text(text)) => {
                *field(settings) = duration(text).ok_or_else(refused)?;
            }
            (Self::Size(field), Value::Text(text)) => *field(settings) = size(text).ok_or_else(refused)?,
            (Self::Size(field) | Self::Count(field), Value::Integer(number)) => {
                *field(settings) = usize::try_from(*number).map_err(|_| refused())?;
            }
            (Self::Flag(field), Value::Flag(flag)) => *field(settings) = *flag,
            (Self::Path(field), Value::Text(text)) if !text.is_empty() => {
                *field(settings) = Some(folder.join(text));
            }
            (Self::Monitoring(field), Value::Text(text)) => {
                *field(settings) = text.parse().map_err(|()| refused())?;
            }
            _ => return Err(refused()),
        }
        Ok(())
    }

    /// The value of an environment variable, as it would stand in a file.
    pub(super) fn read(self, text: &str) -> Value {
        let text = text.trim();
        let value = match self {
            Self::Size(_) | Self::Count(_) => text.parse().ok().map(Value::Integer),
            Self::Flag(_) => text.parse().ok().map(Value::Flag),
            Self::Addresses(_) => {
                let addresses = text.split(',').map(str::trim).filter(|address| !address.is_empty());
                Some(Value::List(addresses.map(|address| Value::Text(address.to_owned())).collect()))
            }
            Self::Name(_) | Self::Address(_) | Self::Duration(_) | Self::Path(_) | Self::Monitoring(_) => {
                None
            }
        };
        value.unwrap_or_else(|| Value::Text(text.to_owned()))
    }

    /// The setting as people write it.
    pub(super) fn show(self, settings: &mut Settings) -> Option<String> {
        match self {
            Self::Name(field) => Some(field(settings).clone()),
            Self::Address(field) => field(settings).clone(),
            Self::Addresses(field) => Some(field(settings).join(", ")).filter(|all| !all.is_empty()),
            Self::Duration(field) => Some(format!("{:?}", field(settings))),
            Self::Size(field) => Some(show_size(*field(settings))),
            Self::Count(field) => Some(field(settings).to_string()),
            Self::Flag(field) => Some(field(settings).to_string()),
            Self::Path(field) => field(settings).as_ref().map(|path| path.display().to_string()),
            Self::Monitoring(field) => Some(field(settings).to_string()),
        }
    }

    /// Takes the setting over.
    pub(super) fn copy(self, from: &mut Settings, to: &mut Settings) {
        match self {
            Self::Name(field) => field(to).clone_from(field(from)),
            Self::Address(field) => field(to).clone_from(field(from)),
            Self::Addresses(field) => field(to).clone_from(field(from)),
            Self::Duration(field) => *field(to) = *field(from),
            Self::Size(field) | Self::Count(field) => *field(to) = *field(from),
            Self::Flag(field) => *field(to) = *field(from),
            Self::Path(field) => field(to).clone_from(field(from)),
            Self::Monitoring(field) => *field(to) = *field(from),
        }
    }

    fn expected(self) -> &'static str {
        match self {
            Self::Name(_) => "a name in quotes",
            Self::Address(_) => "an address such as \"127.0.0.1:7001\"",
            Self::Addresses(_) => "a list of addresses such as [\"10.0.0.2:7001\"]",
            Self::Duration(_) => "a duration such as \"5s\", \"250ms\" or \"1m 30s\", at most \"8760h\"",
            Self::Size(_) => "a size such as \"64 MiB\" or \"512 KiB\", or a number of bytes",
            Self::Count(_) => "a whole number",
            Self::Flag(_) => "true or false",
            Self::Path(_) => "the path of a file, in quotes",
            Self::Monitoring(_) => "\"off\", \"sampled\" or \"precise\"",
        }
    }
}

/// Whether a text has the form of `host:port`, with at least that port.
pub(crate) fn is_address(text: &str, least_port: u16) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let is_host = match host.strip_prefix('[') {
        Some(inner) => {
            inner.strip_suffix(']').is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok())
        }
        None => !host.is_empty() && !host.contains(|c: char| c == ':' || c.is_whitespace() || c.is_control()),
    };
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    is_host && is_number && port.parse::<u16>().is_ok_and(|port| port >= least_port)
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "the string {text:?}"),
            Self::Integer(number) => write!(f, "the integer {number}"),
            Self::Flag(flag) => write!(f, "the boolean {flag}"),
            Self::List(_) => f.write_str("a list"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for text in ["127.0.0.1:7001", "node-b.cluster.local:7001", "[::1]:7001", "localhost:65535"] {
            assert!(is_address(text, 1), "{text}");
        }
        assert!(is_address("0.0.0.0:0", 0) && !is_address("0.0.0.0:0", 1));
        for text in [
            "",
            ":7001",
            "host",
            "host:",
            "host:65536",
            "host:+1",
            "::1:7001",
            "[::g]:1",
            "[]:1",
            "a b:1",
            "http://a:1",
        ] {
            assert!(!is_address(text, 0), "{text}");
        }
    }
}
