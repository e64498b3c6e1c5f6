//! The central configuration in etcd: a key for what each setting is now, and one for each earlier version.
//!
//! `skyhold/CLUSTER/config/now/KEY` and `skyhold/CLUSTER/config/past/KEY/VERSION`, each with a JSON object of `value` (`null`: deleted), `by` and `at`. A
//! version is the revision in which etcd wrote the key, and what is written takes the place of what was read, or nothing is.
//!
//! Invariant: a write is sent once: whether it was done is known, or said to be unknown.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::cluster::discovery::gateway::{Gateway, decoded, encoded, escaped, number, unescaped};
use crate::config;
use crate::id::NodeId;
use crate::node::reload::Chain;
use crate::time;

use super::error::CentralError;
use super::place::{Central, Kept};
use super::space::{Author, SettingVersion, Space, Version, Write};

/// How long after a look comes the next one, unless somebody says that there is something new.
const LOOK: Duration = Duration::from_secs(1);

/// How often a write begins again because others were faster.
const TRIES: usize = 64;

/// How many old keys go with one write: etcd does no more than 128 things at once, unless it is set.
const FORGOTTEN: usize = 100;

/// The largest answer, in bytes: many times of what all settings have together, as etcd may have more than the bound of this node.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// The settings of one cluster in one etcd.
pub(super) struct Etcd {
    gateway: Gateway,
    /// What the keys begin with, with a `/` at its end.
    folder: String,
    news: Notify,
}

/// What etcd has of one key.
type Record = VecDeque<SettingVersion>;

impl Etcd {
    #[expect(clippy::unnecessary_wraps, reason = "as without the feature")]
    pub(super) fn new(endpoints: &[String], cluster: &str) -> Option<Self> {
        let gateway = Gateway::new(endpoints.to_vec()).max_answer(MAX_ANSWER);
        let folder = format!("skyhold/{}/config/", escaped(cluster));
        Some(Self { gateway, folder, news: Notify::new() })
    }

    /// There may be something new.
    pub(super) fn look(&self) {
        self.news.notify_one();
    }

    pub(super) async fn write(
        &self,
        write: &Write,
        author: &Author,
        limits: &config::Central,
    ) -> Result<Version, CentralError> {
        for _ in 0..TRIES {
            let before = self.space().await?;
            let after = before.after(write, author, limits)?;
            if let Some(version) = self.exchange(write, &before, &after).await? {
                return Ok(version);
            }
        }
        Err(registry(format!("others have written `{}` first {TRIES} times", write.key)))
    }

    /// The versions of a key, the newest first.
    pub(super) async fn history(&self, key: &str) -> Result<Vec<SettingVersion>, CentralError> {
        let now = self.range(&self.now(key), None).await?;
        let past = self.range(&self.past(key), Some(&end(&self.past(key)))).await?;
        let settings = entries(&now).chain(entries(&past)).map(|entry| self.setting(entry));
        let mut settings = settings.collect::<Result<Vec<_>, _>>()?;
        settings.sort_by_key(|setting| std::cmp::Reverse(setting.version));
        Ok(settings)
    }

    /// Puts the key's last version of `after` in the place of that of `before`, if that is there still; then gives its version.
    async fn exchange(
        &self,
        write: &Write,
        before: &Space,
        after: &Space,
    ) -> Result<Option<Version>, CentralError> {
        let key = self.now(&write.key);
        let last = |space: &Space| space.records.get(&write.key).and_then(VecDeque::back).cloned();
        let (old, new) = (last(before), last(after));
        let Some(new) = new else { return Err(registry("there is nothing to write".to_owned())) };
        let revision = old.as_ref().map_or(0, |old| old.version.0);
        let compare =
            json!([{ "key": encoded(&key), "target": "MOD", "mod_revision": revision.to_string() }]);
        let put = |key: &str, setting: &SettingVersion| json!({ "request_put": { "key": encoded(key), "value": encoded(&body(setting)) } });
        let mut requests = vec![put(&key, &new)];
        let is_kept = |setting: &SettingVersion| {
            after.records.get(&setting.key).is_some_and(|record| record.contains(setting))
        };
        if let Some(old) = old.filter(|old| is_kept(old)) {
            requests.push(put(&self.past_version(&old), &old));
        }
        for gone in self.gone(before, after).into_iter().take(FORGOTTEN) {
            requests.push(json!({ "request_delete_range": { "key": encoded(&gone) } }));
        }
        let transaction = json!({ "compare": compare, "success": requests });
        let answer = self.gateway.post_once("/v3/kv/txn", &transaction).await;
        let answer = answer.map_err(|error| CentralError::Unconfirmed {
            key: write.key.clone(),
            problem: Chain(&error).to_string(),
        })?;
        if answer["succeeded"] != true {
            return Ok(None);
        }
        Ok(Some(Version(revision_of(&answer)?)))
    }

