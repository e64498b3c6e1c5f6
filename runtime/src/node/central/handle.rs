//! What users do with the central configuration.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::node::node::Node;

use super::ask;
use super::error::CentralError;
use super::live;
use super::place::{Central, Kept};
use super::setting::WatchSetting;
use super::space::{SettingVersion, Version, Write};
use super::text;

/// The central configuration: settings for services, each under a key, set once from any node and seen by all. Got from [`Node::config`].
///
/// It is kept by one node, the holder (`[config] holder` in the file, [`NodeBuilder::config_holder`]), or in etcd (`[config] etcd`). Every node has
/// the present values in memory: reading asks nobody, and goes on while the holder is away; writing is refused then.
///
/// ```
/// use skyhold::prelude::*;
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Matchmaker { players: u32, zone: String }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = std::env::temp_dir().join(format!("skyhold-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// # let file = folder.join("skyhold.settings");
/// let node = Node::builder("a").config_holder("a").config_path(&file).start().await?;
/// let config = node.config();
/// let first = config.set("matchmaker", &Matchmaker { players: 8, zone: "eu".into() }).await?;
///
/// let mut matchmaker = config.watch::<Matchmaker>("matchmaker")
///     .validate(|it| if it.players > 0 { Ok(()) } else { Err("there are no players".into()) })
///     .await?;
/// config.set_text("matchmaker", "players = 16\nzone = \"eu\"").await?;
/// assert_eq!(matchmaker.changed().await?.players, 16);
///
/// let error = config.set_text("matchmaker", "players = true\nzone = \"eu\"").await.unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "node a refuses `matchmaker`: `players`: invalid type: boolean `true`, expected u32",
/// );
/// config.rollback("matchmaker", first).await?;
/// # drop(node);
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok(())
/// # }
/// ```
///
/// # Values
/// A value is a text of TOML, as in the configuration file, so that a table moves from `[service.config]` to here as it is: one value such as `8`, `"eu"` or
/// `{ players = 8 }`, or the lines of a table. The text is kept as it was written, with its comments. [`CentralConfig::set`] writes it for you; what TOML has not, such as a
/// number beyond 64 bits with a sign, or `None` by itself, is [`CentralError::Syntax`].
///
/// # Who agrees
/// Before a value is kept, every node that is connected with where it is written says whether all who [watch](CentralConfig::watch) the key there can use it; one that cannot
/// refuses it for all ([`CentralError::Refused`]). A node that does not answer within 2 s, or is not connected, is not waited for: it looks when it gets the value, keeps its
/// last good one if it cannot use it, and says so ([`Event::ConfigRefused`]). A node that was told another place than where this one would write refuses everything
/// ([`CentralError::Disagreement`]), so that two holders cannot go apart in silence.
///
/// # Versions
/// One counter for all keys, which goes up with each write. Earlier versions of a key are kept for [`CentralConfig::history`] and [`CentralConfig::rollback`], by default 16
/// with the present one, and fewer where all values together would take more than `config.max_total`: then the oldest ones go first.
///
/// # When the holder begins again
/// It reads its file, and the others are up to date as soon as they are connected with it. If that file is damaged it does not start, and the error names it. If it is an older one than the others remember, or
/// none, what it says is in force all the same; every node tells of it ([`Event::ConfigWentBack`]), and new versions go on above what any node remembers that has
/// been connected with it by then. So the file belongs into a backup; other nodes keep nothing on their disks, and one that starts while the holder is away knows nothing:
/// [`CentralError::Unknown`], and defaults.
///
/// [`NodeBuilder::config_holder`]: crate::NodeBuilder::config_holder
/// [`Event::ConfigRefused`]: crate::Event::ConfigRefused
/// [`Event::ConfigWentBack`]: crate::Event::ConfigWentBack
#[derive(Debug, Clone)]
pub struct CentralConfig {
    node: Node,
}

/// A value with its version.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Versioned<T> {
    /// The value.
    pub value: T,
    /// Its version, for [`CentralConfig::compare_and_set`].
    pub version: Version,
}

impl Node {
    /// The central configuration, as this node sees it.
    pub fn config(&self) -> CentralConfig {
        CentralConfig { node: self.clone() }
    }
}

impl CentralConfig {
    /// Waits until this node has heard from where the configuration is kept, if it has not since its start.
    ///
    /// # Errors
    /// [`CentralError::NoHolder`], [`CentralError::NodeStopped`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn ready(&self) -> Result<(), CentralError> {
        let central = self.central();
        if matches!(central.kept, Kept::Nowhere) {
            return Err(central.unknown());
        }
        let mut known = central.known.subscribe();
        tokio::select! {
            biased;
            _ = known.wait_for(|known| known.is_heard) => Ok(()),
            () = central.host.tasks.aborted() => Err(CentralError::NodeStopped(central.host.node.clone())),
        }
    }

    /// The value of a key now, as far as this node knows; `None` if it is not set. Waits for nobody.
    ///
    /// # Errors
    /// [`CentralError::Unknown`] until the node has heard from where the configuration is kept, [`CentralError::NoHolder`]; [`CentralError::Refused`] if the
    /// value is none of type `T`.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<Versioned<T>>, CentralError> {
        let known = self.central().known()?;
        let Some(setting) = known.settings.get(key) else { return Ok(None) };
        let value = live::of(setting, None).map_err(|refusal| self.central().refused(key, refusal))?;
        Ok(Some(Versioned { value, version: setting.version }))
    }

    /// As [`CentralConfig::get`], the text as it was written, with who wrote it and when.
    ///
    /// # Errors
    /// [`CentralError::Unknown`], [`CentralError::NoHolder`].
    pub fn get_text(&self, key: &str) -> Result<Option<SettingVersion>, CentralError> {
        let known = self.central().known()?;
        Ok(known.settings.get(key).map(|setting| SettingVersion::clone(setting)))
    }

    /// All settings whose keys begin with a prefix, by key, as far as this node knows. Waits for nobody.
    ///
    /// # Errors
    /// [`CentralError::Unknown`], [`CentralError::NoHolder`].
    pub fn list(&self, prefix: &str) -> Result<Vec<SettingVersion>, CentralError> {
        let known = self.central().known()?;
        let listed = known.settings.values().filter(|setting| setting.key.starts_with(prefix));
        Ok(listed.map(|setting| SettingVersion::clone(setting)).collect())
    }

    /// Gives a key a value, and gives its version. When this returns it is kept, and known on this node (for which it waits 2 s
    /// at most); on others a moment later.
    ///
    /// # Errors
    /// [`CentralError`]: nothing has changed, but for [`CentralError::Unconfirmed`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the key with its old value or with the new one, on all nodes alike.
    pub async fn set<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<Version, CentralError> {
        let text = text::write(key, value)?;
        self.set_text(key, text).await
    }

    /// As [`CentralConfig::set`], a text of TOML.
    ///
    /// # Errors
    /// As [`CentralConfig::set`], and [`CentralError::Syntax`].
    ///
    /// # Cancel safety
    /// As [`CentralConfig::set`].
    pub async fn set_text(&self, key: &str, text: impl Into<String>) -> Result<Version, CentralError> {
        self.write(key, None, Some(text.into())).await
    }

    /// As [`CentralConfig::set`], if the key has this version now; [`Version::NONE`]: if it is not set.
    ///
    /// # Errors
    /// As [`CentralConfig::set`], and [`CentralError::Conflict`] with the version that the key has.
    ///
    /// # Cancel safety
    /// As [`CentralConfig::set`].
    pub async fn compare_and_set<T: Serialize + ?Sized>(
        &self,
        key: &str,
        expected: Version,
        value: &T,
    ) -> Result<Version, CentralError> {
        let text = text::write(key, value)?;
        self.compare_and_set_text(key, expected, text).await
    }

    /// As [`CentralConfig::compare_and_set`], a text of TOML.
    ///
    /// # Errors
    /// As [`CentralConfig::compare_and_set`], and [`CentralError::Syntax`].
    ///
    /// # Cancel safety
    /// As [`CentralConfig::set`].
    pub async fn compare_and_set_text(
        &self,
        key: &str,
        expected: Version,
        text: impl Into<String>,
    ) -> Result<Version, CentralError> {
        self.write(key, Some(expected), Some(text.into())).await
    }

    /// Takes a key's value away, and gives the version that this makes. Its history stays until its place is needed for another key.
    ///
    /// # Errors
    /// As [`CentralConfig::set`], and [`CentralError::NotSet`].
    ///
    /// # Cancel safety
    /// As [`CentralConfig::set`].
    pub async fn delete(&self, key: &str) -> Result<Version, CentralError> {
        self.write(key, None, None).await
    }

    /// The last versions of a key, the newest first: what it had, by whom and when. It is asked for where the configuration is kept.
    ///
    /// # Errors
    /// [`CentralError::HolderAway`], [`CentralError::Registry`], [`CentralError::NoHolder`], [`CentralError::NodeStopped`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn history(&self, key: &str) -> Result<Vec<SettingVersion>, CentralError> {
        ask::history(self.node.inner(), key.to_owned()).await
    }

    /// Gives a key the value that it had at a version of its history, as a new version. Nodes are asked as by [`CentralConfig::set`].
    ///
    /// # Errors
    /// As [`CentralConfig::set`], and [`CentralError::NoVersion`].
    ///
    /// # Cancel safety
    /// As [`CentralConfig::set`].
    pub async fn rollback(&self, key: &str, version: Version) -> Result<Version, CentralError> {
        let history = self.history(key).await?;
        match history.into_iter().find(|past| past.version == version) {
            Some(past) => self.write(key, None, past.value).await,
            None => Err(CentralError::NoVersion { key: key.to_owned(), version }),
        }
    }

    /// Watches a key as a type: await what this gives, after [`WatchSetting::or`] with a default and [`WatchSetting::validate`] with what is to hold beside the type.
    ///
    /// If the node has just started and has not heard from where the configuration is kept, the watch waits for that, 1 s at most.
    ///
    /// # Errors
    /// [`CentralError::Refused`]: the present value cannot be used. Without a default [`CentralError::NotSet`], and [`CentralError::Unknown`] and [`CentralError::NoHolder`] as of
    /// [`CentralConfig::get`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub fn watch<T: DeserializeOwned + Send + Sync + 'static>(&self, key: &str) -> WatchSetting<T> {
        WatchSetting::new(self.clone(), key.to_owned())
    }

    pub(crate) async fn write(
        &self,
        key: &str,
        expected: Option<Version>,
        value: Option<String>,
    ) -> Result<Version, CentralError> {
        let write = Write { key: key.to_owned(), expected, value };
        ask::write(self.node.inner(), write).await
    }

    pub(super) fn central(&self) -> &Arc<Central> {
        &self.node.inner().central
    }
}
