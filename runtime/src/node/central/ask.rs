//! Writing: all nodes are asked first, then it is kept, and then everybody hears of it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use crate::error::CallError;
use crate::id::NodeId;
use crate::node::node::Inner;
use crate::time;

use super::error::CentralError;
use super::holder::Holder;
use super::place::{Central, Kept};
use super::service::{self, ConfigurationHandle};
use super::space::{Author, SettingVersion, Version, Write};

/// How long a node may take to say whether it can use a value. One that says nothing is not waited for: it looks for itself when it
/// gets the value.
const JUDGED_WITHIN: Duration = Duration::from_secs(2);

/// How long whoever has written waits until this node knows of it.
const KNOWN_WITHIN: Duration = Duration::from_secs(2);

/// Writes, wherever it is kept, and waits for a moment until it is known here.
pub(super) async fn write(inner: &Arc<Inner>, write: Write) -> Result<Version, CentralError> {
    let central = &inner.central;
    central.check_running()?;
    write.check(&central.limits)?;
    let author = || Author { by: central.host.node.clone(), at: time::unix_millis() };
    let version = match &central.kept {
        Kept::Nowhere => return Err(central.unknown()),
        Kept::Here(holder) => return write_here(inner, holder, write, author()).await,
        Kept::By(holder) => {
            let key = write.key.clone();
            let answer = holder_of(inner, holder)?.write(write).await;
            answer.map_err(|error| unanswered(error, holder, Some(key)))??
        }
        Kept::InEtcd(etcd) => {
            judged(inner, &write).await?;
            let version = etcd.write(&write, &author(), &central.limits).await?;
            tell(inner);
            etcd.look();
            version
        }
    };
    let mut known = central.known.subscribe();
    // If it does not come the answer is the same, and a reader here is late.
    let _ = time::timeout(KNOWN_WITHIN, known.wait_for(|known| known.version >= version)).await;
    Ok(version)
}

/// Writes on the holder.
pub(super) async fn write_here(
    inner: &Arc<Inner>,
    holder: &Arc<Holder>,
    write: Write,
    author: Author,
) -> Result<Version, CentralError> {
    write.check(&inner.central.limits)?;
    judged(inner, &write).await?;
    let (central, holder) = (Arc::clone(&inner.central), Arc::clone(holder));
    let stopped = CentralError::NodeStopped(central.host.node.clone());
    let write = move || holder.write(&write, &author, &central.limits, &central.known);
    // It fails when the runtime ends.
    tokio::task::spawn_blocking(write).await.unwrap_or(Err(stopped))
}

/// The versions of a key, the newest first.
pub(super) async fn history(inner: &Arc<Inner>, key: String) -> Result<Vec<SettingVersion>, CentralError> {
    let central = &inner.central;
    central.check_running()?;
    match &central.kept {
        Kept::Nowhere => Err(central.unknown()),
        Kept::Here(holder) => history_here(central, holder, key).await,
        Kept::By(holder) => {
            let answer = holder_of(inner, holder)?.history(key).await;
            answer.map_err(|error| unanswered(error, holder, None))?
        }
        Kept::InEtcd(etcd) => etcd.history(&key).await,
    }
}

/// The versions of a key, on the holder.
pub(super) async fn history_here(
    central: &Central,
    holder: &Arc<Holder>,
    key: String,
) -> Result<Vec<SettingVersion>, CentralError> {
    let holder = Arc::clone(holder);
    let history = tokio::task::spawn_blocking(move || holder.history(&key)).await;
    history.map_err(|_| CentralError::NodeStopped(central.host.node.clone()))
}

/// Whether this node and all that are connected with it can use what is to be written.
async fn judged(inner: &Arc<Inner>, write: &Write) -> Result<(), CentralError> {
    let central = &inner.central;
    if let Some(text) = &write.value {
        central.judge(&write.key, text)?;
    }
    let place = central.place();
    let verdicts = join_all(inner.table.nodes().into_iter().map(|(node, incarnation)| {
        let handle = service::on(inner, node.clone(), incarnation);
        let call = handle.judge(write.key.clone(), write.value.clone(), place.clone()).timeout(JUDGED_WITHIN);
        async move { (node, call.await) }
    }));
    for (node, verdict) in verdicts.await {
        match verdict {
            Ok(verdict) => verdict?,
            Err(error) => {
                tracing::debug!(here = %central.host.node, %node, key = write.key, %error, "was not asked");
            }
        }
    }
    Ok(())
}

/// Tells all nodes that there is something new in etcd, so that they need not wait until they look.
fn tell(inner: &Arc<Inner>) {
    for (node, incarnation) in inner.table.nodes() {
        let call = service::on(inner, node, incarnation).look();
        drop(call.try_send()); // they look anyway
    }
}

fn holder_of(inner: &Inner, holder: &NodeId) -> Result<ConfigurationHandle, CentralError> {
    match inner.table.link(holder) {
        Some(link) => Ok(service::on(inner, holder.clone(), link.peer().incarnation)),
        None => Err(CentralError::HolderAway { holder: holder.clone() }),
    }
}

/// What it means that the holder has not answered a question, or a write to this key.
fn unanswered(error: CallError, holder: &NodeId, key: Option<String>) -> CentralError {
    match (error, key) {
        (CallError::Denied(detail), _) => CentralError::Denied(detail.to_string()),
        (error, Some(key)) if error.may_have_run() => {
            CentralError::Unconfirmed { key, problem: error.to_string() }
        }
        _ => CentralError::HolderAway { holder: holder.clone() },
    }
}

impl Central {
    fn check_running(&self) -> Result<(), CentralError> {
        if self.host.tasks.is_aborted() {
            return Err(CentralError::NodeStopped(self.host.node.clone()));
        }
        Ok(())
    }
}
