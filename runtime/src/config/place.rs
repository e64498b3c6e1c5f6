//! Where in a configuration something stands.
//!
//! Invariant: no secret that somebody wrote where it does not belong is shown.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Where in a configuration something stands: in a line of the file, in an environment variable, or nowhere yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Behind a pointer, as errors are to be small.
    at: Box<At>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct At {
    file: PathBuf,
    spot: Spot,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Spot {
    Nowhere,
    Line { number: usize, text: String, marked: Range<usize> },
    Variable(String),
}

/// Words in front of a `=` behind which a secret may stand.
const SECRETS: [&str; 4] = ["secret", "password", "passphrase", "token"];

impl Place {
    /// The configuration file.
    pub fn file(&self) -> &Path {
        &self.at.file
    }

    /// The line in the file, the first one being 1.
    pub fn line(&self) -> Option<usize> {
        match &self.at.spot {
            Spot::Line { number, .. } => Some(*number),
            Spot::Nowhere | Spot::Variable(_) => None,
        }
    }

    /// The environment variable that is laid over the file.
    pub fn variable(&self) -> Option<&str> {
        match &self.at.spot {
            Spot::Variable(name) => Some(name),
            Spot::Nowhere | Spot::Line { .. } => None,
        }
    }

    fn at(file: &Path, spot: Spot) -> Self {
        Self { at: Box::new(At { file: file.to_owned(), spot }) }
    }

    /// What ought to stand in the file, and does not.
    pub(crate) fn nowhere(file: &Path) -> Self {
        Self::at(file, Spot::Nowhere)
    }

    pub(super) fn in_variable(file: &Path, name: &str) -> Self {
        Self::at(file, Spot::Variable(name.to_owned()))
    }

    /// The bytes `span` of the file's text.
    pub(super) fn in_text(file: &Path, text: &str, span: Range<usize>) -> Self {
        // An error at the end of the text may point behind it.
        let at = (0..=span.start.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let begins = text[..at].rfind('\n').map_or(0, |end| end + 1);
        let number = text[..begins].matches('\n').count() + 1;
        let line = text[begins..].lines().next().unwrap_or_default();
        let shown = without_secret(line);
        let columns = |bytes: usize| {
            let end = (0..=bytes.min(shown.len())).rev().find(|at| shown.is_char_boundary(*at)).unwrap_or(0);
            shown[..end].chars().count()
        };
        let start = columns(at - begins);
        let end = columns(span.end.saturating_sub(begins)).max(start + 1);
        Self::at(file, Spot::Line { number, text: shown, marked: start..end })
    }

    /// Writes a problem with its place, and the line that has it.
    pub(super) fn explain(&self, f: &mut fmt::Formatter<'_>, problem: &dyn fmt::Display) -> fmt::Result {
        let file = self.at.file.display();
        match &self.at.spot {
            Spot::Nowhere => write!(f, "{file}: {problem}"),
            Spot::Variable(name) => write!(f, "environment variable {name}: {problem}"),
            Spot::Line { number, text, marked } => {
                let margin = " ".repeat(number.to_string().len());
                let (indent, marks) = (" ".repeat(marked.start), "^".repeat(marked.len()));
                write!(f, "{file}:{number}: {problem}\n{number} | {text}\n{margin} | {indent}{marks}")
            }
        }
    }
}

/// The line without what follows a word such as `secret =`: somebody may have taken it for a key.
fn without_secret(line: &str) -> String {
    let equals = line.match_indices('=').map(|(at, _)| at).find(|at| {
        let before = line[..*at].trim_end().trim_end_matches(['"', '\'']).to_ascii_lowercase();
        SECRETS.iter().any(|word| before.ends_with(word)) && !before.ends_with("without_secret")
    });
    match equals {
        Some(at) => format!("{}= ..", &line[..at]),
        None => line.replace('\t', " "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, span: Range<usize>) -> String {
        struct Shown(Place);
        impl fmt::Display for Shown {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.explain(f, &"no")
            }
        }
        Shown(Place::in_text(Path::new("s.toml"), text, span)).to_string()
    }

    #[test]
    fn the_line_is_shown_and_the_place_is_marked() {
        assert_eq!(shown("a = 1\nbc = 2\n", 6..8), "s.toml:2: no\n2 | bc = 2\n  | ^^");
        assert_eq!(shown("a = \"é\" x", 9..10), "s.toml:1: no\n1 | a = \"é\" x\n  |         ^");
    }

    #[test]
    fn any_place_can_be_shown() {
        let text = "a = 'é'\r\n\n\tb";
        for start in 0..text.len() + 3 {
            for end in start..text.len() + 3 {
                assert!(shown(text, start..end).starts_with("s.toml:"));
            }
        }
        assert_eq!(shown("", 0..0), "s.toml:1: no\n1 | \n  | ^");
    }

    #[test]
    fn a_secret_that_was_written_into_the_file_is_not_shown() {
        for line in [
            "secret = \"hunter2\"",
            "a = { cluster_secret='hunter2' }",
            "\"Password\" = hunter2",
            "token=hunter2",
        ] {
            let shown = shown(line, 0..line.len());
            assert!(!shown.contains("hunter2") && shown.contains(".."), "{shown}");
        }
        let line = "secret_file = \"a\"";
        assert!(shown(line, 0..1).contains(line));
    }
}
