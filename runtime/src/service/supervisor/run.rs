//! The task of a supervisor: it hears how its children fare, asks the policy, and does what it says.
//!
//! Invariant: it waits for its children, for the clock, for words from above, and for the directory when a name comes or
//! goes. A child never waits for it.

use std::any::Any;
use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, oneshot};

use crate::error::StartError;
use crate::event::{Event, StopReason};
use crate::policy::restart::{Action, Ended as How, Key, Supervision};
use crate::service::host::Host;
use crate::service::life::{Ended, NextLife};
use crate::service::supervisor::child::{Child, Halt, Spec, State};
use crate::service::supervisor::control::{Command, Control, Which};
use crate::supervision::{ChildInfo, ChildState, Intensity, Strategy};
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
    let (control, commands) = Control::new(plan.name);
    let mut supervisor = Supervisor {
        host: Arc::clone(host),
        control: Arc::clone(&control),
        policy: Supervision::new(plan.strategy, plan.intensity, random::seeded(host.next_seed())),
        ends_when_empty: plan.ends_when_empty,
        children: HashMap::new(),
        ears: FuturesUnordered::new(),
        kills: BTreeSet::new(),
        ending: Vec::new(),
        last_failure: String::new(),
        _gone: Gone(Arc::clone(&control)),
    };
    for spec in plan.children {
        supervisor.add(spec);
    }
    host.tasks.spawn(supervisor.run(commands, first, host.owner()));
    control
}

struct Supervisor {
    host: Arc<Host>,
    control: Arc<Control>,
    policy: Supervision,
    ends_when_empty: bool,
    children: HashMap<Key, Child>,
    ears: FuturesUnordered<Ear>,
    /// When children that were told to end are cut off.
    kills: BTreeSet<(Instant, Key)>,
    /// Children that end for good, and who waits for it.
    ending: Vec<Ending>,
    /// Why the last child that failed did.
    last_failure: String,
    /// Dropped last.
    _gone: Gone,
}

/// Somebody who waits until some children are gone.
struct Ending {
    left: BTreeSet<Key>,
    /// Dropped when they are.
    _done: oneshot::Sender<()>,
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
    Child(Key, Heard),
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
            self.control.begin_life();
            let Over(reason) = self.live(&mut commands, started).await;
            if self.is_final() {
                break;
            }
            let (sender, hears) = oneshot::channel();
            if ended.send(Ended { reason, next: sender }).is_err() {
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
                News::Child(key, heard) => self.heard(key, heard).await,
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
            Some((key, heard)) = self.ears.next() => News::Child(key, heard),
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
                    let error = error.unwrap_or_else(|| StartError::NodeStopped(self.host.node.clone()));
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

    fn add(&mut self, spec: Spec) -> Key {
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
        self.ears.push(Ear { key, state: Listening::Started(life.started, Some(life.ended)) });
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
            if let Some(added) = child.added.take() {
                let error = child.error.take();
                let error = error.unwrap_or_else(|| StartError::NodeStopped(self.host.node.clone()));
                drop(added.send(Err(error))); // who added it may have gone
            }
            child.forget().await;
        }
        for ending in &mut self.ending {
            ending.left.remove(&key);
        }
        self.ending.retain(|ending| !ending.left.is_empty());
    }

    /// A child said something.
    async fn heard(&mut self, key: Key, heard: Heard) {
        let now = time::now();
        let Some(child) = self.children.get_mut(&key) else { return };
        match heard {
            Heard::Started(result, ended) => {
                self.ears.push(Ear { key, state: Listening::Ended(ended) });
                match result {
                    Ok(()) if child.state == State::Starting => self.is_up(key).await,
                    Ok(()) => {}
                    Err(error) => child.error = error,
                }
            }
            Heard::Ended(ended) => {
                self.unkill(key);
                self.has_ended(key, ended, now);
            }
        }
    }

    /// A life is up. A first one makes the child known.
    async fn is_up(&mut self, key: Key) {
        let Some(child) = self.children.get_mut(&key) else { return };
        child.state = State::Up;
        let instance = child.lever.as_ref().and_then(|lever| lever.instance());
        if child.restarts > 0 {
            self.host.publish(Event::Restarted {
                supervisor: self.control.name.to_string(),
                child: child.name.to_string(),
                instance,
            });
        } else if let (Some(registry), Some(instance)) = (child.registry.clone(), instance) {
            registry.up(instance).await;
        }
        if let Some(added) = self.children.get_mut(&key).and_then(|child| child.added.take()) {
            drop(added.send(Ok(()))); // who added it may have gone
        }
        self.policy.handle_started(key, time::now());
    }

