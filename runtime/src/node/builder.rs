//! From settings to a running node.

mod checks;

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use crate::cluster::coordinator::{Coordinator, Outside};
use crate::cluster::discovery::{AskingNode, Discovery};
use crate::cluster::membership;
use crate::config::{
    Access, ConfigError, Limits, MAX_CLUSTER, Monitoring, Problem, Router, Routes, Secret, Settings,
};
use crate::error::StartError;
use crate::event::Event;
use crate::id::{Incarnation, NodeId, check_name};
use crate::net::dialer::Wiring;
use crate::net::driver::Surroundings;
use crate::net::ends::Ends;
use crate::net::io::{Listener, Tcp, Transport};
use crate::net::listener;
use crate::net::peers::{Peers, Publish};
use crate::net::table::PeerTable;
#[cfg(feature = "tls")]
use crate::net::tls::Tls;
use crate::node::central::{self, Central};
use crate::node::configured::{Configured, Source};
use crate::node::dashboard::Dashboard;
use crate::node::discovering::Discovering;
use crate::node::follow;
use crate::node::in_force::InForce;
use crate::node::kinds::Kinds;
use crate::node::metrics::{Endpoint, Extra};
use crate::node::node::{Inner, Node};
use crate::node::registrar;
use crate::node::reload;
use crate::node::router::NodeInbox;
use crate::node::topic::table::Topics;
use crate::node::unique;
use crate::port::Spawn;
use crate::proto::settings::{FEATURES, Identity};
use crate::service::definition::Service;
use crate::service::host::Host;
use crate::service::message::WireMessage;
use crate::time;
use crate::trace::Propagator;

/// How many pieces of news may wait for the peers' task, and for the cluster's.
const NEWS: usize = 1024;

/// A node's settings. Made by `Node::builder`, or from a file by [`NodeBuilder::from_config`].
#[must_use = "a node starts with `.start().await`"]
pub struct NodeBuilder {
    pub(super) settings: Settings,
    /// Those that code gives. They stay when a file's change.
    seeds: Vec<String>,
    providers: Vec<Arc<dyn Discovery>>,
    secret: Option<Secret>,
    pub(super) admin_token: Option<Secret>,
    pub(super) extra: Extra,
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
    router: Option<Arc<dyn Router>>,
    propagator: Option<Arc<dyn Propagator>>,
    kinds: Kinds,
    configured: Option<Configured>,
    follows_file: bool,
    transport: Arc<dyn Transport>,
    features: u64,
    is_client: bool,
}

impl NodeBuilder {
    pub(crate) fn new(name: String) -> Self {
        Self::with(Settings::new(name))
    }

    fn with(settings: Settings) -> Self {
        Self {
            settings,
            seeds: Vec::new(),
            providers: Vec::new(),
            secret: None,
            admin_token: None,
            extra: Extra::default(),
            #[cfg(feature = "tls")]
            tls: None,
            router: None,
            propagator: None,
            kinds: Kinds::default(),
            configured: None,
            follows_file: false,
            transport: Arc::new(Tcp),
            features: FEATURES,
            is_client: false,
        }
    }

