//! What is watched on this node, and who judges candidates for it.
//!
//! Invariant: the code of users that judges a value may panic, and that is a refusal.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use serde::de::DeserializeOwned;
use tokio::sync::watch;
use toml::Value;

use crate::event::Event;
use crate::service::dispatch::panic_message;

use super::place::Central;
use super::space::{SettingVersion, Version};
use super::text::{self, Refusal};

/// What a user finds wrong with a value.
pub(super) type Validate<T> = Arc<dyn Fn(&T) -> Result<(), String> + Send + Sync>;

/// Somebody who watches a key, whatever the type.
pub(super) trait Live: Send + Sync {
    fn key(&self) -> &str;

    /// Whether the value can be used.
    fn judge(&self, value: Value) -> Result<(), Refusal>;

    /// Takes over what is known now.
    fn catch_up(&self, central: &Central);
}

/// Those who watch on one node.
#[derive(Default)]
pub(super) struct Watching {
    /// Guards who watches, for a look or a change.
    live: Mutex<Vec<Weak<dyn Live>>>,
}

impl Watching {
    pub(super) fn add(&self, live: Weak<dyn Live>) {
        let mut all = self.all();
        // Those that are gone go when the list would grow.
        if all.len() == all.capacity() {
            all.retain(|live| live.strong_count() > 0);
        }
        all.push(live);
    }

    /// Those who watch now.
    pub(super) fn now(&self) -> Vec<Arc<dyn Live>> {
        self.all().iter().filter_map(Weak::upgrade).collect()
    }

    fn all(&self) -> MutexGuard<'_, Vec<Weak<dyn Live>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Watching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let live = self.now();
        f.debug_list().entries(live.iter().map(|live| live.key())).finish()
    }
}

/// A value with its version; that of a default is [`Version::NONE`].
pub(super) struct State<T> {
    pub(super) value: Arc<T>,
    pub(super) version: Version,
}

/// One key, watched as one type.
pub(super) struct Typed<T> {
    pub(super) key: Box<str>,
    pub(super) default: Option<Arc<T>>,
    pub(super) validate: Option<Validate<T>>,
    pub(super) state: watch::Sender<State<T>>,
    /// Guards the version that was looked at last; held while a value is read.
    pub(super) seen: Mutex<Version>,
}

impl<T: DeserializeOwned + Send + Sync + 'static> Live for Typed<T> {
    fn key(&self) -> &str {
        &self.key
    }

    fn judge(&self, value: Value) -> Result<(), Refusal> {
        read(value, self.validate.as_ref()).map(drop)
    }

    fn catch_up(&self, central: &Central) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: the last one to come has the latest.
        let known = central.known.borrow().clone();
        let setting = known.settings.get(&*self.key);
        let version = setting.map_or(Version::NONE, |setting| setting.version);
        if !known.is_heard || version == *seen {
            return;
        }
        *seen = version;
        let value = match setting {
            Some(setting) => of(setting, self.validate.as_ref()).map(|value| Some(Arc::new(value))),
            None => Ok(self.default.clone()),
        };
        match value {
            Ok(Some(value)) => drop(self.state.send_replace(State { value, version })),
            Ok(None) => {} // deleted, and without a default the last one counts on
            Err(Refusal { field, reason }) => {
                let (key, version) = (self.key.to_string(), version.0);
                central.host.publish(Event::ConfigRefused { key, version, field, reason });
            }
        }
    }
}

/// Reads a setting as a type.
pub(super) fn of<T: DeserializeOwned>(
    setting: &SettingVersion,
    validate: Option<&Validate<T>>,
) -> Result<T, Refusal> {
    let text = setting.value.as_deref().unwrap_or_default();
    let value = text::parse(&setting.key, text);
    let value = value.map_err(|error| Refusal { field: None, reason: error.to_string() })?;
    read(value, validate)
}

fn read<T: DeserializeOwned>(value: Value, validate: Option<&Validate<T>>) -> Result<T, Refusal> {
    let read = || {
        let value: T = text::decode(value)?;
        match validate.map(|validate| validate(&value)) {
            Some(Err(reason)) => Err(Refusal { field: None, reason }),
            Some(Ok(())) | None => Ok(value),
        }
    };
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|panic| {
        Err(Refusal { field: None, reason: format!("reading it panicked: {}", panic_message(&*panic)) })
    })
}
