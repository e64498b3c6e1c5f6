//! What a new configuration changes, and what a reload does about it.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::keys::{ACCESS, KEYS, LABELS, NODES, ROUTE, SERVICE};
use super::services::ServiceEntry;
use super::settings::Settings;

/// What a reload does with a key that has another value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Effect {
    /// The new value is in force when the reload returns.
    Live,
    /// The new value is in force for connections to come. Those that stand keep what they began with.
    NewConnections,
    /// The old value stays in force until the node is started again.
    Restart,
}

/// A key that has another value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Change {
    /// The key with its section, as in `calls.timeout`.
    pub key: String,
    /// The value in force before, as it could be written in the file; its default, if it was not written. `None`: there was none.
    pub old: Option<String>,
    /// The new value. `None`: there is none any more. Of a secret or a certificate it is the file's path, never its content.
    pub new: Option<String>,
    /// Whether it is in force now.
    pub effect: Effect,
}

/// The keys that differ, in the order of the documentation.
pub(crate) fn changes(old: &Settings, new: &Settings) -> Vec<Change> {
    let (mut was, mut is) = (old.clone(), new.clone());
    let mut changes = Vec::new();
    let mut add = |key: &str, old: Option<String>, new: Option<String>, effect| {
        if old != new {
            changes.push(Change { key: key.to_owned(), old, new, effect });
        }
    };
    for key in &KEYS {
        add(key.path, key.field.show(&mut was), key.field.show(&mut is), key.effect);
    }
    let keys: BTreeSet<_> = old.labels.iter().chain(new.labels.iter()).map(|(key, _)| key).collect();
    for key in keys {
        let shown = |settings: &Settings| settings.labels.get(key).map(str::to_owned);
        add(&format!("{LABELS}.{key}"), shown(old), shown(new), Effect::Restart);
    }
    let names: BTreeSet<_> = old.nodes.keys().chain(new.nodes.keys()).collect();
    for name in names {
        let shown = |settings: &Settings| {
            let node = settings.nodes.get(name)?;
            Some(node.clone().unwrap_or_else(|| "false".to_owned()))
        };
        add(&format!("{NODES}.{name}"), shown(old), shown(new), Effect::Live);
    }
    add(ACCESS, listed(&old.access.rules), listed(&new.access.rules), Effect::Live);
    add(ROUTE, listed(&old.routes.routes), listed(&new.routes.routes), Effect::Live);
    changes.extend(services(&old.services, &new.services).map(|(name, was, is)| {
        let shown = |entry: Option<&ServiceEntry>| entry.map(ToString::to_string);
        // Not all of it is shown.
        let is_alike = was.is_some() && shown(was) == shown(is);
        let new = shown(is).map(|text| if is_alike { format!("{text}, configured otherwise") } else { text });
        Change { key: format!("{SERVICE}.{name}"), old: shown(was), new, effect: Effect::Live }
    }));
    changes
}

/// The services that differ: their names, and what they were and are. What goes comes first, then the others in their order.
pub(crate) fn services<'s>(
    old: &'s [ServiceEntry],
    new: &'s [ServiceEntry],
) -> impl Iterator<Item = (&'s str, Option<&'s ServiceEntry>, Option<&'s ServiceEntry>)> {
    let find = |services: &'s [ServiceEntry], name: &str| services.iter().find(|entry| entry.name == name);
    let gone = old.iter().filter(move |entry| find(new, &entry.name).is_none());
    let gone = gone.map(|entry| (&*entry.name, Some(entry), None));
    let others = new.iter().map(move |entry| (&*entry.name, find(old, &entry.name), Some(entry)));
    gone.chain(others.filter(|(_, old, new)| old != new))
}

/// What stands in a list, in words.
fn listed(list: &[impl fmt::Display]) -> Option<String> {
    let all: Vec<_> = list.iter().map(ToString::to_string).collect();
    Some(all.join("; ")).filter(|all| !all.is_empty())
}

/// Takes over what has changed and needs no restart. What has not changed stays as it is, also where it is not as it was before.
pub(crate) fn adopt(settings: &mut Settings, new: &Settings, changes: &[Change]) {
    let mut new = new.clone();
    let applied = |change: &&Change| change.effect != Effect::Restart;
    for change in changes.iter().filter(applied) {
        match KEYS.iter().find(|key| key.path == change.key) {
            Some(key) => key.field.copy(&mut new, settings),
            None if change.key == ROUTE => settings.routes.clone_from(&new.routes),
            None if change.key == ACCESS => settings.access.rules.clone_from(&new.access.rules),
            // It is taken over when the service is as it says.
            None if change.key.starts_with(SERVICE) => {}
            None => settings.nodes.clone_from(&new.nodes),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".to_owned());
        write!(f, "{} from {} to {} ({})", self.key, shown(&self.old), shown(&self.new), self.effect)
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Live => "live",
            Self::NewConnections => "for connections to come",
            Self::Restart => "needs a restart",
        })
    }
}