    /// Begins a node by a configuration file, over which the environment is laid: `SKYHOLD__NODE__LISTEN` stands for the key
    /// `listen` of the section `[node]`. `CONFIGURATION.md` names every key with its default.
    ///
    /// What is set by the other methods afterwards goes before the file, until a reload finds that key changed in the file.
    ///
    /// ```no_run
    /// # use skyhold::NodeBuilder;
    /// # async fn start() -> Result<(), Box<dyn std::error::Error>> {
    /// let node = NodeBuilder::from_config("skyhold.toml")?.reload_on_change().start().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ConfigError`] names the file, the line, the key, and what was expected there.
    pub fn from_config(file: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let environment = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
        });
        Self::from_config_with(file, environment)
    }

    /// As [`NodeBuilder::from_config`], with this environment in the place of the process's.
    ///
    /// # Errors
    /// As [`NodeBuilder::from_config`].
    pub fn from_config_with<N: Into<String>, V: Into<String>>(
        file: impl AsRef<Path>,
        environment: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, ConfigError> {
        let variables = environment.into_iter().map(|(name, value)| (name.into(), value.into()));
        let source = Source::new(file.as_ref(), variables);
        let loaded = source.load(None)?;
        let mut builder = Self::with(loaded.read.settings.clone());
        builder.secret.clone_from(&loaded.secret);
        builder.admin_token.clone_from(&loaded.admin_token);
        #[cfg(feature = "tls")]
        builder.tls.clone_from(&loaded.certificates.tls);
        builder.configured = Some(Configured::new(source, loaded));
        Ok(builder)
    }

    /// Looks every 2 s whether the configuration file, or a file of the section `[security]`, has other content, and reloads
    /// when it does. A content is taken when two looks have seen the same, so that a file may be written slowly; one that cannot be
    /// used is logged once, and the old one stays in force. Without a file it has no effect. Default: off.
    pub fn reload_on_change(mut self) -> Self {
        self.follows_file = true;
        self
    }

    /// The cluster's name. Nodes of other clusters are refused. Default: `default`.
    pub fn cluster(mut self, cluster: impl Into<String>) -> Self {
        self.settings.cluster = cluster.into();
        self
    }

    /// Makes it a client: a node that calls the services of a cluster, and can be called and answered back, without being a member. It
    /// is nobody's [member](crate::Cluster::members), counts for no quorum, and nobody asks whether it lives but over its connections. It connects with its seeds and with
    /// all whom they know, and runs no services under names. It does not listen. Tools and bridges are clients; its name must be one that no other node has.
    /// Default: it is a member.
    pub fn client(mut self) -> Self {
        self.is_client = true;
        self
    }

    /// Where to listen for peers, as `host:port`; port 0 takes a free one, see [`Node::address`]. Default: nowhere.
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.settings.listen = Some(address.into());
        self
    }

    /// The address of a peer, as `host:port`, which this node connects to as long as it lives. More than one may be
    /// given. A peer that is not there yet is tried again.
    pub fn seed(mut self, address: impl Into<String>) -> Self {
        self.seeds.push(address.into());
        self
    }

    /// A label of the node, which its services have too and the whole cluster sees, such as the zone where it runs. Default: none. See
    /// [`Labels`](crate::Labels) for how many and how long.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.labels.set(key.into(), value.into());
        self
    }

    /// How many nodes the cluster has when all are there, for [`Cluster::has_quorum`](crate::Cluster::has_quorum). All nodes should
    /// say the same. Default: 0, nobody has said it, and there is no quorum.
    pub fn expected_nodes(mut self, nodes: usize) -> Self {
        self.settings.expected_nodes = nodes;
        self
    }

    /// Something that knows addresses of peers: a [`FixedList`](crate::FixedList), [`Dns`](crate::Dns), an
    /// [`AddressFile`](crate::AddressFile), with the feature `etcd` an `Etcd`, or one of your own. It is asked at the start and then
    /// again and again, and what it gives is dialled as long as it gives it. More than one may be given; what one of them finds, or
    /// does not find, does not touch what the others have found.
    ///
    /// ```
    /// # use skyhold::prelude::*;
    /// # use skyhold::{AddressFile, Dns};
    /// let node = Node::builder("a")
    ///     .listen("10.0.0.1:7001")
    ///     .discover(Dns::new("skyhold.default.svc:7001"))
    ///     .discover(AddressFile::new("/etc/skyhold/peers"));
    /// ```
    pub fn discover(mut self, provider: impl Discovery) -> Self {
        self.providers.push(Arc::new(provider));
        self
    }

    /// How long to wait after the answer of a discovery provider before it is asked again. More than zero; a provider may want
    /// another pause. Default: 10 s.
    pub fn discovery_interval(mut self, interval: Duration) -> Self {
        self.settings.discovery.refresh = interval;
        self
    }

    /// The secret that all nodes of the cluster share. It never travels, and what is said between the nodes is not
    /// encrypted by it. A node that listens or has a seed needs this, certificates, or both; else see
    /// [`NodeBuilder::insecure_without_secret`]. [`Node::set_secret`] changes it while the node runs.
    pub fn secret(mut self, secret: Secret) -> Self {
        self.secret = Some(secret);
        self
    }

    /// The certificate by which this node proves its name to its peers, who need one as well; what is said between them is
    /// encrypted. With the feature `tls`. Default: none, so that connections are plain TCP. [`Node::set_tls`] changes it while
    /// the node runs.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Whoever reaches the node's address is a peer that may call every service of the cluster, and what answers at a seed's
    /// address is believed to be one: for networks where nobody else is, and for tests. Without this a node with neither secret
    /// nor certificates starts only if it opens no socket. Has no effect on one that has them.
    pub fn insecure_without_secret(mut self) -> Self {
        self.settings.is_insecure = true;
        self
    }

    /// Which peers may call which services of this node. Default: all. [`Node::set_access`] changes it while the node runs.
    pub fn access(mut self, access: Access) -> Self {
        self.settings.access = access;
        self
    }

    /// By which rules the calls of this node's handles to names go to their instances. Default: none, they go to any.
    /// [`Node::set_routes`] changes them while the node runs.
    pub fn routes(mut self, routes: Routes) -> Self {
        self.settings.routes = routes;
        self
    }

    /// What is asked, before the rules, where each call through a handle to a name goes. Default: nobody.
    pub fn router(mut self, router: impl Router) -> Self {
        self.router = Some(Arc::new(router));
        self
    }

    /// What takes traces from this node to others and back, `OpenTelemetry` of the feature `otel` as a rule. Between two nodes that have one, a call made inside of
    /// a sampled span says so, and the handler's span is its child. Default: none. See [Tracing](crate#tracing).
    pub fn propagator(mut self, propagator: impl Propagator) -> Self {
        self.propagator = Some(Arc::new(propagator));
        self
    }

    /// Makes services startable by the name of their kind: by the file's `[[service]]` entries and by [`ManagerHandle::start`]. `make` makes the value of each
    /// life from the service's configuration, which is read by serde once, before the service starts.
    ///
    /// ```no_run
    /// # use skyhold::prelude::*;
    /// # use skyhold::NodeBuilder;
    /// #[derive(serde::Deserialize)]
    /// struct Config { limit: u64 }
    /// # struct Counter { limit: u64 }
    /// # #[service] impl Counter { pub fn limit(&self) -> u64 { self.limit } }
    /// # async fn start() -> Result<(), Box<dyn std::error::Error>> {
    /// let node = NodeBuilder::from_config("skyhold.toml")?
    ///     .kind("counter", |config: &Config| Counter { limit: config.limit })
    ///     .start()
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// [`ManagerHandle::start`]: crate::ManagerHandle::start
    pub fn kind<S, C, F>(self, name: impl Into<String>, make: F) -> Self
    where
        S: Service,
        S::Message: WireMessage,
        C: DeserializeOwned + Send + Sync + 'static,
        F: Fn(&C) -> S + Send + Sync + 'static,
    {
        self.kinds.add(name.into(), make);
        self
    }

    /// How much the node measures of its services. Default: [`Monitoring::Sampled`].
    pub fn monitoring(mut self, monitoring: Monitoring) -> Self {
        self.settings.monitoring = monitoring;
        self
    }

    /// How long a call may take that says nothing else. Default: 30 s.
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.settings.call_timeout = timeout;
        self
    }

    /// How long [`Node::shutdown`] may take to drain before what still runs is cut off. Default: 10 s.
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.settings.shutdown_timeout = timeout;
        self
    }

    /// After how long a silence a peer is asked whether it is there. Default: 1 s.
    pub fn heartbeat(mut self, interval: Duration) -> Self {
        self.settings.heartbeat = interval;
        self
    }

    /// After how long a silence a peer is given up. More than the heartbeat. Default: 5 s.
    pub fn silence(mut self, limit: Duration) -> Self {
        self.settings.silence = limit;
        self
    }

    /// How long a stranger may take to prove that it is a peer. Default: 5 s.
    pub fn handshake_timeout(mut self, limit: Duration) -> Self {
        self.settings.handshake_timeout = limit;
        self
    }

    /// The largest message that this node takes from a peer, in bytes of its encoded arguments or reply. Between 64 KiB
    /// and 64 MiB. Default: 64 MiB.
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.settings.max_message = bytes;
        self
    }

    /// How many connections this node has to each peer: 1, 2, 4 or 8. Of the two nodes' numbers the smaller one counts, and a node
    /// of an earlier release has one. Default: 1.
    ///
    /// Each is read and written by a task of its own, so that more than one core works for one peer. All that is said to one
    /// instance goes over the same one, in its order. For nodes that send a peer more than one core can read or write, to several
    /// instances.
    ///
    /// It costs: each connection has buffers, credit and heartbeats of its own ([`Limits`] is for each of them), counts against
    /// [`Limits::connections`], and calls to different instances do not share system calls any more. An earlier form of this made, on a
    /// machine with two cores, calls up to 1.8 times slower with 4 connections than with 1, and sends a tenth faster; what it gains on
    /// many cores was not measured. Where the further connections cannot be made within 2 s the first one takes all, as long as it
    /// stands; until then calls wait.
    pub fn connections_per_peer(mut self, connections: usize) -> Self {
        self.settings.connections_per_peer = connections;
        self
    }

    /// How much this node keeps for its peers and for strangers on its port, at most. Default: see [`Limits`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.settings.limits = limits;
        self
    }

    #[cfg_attr(not(feature = "testing"), expect(dead_code, reason = "the in-memory network is for tests"))]
    pub(crate) fn transport(mut self, transport: Arc<dyn Transport>) -> Self {
        self.transport = transport;
        self
    }

    /// The features of the wire that the node has, a bit each.
    #[cfg_attr(not(feature = "testing"), expect(dead_code, reason = "an older node is for tests"))]
    pub(crate) fn features(mut self, features: u64) -> Self {
        self.features = features;
        self
    }

    /// Starts the node. It listens when this returns; its seeds are connected to as they answer.
    ///
    /// # Errors
    /// [`StartError`]: a name or a setting cannot be used, the address cannot be listened on, or a service of the file cannot be started. Then
    /// nothing runs.
    ///
    /// # Cancel safety
    /// Dropping the future before it ends leaves nothing behind.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn start(self) -> Result<Node, StartError> {
        let id = NodeId::new(&self.settings.name)?;
        check_name("cluster", &self.settings.cluster, MAX_CLUSTER)?;
        if let Some(Problem { setting, text, .. }) = self.settings.problem() {
            return Err(StartError::InvalidSetting { setting, problem: text });
        }
        self.check_client()?;
        self.check_security(&id)?;
        let services = self.kinds.prepare_all(&self.settings.services)?;
        let (listening, address) = self.bind().await?.unzip();
        let features = self.wire_features();
        let dashboard = Dashboard::bind(&self.settings, self.admin_token.as_ref()).await?;
        let endpoint = Endpoint::bind(&self.settings, self.admin_token.as_ref(), self.extra).await?;
        let settings = self.settings;
        let events = settings.limits.events;
        let host = Host::new(id.clone(), next_incarnation(), settings.call_timeout, events);
        let host = Arc::new(host.with_monitoring(settings.monitoring).with_propagator(self.propagator));
        let central = Central::open(&host, &settings.cluster, &settings.central).await?;
        let (news, hears_news) = mpsc::channel(NEWS);
        let (to_cluster, events) = mpsc::channel(NEWS);
        let publish = publisher(&host);
        let table = Arc::new(PeerTable::new(news.clone()));
        let identity = Identity {
            cluster: settings.cluster.clone(),
            node: id.clone(),
            incarnation: host.incarnation,
            listen: address,
        };
        let topics = Arc::new(Topics::default());
        let tasks = host.tasks.clone();
        let spawn: Spawn = Arc::new(move |task| drop(tasks.spawn(task)));
        let asking = AskingNode::new(settings.cluster.clone(), id.clone(), host.incarnation, address);
        let (discovering, topology) = Discovering::new(asking, Arc::clone(&spawn), &settings, self.seeds);
        let in_force = InForce::new(identity, features, &settings, Arc::clone(&discovering), self.router);
        in_force.security.set_secret(self.secret);
        #[cfg(feature = "tls")]
        in_force.security.set_tls(self.tls);
        let me = membership::Identity::new(id.clone(), host.incarnation, address);
        let (limits, expected) = (settings.limits, in_force.expected_nodes());
        let (hears, measure) = (Arc::clone(&publish), registrar::measure(&host));
        let outside = Outside { expected, events, peers: news.clone(), publish: hears, measure };
        let (coordinator, seen) = Coordinator::new(me, self.is_client, limits, outside);
        let inbox = NodeInbox {
            host: Arc::clone(&host),
            topics: Arc::clone(&topics),
            access: Arc::clone(&in_force.access),
        };
        let ends = Arc::new(Ends::default());
        let surroundings =
            Surroundings { inbox: Arc::new(inbox), news: news.clone(), spawn, ends: Arc::clone(&ends) };
        let wiring = Wiring {
            transport: self.transport,
            config: Arc::clone(&in_force.connections),
            security: Arc::clone(&in_force.security),
            surroundings,
        };
        let peers =
            Peers::new(id, wiring.clone(), hears_news, to_cluster, Arc::clone(&table), publish, topology);

        let labels = settings.labels.clone();
        discovering.start(&settings, self.providers);
        let configured = self.configured.map(|configured| configured.started(settings));
        let inner = Inner::new(
            Arc::clone(&host),
            seen,
            news,
            table,
            topics,
            in_force,
            labels,
            self.kinds,
            self.is_client,
            central,
            ends,
            address,
            configured,
        );
        // Who reloads meanwhile waits until the services of the file are started.
        let starting = inner.configured.as_ref().map(|configured| Arc::clone(&configured.turn));
        let starting = starting.and_then(|turn| turn.try_lock_owned().ok()); // nobody else has seen it yet
        if self.follows_file {
            host.tasks.spawn(follow::follow(Arc::clone(&inner)));
        }
        central::start(&inner);
        endpoint.start(&inner);
        dashboard.start(&inner);
        let node = Node::owner(inner);
        keep_time(&host);
        host.tasks.spawn(coordinator.run());
        host.tasks.spawn(peers.run());
        if let Some(listener) = listening {
            host.tasks.spawn(listener::listen(listener, wiring));
        }
        for service in services {
            service.start(node.without_owner()).await?; // a node that is dropped ends
        }
        drop(starting);
        if let Some(configured) = &node.inner().configured {
            // What a start hook has reloaded.
            reload::log_failed(node.id(), &configured.staff(&node).await);
        }
        Ok(node)
    }

    /// Listens, if it is to, and gives where.
    async fn bind(&self) -> Result<Option<(Box<dyn Listener>, SocketAddr)>, StartError> {
        let Some(address) = &self.settings.listen else { return Ok(None) };
        let cannot = |source| StartError::Listen { address: address.clone(), source };
        let listener = self.transport.listen(address).await.map_err(cannot)?;
        let at = listener.local_addr().map_err(cannot)?;
        Ok(Some((listener, at)))
    }
}

