//! `skyhold/config`: what nodes ask each other about the central configuration. It has a number on every node, as the manager has.
//!
//! Invariant: the holder answers what is for holders, every node says whether it can use a value, and nobody answers for another one.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

use futures_util::stream;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::id::{Address, Incarnation, InstanceId, NodeId};
use crate::node::node::Inner;
use crate::node::travel;
use crate::service::context::Context;
use crate::service::deliver;
use crate::service::handle::ServiceHandle as _;
use crate::service::host::Host;
use crate::service::instance;
use crate::service::streaming::Streaming;
use crate::time;

use super::ask;
use super::error::CentralError;
use super::holder::Holder;
use super::known::Known;
use super::place::{Central, Kept};
use super::space::{Author, SettingVersion, Version, Write};

/// The instance's number on every node: one that counting does not reach.
pub(crate) const CONFIG: InstanceId = InstanceId(1 << 62);

/// What a follower is told, in this order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Step {
    /// Forget everything: what follows is all there is.
    Whole,
    /// A key has another value.
    Set(SettingVersion),
    /// A key has none.
    Gone(String),
    /// That was all of this version.
    Done(Version),
}

/// The node's part in the central configuration, for other nodes.
#[derive(Debug)]
pub(crate) struct Configuration(());

#[skyhold_macros::service(crate = crate, name = "skyhold/config")]
#[expect(
    clippy::unused_self,
    clippy::needless_pass_by_value,
    reason = "messages have a receiver and own their arguments"
)]
impl Configuration {
    /// Whether all who watch the key here can use the value, which `place` is about to keep. Without a value the key is to be deleted.
    pub fn judge(
        &self,
        context: &Context,
        key: String,
        text: Option<String>,
        place: String,
    ) -> Result<(), CentralError> {
        let central = central(context);
        let there = central.place();
        if !matches!(central.kept, Kept::Nowhere) && there != place {
            let node = central.host.node.clone();
            return Err(CentralError::Disagreement { node, here: place, there });
        }
        text.map_or(Ok(()), |text| central.judge(&key, &text))
    }

    /// Writes for another node, if this one is the holder.
    pub async fn write(&self, context: &Context, write: Write) -> Result<Version, CentralError> {
        let (central, by) = (central(context), context.caller().clone());
        let holder = Arc::clone(as_holder(&central)?);
        let node = context.node();
        ask::write_here(node.inner(), &holder, write, Author { by, at: time::unix_millis() }).await
    }

    /// The versions of a key, the newest first, if this is the holder.
    pub async fn history(&self, context: &Context, key: String) -> Result<Vec<SettingVersion>, CentralError> {
        let central = central(context);
        ask::history_here(&central, as_holder(&central)?, key).await
    }

    /// Everything, and then each change of it, for a node that knows the configuration as it was at that version; if this is the holder.
    pub async fn follow(&self, context: &Context, known: Version) -> Result<Streaming<Step>, CentralError> {
        let central = central(context);
        let holder = Arc::clone(as_holder(&central)?);
        // It may be writing its file.
        drop(tokio::task::spawn_blocking(move || holder.remember(known)).await);
        Ok(Streaming::new(steps(central.known.subscribe())))
    }

    /// Something in etcd has changed.
    pub fn look(&self, context: &Context) {
        if let Kept::InEtcd(etcd) = &central(context).kept {
            etcd.look();
        }
    }
}

fn central(context: &Context) -> Arc<Central> {
    Arc::clone(&context.node().inner().central)
}

fn as_holder(central: &Central) -> Result<&Arc<Holder>, CentralError> {
    match &central.kept {
        Kept::Here(holder) => Ok(holder),
        Kept::Nowhere | Kept::By(_) | Kept::InEtcd(_) => {
            Err(CentralError::NotHolder { node: central.host.node.clone(), kept: central.place() })
        }
    }
}

/// The way from nothing to what is known, and to each that comes after it.
fn steps(mut known: watch::Receiver<Arc<Known>>) -> impl futures_util::Stream<Item = Step> + Send {
    known.mark_changed();
    let begin = (known, Arc::new(Known::default()), VecDeque::from([Next::Step(Step::Whole)]));
    stream::unfold(begin, |(mut known, mut told, mut queue)| async move {
        loop {
            match queue.pop_front() {
                Some(Next::Set(setting)) => {
                    return Some((Step::Set(SettingVersion::clone(&setting)), (known, told, queue)));
                }
                Some(Next::Step(step)) => return Some((step, (known, told, queue))),
                None => {}
            }
            known.changed().await.ok()?;
            let now = known.borrow_and_update().clone();
            queue = between(&told, &now);
            told = now;
        }
    })
}

/// A step whose value is shared until it is its turn.
enum Next {
    Set(Arc<SettingVersion>),
    Step(Step),
}

fn between(before: &Known, after: &Known) -> VecDeque<Next> {
    let is_new = |setting: &&Arc<SettingVersion>| {
        before.settings.get(&setting.key).is_none_or(|old| !Arc::ptr_eq(old, setting))
    };
    let set = after.settings.values().filter(is_new).map(|setting| Next::Set(Arc::clone(setting)));
    let gone = before.settings.keys().filter(|key| !after.settings.contains_key(*key));
    let gone = gone.map(|key| Next::Step(Step::Gone(key.clone())));
    set.chain(gone).chain([Next::Step(Step::Done(after.version))]).collect()
}

/// The configuration of that node, in that life.
pub(super) fn on(inner: &Inner, node: NodeId, incarnation: Incarnation) -> ConfigurationHandle {
    let address = Address { node, incarnation, instance: CONFIG };
    ConfigurationHandle::from_inner(travel::lead_to(inner, address, None, None))
}

/// Makes the instance of a node, unless it is there or the node goes.
pub(crate) fn ensure(host: &Arc<Host>) {
    let Some(inner) = Inner::of(host) else { return };
    // Under the lock: of two that ask at one moment one makes it.
    let _making = inner.managing.lock().unwrap_or_else(PoisonError::into_inner);
    if host.resident(CONFIG).is_none() && !host.is_shutting_down() {
        instance::start_own(host, CONFIG, Configuration(()), deliver::reachable);
    }
}
