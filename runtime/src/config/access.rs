//! Which peers may call what on a node.
//!
//! Invariant: what a rule does not say clearly, it does not allow.

use std::fmt;

/// Which peers may call which services of a node, and which of their methods. Set by
/// [`NodeBuilder::access`](crate::NodeBuilder::access), changed by [`Node::set_access`](crate::Node::set_access). Calls
/// within the node are not touched.
///
/// ```
/// # use skyhold::Access;
/// let access = Access::open()
///     .allow("gate-*", "accounts")                          // so nobody else may
///     .allow_methods("metrics", "accounts", ["count"])
///     .allow("ops", "topic/alarms");                        // who may publish to the subscribers here
/// ```
///
/// Names are those of nodes, services and methods as they are, or, ended by `*`, all that begin so. A service without a name
/// whose handle was sent has that of its type, or what `#[service(name = "..")]` says; the topic `alarms` is called
/// `topic/alarms`. What is denied is answered with [`CallError::Denied`](crate::CallError::Denied) and does not run; a send is
/// a dead letter. Whoever may call no method of a service may not watch its instances either.
///
/// Names of nodes are worth what proves them: the certificate, if the nodes have [`Tls`](crate::NodeBuilder::tls). With a secret
/// alone, whoever has it can take any name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    pub(super) rules: Vec<Rule>,
    pub(super) is_closed: bool,
}

/// As `gate-* may call accounts` or `metrics may call accounts.{count}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) peers: String,
    pub(super) service: String,
    /// All, if there are none.
    pub(super) methods: Option<Vec<String>>,
}

impl Access {
    /// A service that no rule names may be called by every peer; another only as the rules say. The default.
    pub fn open() -> Self {
        Self::default()
    }

    /// Nothing may be called but what a rule allows.
    pub fn closed() -> Self {
        Self { is_closed: true, ..Self::default() }
    }

    /// These peers may call every method of this service.
    #[must_use]
    pub fn allow(mut self, peers: impl Into<String>, service: impl Into<String>) -> Self {
        self.rules.push(Rule { peers: peers.into(), service: service.into(), methods: None });
        self
    }

    /// These peers may call these methods of this service.
    #[must_use]
    pub fn allow_methods<M: Into<String>>(
        mut self,
        peers: impl Into<String>,
        service: impl Into<String>,
        methods: impl IntoIterator<Item = M>,
    ) -> Self {
        let methods = Some(methods.into_iter().map(Into::into).collect());
        self.rules.push(Rule { peers: peers.into(), service: service.into(), methods });
        self
    }

    /// Whether everybody may call everything.
    pub(crate) fn is_unlimited(&self) -> bool {
        self.rules.is_empty() && !self.is_closed
    }

    /// Whether a peer may call a method of a service. Without a method: whether it may call any. A method that is not known has
    /// no name, and only who may call all of them may call it.
    pub(crate) fn allows(&self, peer: &str, service: &str, method: Asked<'_>) -> bool {
        let mut rules = self.rules.iter().filter(|rule| matches(&rule.service, service)).peekable();
        if rules.peek().is_none() {
            return !self.is_closed;
        }
        rules.filter(|rule| matches(&rule.peers, peer)).any(|rule| match (&rule.methods, method) {
            (None, _) => true,
            (Some(methods), Asked::Method(name)) => methods.iter().any(|allowed| matches(allowed, name)),
            (Some(methods), Asked::Any) => !methods.is_empty(),
            (Some(_), Asked::Unknown) => false,
        })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} may call {}", self.peers, self.service)?;
        match &self.methods {
            Some(methods) => write!(f, ".{{{}}}", methods.join(", ")),
            None => Ok(()),
        }
    }
}

/// Which method is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Asked<'a> {
    Method(&'a str),
    Unknown,
    Any,
}

/// Whether a name is the pattern, or begins as it does before its `*`.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => pattern == name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may(access: &Access, peer: &str, service: &str, method: &str) -> bool {
        access.allows(peer, service, Asked::Method(method))
    }

    #[test]
    fn without_rules_an_open_access_allows_all_and_a_closed_one_nothing() {
        assert!(may(&Access::open(), "a", "s", "m") && Access::open().is_unlimited());
        assert!(!may(&Access::closed(), "a", "s", "m") && !Access::closed().is_unlimited());
    }

    #[test]
    fn a_service_that_a_rule_names_is_for_those_whom_rules_name() {
        let access =
            Access::open().allow("gate-*", "accounts").allow_methods("metrics", "accounts", ["count"]);
        assert!(may(&access, "gate-1", "accounts", "close"));
        assert!(may(&access, "metrics", "accounts", "count"));
        assert!(!may(&access, "metrics", "accounts", "close"));
        assert!(!may(&access, "stranger", "accounts", "count"));
        assert!(!may(&access, "gate", "accounts", "count"));
        assert!(may(&access, "stranger", "chat", "say"));
        let closed = Access::closed().allow("gate-*", "accounts");
        assert!(may(&closed, "gate-1", "accounts", "close") && !may(&closed, "gate-1", "chat", "say"));
    }

    #[test]
    fn a_star_counts_at_the_end_alone() {
        let access = Access::closed().allow("*", "*").allow("a*b", "x");
        assert!(may(&access, "any", "any", "any"));
        assert!(!may(&Access::closed().allow("a*b", "x"), "axb", "x", "m"));
        assert!(may(&Access::closed().allow_methods("*", "x", ["get*"]), "a", "x", "get_all"));
    }

    #[test]
    fn what_is_not_clear_is_not_allowed() {
        let access = Access::open().allow_methods("a", "s", ["*"]).allow_methods("b", "s", [""; 0]);
        assert!(!access.allows("a", "s", Asked::Unknown));
        assert!(access.allows("a", "s", Asked::Any));
        assert!(!access.allows("b", "s", Asked::Any));
        assert!(Access::open().allow("a", "s").allows("a", "s", Asked::Unknown));
    }
}
