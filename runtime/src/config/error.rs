//! Why a configuration is refused.

use std::fmt;
use std::path::{Path, PathBuf};

use super::place::Place;

/// Why a configuration is refused. Nothing of it was applied.
///
/// What is shown names the file, the line or the environment variable, the key, and what was expected; the line stands below.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is no TOML.
    #[error("{}", Explained(place, problem))]
    Syntax {
        /// Where it ceases to be.
        place: Place,
        /// What the parser says.
        problem: String,
    },
    /// There is no key or section of this name.
    #[error("{}", Explained(place, &Unknown(key, nearest.as_deref())))]
    UnknownKey {
        /// Where it stands.
        place: Place,
        /// The key with its section, as in `node.lisen`.
        key: String,
        /// The key that was meant, perhaps.
        nearest: Option<String>,
    },
    /// A key has a value that cannot be used, or is missing.
    #[error("{}", Explained(place, &format_args!("`{key}` {problem}")))]
    Invalid {
        /// Where the value stands.
        place: Place,
        /// The key with its section, as in `node.listen`.
        key: String,
        /// What is wrong, and what was expected.
        problem: String,
    },
}

impl ConfigError {
    /// A key that cannot be used, with the place of what it belongs to.
    pub(crate) fn at(place: Option<&Place>, key: &str, problem: String) -> Self {
        let place = place.cloned().unwrap_or_else(|| Place::nowhere(Path::new("")));
        Self::Invalid { place, key: key.to_owned(), problem }
    }

    /// The configuration file.
    pub fn file(&self) -> &Path {
        match self {
            Self::Unreadable { file, .. } => file,
            Self::Syntax { place, .. } | Self::UnknownKey { place, .. } | Self::Invalid { place, .. } => {
                place.file()
            }
        }
    }

    /// The line in the file, the first one being 1. `None` if no line is to blame: a key is missing, or an environment variable
    /// is wrong.
    pub fn line(&self) -> Option<usize> {
        match self {
            Self::Unreadable { .. } => None,
            Self::Syntax { place, .. } | Self::UnknownKey { place, .. } | Self::Invalid { place, .. } => {
                place.line()
            }
        }
    }

    /// The key with its section, as in `node.listen`, if it is about one.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::UnknownKey { key, .. } | Self::Invalid { key, .. } => Some(key),
            Self::Unreadable { .. } | Self::Syntax { .. } => None,
        }
    }
}

/// A problem with its place.
struct Explained<'a>(&'a Place, &'a dyn fmt::Display);

impl fmt::Display for Explained<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.explain(f, self.1)
    }
}

/// An unknown key, and perhaps the one that was meant.
struct Unknown<'a>(&'a str, Option<&'a str>);

impl fmt::Display for Unknown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no key `{}`", self.0)?;
        match self.1 {
            Some(nearest) => write!(f, "; did you mean `{nearest}`?"),
            None => Ok(()),
        }
    }
}
