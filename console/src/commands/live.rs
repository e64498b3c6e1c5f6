//! What happens, as it happens: events and traces. Each line is one thing that happened, with `--json` one object.

use futures_util::stream::SelectAll;
use futures_util::{Stream, StreamExt as _};
use serde::Serialize;
use skyhold::{CallError, EventReport, HandlerEnd, Node, NodeId, TraceEvent, TraceItem};

use super::places::{about, ask};
use crate::args::Where;
use crate::failure::Failure;
use crate::output::{Output, short};

/// The events of nodes.
pub(super) async fn watch(node: &Node, place: &Where, output: &Output) -> Result<(), Failure> {
    let streams = ask(node, place, |manager| async move { Ok(manager.events().await?) }).await?;
    follow(streams, output, |node, report| match report {
        EventReport::Happened { at, event, .. } => format!("{} {node} {event:?}", clock(*at)),
        EventReport::Missed { events } => format!("{node} {events} events were missed"),
        _ => format!("{node} {report:?}"),
    })
    .await
}

/// The messages of a service.
pub(super) async fn trace(node: &Node, place: &Where, service: &str, output: &Output) -> Result<(), Failure> {
    let mut answers =
        ask(node, place, |manager| async move { Ok(manager.trace(service.to_owned()).await??) }).await?;
    // Nodes that do not have the service have nothing to show.
    if answers.iter().any(|(_, answer)| answer.is_ok()) {
        answers.retain(|(_, answer)| !matches!(answer, Err(Failure::Unreached(_))));
    }
    follow(answers, output, |_, item| line(item)).await
}

fn line(item: &TraceItem) -> String {
    let TraceItem { instance, turn, method, event, .. } = item;
    match event {
        TraceEvent::Begun { arguments, caller, handler, .. } => {
            let from = handler.clone().unwrap_or_else(|| caller.to_string());
            let arguments = arguments.as_deref().unwrap_or("..");
            format!("{instance} {turn:>6} > {method} {arguments}  from {from}")
        }
        TraceEvent::Ended { took, how, reply, .. } => {
            let took = took.map(|took| format!(" after {}", short(took))).unwrap_or_default();
            let how = match how {
                HandlerEnd::Failed => "failed",
                HandlerEnd::Panicked => "panicked",
                _ => "ended",
            };
            let reply = reply.as_ref().map(|reply| format!(": {reply}")).unwrap_or_default();
            format!("{instance} {turn:>6} < {method} {how}{took}{reply}")
        }
        TraceEvent::Missed { items } => format!("{items} items were missed"),
        _ => format!("{instance} {turn:>6}   {event:?}"),
    }
}

/// Prints what comes of any of them, until all have ended.
async fn follow<T, S>(
    streams: Vec<(NodeId, Result<S, Failure>)>,
    output: &Output,
    people: impl Fn(&NodeId, &T) -> String,
) -> Result<(), Failure>
where
    T: Serialize,
    S: Stream<Item = Result<T, CallError>> + Send + Unpin,
{
    let mut all = SelectAll::new();
    for (node, stream) in streams {
        let stream = stream.map_err(|failure| about(&node, failure))?;
        all.push(stream.map(move |item| (node.clone(), item)).boxed());
    }
    while let Some((node, item)) = all.next().await {
        match item {
            Ok(item) => {
                output.answer(&item, |item| people(&node, item).replace(char::is_control, " ") + "\n")?;
            }
            // The others go on.
            Err(error) if !all.is_empty() => output.raw_error(&format!("{node}: {error}"))?,
            Err(error) => return Err(about(&node, error.into())),
        }
    }
    Ok(())
}

/// The time of day, in UTC.
fn clock(millis: u64) -> String {
    let seconds = millis / 1000 % 86_400;
    format!("{:02}:{:02}:{:02}.{:03}", seconds / 3600, seconds / 60 % 60, seconds % 60, millis % 1000)
}
