//! What goes on, as it happens: a line of JSON for each item, and an empty one from time to time.
//!
//! Invariant: who reads slowly holds up nobody, and each stream ends with its reader and with the node.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream::{self, FuturesUnordered, StreamExt};
use hyper::StatusCode;
use hyper::header::CONTENT_TYPE;
use serde::Serialize;
use tokio::sync::mpsc;

use super::Desk;
use super::refusal::Refusal;
use crate::error::CallError;
use crate::id::NodeId;
use crate::node::admin::server::Patience;
use crate::node::manager::ManagerHandle;
use crate::node::node::Node;
use crate::service::streaming::Streaming;
use crate::time;

/// How many lines wait for a reader. More wait at their managers, which tell how many were missed.
const LINES: usize = 64;

/// How long nothing is said: so it is found out that a reader has gone.
const SILENCE: Duration = Duration::from_secs(15);

/// How long to wait for a node.
const FOUND_WITHIN: Duration = Duration::from_secs(3);

/// How long to wait before a member is asked again whose stream has ended.
const PAUSE: Duration = Duration::from_secs(1);

/// A line.
#[derive(Serialize)]
struct Line<'l, T> {
    node: &'l NodeId,
    item: &'l T,
}

/// What happens on one node.
pub(super) async fn events(
    State(desk): State<Desk>,
    Extension(patience): Extension<Patience>,
    Path(node): Path<String>,
) -> Result<Response, Refusal> {
    let (node, manager) = manager(&desk.node, &node).await?;
    let events = in_time(async { manager.events().await }).await?;
    one(&desk, &patience, node, events)
}

/// The messages of a service's instances on one node.
pub(super) async fn trace(
    State(desk): State<Desk>,
    Extension(patience): Extension<Patience>,
    Path((node, service)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let (node, manager) = manager(&desk.node, &node).await?;
    let items = in_time(async { manager.trace(service).await? }).await?;
    one(&desk, &patience, node, items)
}

/// What happens on all members that there are, and that come.
pub(super) async fn all_events(
    State(desk): State<Desk>,
    Extension(patience): Extension<Patience>,
) -> Result<Response, Refusal> {
    let (lines, response) = open(&desk, &patience)?;
    let node = Arc::clone(&desk.node);
    desk.node.inner().host.tasks.spawn(async move {
        tokio::select! {
            () = follow_all(&node, &lines) => {}
            () = lines.closed() => {}
        }
    });
    Ok(response)
}

/// A stream of one node's.
fn one<T: Serialize + Send + Sync + 'static>(
    desk: &Desk,
    patience: &Patience,
    node: NodeId,
    items: Streaming<T>,
) -> Result<Response, Refusal> {
    let (lines, response) = open(desk, patience)?;
    desk.node.inner().host.tasks.spawn(async move {
        tokio::select! {
            () = forward(&node, items, &lines) => {}
            () = lines.closed() => {}
        }
    });
    Ok(response)
}

/// Opens a stream, if there is a place for it.
fn open(desk: &Desk, patience: &Patience) -> Result<(mpsc::Sender<Bytes>, Response), Refusal> {
    let Ok(place) = Arc::clone(&desk.streams).try_acquire_owned() else {
        let problem = "there are as many streams as there may be";
        return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "Overloaded", problem));
    };
    patience.lift();
    let (lines, hears) = mpsc::channel(LINES);
    let body = stream::unfold((hears, place), |(mut hears, place)| async move {
        let line: Bytes = match time::timeout(SILENCE, hears.recv()).await {
            Some(line) => line?,
            None => Bytes::from_static(b"\n"),
        };
        Some((Ok::<_, Infallible>(line), (hears, place)))
    });
    let body = Body::from_stream(body);
    Ok((lines, ([(CONTENT_TYPE, "application/x-ndjson")], body).into_response()))
}

/// For ever, until dropped.
async fn follow_all(node: &Node, lines: &mpsc::Sender<Bytes>) {
    let mut members = node.cluster().watch();
    let mut followed = HashSet::new();
    let mut ends = FuturesUnordered::new();
    loop {
        tokio::select! {
            now = members.next() => {
                let Some(now) = now else { return };
                let new = now.members.into_iter().map(|member| member.node);
                ends.extend(new.filter(|new| followed.insert(new.clone())).map(|new| follow(node, new, lines)));
            }
            Some(gone) = ends.next() => {
                followed.remove(&gone);
            }
        }
    }
}

/// Tells what happens on a node as long as it is a member, through all its lives. Gives which node it was.
async fn follow(node: &Node, other: NodeId, lines: &mpsc::Sender<Bytes>) -> NodeId {
    while node.cluster().members().members.iter().any(|member| member.node == other) {
        if let Ok((_, manager)) = manager(node, other.as_str()).await
            && let Ok(events) = in_time(async { manager.events().await }).await
        {
            forward(&other, events, lines).await;
        }
        time::sleep(PAUSE).await;
    }
    other
}

/// Until the items end, or whoever reads has gone.
async fn forward<T: Serialize + Send + 'static>(
    node: &NodeId,
    mut items: Streaming<T>,
    lines: &mpsc::Sender<Bytes>,
) {
    while let Some(Ok(item)) = items.next().await {
        let Ok(mut line) = serde_json::to_vec(&Line { node, item: &item }) else { continue };
        line.push(b'\n');
        if lines.send(line.into()).await.is_err() {
            return;
        }
    }
}

/// The manager of a node.
async fn manager(node: &Node, other: &str) -> Result<(NodeId, ManagerHandle), Refusal> {
    let absent = |problem: String| Refusal::new(StatusCode::NOT_FOUND, "NoRoute", problem);
    let id = NodeId::new(other).map_err(|error| absent(error.to_string()))?;
    let manager = time::timeout(FOUND_WITHIN, ManagerHandle::on(node, other)).await;
    match manager {
        Some(Ok(manager)) => Ok((id, manager)),
        Some(Err(error)) => Err(absent(error.to_string())),
        None => Err(absent(format!("node {other:?} is not connected"))),
    }
}

async fn in_time<T>(asked: impl Future<Output = Result<T, CallError>>) -> Result<T, Refusal> {
    match time::timeout(FOUND_WITHIN, asked).await {
        Some(answer) => Ok(answer?),
        None => Err(Refusal::from(CallError::Timeout("the manager did not answer in time".into()))),
    }
}
