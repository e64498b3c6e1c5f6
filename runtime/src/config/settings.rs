//! What a node is told before it starts, by its builder or by a file.
//!
//! Invariant: plain values. What a file names, such as a secret's, is not read here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::access::Access;
use super::central::Central;
use super::keys::{LABELS, ROUTE};
use super::labels::Labels;
use super::limits::Limits;
use super::monitoring::Monitoring;
use super::routes::Routes;
use super::services::ServiceEntry;

/// The smallest and the largest `max_message`.
const MESSAGE_LIMITS: (usize, usize) = (64 * 1024, 64 * 1024 * 1024);

/// How many connections to one peer there may be.
pub(crate) const CONNECTIONS: [usize; 4] = [1, 2, 4, 8];

/// A node's settings, but for what only code can give.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) name: String,
    pub(crate) cluster: String,
    pub(crate) listen: Option<String>,
    pub(crate) labels: Labels,
    pub(crate) monitoring: Monitoring,
    pub(crate) heartbeat: Duration,
    pub(crate) silence: Duration,
    pub(crate) handshake_timeout: Duration,
    pub(crate) max_message: usize,
    pub(crate) connections_per_peer: usize,
    pub(crate) secret_file: Option<PathBuf>,
    pub(crate) also_accept_file: Option<PathBuf>,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    pub(crate) authorities: Option<PathBuf>,
    pub(crate) is_insecure: bool,
    pub(crate) seeds: Vec<String>,
    /// Nodes by name: where each listens, or nothing for one that is turned off.
    pub(crate) nodes: BTreeMap<String, Option<String>>,
    /// How many nodes the cluster is said to have; 0 if nobody has said it.
    pub(crate) expected_nodes: usize,
    pub(crate) discovery: Discovery,
    pub(crate) central: Central,
    pub(crate) call_timeout: Duration,
    pub(crate) shutdown_timeout: Duration,
    pub(crate) limits: Limits,
    pub(crate) admin: Admin,
    pub(crate) access: Access,
    pub(crate) routes: Routes,
    pub(crate) services: Vec<ServiceEntry>,
}

/// Where addresses of peers are found, but for providers that only code can give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Discovery {
    pub(crate) dns: Vec<String>,
    pub(crate) file: Option<PathBuf>,
    /// The endpoints of one registry.
    pub(crate) etcd: Vec<String>,
    pub(crate) etcd_prefix: String,
    pub(crate) refresh: Duration,
}

/// Where people and their programs look at the node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Admin {
    /// Where the metrics are told.
    pub(crate) metrics: Option<String>,
    /// Where the web page is shown.
    pub(crate) dashboard: Option<String>,
    pub(crate) token_file: Option<PathBuf>,
}

impl Default for Discovery {
    fn default() -> Self {
        Self {
            dns: Vec::new(),
            file: None,
            etcd: Vec::new(),
            etcd_prefix: "/skyhold".to_owned(),
            refresh: Duration::from_secs(10),
        }
    }
}

/// What is wrong with a setting: its name for the builder, its key in a file, and what was expected.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) setting: &'static str,
    pub(crate) key: &'static str,
    pub(crate) text: String,
}

impl Settings {
    pub(crate) fn new(name: String) -> Self {
        Self {
            name,
            cluster: "default".to_owned(),
            listen: None,
            labels: Labels::default(),
            monitoring: Monitoring::default(),
            heartbeat: Duration::from_secs(1),
            silence: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(5),
            max_message: 64 * 1024 * 1024,
            connections_per_peer: 1,
            secret_file: None,
            also_accept_file: None,
            certificate: None,
            key: None,
            authorities: None,
            is_insecure: false,
            seeds: Vec::new(),
            nodes: BTreeMap::new(),
            expected_nodes: 0,
            discovery: Discovery::default(),
            central: Central::default(),
            call_timeout: Duration::from_secs(30),
            shutdown_timeout: Duration::from_secs(10),
            limits: Limits::default(),
            admin: Admin::default(),
            access: Access::open(),
            routes: Routes::new(),
            services: Vec::new(),
        }
    }

    /// Whether the node opens a socket by these settings.
    pub(crate) fn opens_sockets(&self) -> bool {
        let discovers =
            self.discovery != Discovery { refresh: self.discovery.refresh, ..Discovery::default() };
        self.listen.is_some()
            || discovers
            || !self.seeds.is_empty()
            || self.nodes.values().any(Option::is_some)
    }