    fn has_ended(&mut self, key: Key, ended: Option<Ended>, now: Instant) {
        let Some(child) = self.children.get_mut(&key) else { return };
        let was = child.state;
        let Some(Ended { reason, next }) = ended else {
            // It was stopped for good by somebody else, or cut off with its node.
            child.state = State::Gone;
            if was == State::Stopping {
                self.policy.handle_ended(key, How::Normal, now);
            }
            return self.policy.remove(key, now);
        };
        child.down(next);
        let how = if reason.is_failure() { How::Failed } else { How::Normal };
        if how == How::Failed {
            self.last_failure = format!("`{}` {reason}", child.name);
        }
        match was {
            State::Starting => self.policy.handle_start_failed(key, now),
            _ => self.policy.handle_ended(key, how, now),
        }
    }

    fn gave_up(&self, key: Key) -> StopReason {
        let child = self.children.get(&key).map(|child| child.name.to_string()).unwrap_or_default();
        let text = format!("too many restarts: {}", self.last_failure);
        self.host.publish(Event::GaveUp {
            supervisor: self.control.name.to_string(),
            child,
            reason: self.last_failure.clone(),
        });
        StopReason::Error(text)
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

    fn unkill(&mut self, key: Key) {
        let kill_at = self.children.get_mut(&key).and_then(|child| child.kill_at.take());
        if let Some(kill_at) = kill_at {
            self.kills.remove(&(kill_at, key));
        }
    }

    async fn command(&mut self, command: Command) {
        match command {
            Command::Add(spec, added) => {
                let key = self.add(spec);
                if let Some(child) = self.children.get_mut(&key) {
                    child.added = Some(added);
                }
            }
            Command::End(which, halt, done) => self.end(&which, halt, done).await,
            Command::Children(reply) => drop(reply.send(self.children())), // who asked may have gone
        }
    }

    /// Ends children for good.
    async fn end(&mut self, which: &Which, halt: Halt, done: oneshot::Sender<()>) {
        let mut left = BTreeSet::new();
        for (key, child) in &self.children {
            let instance = child.lever.as_ref().and_then(|lever| lever.instance());
            let is_meant = match which {
                Which::Named(name) => child.registry.is_some() && child.name == *name,
                Which::Instance(number) => instance == Some(*number),
            };
            if is_meant {
                left.insert(*key);
            }
        }
        let registry = left.first().and_then(|key| self.children.get(key)?.registry.clone());
        if let (Some(registry), Which::Named(_)) = (registry, which) {
            registry.withdraw(halt).await;
        }
        for key in left.iter().rev() {
            if let Some(child) = self.children.get_mut(key) {
                child.halt = Some(halt);
            }
            self.policy.remove(*key, time::now());
        }
        if !left.is_empty() {
            self.ending.push(Ending { left, _done: done });
        }
    }

    fn children(&self) -> Vec<ChildInfo> {
        let mut children: Vec<_> = self.children.iter().collect();
        children.sort_by_key(|(key, _)| **key);
        let info = |(_, child): (&Key, &Child)| ChildInfo {
            name: child.name.to_string(),
            instance: child.lever.as_ref().and_then(|lever| lever.instance()),
            state: match child.state {
                State::Down | State::Gone => ChildState::Down,
                State::Starting => ChildState::Starting,
                State::Up => ChildState::Up,
                State::Stopping => ChildState::Stopping,
            },
            restarts: child.restarts,
        };
        children.into_iter().map(info).collect()
    }
}

/// Listens to one life of one child.
struct Ear {
    key: Key,
    state: Listening,
}

enum Listening {
    Started(oneshot::Receiver<Result<(), StartError>>, Option<oneshot::Receiver<Ended>>),
    Ended(oneshot::Receiver<Ended>),
}

/// What was heard.
enum Heard {
    /// Whether the life is up (`Err(None)`: the child is gone), and where its end will be heard.
    Started(Result<(), Option<StartError>>, oneshot::Receiver<Ended>),
    /// The life is over; `None` if no other can follow.
    Ended(Option<Ended>),
}

impl Future for Ear {
    type Output = (Key, Heard);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let key = self.key;
        match &mut self.state {
            Listening::Started(started, ended) => Pin::new(started).poll(cx).map(|heard| {
                let result = heard.map_or(Err(None), |result| result.map_err(Some));
                // Polled to its end once: the receiver is still there.
                let ended = ended.take().unwrap_or_else(|| oneshot::channel().1);
                (key, Heard::Started(result, ended))
            }),
            Listening::Ended(ended) => Pin::new(ended).poll(cx).map(|heard| (key, Heard::Ended(heard.ok()))),
        }
    }
}
