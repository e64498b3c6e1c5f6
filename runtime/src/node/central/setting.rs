//! A setting that is watched, as its type.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::time;

use super::error::CentralError;
use super::handle::CentralConfig;
use super::live::{self, Live, State, Typed, Validate};
use super::place::{Central, Kept};
use super::space::{Version, check_key};

/// How long a watch waits for the first word of where the configuration is kept.
const FIRST_WORD: Duration = Duration::from_secs(1);

/// A setting of the central configuration that is watched: its value at each moment. Got from [`CentralConfig::watch`].
///
/// While there is one, the node is asked before the key gets another value, and refuses what cannot be read as `T` or does not pass
/// [`WatchSetting::validate`]. Clones share the watching, and each is told of changes for itself. It does not keep the node alive.
pub struct Setting<T> {
    live: Arc<Typed<T>>,
    changes: watch::Receiver<State<T>>,
    central: Arc<Central>,
}

impl<T> Setting<T> {
    /// The value now: the last good one.
    ///
    /// It is the default if the key is not set, or the node has not heard of it yet. One that was [watched](CentralConfig::watch) without a default
    /// keeps its last value when the key is deleted.
    pub fn get(&self) -> Arc<T> {
        Arc::clone(&self.changes.borrow().value)
    }

    /// The version of the value; [`Version::NONE`] for the default.
    pub fn version(&self) -> Version {
        self.changes.borrow().version
    }

    /// The key.
    pub fn key(&self) -> &str {
        &self.live.key
    }

    /// Waits until there is another value than the one that was there when this was made, or that the last `changed` gave; gives it. Who comes
    /// late sees the latest one, and misses what lies between.
    ///
    /// # Errors
    /// [`CentralError::NodeStopped`]: nothing changes any more.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn changed(&mut self) -> Result<Arc<T>, CentralError> {
        let host = &self.central.host;
        tokio::select! {
            biased;
            // It does not fail: this holds the sender.
            changed = self.changes.changed() => if changed.is_ok() {
                return Ok(Arc::clone(&self.changes.borrow_and_update().value));
            },
            () = host.tasks.aborted() => {}
        }
        Err(CentralError::NodeStopped(host.node.clone()))
    }
}

/// A watch that is about to begin. Made by [`CentralConfig::watch`]; await it.
#[must_use = "nothing is watched until it is awaited"]
pub struct WatchSetting<T> {
    config: CentralConfig,
    key: String,
    default: Option<Arc<T>>,
    validate: Option<Validate<T>>,
}

impl<T: DeserializeOwned + Send + Sync + 'static> WatchSetting<T> {
    pub(super) fn new(config: CentralConfig, key: String) -> Self {
        Self { config, key, default: None, validate: None }
    }

    /// The value of a key that is not set, was deleted, or is not known yet.
    pub fn or(self, default: T) -> Self {
        Self { default: Some(Arc::new(default)), ..self }
    }

    /// What else a value has to fulfil; the error is told to whoever wants to set it. It must not block: it runs on a thread that runs tasks.
    pub fn validate<F>(self, validate: F) -> Self
    where
        F: Fn(&T) -> Result<(), String> + Send + Sync + 'static,
    {
        Self { validate: Some(Arc::new(validate)), ..self }
    }

    async fn begin(self) -> Result<Setting<T>, CentralError> {
        let Self { config, key, default, validate } = self;
        check_key(&key)?;
        let central = Arc::clone(config.central());
        let mut known = central.known.subscribe();
        if !matches!(central.kept, Kept::Nowhere) {
            // A node that has just started hears of it in a moment, if at all.
            let _ = time::timeout(FIRST_WORD, known.wait_for(|known| known.is_heard)).await;
        }
        let known = known.borrow().clone();
        let state = match (known.settings.get(&key), &default) {
            (Some(setting), _) => {
                let value = live::of(setting, validate.as_ref());
                let value = value.map_err(|refusal| central.refused(&key, refusal))?;
                State { value: Arc::new(value), version: setting.version }
            }
            (None, Some(default)) => State { value: Arc::clone(default), version: Version::NONE },
            (None, None) if known.is_heard => return Err(CentralError::NotSet { key }),
            (None, None) => return Err(central.unknown()),
        };
        let seen = Mutex::new(state.version);
        let (state, changes) = watch::channel(state);
        let live = Arc::new(Typed { key: key.into(), default, validate, state, seen });
        let weak: Weak<dyn Live> = Arc::downgrade(&(Arc::clone(&live) as Arc<dyn Live>));
        central.watching.add(weak);
        live.catch_up(&central); // with what came before it was in the list
        Ok(Setting { live, changes, central })
    }
}

impl<T: DeserializeOwned + Send + Sync + 'static> IntoFuture for WatchSetting<T> {
    type Output = Result<Setting<T>, CentralError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.begin())
    }
}

impl<T> Clone for Setting<T> {
    fn clone(&self) -> Self {
        let (live, changes) = (Arc::clone(&self.live), self.changes.clone());
        Self { live, changes, central: Arc::clone(&self.central) }
    }
}

impl<T: fmt::Debug> fmt::Debug for Setting<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.changes.borrow();
        f.debug_struct("Setting")
            .field("key", &self.live.key)
            .field("version", &state.version)
            .field("value", &state.value)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for WatchSetting<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchSetting").field("key", &self.key).finish_non_exhaustive()
    }
}
