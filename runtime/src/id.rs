//! Names and numbers that identify nodes, instances and methods.
//!
//! Invariant: plain values. Nothing here knows a socket, a task or a clock.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The name of a node: one running runtime value. Unique in its cluster; a process may hold several.
///
/// Between 1 and [`NodeId::MAX_LEN`] bytes, no white space and no control characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(Arc<str>);

impl NodeId {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 128;

    /// Makes a node name.
    ///
    /// # Errors
    /// [`InvalidName`] says what is wrong with it.
    pub fn new(name: impl AsRef<str>) -> Result<Self, InvalidName> {
        let name = name.as_ref();
        check_name("node", name, Self::MAX_LEN)?;
        Ok(Self(name.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl Serialize for NodeId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::new(name).map_err(serde::de::Error::custom)
    }
}

/// Orders two lives of one node: the higher number is the later life. Milliseconds since the Unix epoch at the
/// node's start, kept increasing within a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Incarnation(pub u64);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Numbers the instances of one node's life. Never used twice in that life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InstanceId(pub u64);

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where an instance is: its node, that node's life, and its number there. Written `node#instance`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Address {
    /// The node that runs the instance.
    pub node: NodeId,
    /// The life of that node. A message for another life is answered `Stale` and never run.
    pub incarnation: Incarnation,
    /// The instance's number on that node.
    pub instance: InstanceId,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.node, self.instance)
    }
}

/// A method as the wire names it: a hash of its name and one of its signature. Its position and its module path
/// do not matter, so code may be reordered and moved; a changed signature is another id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MethodId {
    /// Hash of the method's name.
    pub name: u32,
    /// Hash of the tokens of its signature, folded with the names of a generic service's type arguments.
    pub signature: u32,
}

impl MethodId {
    /// That of a generic service over the types of which `salt` is made.
    pub(crate) fn salted(self, salt: u32) -> Self {
        Self { signature: self.signature ^ salt, ..self }
    }
}

/// Numbers the requests of one connection in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RequestId(pub(crate) u64);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Numbers the streams that one side of a connection makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StreamId(pub(crate) u64);

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A name that cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} name {name:?} {problem}")]
pub struct InvalidName {
    kind: &'static str,
    name: String,
    problem: String,
}

/// Checks a node's, cluster's or service's name.
pub(crate) fn check_name(kind: &'static str, name: &str, max: usize) -> Result<(), InvalidName> {
    let problem = if name.is_empty() {
        "is empty".to_owned()
    } else if name.len() > max {
        format!("is {} bytes long, at most {max} are allowed", name.len())
    } else if let Some(bad) = name.chars().find(|c| c.is_whitespace() || c.is_control()) {
        format!("contains {bad:?}; white space and control characters are not allowed")
    } else {
        return Ok(());
    };
    Err(InvalidName { kind, name: name.chars().take(max).collect(), problem })
}

/// What the names of topics begin with in the directory, and the names of services must not.
pub(crate) const TOPIC_PREFIX: &str = "topic/";

/// What the names of the framework's own services begin with.
const OWN_PREFIX: &str = "skyhold/";

/// Checks a service's name.
pub(crate) fn check_service_name(name: &str, max: usize) -> Result<(), InvalidName> {
    check_name("service", name, max)?;
    let kept = [(TOPIC_PREFIX, "topics"), (OWN_PREFIX, "the framework")];
    let Some((prefix, whom)) = kept.into_iter().find(|(prefix, _)| name.starts_with(prefix)) else {
        return Ok(());
    };
    let problem = format!("begins with {prefix:?}, which is kept for {whom}");
    Err(InvalidName { kind: "service", name: name.to_owned(), problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_name_is_refused_with_its_reason() {
        for (name, expected) in [
            ("", "node name \"\" is empty"),
            ("a b", "node name \"a b\" contains ' '; white space and control characters are not allowed"),
            ("a\n", "node name \"a\\n\" contains '\\n'; white space and control characters are not allowed"),
        ] {
            assert_eq!(NodeId::new(name).unwrap_err().to_string(), expected);
        }
        let long = "x".repeat(129);
        assert!(
            NodeId::new(&long)
                .unwrap_err()
                .to_string()
                .ends_with("is 129 bytes long, at most 128 are allowed")
        );
        assert_eq!(NodeId::new("node-1").unwrap().as_str(), "node-1");
        assert_eq!(
            check_service_name("topic/chat", 256).unwrap_err().to_string(),
            "service name \"topic/chat\" begins with \"topic/\", which is kept for topics"
        );
        assert_eq!(check_service_name("topics", 256), Ok(()));
    }
}