/// Begins the tasks that see that time passes.
fn keep_time(host: &Arc<Host>) {
    host.tasks.spawn(Arc::clone(&host.deadlines).run());
    for task in 0..2 {
        host.tasks.spawn(Arc::clone(&host.watchdog).run(task));
    }
}

/// Tells everybody what happened, and does what a node does when it loses a name.
fn publisher(host: &Arc<Host>) -> Publish {
    let host = Arc::clone(host);
    Arc::new(move |event: Event| {
        if let Event::NameLost { name, .. } = &event {
            unique::give_up(&host, name);
        }
        host.publish(event);
    })
}

/// Milliseconds since the epoch, and never the same twice in a process, so that a node that is started again at once is
/// a later life all the same.
fn next_incarnation() -> Incarnation {
    /// A number and no registry: it orders the lives that begin in one millisecond.
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = time::unix_millis();
    let last = LAST.fetch_max(now, Ordering::AcqRel);
    if last < now {
        return Incarnation(now);
    }
    Incarnation(LAST.fetch_add(1, Ordering::AcqRel) + 1)
}

impl fmt::Debug for NodeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeBuilder")
            .field("name", &self.settings.name)
            .field("cluster", &self.settings.cluster)
            .field("listen", &self.settings.listen)
            .field("seeds", &self.seeds)
            .finish_non_exhaustive()
    }
}
