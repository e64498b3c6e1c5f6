//! Rules in words, for plans and errors.

use std::fmt;

use super::{Action, Route, Subset};

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.service)?;
        if let Some(methods) = &self.methods {
            write!(f, ".{{{}}}", methods.join(", "))?;
        }
        if !self.caller.is_empty() {
            write!(f, " from {}", self.caller)?;
        }
        if !self.keys.is_empty() {
            let keys: Vec<_> = self.keys.iter().map(|(_, shown)| shown.as_str()).collect();
            write!(f, " for key {}", keys.join(" or "))?;
        }
        match &self.action {
            Action::Any => f.write_str(" to any")?,
            Action::Deny => f.write_str(" denied")?,
            Action::Redirect(name) => write!(f, " to service {name}")?,
            Action::Split(parts) => match parts.as_slice() {
                [(_, subset)] => write!(f, " to {subset}")?,
                parts => {
                    let parts: Vec<_> =
                        parts.iter().map(|(weight, subset)| format!("{weight} to {subset}")).collect();
                    write!(f, " {}", parts.join(" and "))?;
                }
            },
        }
        match &self.mirror {
            Some(subset) => write!(f, ", mirrored to {subset}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Subset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = self.node.iter().map(|node| format!("node {node}"));
        let labels = (!self.labels.is_empty()).then(|| self.labels.to_string());
        let words: Vec<_> = node.chain(labels).collect();
        if words.is_empty() {
            f.write_str("any")?;
        }
        write!(f, "{}{}", words.join(" with "), if self.or_any { " or any" } else { "" })
    }
}
