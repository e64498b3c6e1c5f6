//! Supervision, seen from outside: what is started again, in which order and how often; that it is the same address;
//! and that nothing is left behind.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use skyhold::prelude::*;
use skyhold::testing::{Usage, usage};
use skyhold::{Child, Event, Events, Restart, ServiceBuilder, Strategy, Supervisor, SupervisorHandle};

use crate::gate::{Gate, Log, settle};

mod additions;
mod addresses;
mod contained;
mod leaks;
mod scenarios;
mod stops;
mod storms;
mod trees;

/// What the actors of one test share: what they did, and what they will do wrong.
#[derive(Clone, Default)]
struct Stage {
    log: Log,
    /// How many next starts of an actor fail.
    refusals: Arc<Mutex<BTreeMap<String, u32>>>,
    /// Where starts of an actor wait.
    starts: Arc<Mutex<BTreeMap<String, Gate>>>,
    /// Where `hold` waits.
    gate: Gate,
}

impl Stage {
    fn refuse(&self, actor: &str, times: u32) {
        self.refusals.lock().unwrap().insert(actor.to_owned(), times);
    }

    /// From now on the starts of an actor wait at the gate.
    fn hold_starts(&self, actor: &str) -> Gate {
        let gate = Gate::new();
        self.starts.lock().unwrap().insert(actor.to_owned(), gate.clone());
        gate
    }

    fn service(
        &self,
        node: &Node,
        name: &str,
    ) -> ServiceBuilder<Actor, impl FnMut() -> Actor + Send + 'static> {
        node.service(name, self.actors(name)).restart(eager(Restart::on_failure()))
    }

    /// Makes the actors of a name, each with the number of its life.
    fn actors(&self, name: &str) -> impl FnMut() -> Actor + Send + 'static {
        let (stage, name, mut life) = (self.clone(), name.to_owned(), 0);
        move || {
            life += 1;
            Actor { name: name.clone(), stage: stage.clone(), life }
        }
    }

    /// What was done since the last look.
    fn line(&self) -> String {
        self.log.take().join(" ")
    }
}

/// Notes its lives, and does what it is told.
struct Actor {
    name: String,
    stage: Stage,
    life: u32,
}

#[service(mailbox = 4)]
impl Actor {
    #[on_start]
    async fn begin(&mut self) -> Result<(), io::Error> {
        let gate = self.stage.starts.lock().unwrap().get(&self.name).cloned();
        if let Some(gate) = gate {
            gate.pass().await;
        }
        if let Some(left @ 1..) = self.stage.refusals.lock().unwrap().get_mut(&self.name) {
            *left -= 1;
            self.stage.log.add(format!("?{}", self.name));
            return Err(io::Error::other("refused"));
        }
        self.stage.log.add(format!("+{}", self.name));
        Ok(())
    }

    #[on_stop]
    fn end(&mut self) {
        self.stage.log.add(format!("-{}", self.name));
    }

    /// Gives the number of its life.
    pub fn note(&mut self, text: String) -> u32 {
        self.stage.log.add(text);
        self.life
    }

    pub fn life(&self) -> u32 {
        self.life
    }

    /// Where it is.
    pub fn place(&self, context: &Context) -> String {
        context.address().to_string()
    }

    pub fn fail(&mut self) {
        self.stage.log.add(format!("!{}", self.name));
        panic!("boom");
    }

    pub fn finish(&self, context: &Context) {
        context.stop();
    }

    /// Never answers before the test says so.
    pub async fn hold(&mut self) -> u32 {
        self.stage.gate.pass().await;
        self.life
    }

    /// Panics when the test says so.
    pub async fn hold_and_fail(&mut self) {
        self.stage.gate.pass().await;
        panic!("boom");
    }
}

/// A policy without pauses.
fn eager(restart: Restart) -> Restart {
    restart.backoff(Duration::ZERO, Duration::ZERO)
}

/// Waits so long, and then until nothing more happens by itself. Needs the paused clock.
async fn wait(time: Duration) {
    tokio::time::sleep(time).await;
    settle().await;
}

/// The events that have been published since the last look.
fn published(events: &mut Events) -> Vec<Event> {
    std::iter::from_fn(|| events.next().now_or_never().flatten()).collect()
}

/// Starts a supervisor with children in order.
async fn supervise(node: &Node, strategy: Strategy, children: Vec<Child>) -> SupervisorHandle {
    let supervisor = children.into_iter().fold(Supervisor::new("tree", strategy), Supervisor::child);
    supervisor.start(node).await.unwrap()
}

/// Asserts that nothing is left on the node beyond what it held before, and that the names are free.
async fn assert_nothing_left(node: &Node, before: Usage, names: &[&str]) {
    settle().await;
    assert_eq!(usage(node), before);
    for name in names {
        assert!(ActorHandle::try_lookup(node, name).is_err(), "{name} is still known");
    }
}
