//! The calls that a node makes: so many a second, whatever becomes of them, each with a number of its own and a deadline. What each came to
//! is written down when it ends.
//!
//! Never makes a call again: a number is used once.

use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use skyhold::{Lookup, Node};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::Fallible;
use crate::clock;
use crate::node::{Handle, SERVICE};
use crate::records::{CallRecord, Kind, Records, Target, number};
use crate::words::{Calls, Mix, NODES, name};

/// The deadline of the calls that measure how much the nodes can do.
const CALIBRATION: Duration = Duration::from_secs(5);

/// The most calls of a node that are open at a time. Above it none is made.
const OPEN: u32 = 20_000;

/// How often calls are made.
const TICK: Duration = Duration::from_millis(5);

/// How long after the deadlines a call that has not ended is said to be open.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who makes the calls of a node.
pub(crate) struct Caller {
    node: Node,
    handles: Option<Arc<Handles>>,
    pad: Pad,
}

/// The handles through which is called. They are got once in the life of a node.
struct Handles {
    routed: Handle,
    each: Vec<Handle>,
}

/// What numbers the calls, counts those that are open, and writes down those that have ended.
#[derive(Clone)]
struct Pad {
    place: (usize, u64),
    sequence: Arc<AtomicU64>,
    open: Arc<Semaphore>,
    calls: Arc<Records>,
}

/// Calls that are being made.
pub(crate) struct Load {
    end: Arc<AtomicBool>,
    task: JoinHandle<()>,
    deadline: Duration,
    open: Arc<Semaphore>,
}

impl Caller {
    pub(crate) fn new(node: usize, life: u64, runs: Node, calls: Arc<Records>) -> Self {
        let open = Arc::new(Semaphore::new(OPEN as usize));
        let pad = Pad { place: (node, life), sequence: Arc::default(), open, calls };
        Self { node: runs, handles: None, pad }
    }

    async fn handles(&mut self) -> Fallible<Arc<Handles>> {
        if let Some(handles) = &self.handles {
            return Ok(Arc::clone(handles));
        }
        let routed = Handle::lookup(&self.node, SERVICE).await?;
        let mut each = Vec::new();
        for node in 0..NODES {
            each.push(Handle::lookup_on(&self.node, &name(node), SERVICE).await?);
        }
        Ok(Arc::clone(self.handles.insert(Arc::new(Handles { routed, each }))))
    }

    /// Calls without a pause, and gives how many calls were answered.
    pub(crate) async fn calibrate(&mut self, callers: usize, time: Duration) -> Fallible<u64> {
        let handles = self.handles().await?;
        let end = Instant::now() + time;
        let callers: Vec<_> = (0..callers)
            .map(|_| {
                let (handles, pad) = (Arc::clone(&handles), self.pad.clone());
                tokio::spawn(async move {
                    let mut answered = 0;
                    while Instant::now() < end {
                        answered += u64::from(pad.call(&handles.routed, None, CALIBRATION).await == Kind::OK);
                    }
                    answered
                })
            })
            .collect();
        let mut answered = 0;
        for caller in callers {
            answered += caller.await?;
        }
        Ok(answered)
    }

    /// Begins to call.
    pub(crate) async fn begin(&mut self, calls: Calls) -> Fallible<Load> {
        let handles = self.handles().await?;
        let end = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(call_often(handles, self.pad.clone(), calls, Arc::clone(&end)));
        Ok(Load { end, task, deadline: calls.deadline, open: Arc::clone(&self.pad.open) })
    }
}

impl Load {
    /// Makes no more calls, waits until all have ended, and gives how many have not.
    pub(crate) async fn end(self) -> u64 {
        self.end.store(true, Ordering::SeqCst);
        let all = async {
            drop(self.task.await);
            drop(self.open.acquire_many(OPEN).await);
        };
        match tokio::time::timeout(self.deadline + PATIENCE, all).await {
            Ok(()) => 0,
            Err(_) => u64::from(OPEN) - self.open.available_permits() as u64,
        }
    }
}

impl Pad {
    /// Makes one call and writes down what it came to.
    async fn call(&self, handle: &Handle, target: Target, deadline: Duration) -> Kind {
        let number = number(self.place.0, self.place.1, self.sequence.fetch_add(1, Ordering::Relaxed));
        let (began, instant) = (clock::now(), Instant::now());
        let result = handle.mark(number).timeout(deadline).into_future().await;
        let (took, kind) = (instant.elapsed(), Kind::of(&result));
        let may_have_run = result.as_ref().is_err_and(skyhold::CallError::may_have_run);
        self.calls.add(&CallRecord { number, began, took, deadline, target, kind, may_have_run }.write());
        kind
    }
}

async fn call_often(handles: Arc<Handles>, pad: Pad, calls: Calls, end: Arc<AtomicBool>) {
    let mut ticks = tokio::time::interval(TICK);
    // A process that stood still does not catch up.
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut before, mut owed, mut turn) = (Instant::now(), 0.0, 0_usize);
    while !end.load(Ordering::SeqCst) {
        ticks.tick().await;
        let now = Instant::now();
        owed += (now - before).min(10 * TICK).as_secs_f64() * f64::from(calls.per_second);
        before = now;
        while owed >= 1.0 {
            owed -= 1.0;
            turn += 1;
            // Every second call goes to one node, to each in its turn.
            let target =
                (calls.mix == Mix::RoutedAndEach && turn.is_multiple_of(2)).then_some(turn / 2 % NODES);
            let Ok(open) = Arc::clone(&pad.open).try_acquire_owned() else { continue };
            let (handles, pad) = (Arc::clone(&handles), pad.clone());
            tokio::spawn(async move {
                let handle = target.map_or(&handles.routed, |node| &handles.each[node]);
                pad.call(handle, target, calls.deadline).await;
                drop(open);
            });
        }
    }
}
