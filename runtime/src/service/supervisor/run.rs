//! The task of a supervisor: it hears how its children fare, asks the policy, and does what it says.
//!
//! Invariant: it waits for its children, for the clock, for words from above, and for the directory when a name comes or
//! goes. A child never waits for it.

use std::any::Any;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, oneshot};

use crate::error::StartError;
use crate::event::StopReason;
use crate::policy::restart::{Action, Ended as How, Key, Supervision};
use crate::service::host::Host;
use crate::service::life::{Ended, NextLife};
use crate::service::supervisor::asked::{Added, Ending};
use crate::service::supervisor::child::{Child, Halt, Spec, State};
use crate::service::supervisor::control::{Command, Control};
use crate::service::supervisor::ear::{Ear, Heard};
use crate::service::supervisor::resize::Restarting;
use crate::supervision::{Intensity, Strategy};
use crate::{random, time};

/// What a supervisor is to be.
pub(crate) struct Plan {
    pub(crate) name: Arc<str>,
    pub(crate) strategy: Strategy,
    pub(crate) intensity: Intensity,
    /// Whether it ends when no child is left, as the group of a service does.
    pub(crate) ends_when_empty: bool,
    pub(crate) children: Vec<Spec>,
}

/// Begins a supervisor's first life, in a task of its own.
pub(crate) fn supervise(host: &Arc<Host>, plan: Plan, first: NextLife) -> Arc<Control> {
    let (control, commands) = Control::new(plan.name, plan.strategy);
    let mut supervisor = Supervisor {
        host: Arc::clone(host),
        control: Arc::clone(&control),
        policy: Supervision::new(plan.strategy, plan.intensity, random::seeded(host.next_seed())),
        ends_when_empty: plan.ends_when_empty,
        children: HashMap::new(),
        ears: FuturesUnordered::new(),
        kills: BTreeSet::new(),
        additions: HashMap::new(),
        next_addition: 0,
        ending: Vec::new(),
        restarting: Vec::new(),
        _gone: Gone(Arc::clone(&control)),
    };
    for spec in plan.children {
        supervisor.add(spec);
    }
    host.tasks.spawn(supervisor.run(commands, first, host.owner()));
    control
}

pub(super) struct Supervisor {
    pub(super) host: Arc<Host>,
    pub(super) control: Arc<Control>,
    pub(super) policy: Supervision,
    ends_when_empty: bool,
    pub(super) children: HashMap<Key, Child>,
    pub(super) ears: FuturesUnordered<Ear>,
    /// When children that were told to end are cut off.
    kills: BTreeSet<(Instant, Key)>,
    /// Children that were added while it ran, until whoever asked has taken the answer.
    pub(super) additions: HashMap<u64, Added>,
    pub(super) next_addition: u64,
    /// Children that end for good, and who waits for it.
    pub(super) ending: Vec<Ending>,
    /// Children whose next life somebody waits for.
    pub(super) restarting: Vec<Restarting>,
    /// Dropped last.
    _gone: Gone,
}

/// Tells the end of a supervisor, also when its task is dropped.
struct Gone(Arc<Control>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.mark_gone();
    }
}

/// How a life of the supervisor itself ended.
struct Over(StopReason);

/// What it wakes up for.
enum News {
    Child(Heard),
    Halt(Halt),
    Command(Command),
    Time,
}