    /// The keys of what is in `before` and not in `after`. What a key has now stays under `now` while the key has anything.
    fn gone(&self, before: &Space, after: &Space) -> Vec<String> {
        let mut gone = Vec::new();
        for (key, record) in &before.records {
            let left = after.records.get(key);
            let last = record.len() - 1;
            for (place, setting) in record.iter().enumerate() {
                match left {
                    Some(left) if place == last || left.contains(setting) => {}
                    None if place == last => gone.push(self.now(key)),
                    Some(_) | None => gone.push(self.past_version(setting)),
                }
            }
        }
        gone
    }

    /// Everything.
    async fn space(&self) -> Result<Space, CentralError> {
        let answer = self.range(&self.folder, Some(&end(&self.folder))).await?;
        let mut records: BTreeMap<String, Record> = BTreeMap::new();
        for entry in entries(&answer) {
            let setting = self.setting(entry)?;
            records.entry(setting.key.clone()).or_default().push_back(setting);
        }
        for record in records.values_mut() {
            record.make_contiguous().sort_by_key(|setting| setting.version);
        }
        let counter = revision_of(&answer)?;
        Ok(Space { counter, version: Version(counter), records })
    }

    async fn range(&self, key: &str, end: Option<&str>) -> Result<Value, CentralError> {
        let mut request = json!({ "key": encoded(key) });
        if let Some(end) = end {
            request["range_end"] = encoded(end).into();
        }
        self.ask(&request).await
    }

    async fn ask(&self, request: &Value) -> Result<Value, CentralError> {
        let answer = self.gateway.post("/v3/kv/range", request).await;
        answer.map_err(|error| registry(Chain(&error).to_string()))
    }

    /// A setting of an entry, under `now` or `past`.
    fn setting(&self, entry: &Value) -> Result<SettingVersion, CentralError> {
        let unreadable = || registry(format!("an entry cannot be read: {}", shown(entry)));
        let key = decoded(&entry["key"]).ok_or_else(unreadable)?;
        let body = decoded(&entry["value"]).ok_or_else(unreadable)?;
        let body: Value = serde_json::from_str(&body).map_err(|_| unreadable())?;
        let below = key.strip_prefix(&self.folder).ok_or_else(unreadable)?;
        let (key, version) = if let Some(key) = below.strip_prefix("now/") {
            (key, number(&entry["mod_revision"]))
        } else {
            let past = below.strip_prefix("past/").and_then(|past| past.split_once('/'));
            past.map(|(key, version)| (key, Some(version.to_owned()))).ok_or_else(unreadable)?
        };
        let version = version.and_then(|version| version.parse().ok()).ok_or_else(unreadable)?;
        let by = body["by"].as_str().and_then(|by| NodeId::new(by).ok()).ok_or_else(unreadable)?;
        let at = body["at"].as_u64().and_then(|at| UNIX_EPOCH.checked_add(Duration::from_millis(at)));
        let value = match &body["value"] {
            Value::Null => None,
            value => Some(value.as_str().ok_or_else(unreadable)?.to_owned()),
        };
        let (key, version) = (unescaped(key), Version(version));
        Ok(SettingVersion { key, version, value, by, at: at.ok_or_else(unreadable)? })
    }

    fn now(&self, key: &str) -> String {
        format!("{}now/{}", self.folder, escaped(key))
    }

    /// The folder of a key's earlier versions.
    fn past(&self, key: &str) -> String {
        format!("{}past/{}/", self.folder, escaped(key))
    }

