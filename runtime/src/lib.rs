//! Services that call each other the same way inside a process and across machines.
//!
//! Put [`#[service]`](service) on the `impl` of a struct: its `pub` methods become messages, and a typed handle gets a
//! method for each. A [`Node`] runs services and connects them with those of other nodes. Start here:
//!
//! ```
//! use skyhold::prelude::*;
//!
//! #[derive(Default)]
//! struct Counter {
//!     total: u64,
//! }
//!
//! #[service]
//! impl Counter {
//!     /// Adds `by` and returns the new total.
//!     pub async fn add(&mut self, by: u64) -> u64 {
//!         self.total += by;
//!         self.total
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let node = Node::builder("a").start().await?;
//! let counter = node.spawn(Counter::default());
//! assert_eq!(counter.add(2).await?, 2);
//! # Ok(())
//! # }
//! ```
//!
//! * [`Node`]: start it with [`Node::builder`], put services on it with [`Node::spawn`] and [`Node::service`].
//! * [`Lookup`]: find a service by name, wherever it is.
//! * [`Balance`]: how the calls to a name with many instances are spread.
//! * [`Call`]: what a handle's method gives; await it, send it, or give it a timeout.
//! * [`CallError`]: why there is no reply, and whether the handler may have run.
//! * [`Supervisor`]: trees of services that are started again when they fail; [`Restart`] and [`Intensity`] say when.
//! * [`Discovery`]: where a node finds its first peers: a list, DNS, a file, etcd, or something of your own.
//! * [`Topic`]: publish to every subscriber in the cluster.
//! * [`Streaming`]: a stream of values that comes from a service, or goes to one.
//! * [`Context`]: what a handler may ask about the message that it handles.
//! * [`Watch`]: a stream of the ends of what a handle leads to; [`Context::watch`] and [`Context::link`] in a service.
//! * [`Node::events`], [`Node::counters`], [`Node::manager`], with the feature `metrics` an endpoint for Prometheus, and with `dashboard` a web page: what happens on a node.
//! * `testing` (feature `testing`): clusters in one process, with faults.
//!
//! # Tracing
//!
//! Calls and handlers are spans of [`tracing`](https://docs.rs/tracing), at the target `skyhold::calls`:
//!
//! | span | from | to | fields |
//! |---|---|---|---|
//! | `call` | the call's first poll | its result | `interface`, `method`, `outcome` |
//! | `send` | the send's first poll | that it is handed over | the same |
//! | `handle` | the handler's beginning | its end | `service`, `method`, `instance`, `caller` (the node), `queued_us` (microseconds from the send, or the arrival at this node, to the beginning), `outcome` |
//!
//! A `call` is a child of the span in which it is polled, and its `handle` a child of the `call`. In a handler's polls its span is the present one, so that what it logs and calls is inside of it; a task that it spawns is
//! not. `outcome` is `ok`, `panicked`, `expired`, `abandoned` (the caller had given up before it began) or `cut_off` (its instance ended) of a handler, and of a call the name of the [`CallError`], such as `timeout` or `no_route`, or `cancelled`. A
//! `Result` that a method returns is its value: `ok`. The copy of a call that a rule mirrors has a `handle` of its own. Hooks
//! have no spans.
//!
//! On a node with a [`Propagator`], see [`NodeBuilder::propagator`], the spans are of level `INFO`, and a trace goes on in other nodes that have one. Whether it is sampled is decided where it begins: only what is sampled
//! is said on the wire. Without a propagator they are of level `DEBUG`, stand around what a node's handlers log, and end at the node's border. While no subscriber wants them they cost some nanoseconds: about 3 % of a local call and 6 % of a local send (`cargo bench --bench local`).
//! With the feature `otel` the propagator is `OpenTelemetry`; the example `tracing` shows a trace of two processes.
//!
//! # Panics in handlers
//!
//! A panic in a handler is answered to its caller and ends one life of that instance, and nothing else. What is
//! supervised, which is every service that [`Node::service`] starts, begins another life by its [`Restart`]: with a
//! fresh value, and at the same address, so that handles go on working.
//!
//! That needs unwinding: with `panic = "abort"` in the profile, any panic ends the process.

