//! How a supervisor is told to end, and what it is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use futures_util::future::BoxFuture;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::error::StartError;
use crate::id::InstanceId;
use crate::service::supervisor::child::{Halt, Lever, Spec};
use crate::supervision::ChildInfo;

/// How many commands may wait for a supervisor.
const COMMANDS: usize = 64;

/// A supervisor, as everybody else sees it.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) name: Arc<str>,
    /// The hardest word so far: 0 for none, else the halt and one.
    halt: AtomicU8,
    halted: Notify,
    commands: mpsc::Sender<Command>,
    gone: CancellationToken,
}

/// What a supervisor is asked.
pub(crate) enum Command {
    /// Supervise one more child. Answered when it is up.
    Add(Spec, oneshot::Sender<Result<(), StartError>>),
    /// End children for good. Answered when they are gone.
    End(Which, Halt, oneshot::Sender<()>),
    /// Tell how the children fare.
    Children(oneshot::Sender<Vec<ChildInfo>>),
}

/// Which of the children.
#[derive(Clone, Debug)]
pub(crate) enum Which {
    /// All of a name.
    Named(Arc<str>),
    /// One instance.
    Instance(InstanceId),
}

impl Control {
    pub(crate) fn new(name: Arc<str>) -> (Arc<Self>, mpsc::Receiver<Command>) {
        let (commands, hears) = mpsc::channel(COMMANDS);
        let (halt, halted, gone) = (AtomicU8::new(0), Notify::new(), CancellationToken::new());
        (Arc::new(Self { name, halt, halted, commands, gone }), hears)
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

    /// Another life begins: a word that ended the life before is forgotten, unless it was for good.
    pub(crate) fn begin_life(&self) {
        for halt in [Halt::Rest, Halt::Kill] {
            // Another word is left as it is.
            let _ = self.halt.compare_exchange(halt as u8 + 1, 0, Ordering::AcqRel, Ordering::Acquire);
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
}