    /// The first thing that cannot be used. The names of the node and its cluster are not looked at.
    pub(crate) fn problem(&self) -> Option<Problem> {
        let problem = |setting, key, text| Some(Problem { setting, key, text });
        let positive = [
            ("call_timeout", "calls.timeout", self.call_timeout),
            ("heartbeat", "transport.heartbeat", self.heartbeat),
            ("handshake_timeout", "transport.handshake_timeout", self.handshake_timeout),
            ("discovery_interval", "topology.refresh", self.discovery.refresh),
        ];
        if let Some((setting, key, _)) = positive.into_iter().find(|(_, _, value)| value.is_zero()) {
            return problem(setting, key, "is zero; more is needed".to_owned());
        }
        if self.silence <= self.heartbeat {
            let text =
                format!("is {:?}; more than the heartbeat of {:?} is needed", self.silence, self.heartbeat);
            return problem("silence", "transport.silence", text);
        }
        let (smallest, largest) = MESSAGE_LIMITS;
        if !(smallest..=largest).contains(&self.max_message) {
            let text = format!("is {} bytes; {smallest} to {largest} are possible", self.max_message);
            return problem("max_message", "transport.max_message", text);
        }
        if !CONNECTIONS.contains(&self.connections_per_peer) {
            let text = format!("is {}; 1, 2, 4 or 8 is expected", self.connections_per_peer);
            return problem("connections_per_peer", "transport.connections_per_peer", text);
        }
        if let Some(text) = self.labels.problem() {
            return problem("label", LABELS, text);
        }
        if let Err(error) = self.routes.check() {
            return problem("routes", ROUTE, error.to_string());
        }
        if let Some(unusable) = self.central.problem(&self.name, self.max_message) {
            return Some(unusable);
        }
        let (limit, text) = self.limits.problem(self.max_message)?;
        problem(limit, limit, text)
    }

    /// The files of the section `[security]`, each by its key.
    pub(crate) fn security_files(&self) -> [(&'static str, Option<&Path>); 5] {
        [
            ("security.secret_file", self.secret_file.as_deref()),
            ("security.also_accept_file", self.also_accept_file.as_deref()),
            ("security.certificate", self.certificate.as_deref()),
            ("security.key", self.key.as_deref()),
            ("security.authorities", self.authorities.as_deref()),
        ]
    }

    /// What this program cannot do, as it was built without the feature for it.
    pub(super) fn missing_feature(&self) -> Option<Problem> {
        let (discovery, default) = (&self.discovery, Discovery::default());
        let (etcd, metrics) = (("etcd", cfg!(feature = "etcd")), ("metrics", cfg!(feature = "metrics")));
        let dashboard = ("dashboard", cfg!(feature = "dashboard"));
        let used = [
            ("topology.etcd", !discovery.etcd.is_empty(), etcd),
            ("topology.etcd_prefix", discovery.etcd_prefix != default.etcd_prefix, etcd),
            ("config.etcd", !self.central.etcd.is_empty(), etcd),
            ("admin.metrics", self.admin.metrics.is_some(), metrics),
            ("admin.dashboard", self.admin.dashboard.is_some(), dashboard),
            ("admin.token_file", self.admin.token_file.is_some(), metrics),
        ];
        let (key, _, (feature, _)) =
            used.into_iter().find(|(_, is_used, (_, is_there))| *is_used && !is_there)?;
        let text = format!("needs the feature `{feature}`, and this program was built without it");
        Some(Problem { setting: key, key, text })
    }

    /// Which of the files for a secret or for certificates is named without those that it needs.
    pub(super) fn incomplete_security(&self) -> Option<Problem> {
        let problem = |key, text: &str| Some(Problem { setting: key, key, text: text.to_owned() });
        if self.also_accept_file.is_some() && self.secret_file.is_none() {
            return problem(
                "security.also_accept_file",
                "needs `security.secret_file`: the secret by which this node dials",
            );
        }
        let files = [
            ("security.certificate", &self.certificate),
            ("security.key", &self.key),
            ("security.authorities", &self.authorities),
        ];
        let given = files.iter().find(|(_, file)| file.is_some())?.0;
        if let Some((missing, _)) = files.iter().find(|(_, file)| file.is_none()) {
            return problem(missing, "is missing; `certificate`, `key` and `authorities` go together");
        }
        if !cfg!(feature = "tls") {
            return problem(given, "needs the feature `tls`, and this program was built without it");
        }
        None
    }
}