// For what `#[service]` names, in the unit tests.
#[cfg(test)]
extern crate self as skyhold;

mod cluster;
mod config;
mod error;
mod event;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod id;
mod key;
mod memory;
mod net;
mod node;
#[cfg(feature = "otel")]
mod otel;
mod policy;
mod port;
mod proto;
mod random;
mod service;
mod supervision;
mod sync;
#[cfg(feature = "testing")]
pub mod testing;
mod time;
mod trace;

#[doc(hidden)]
pub mod __private;

pub mod prelude;

pub use futures_util::Stream;

#[cfg(feature = "etcd")]
pub use cluster::discovery::Etcd;
pub use cluster::discovery::{
    AddressFile, AskingNode, Discovery, DiscoveryError, DiscoveryFuture, Dns, FixedList,
};
pub use cluster::membership::{Member, MemberState, Members};
pub use config::{
    Access, Change, ConfigError, Effect, Labels, Limits, Monitoring, Overflow, Place, Queued, Route,
    RouteRequest, Router, Routes, RoutesError, Routing, Secret, SecretError, Subset,
};
pub use error::{CallChain, CallError, ChainLink, Detail, LookupError, ShutdownError, StartError, StopError};
pub use event::{
    Counters, DeadLetter, DeadLetterReason, Down, EndedConnections, Event, Expired, MemberEnd, StopReason,
};
pub use id::{Address, Incarnation, InstanceId, InvalidName, NodeId};
#[cfg(feature = "tls")]
pub use net::tls::{Tls, TlsError};
pub use node::builder::NodeBuilder;
pub use node::central::{
    CentralConfig, CentralError, Setting, SettingVersion, Version, Versioned, WatchSetting,
};
pub use node::cluster::{Cluster, MembersWatch};
pub use node::events::Events;
pub use node::group::ServiceBuilder;
pub use node::instances::{Instances, InstancesWatch, KnownInstance};
pub use node::lookup::Lookup;
pub use node::manager::{
    ConnectionReport, EventReport, Figures, HandlerReport, InstanceReport, InterfaceMethod, InterfaceReport,
    KnownService, Latency, ManageError, Manager, ManagerHandle, ManagerMessage, MethodReport, NodeReport,
    Outcomes, Prepared, ProcessReport, QueueReport, ServiceInstance, ServiceReport, TreeReport, WaitReport,
};
pub use node::node::Node;
pub use node::reload::{Reload, ReloadError};
pub use node::reload_all::{ClusterReload, NodeReload};
pub use node::selection::Selection;
pub use node::staffing::FailedService;
pub use node::supervisor::{Child, Supervisor, SupervisorHandle};
pub use node::topic::{Feed, PublishError, Published, Subscribe, Subscription, Topic, TopicError, TopicItem};
#[cfg(feature = "otel")]
pub use otel::OpenTelemetry;
pub use policy::balance::candidates::{Balancer, Candidate, Candidates};
pub use policy::balance::kinds::Balance;
pub use policy::balance::weighted::Weighted;
pub use service::call::{Call, CallFuture, SendFuture};
pub use service::context::Context;
pub use service::handle::ServiceHandle;
pub use service::reply::Reply;
pub use service::streaming::Streaming;
pub use service::tap::{HandlerEnd, TraceEvent, TraceItem};
pub use service::timer::Timer;
pub use service::watch::{Watch, Watching};
pub use skyhold_macros::service;
pub use supervision::{ChildInfo, ChildState, Intensity, Pace, Restart, Strategy};
pub use trace::{Propagator, TraceParent};

/// The README's programs compile.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