    /// In the order of their numbers.
    fn past_version(&self, setting: &SettingVersion) -> String {
        format!("{}{:020}", self.past(&setting.key), setting.version.0)
    }
}

/// Keeps a node's knowledge up.
pub(super) async fn follow(central: Arc<Central>) {
    let Kept::InEtcd(etcd) = &central.kept else { return };
    let mut seen = Seen::default();
    let mut said = None;
    loop {
        match seen.look(etcd).await {
            Ok(true) => central.learn(seen.settings(), seen.version()),
            Err(error) if said.as_ref() != Some(&error) => {
                tracing::warn!(node = %central.host.node, %error, "what was known counts on");
                said = Some(error);
            }
            Ok(false) | Err(_) => {}
        }
        let _ = time::timeout(LOOK, etcd.news.notified()).await;
    }
}

/// What a node has seen in etcd, with what was deleted.
#[derive(Default)]
struct Seen {
    /// etcd's revision at the last look.
    revision: u64,
    all: BTreeMap<String, Arc<SettingVersion>>,
}

impl Seen {
    /// Looks again. Gives whether something has changed, or this was the first look.
    async fn look(&mut self, etcd: &Etcd) -> Result<bool, CentralError> {
        let (folder, since) = (etcd.now(""), self.revision + 1);
        let request = json!({
            "key": encoded(&folder), "range_end": encoded(&end(&folder)), "min_mod_revision": since.to_string()
        });
        let answer = if self.revision == 0 { None } else { Some(etcd.ask(&request).await?) };
        if let Some(answer) = answer {
            let revision = revision_of(&answer)?;
            let mut all = self.all.clone();
            let changed = insert(etcd, &answer, &mut all)?;
            let count = number(&answer["count"]).and_then(|count| count.parse().ok()).unwrap_or(0);
            if revision >= self.revision && all.len() == count {
                (self.revision, self.all) = (revision, all);
                return Ok(changed);
            }
        }
        // For the first time; or a key has gone for good, or etcd is an older one.
        let answer = etcd.range(&folder, Some(&end(&folder))).await?;
        let mut all = BTreeMap::new();
        insert(etcd, &answer, &mut all)?;
        (self.revision, self.all) = (revision_of(&answer)?, all);
        Ok(true)
    }

    fn settings(&self) -> BTreeMap<String, Arc<SettingVersion>> {
        let present = self.all.iter().filter(|(_, setting)| setting.value.is_some());
        present.map(|(key, setting)| (key.clone(), Arc::clone(setting))).collect()
    }

    fn version(&self) -> Version {
        self.all.values().map(|setting| setting.version).max().unwrap_or_default()
    }
}

/// Takes the entries of an answer. Gives whether there was one.
fn insert(
    etcd: &Etcd,
    answer: &Value,
    all: &mut BTreeMap<String, Arc<SettingVersion>>,
) -> Result<bool, CentralError> {
    let mut changed = false;
    for entry in entries(answer) {
        let setting = etcd.setting(entry)?;
        all.insert(setting.key.clone(), Arc::new(setting));
        changed = true;
    }
    Ok(changed)
}

fn body(setting: &SettingVersion) -> String {
    let at = setting.at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let at = u64::try_from(at).unwrap_or(u64::MAX);
    json!({ "value": setting.value, "by": setting.by.as_str(), "at": at }).to_string()
}

fn entries(answer: &Value) -> impl Iterator<Item = &Value> {
    answer["kvs"].as_array().into_iter().flatten()
}

fn revision_of(answer: &Value) -> Result<u64, CentralError> {
    let revision = number(&answer["header"]["revision"]).and_then(|revision| revision.parse().ok());
    revision.ok_or_else(|| registry(format!("its answer has no revision: {}", shown(answer))))
}

/// The first key behind all that begin with a folder's: `0` follows upon `/`.
fn end(folder: &str) -> String {
    format!("{}0", folder.strip_suffix('/').unwrap_or(folder))
}

fn registry(problem: String) -> CentralError {
    CentralError::Registry { problem }
}

fn shown(value: &Value) -> String {
    value.to_string().chars().take(200).collect()
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Etcd").field("endpoints", &self.gateway.endpoints()).finish_non_exhaustive()
    }
}
