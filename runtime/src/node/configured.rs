//! A node's configuration file: read, compared with what is in force, and put in its place.
//!
//! Invariant: everything that can fail comes before the first change, so that a configuration is in force as a whole or not at
//! all. What blocks runs on threads that may be blocked.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha256};

use crate::config::{
    self, Change, ConfigError, Effect, PREFIX, Place, Problem, Read, Secret, ServiceEntry, Settings,
};
use crate::id::NodeId;
use crate::node::certificates::Certificates;
use crate::node::kinds::KindProblem;
use crate::node::node::{Inner, Node};
use crate::node::reload::{Chain, Reload};
use crate::node::staffing::{FailedService, Prepared, Staffing, Unstaffed};
use crate::service::context::current_instance;
use crate::service::host::OWN;

/// What tells one content from another.
pub(crate) type Digest = [u8; 32];

/// The keys from which a secret comes.
const SECRET: [&str; 2] = ["security.secret_file", "security.also_accept_file"];

/// The keys from which certificates come.
const CERTIFICATES: [&str; 3] = ["security.certificate", "security.key", "security.authorities"];

/// The key from which the token of the node's endpoints comes.
const ADMIN_TOKEN: &str = "admin.token_file";

/// The key that says where calls go.
const ROUTES: [&str; 1] = ["route"];

/// The keys that say who may call what.
const ACCESS: [&str; 2] = ["security.closed", "access"];

/// Where a configuration is read from.
#[derive(Debug)]
pub(crate) struct Source {
    file: PathBuf,
    /// The variables that are laid over the file, by name. They may hold what is not to be shown.
    environment: Vec<(String, String)>,
}

/// A configuration that can be used, with what the files hold that it names.
pub(crate) struct Loaded {
    pub(crate) read: Read,
    pub(crate) secret: Option<Secret>,
    pub(crate) admin_token: Option<Secret>,
    pub(crate) certificates: Certificates,
    contents: Contents,
    digest: Digest,
}

/// The contents of the files that a configuration names, by their keys.
type Contents = BTreeMap<&'static str, Digest>;

/// The configuration of a node that runs, or is about to.
pub(crate) struct Configured {
    source: Source,
    /// Guards what is in force, so that of two reloads one comes after the other. Held while files are read: never on a thread that
    /// runs tasks, once the node runs.
    state: Mutex<State>,
    /// Whoever starts and changes the services of the file has it.
    pub(crate) turn: Arc<tokio::sync::Mutex<()>>,
    /// Guards what was prepared and is not in force yet, under its number: the latest alone.
    prepared: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    last: u64,
    loaded: Option<Loaded>,
}

struct State {
    /// Goes up with each reload that has changed something.
    version: u64,
    /// What the file said when it was last taken, but for what needs a restart: that is as it was at the start.
    file: Settings,
    /// The same with what code has set over it.
    in_force: Settings,
    /// The services that are to run. Those of `file` are the ones that do.
    wanted: Vec<ServiceEntry>,
    contents: Contents,
    digest: Digest,
}

/// What a reload is about to do.
struct Plan {
    loaded: Loaded,
    in_force: Settings,
    reload: Reload,
}

impl Source {
    pub(crate) fn new(file: &Path, environment: impl IntoIterator<Item = (String, String)>) -> Self {
        let ours = environment.into_iter().filter(|(name, _)| name.starts_with(PREFIX));
        let mut environment: Vec<_> = ours.collect();
        environment.sort();
        Self { file: file.to_owned(), environment }
    }

    /// Reads everything, for a node of that name; else for one of the name in the file.
    pub(crate) fn load(&self, node: Option<&NodeId>) -> Result<Loaded, ConfigError> {
        let unreadable = |source| ConfigError::Unreadable { file: self.file.clone(), source };
        let text = fs::read_to_string(&self.file).map_err(unreadable)?;
        let read = config::read(&self.file, &text, &self.environment)?;
        // Before the files are read: what changes in between is found to have changed by the next reload.
        let contents = contents(&read.settings);
        let digest = digest(text.as_bytes(), &contents);
        let (secret, admin_token) =
            (secret(&read)?, load(&read, ADMIN_TOKEN, read.settings.admin.token_file.as_deref())?);
        let named =
            NodeId::new(&read.settings.name).map_err(|error| read.invalid("node.name", error.to_string()))?;
        let certificates = Certificates::load(&read.settings, node.unwrap_or(&named))
            .map_err(|problem| read.invalid("security.certificate", format!("cannot be used: {problem}")))?;
        Ok(Loaded { read, secret, admin_token, certificates, contents, digest })
    }
}

impl Configured {
    pub(crate) fn new(source: Source, loaded: Loaded) -> Self {
        let Loaded { read, contents, digest, .. } = loaded;
        let wanted = read.settings.services.clone();
        let (file, in_force) = (read.settings.clone(), read.settings);
        let state = State { version: 1, file, in_force, wanted, contents, digest };
        Self { source, state: Mutex::new(state), turn: Arc::default(), prepared: Mutex::default() }
    }

