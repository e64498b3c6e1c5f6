//! Which nodes are asked, and what becomes of answers of which some are failures.
//!
//! Invariant: what could be had is printed, and the exit code says that something could not.

use std::collections::BTreeMap;
use std::future::Future;

use futures_util::future::join_all;
use skyhold::{CallError, ManageError, ManagerHandle, Node, NodeId, Selection};

use crate::args::Where;
use crate::failure::Failure;

/// What each node answered.
pub(super) type Answers<T> = Vec<(NodeId, Result<T, Failure>)>;

/// The manager of a node that is connected: whichever comes first.
pub(super) async fn any_manager(node: &Node) -> Result<ManagerHandle, Failure> {
    for peer in node.peers() {
        if let Ok(manager) = ManagerHandle::on(node, peer.as_str()).await {
            return Ok(manager);
        }
    }
    Err(Failure::Unreached("the connection to the cluster was lost".to_owned()))
}

/// The nodes that are meant, to be steered together.
pub(super) fn selection(node: &Node, place: &Where) -> Result<Selection, Failure> {
    let all = node.cluster().select();
    let selection = match named(place)? {
        Some(on) => all.on(on),
        None => all,
    };
    Ok(place.label.iter().fold(selection, |selection, (key, value)| selection.with(key, value)))
}

/// The names of the nodes that are meant.
pub(super) async fn nodes(node: &Node, place: &Where) -> Result<Vec<NodeId>, Failure> {
    if let Some(on) = named(place)? {
        return Ok(vec![on]);
    }
    if place.label.is_empty() {
        let members = any_manager(node).await?.members().await?;
        return Ok(members.members.into_iter().map(|member| member.node).collect());
    }
    let nodes: Vec<_> = selection(node, place)?.nodes().await.into_keys().collect();
    if nodes.is_empty() {
        return Err(nobody(place));
    }
    Ok(nodes)
}

/// The node that is meant alone, if one is.
fn named(place: &Where) -> Result<Option<NodeId>, Failure> {
    let on = place.on.as_ref().map(NodeId::new).transpose();
    on.map_err(|error| Failure::Usage(error.to_string()))
}

/// No node has the labels.
fn nobody(place: &Where) -> Failure {
    let labels: Vec<_> = place.label.iter().map(|(key, value)| format!("{key}={value}")).collect();
    Failure::failed(format!("no node has the label {}", labels.join(" and ")))
}

/// What the nodes that are meant have answered.
pub(super) fn answered<T>(
    place: &Where,
    answers: BTreeMap<NodeId, Result<T, ManageError>>,
) -> Result<Answers<T>, Failure> {
    if answers.is_empty() && !place.label.is_empty() {
        return Err(nobody(place));
    }
    Ok(answers.into_iter().map(|(node, answer)| (node, answer.map_err(Failure::from))).collect())
}

/// Asks the manager of each node that is meant, all at once.
pub(super) async fn ask<T, F, A>(node: &Node, place: &Where, ask: F) -> Result<Answers<T>, Failure>
where
    F: Fn(ManagerHandle) -> A,
    A: Future<Output = Result<T, Failure>>,
{
    let ask = &ask;
    let answers = nodes(node, place).await?.into_iter().map(|name| async move {
        let answer = match ManagerHandle::on(node, name.as_str()).await {
            Ok(manager) => ask(manager).await,
            Err(error) => Err(error.into()),
        };
        (name, answer)
    });
    Ok(join_all(answers).await)
}

/// The answers, and what went wrong with the others.
pub(super) fn split<T>(answers: Answers<T>) -> (Vec<(NodeId, T)>, Result<(), Failure>) {
    let mut good = Vec::new();
    let mut failure = Ok(());
    for (node, answer) in answers {
        match answer {
            Ok(answer) => good.push((node, answer)),
            Err(error) if failure.is_ok() => failure = Err(about(&node, error)),
            Err(_) => {}
        }
    }
    (good, failure)
}

/// A failure, with the node that it is about.
pub(super) fn about(node: &NodeId, failure: Failure) -> Failure {
    match failure {
        Failure::Failed(text) => Failure::Failed(format!("{node}: {text}")),
        Failure::Unreached(text) => Failure::Unreached(format!("{node}: {text}")),
        other => other,
    }
}

/// What a manager did, or why it did not.
pub(super) fn done<T>(answer: Result<Result<T, ManageError>, CallError>) -> Result<T, Failure> {
    Ok(answer??)
}
