//! What is wrong with rules before they are in force.
//!
//! A rule that can never do anything is a mistake of whoever wrote it, and so is one that leads in a circle.

use std::collections::BTreeSet;

use super::{Action, MAX_REDIRECTS, Route, Routes, Subset, matches};

/// Why rules cannot be used. Rules are numbered from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("route {number} ({route}) {problem}")]
#[non_exhaustive]
pub struct RoutesError {
    /// Which rule.
    pub number: usize,
    /// The rule, in words.
    pub route: String,
    /// What is wrong, and what was expected.
    pub problem: String,
}

impl Routes {
    /// Whether the rules can be used.
    ///
    /// # Errors
    /// [`RoutesError`] names the first rule that can never match, or whose calls would go nowhere or in a circle.
    pub fn check(&self) -> Result<(), RoutesError> {
        for (index, route) in self.routes.iter().enumerate() {
            let problem = route.problem().or_else(|| self.covered(index)).or_else(|| self.circle(route));
            if let Some(problem) = problem {
                return Err(RoutesError { number: index + 1, route: route.to_string(), problem });
            }
        }
        Ok(())
    }

    /// That an earlier rule takes all that this one is about.
    fn covered(&self, index: usize) -> Option<String> {
        let route = &self.routes[index];
        let earlier = self.routes[..index].iter().position(|earlier| earlier.covers(route))?;
        Some(format!("never applies: route {} before it matches all that it does", earlier + 1))
    }

    /// That a redirected name is redirected for ever. The rules of that name count whatever calls they are about.
    fn circle(&self, route: &Route) -> Option<String> {
        let mut ahead: Vec<&str> = route.redirected().into_iter().collect();
        let mut seen = BTreeSet::new();
        while let Some(name) = ahead.pop() {
            if matches(&route.service, name) {
                return Some(format!("leads in a circle: {name:?} is redirected to itself"));
            }
            if seen.insert(name) {
                let next = self.routes.iter().filter(|other| matches(&other.service, name));
                ahead.extend(next.filter_map(Route::redirected));
            }
        }
        (seen.len() > MAX_REDIRECTS).then(|| {
            format!("is redirected more than {MAX_REDIRECTS} times; redirect to the last name at once")
        })
    }
}

impl Route {
    fn redirected(&self) -> Option<&str> {
        match &self.action {
            Action::Redirect(name) => Some(name),
            Action::Any | Action::Split(_) | Action::Deny => None,
        }
    }

    /// What is wrong with the rule by itself.
    fn problem(&self) -> Option<String> {
        if self.service.is_empty() {
            return Some(
                "has no service; expected a name, or the beginning of one with a `*` behind it".to_owned(),
            );
        }
        if self.methods.as_ref().is_some_and(Vec::is_empty) {
            return Some("matches no method; leave `methods` out for all".to_owned());
        }
        match &self.action {
            Action::Split(parts) if parts.is_empty() => {
                return Some("has no part to which calls could go".to_owned());
            }
            Action::Split(parts) if parts.iter().all(|(weight, _)| *weight == 0) => {
                return Some("has no part with a weight of more than 0".to_owned());
            }
            Action::Redirect(name) if name.is_empty() || name.ends_with('*') => {
                return Some(format!("is redirected to {name:?}; expected the whole name of a service"));
            }
            Action::Any | Action::Split(_) | Action::Redirect(_) | Action::Deny => {}
        }
        let parts: &[(u32, Subset)] = if let Action::Split(parts) = &self.action { parts } else { &[] };
        let subsets = parts.iter().map(|(_, subset)| subset).chain(&self.mirror);
        let labels = subsets.map(|subset| &subset.labels).chain([&self.caller]);
        labels.into_iter().find_map(crate::config::Labels::problem)
    }

    /// Whether it is about every call that `other` is about.
    fn covers(&self, other: &Self) -> bool {
        let covers_name =
            |pattern: &str, name: &str| match (pattern.strip_suffix('*'), name.strip_suffix('*')) {
                (Some(wide), Some(narrow)) => narrow.starts_with(wide),
                (Some(_), None) => matches(pattern, name),
                (None, Some(_)) => false,
                (None, None) => pattern == name,
            };
        let has_methods = match (&self.methods, &other.methods) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(wide), Some(narrow)) => {
                narrow.iter().all(|name| wide.iter().any(|pattern| covers_name(pattern, name)))
            }
        };
        let has_keys = self.keys.is_empty()
            || !other.keys.is_empty()
                && other.keys.iter().all(|(key, _)| self.keys.iter().any(|(own, _)| own == key));
        covers_name(&self.service, &other.service)
            && has_methods
            && has_keys
            && self.caller.iter().all(|(key, value)| other.caller.get(key) == Some(value))
    }
}