    /// The node starts with these settings, which code may have changed.
    pub(crate) fn started(self, in_force: Settings) -> Self {
        self.state().in_force = in_force;
        self
    }

    /// What a reload would do. Blocks.
    pub(crate) fn plan(&self, inner: &Inner) -> Result<Reload, ConfigError> {
        let loaded = self.source.load(Some(&inner.host.node))?;
        Ok(self.decide(&self.state(), loaded, inner)?.reload)
    }

    /// Reads the file again and puts it in force, but for services: see [`Configured::staff`]. Blocks.
    pub(crate) fn reload(&self, inner: &Inner) -> Result<Reload, ConfigError> {
        self.put_in_force(inner, || self.source.load(Some(&inner.host.node)))
    }

    /// Reads the file again, and keeps what it says under a number until it is put in force or something else is prepared. Blocks.
    pub(crate) fn prepare(&self, inner: &Inner) -> Result<(u64, Reload), ConfigError> {
        let loaded = self.source.load(Some(&inner.host.node))?;
        let Plan { loaded, reload, .. } = self.decide(&self.state(), loaded, inner)?;
        let mut prepared = self.prepared();
        prepared.last += 1;
        prepared.loaded = Some(loaded);
        Ok((prepared.last, reload))
    }

    /// Puts in force what was prepared under a number; `None` if that is not there any more. Blocks.
    pub(crate) fn commit(&self, inner: &Inner, number: u64) -> Option<Result<Reload, ConfigError>> {
        let loaded = self.take_prepared(number)?;
        Some(self.put_in_force(inner, || Ok(loaded)))
    }

    /// Brings the services into line with what was put in force, one after the other, and gives what has failed. What runs then is what counts for
    /// the next reload. A service that reloads while somebody else is at it leaves it to that one, who may be waiting for the service.
    pub(crate) async fn staff(&self, node: &Node) -> Vec<FailedService> {
        let _turn = match self.turn.try_lock() {
            Ok(turn) => turn,
            Err(_) if current_instance().is_some_and(|core| core.address().instance != OWN) => {
                return Vec::new(); // who has the turn does this too
            }
            Err(_) => self.turn.lock().await,
        };
        let (mut failures, mut tried) = (Vec::new(), Vec::new());
        while let Some(next) = self.next_staffing(node.inner(), &mut tried) {
            let name = next.name.clone();
            self.staffed(&name, next.half_way().as_ref());
            match next.apply(node).await {
                Ok(entry) => self.staffed(&name, entry.as_ref()),
                Err(Unstaffed { problem, is_gone }) => {
                    if is_gone {
                        self.staffed(&name, None);
                    }
                    failures.push(FailedService { service: name, problem });
                }
            }
        }
        failures
    }

    /// What is to be done next about a service, if that was not tried yet.
    fn next_staffing(
        &self,
        inner: &Inner,
        tried: &mut Vec<(String, Option<ServiceEntry>)>,
    ) -> Option<Staffing> {
        let state = self.state();
        let mut changes = config::service_changes(&state.file.services, &state.wanted);
        let is_new = |name: &str, new: Option<&ServiceEntry>| {
            tried.iter().all(|(known, entry)| (&**known, entry.as_ref()) != (name, new))
        };
        let (name, old, new) = changes.find(|(name, _, new)| is_new(name, *new))?;
        tried.push((name.to_owned(), new.cloned()));
        let prepared = |entry: &ServiceEntry| {
            let ready = inner.kinds.prepare(entry).map_err(|KindProblem { problem, .. }| problem);
            Prepared { entry: entry.clone(), ready }
        };
        Some(Staffing { name: name.to_owned(), old: old.map(prepared), new: new.map(prepared) })
    }

    /// Notes what runs under a name.
    fn staffed(&self, name: &str, entry: Option<&ServiceEntry>) {
        let services = &mut self.state().file.services;
        services.retain(|known| known.name != name);
        services.extend(entry.cloned());
    }

    /// Forgets what was prepared under a number.
    pub(crate) fn take_prepared(&self, number: u64) -> Option<Loaded> {
        let mut prepared = self.prepared();
        if prepared.last == number { prepared.loaded.take() } else { None }
    }

    fn put_in_force(
        &self,
        inner: &Inner,
        load: impl FnOnce() -> Result<Loaded, ConfigError>,
    ) -> Result<Reload, ConfigError> {
        let mut state = self.state();
        let Plan { loaded, in_force, reload } = self.decide(&state, load()?, inner)?;
        let Loaded { read, secret, certificates, contents, digest, .. } = loaded;
        let has = |keys: &[&str]| touches(&reload.changes, keys);

        let security = &inner.in_force.security;
        if has(&SECRET) {
            security.set_secret(secret);
        }
        if has(&CERTIFICATES) {
            certificates.put(security);
        }
        if has(&ACCESS) {
            inner.in_force.access.store(Arc::new(in_force.access.clone()));
        }
        if has(&ROUTES) {
            inner.in_force.routing.set(in_force.routes.clone());
        }
        inner.host.set_call_timeout(in_force.call_timeout);
        inner.in_force.set(&in_force);

        config::adopt(&mut state.file, &read.settings, &reload.changes);
        state.version = reload.version;
        (state.in_force, state.contents, state.digest) = (in_force, contents, digest);
        state.wanted = read.settings.services;
        Ok(reload)
    }

