//! How a supervisor is told to end, and what it is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use futures_util::future::BoxFuture;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::error::StartError;
use crate::id::InstanceId;
use crate::service::supervisor::child::{Halt, Lever, Spec};
use crate::supervision::{ChildInfo, Strategy};

/// How many commands may wait for a supervisor.
const COMMANDS: usize = 64;

/// A supervisor, as everybody else sees it.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) name: Arc<str>,
    pub(crate) strategy: Strategy,
    /// The hardest word so far: 0 for none, else the halt and one.
    halt: AtomicU8,
    halted: Notify,
    commands: mpsc::Sender<Command>,
    gone: CancellationToken,
}

/// What a supervisor is asked.
pub(crate) enum Command {
    /// Supervise more children, all or none.
    Add(Addition),
    /// End all children of a name for good. Answered when they are gone.
    End(Arc<str>, Halt, Answer),
    /// End an instance's life and begin another. Answered when that is up.
    Restart(InstanceId, Answer),
    /// Have so many children of a name. Answered when those that are to come are up, or those that are to go are gone.
    Scale(Scale),
    /// Tell how the children fare, and those of them that are supervisors themselves.
    Children(oneshot::Sender<Vec<(ChildInfo, Option<Arc<Control>>)>>),
}

/// Where the answer to a command is heard.
pub(crate) type Answer = oneshot::Sender<Result<(), StartError>>;

/// How many children of a name there are to be.
pub(crate) struct Scale {
    pub(crate) name: Arc<str>,
    pub(crate) instances: usize,
    /// Makes one more; `None` if the name is about to go.
    pub(crate) make: Arc<dyn Fn() -> Option<Spec> + Send + Sync>,
    pub(crate) reply: Answer,
    /// As of an [`Addition`].
    pub(crate) stay: oneshot::Receiver<()>,
}

/// Children that a running supervisor is to start.
pub(crate) struct Addition {
    pub(crate) specs: Vec<Spec>,
    /// Told when all are up, or when one did not come up and the others are gone again.
    pub(crate) reply: Answer,
    /// Hears whether they stay. Who drops its end before the reply, or instead of taking it, ends them.
    pub(crate) stay: oneshot::Receiver<()>,
}

impl Control {
    pub(crate) fn new(name: Arc<str>, strategy: Strategy) -> (Arc<Self>, mpsc::Receiver<Command>) {
        let (commands, hears) = mpsc::channel(COMMANDS);
        let (halt, halted, gone) = (AtomicU8::new(0), Notify::new(), CancellationToken::new());
        (Arc::new(Self { name, strategy, halt, halted, commands, gone }), hears)
    }

    /// Asks something. Cancel safe: what was not asked yet is not.
    pub(crate) async fn ask(&self, command: Command) {
        drop(self.commands.send(command).await); // a supervisor that is gone drops the ear, which is heard
    }

    /// The word to end that was given, if any.
    pub(crate) fn halt(&self) -> Option<Halt> {
        match self.halt.load(Ordering::Acquire) {
            0 => None,
            1 => Some(Halt::Rest),
            2 => Some(Halt::Drain),
            3 => Some(Halt::Stop),
            _ => Some(Halt::Kill),
        }
    }

    /// Ends when a word to end is given that is harder than `known`. Cancel safe.
    pub(crate) async fn halted(&self, known: Option<Halt>) -> Halt {
        loop {
            let notified = self.halted.notified();
            match self.halt() {
                Some(halt) if Some(halt) > known => return halt,
                _ => notified.await,
            }
        }
    }

    pub(crate) fn mark_gone(&self) {
        self.gone.cancel();
    }

    /// Ends when the supervisor and all its children are gone. Cancel safe.
    pub(crate) async fn ended(&self) {
        self.gone.cancelled().await;
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.gone.is_cancelled()
    }
}

impl Lever for Control {
    fn renew(&self) {
        // Another word is for good, and stays.
        let _ = self.halt.compare_exchange(Halt::Rest as u8 + 1, 0, Ordering::AcqRel, Ordering::Acquire);
    }

    fn pull(&self, halt: Halt) {
        self.halt.fetch_max(halt as u8 + 1, Ordering::AcqRel);
        self.halted.notify_one();
    }

    fn gone(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.ended())
    }

    fn instance(&self) -> Option<InstanceId> {
        None
    }

    fn control(self: Arc<Self>) -> Option<Arc<Control>> {
        Some(self)
    }
}
