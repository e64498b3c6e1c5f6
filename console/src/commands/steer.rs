//! What changes something.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use serde::Serialize;
use skyhold::{InstanceId, ManageError, Node, NodeId, Pace, Reload, Selection};

use super::places::{Answers, answered, ask, done, selection, split};
use crate::args::Where;
use crate::failure::Failure;
use crate::output::Output;

/// How long a service may take to be drained or restarted: the nodes have limits of their own.
const LONG: Duration = Duration::from_secs(600);

/// What is to be started.
pub(super) struct Start {
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) instances: usize,
    pub(super) settings: String,
}

/// Starts a service.
pub(super) async fn start(node: &Node, place: &Where, start: Start, output: &Output) -> Result<(), Failure> {
    let Start { kind, name, instances, settings } = start;
    let answers = patiently(node, place)?.start(&kind, &name, instances, &settings).await;
    let (answers, outcome) = split(answered(place, answers)?);
    say(output, &answers, |()| format!("{name} runs"))?;
    outcome
}

/// Stops a service.
pub(super) async fn stop(node: &Node, place: &Where, service: &str, output: &Output) -> Result<(), Failure> {
    let answers = patiently(node, place)?.stop(service).await;
    there(service, "stopped", answered(place, answers)?, output)
}

/// Drains a service.
pub(super) async fn drain(node: &Node, place: &Where, service: &str, output: &Output) -> Result<(), Failure> {
    let answers = patiently(node, place)?.drain(service).await;
    there(service, "drained", answered(place, answers)?, output)
}

/// Restarts a service, or one instance.
pub(super) async fn restart(
    node: &Node,
    place: &Where,
    service: &str,
    at_once: bool,
    output: &Output,
) -> Result<(), Failure> {
    if let Some((on, number)) = service.rsplit_once('#')
        && let Ok(number) = number.parse()
    {
        let place = Where { on: Some(on.to_owned()), ..Where::default() };
        let answers = ask(node, &place, |manager| async move {
            done(manager.restart_instance(InstanceId(number)).timeout(LONG).await)
        });
        return there(service, "restarted", answers.await?, output);
    }
    let pace = if at_once { Pace::AtOnce } else { Pace::Rolling };
    let answers = patiently(node, place)?.restart(service, pace).await;
    there(service, "restarted", answered(place, answers)?, output)
}

/// Has so many instances.
pub(super) async fn scale(
    node: &Node,
    place: &Where,
    service: &str,
    instances: usize,
    output: &Output,
) -> Result<(), Failure> {
    let answers = patiently(node, place)?.scale(service, instances).await;
    there(service, &format!("has {instances} instances"), answered(place, answers)?, output)
}

/// Reads configuration files again.
pub(super) async fn reload(
    node: &Node,
    place: &Where,
    dry_run: bool,
    output: &Output,
) -> Result<(), Failure> {
    let answers = ask(node, place, |manager| async move {
        let answer = if dry_run { manager.plan().await? } else { manager.reload().timeout(LONG).await? };
        match answer {
            Ok(reload) => Ok(Some(reload)),
            // It has nothing to reload.
            Err(ManageError::NoFile(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    });
    let (answers, outcome) = split(answers.await?);
    output.answer(&answers, |answers| {
        let mut text = String::new();
        for (node, reload) in answers {
            match reload {
                None => text.push_str(&format!("{node}: was not started from a file\n")),
                Some(reload) => text.push_str(&changes(node, reload, dry_run)),
            }
        }
        text
    })?;
    outcome?;
    let reloads = answers.iter().filter_map(|(_, reload)| reload.as_ref());
    match reloads.map(|reload| reload.failed.len()).sum() {
        0 => Ok(()),
        count => Err(Failure::failed(format!("{count} services are not as their files say"))),
    }
}

fn changes(node: &NodeId, reload: &Reload, dry_run: bool) -> String {
    if reload.changes.is_empty() {
        return format!("{node}: nothing has changed, version {}\n", reload.version);
    }
    let would = if dry_run { "would be " } else { "" };
    let mut text = format!("{node}: {would}version {}\n", reload.version);
    for change in &reload.changes {
        text.push_str(&format!("  {change}\n"));
    }
    for failed in &reload.failed {
        text.push_str(&format!("  {} is not as the file says: {}\n", failed.service, failed.problem));
    }
    text
}

/// The nodes that are meant, which get the time that they need.
fn patiently(node: &Node, place: &Where) -> Result<Selection, Failure> {
    Ok(selection(node, place)?.timeout(LONG))
}

/// Says where there was such a service. That there is none anywhere is a failure.
fn there(service: &str, what: &str, answers: Answers<bool>, output: &Output) -> Result<(), Failure> {
    let (answers, outcome) = split(answers);
    let (there, asked): (Vec<_>, usize) = {
        let asked = answers.len();
        (answers.into_iter().filter(|(_, is_there)| *is_there).collect(), asked)
    };
    say(output, &there, |_| format!("{service} {what}"))?;
    outcome?;
    if there.is_empty() {
        let nodes = if asked == 1 { "the node".to_owned() } else { format!("any of {asked} nodes") };
        return Err(Failure::failed(format!("there is no {service:?} on {nodes}")));
    }
    Ok(())
}

fn say<T: Serialize, D: Display>(
    output: &Output,
    answers: &[(NodeId, T)],
    what: impl Fn(&T) -> D,
) -> Result<(), Failure> {
    let by_node: BTreeMap<_, _> = answers.iter().map(|(node, answer)| (node, answer)).collect();
    output.answer(&by_node, |by_node| {
        by_node.iter().map(|(node, answer)| format!("{node}: {}\n", what(answer))).collect()
    })
}