    /// That the node has neither secret nor certificates, and opens sockets.
    pub(crate) fn insecure(&self, node: &NodeId) -> ConfigError {
        let problem = format!(
            "is missing, and node {node} listens or has a seed: a secret is needed or, with the feature `tls`, certificates; with \
             `insecure_without_secret = true` anybody who reaches its address is a peer"
        );
        let place = Place::nowhere(&self.source.file);
        ConfigError::Invalid { place, key: "security.secret_file".to_owned(), problem }
    }

    /// The content that is in force.
    pub(crate) fn taken(&self) -> Digest {
        self.state().digest
    }

    /// The content that there is now. Blocks.
    pub(crate) fn look(&self) -> Digest {
        let files = self.state().file.clone();
        let text = fs::read(&self.source.file).unwrap_or_default();
        digest(&text, &contents(&files))
    }

    fn decide(&self, state: &State, loaded: Loaded, inner: &Inner) -> Result<Plan, ConfigError> {
        let mut changes = config::changes(&state.file, &loaded.read.settings);
        changes.extend(content_changes(state, &loaded, &changes));
        let mut in_force = state.in_force.clone();
        config::adopt(&mut in_force, &loaded.read.settings, &changes);
        // What code has set may not go together with what the file says now.
        if let Some(Problem { key, text, .. }) = in_force.problem() {
            return Err(loaded.read.invalid(key, text));
        }
        let opens_sockets = in_force.opens_sockets() || inner.in_force.discovering.is_given_by_code();
        // What code has given counts as long as the file's does not change.
        let security = &inner.in_force.security;
        let has_secret =
            if touches(&changes, &SECRET) { loaded.secret.is_some() } else { security.has_secret() };
        let has_certificates = if touches(&changes, &CERTIFICATES) {
            in_force.certificate.is_some()
        } else {
            security.has_certificates()
        };
        let is_proven = has_secret || has_certificates;
        if opens_sockets && !is_proven && !in_force.is_insecure {
            return Err(self.insecure(&inner.host.node));
        }
        let is_applied = changes.iter().any(|change| change.effect != Effect::Restart);
        let version = state.version + u64::from(is_applied);
        let wanted = &loaded.read.settings.services;
        for (_, _, new) in config::service_changes(&state.file.services, wanted) {
            new.map(|entry| inner.kinds.prepare_placed(entry)).transpose()?;
        }
        let reload = Reload { version, changes, failed: Vec::new() };
        Ok(Plan { loaded, in_force, reload })
    }

    fn prepared(&self) -> MutexGuard<'_, Kept> {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether one of the keys has changed.
fn touches(changes: &[Change], keys: &[&str]) -> bool {
    changes.iter().any(|change| keys.contains(&&*change.key))
}

/// The files that have another content under the same name.
fn content_changes(state: &State, loaded: &Loaded, changes: &[Change]) -> Vec<Change> {
    let files = loaded.read.settings.security_files().into_iter();
    let named = files.filter_map(|(key, file)| Some((key, file?.display().to_string())));
    let other = named.filter(|(key, _)| {
        let is_listed = changes.iter().any(|change| change.key == *key);
        !is_listed && state.contents.get(key) != loaded.contents.get(key)
    });
    let change = |(key, file): (&str, String)| Change {
        key: key.to_owned(),
        new: Some(format!("{file} (its content has changed)")),
        old: Some(file),
        effect: Effect::NewConnections,
    };
    other.map(change).collect()
}

/// The secret that a configuration names.
fn secret(read: &Read) -> Result<Option<Secret>, ConfigError> {
    let secret = load(read, "security.secret_file", read.settings.secret_file.as_deref())?;
    let other = load(read, "security.also_accept_file", read.settings.also_accept_file.as_deref())?;
    Ok(match (secret, other) {
        (Some(secret), Some(other)) => Some(secret.also_accept(&other)),
        (secret, _) => secret,
    })
}

/// The secret in the file that stands under a key.
fn load(read: &Read, key: &str, file: Option<&Path>) -> Result<Option<Secret>, ConfigError> {
    let secret = file.map(Secret::from_file).transpose();
    secret.map_err(|error| read.invalid(key, format!("cannot be used: {}", Chain(&error))))
}

fn contents(settings: &Settings) -> Contents {
    let files = settings.security_files().into_iter();
    // What cannot be read is as good as empty: who uses it says so.
    let content = |file: &Path| Sha256::digest(fs::read(file).unwrap_or_default()).into();
    files.filter_map(|(key, file)| Some((key, content(file?)))).collect()
}

fn digest(text: &[u8], contents: &Contents) -> Digest {
    let all = Sha256::new().chain_update(Sha256::digest(text));
    contents.values().fold(all, Sha256::chain_update).finalize().into()
}

impl fmt::Debug for Configured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Configured").field("file", &self.source.file).finish_non_exhaustive()
    }
}