impl Supervisor {
    async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        first: NextLife,
        // The node outlives its supervisors.
        _node: Option<Arc<dyn Any + Send + Sync>>,
    ) {
        let mut next = Some(first);
        while let Some(NextLife { started, ended }) = next {
            let Over(reason) = self.live(&mut commands, started).await;
            if self.is_final() {
                break;
            }
            let (word, hears) = oneshot::channel();
            let (_waits, waits) = oneshot::channel();
            if ended.send(Ended { reason, next: word, waits }).is_err() {
                break;
            }
            next = self.rest(&mut commands, hears).await;
        }
        commands.close();
        let registries = self.children.values().filter_map(|child| child.registry.clone());
        for registry in registries.collect::<Vec<_>>() {
            registry.withdraw(Halt::Stop).await; // all names, before any of their instances
        }
        for (_, child) in self.children.drain() {
            child.forget().await;
        }
    }

    /// One life: until it was told to end, gave up, or has nothing left to do.
    async fn live(
        &mut self,
        commands: &mut mpsc::Receiver<Command>,
        started: oneshot::Sender<Result<(), StartError>>,
    ) -> Over {
        let mut started = Some(started);
        let mut halt = None;
        self.policy.start();
        loop {
            if let Some(over) = self.act(&mut started, halt).await {
                return over;
            }
            let news = self.news(commands, halt).await;
            match news {
                News::Child(heard) => self.heard(heard).await,
                News::Command(command) => self.command(command).await,
                News::Time => self.time_passed(),
                News::Halt(harder) => {
                    if halt.is_none() {
                        self.policy.stop();
                    } else {
                        self.children
                            .values()
                            .filter(|c| c.state == State::Stopping)
                            .for_each(|c| c.pull(harder));
                    }
                    halt = Some(harder);
                }
            }
        }
    }

    /// Between two lives: the children are down, and wait as this supervisor does.
    async fn rest(
        &mut self,
        commands: &mut mpsc::Receiver<Command>,
        mut next: oneshot::Receiver<NextLife>,
    ) -> Option<NextLife> {
        let mut nobody = None;
        let mut known = self.control.halt();
        while !self.is_final() {
            tokio::select! {
                biased;
                word = &mut next => return word.ok(),
                harder = self.control.halted(known) => known = Some(harder),
                Some(heard) = self.ears.next() => self.heard(heard).await,
                command = commands.recv() => self.command(command?).await,
            }
            // A child that was taken out between two lives is forgotten at once.
            self.act(&mut nobody, None).await;
        }
        None
    }

    fn is_final(&self) -> bool {
        self.control.halt().is_some_and(Halt::is_final)
    }

    async fn news(&mut self, commands: &mut mpsc::Receiver<Command>, halt: Option<Halt>) -> News {
        let kill = self.kills.first().map(|(at, _)| *at);
        let wake = [kill, self.policy.poll_timeout()].into_iter().flatten().min();
        let timer = async {
            match wake {
                Some(at) => time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            harder = self.control.halted(halt) => News::Halt(harder),
            Some(heard) = self.ears.next() => News::Child(heard),
            Some(command) = commands.recv() => News::Command(command),
            () = timer => News::Time,
        }
    }

    /// Does what the policy says, until it waits for something.
    async fn act(
        &mut self,
        started: &mut Option<oneshot::Sender<Result<(), StartError>>>,
        halt: Option<Halt>,
    ) -> Option<Over> {
        while let Some(action) = self.policy.poll_action() {
            match action {
                Action::Start(key) => self.start(key),
                Action::Stop(key) => self.stop(key, halt).await,
                Action::Forget(key) => self.forget(key).await,
                Action::Up => {
                    if let Some(started) = started.take() {
                        drop(started.send(Ok(()))); // who started it may have gone
                    }
                }
                Action::StartFailed(key) => {
                    let error = self.children.get_mut(&key).and_then(|child| child.error.take());
                    let error = error.unwrap_or_else(|| self.never_up(&self.control.name));
                    let reason = StopReason::Error(error.to_string());
                    if let Some(started) = started.take() {
                        drop(started.send(Err(error)));
                    }
                    return Some(Over(reason));
                }
                Action::GaveUp(key) => return Some(Over(self.gave_up(key))),
                Action::Stopped => {
                    let shutdown = self.host.is_shutting_down() || halt == Some(Halt::Rest);
                    return Some(Over(if shutdown { StopReason::Shutdown } else { StopReason::Normal }));
                }
            }
        }
        let is_empty = self.ends_when_empty && self.children.is_empty();
        is_empty.then_some(Over(StopReason::Normal))
    }

    pub(super) fn add(&mut self, spec: Spec) -> Key {
        if let Some(registry) = &spec.registry {
            registry.supervised_by(&self.control);
        }
        let key = self.policy.add(spec.restart.clone());
        self.children.insert(key, Child::new(spec));
        key
    }

    fn start(&mut self, key: Key) {
        let Some(child) = self.children.get_mut(&key) else { return };
        if child.state == State::Gone {
            return self.policy.handle_start_failed(key, time::now());
        }
        let life = child.begin();
        self.ears.push(Ear::Start(key, life.started, Some(life.ended)));
    }

    async fn stop(&mut self, key: Key, halt: Option<Halt>) {
        let Some(child) = self.children.get_mut(&key) else { return };
        let halt = child.halt.max(halt).unwrap_or(Halt::Rest);
        if matches!(child.state, State::Down | State::Gone) {
            return self.policy.handle_ended(key, How::Normal, time::now());
        }
        child.state = State::Stopping;
        if let Some(registry) = child.registry.clone()
            && halt.is_final()
            && !child.retires
        {
            registry.withdraw(halt).await; // nobody is to be sent to what ends
        }
        let Some(child) = self.children.get_mut(&key) else { return };
        child.pull(halt);
        if let Some(kill_at) = time::now().checked_add(child.stop_within) {
            child.kill_at = Some(kill_at);
            self.kills.insert((kill_at, key));
        }
    }

    async fn forget(&mut self, key: Key) {
        self.unkill(key);
        if let Some(mut child) = self.children.remove(&key) {
            let (number, was_up) = (child.addition, child.was_up);
            let error = child.error.take();
            let error = (!was_up).then(|| error.unwrap_or_else(|| self.never_up(&child.name)));
            child.forget().await;
            self.restarting.retain(|restarting| restarting.key != key); // they are told by that
            if let Some(number) = number {
                self.added_is_gone(key, number, error, time::now());
            }
        }
        self.ended(key);
    }

    fn time_passed(&mut self) {
        let now = time::now();
        while let Some((at, key)) = self.kills.first().copied()
            && at <= now
        {
            self.kills.pop_first();
            if let Some(child) = self.children.get(&key) {
                child.pull(Halt::Kill);
            }
        }
        self.policy.handle_timeout(now);
    }

    pub(super) fn unkill(&mut self, key: Key) {
        let kill_at = self.children.get_mut(&key).and_then(|child| child.kill_at.take());
        if let Some(kill_at) = kill_at {
            self.kills.remove(&(kill_at, key));
        }
    }
}
