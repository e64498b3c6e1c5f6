//! What is there.

use std::time::Duration;

use skyhold::{ConnectionReport, Counters, InstanceReport, KnownService, Member, NodeReport, TreeReport};
use skyhold::{Node, NodeId};

use super::places::{any_manager, ask, split};
use crate::args::Where;
use crate::failure::Failure;
use crate::output::{Output, bytes, short};

/// The members of the cluster.
pub(super) async fn nodes(node: &Node, output: &Output) -> Result<(), Failure> {
    let members = any_manager(node).await?.members().await?;
    let everywhere = Where::default();
    let reports = ask(node, &everywhere, |manager| async move { Ok(manager.node().await?) }).await?;
    let (reports, outcome) = split(reports);
    let rows: Vec<(Member, Option<NodeReport>)> = members
        .members
        .into_iter()
        .map(|member| {
            let report = reports.iter().find(|(name, _)| *name == member.node);
            let report = report.map(|(_, report)| report.clone());
            (member, report)
        })
        .collect();
    output.answer(&rows, |rows| {
        let rows: Vec<_> = rows.iter().map(|(member, report)| node_row(member, report.as_ref())).collect();
        output.table(&["NODE", "STATE", "ADDRESS", "PEERS", "LABELS", "SERVICES"], &rows)
    })?;
    outcome
}

fn node_row(member: &Member, report: Option<&NodeReport>) -> Vec<String> {
    let state = match report {
        None => "no answer".to_owned(),
        Some(report) if report.is_shutting_down => "shutting down".to_owned(),
        Some(_) => format!("{:?}", member.state).to_lowercase(),
    };
    let address = member.address.map(|address| address.to_string()).unwrap_or_default();
    let (peers, labels, services) = report.map_or_else(Default::default, |report| {
        let labels: Vec<_> = report.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        (report.peers.len().to_string(), labels.join(" "), report.services.join(" "))
    });
    vec![member.node.to_string(), state, address, peers, labels, services]
}

/// The named services.
pub(super) async fn services(node: &Node, output: &Output) -> Result<(), Failure> {
    let services = any_manager(node).await?.services().await?;
    output.answer(&services, |services| {
        let rows: Vec<_> = services.iter().map(service_row).collect();
        output.table(&["SERVICE", "INTERFACE", "INSTANCES", "LOAD", "ON"], &rows)
    })
}

fn service_row(service: &KnownService) -> Vec<String> {
    let mut on: Vec<(NodeId, usize, bool)> = Vec::new();
    let load: u32 = service.instances.iter().map(|instance| instance.load).fold(0, u32::saturating_add);
    for instance in &service.instances {
        match on.iter_mut().find(|(node, ..)| *node == instance.address.node) {
            Some((_, count, _)) => *count += 1,
            None => on.push((instance.address.node.clone(), 1, instance.is_away)),
        }
    }
    let on = on.into_iter().map(|(node, count, is_away)| {
        let away = if is_away { " (away)" } else { "" };
        if count == 1 { format!("{node}{away}") } else { format!("{node}\u{d7}{count}{away}") }
    });
    let on: Vec<_> = on.collect();
    let unique = if service.is_unique { " (unique)" } else { "" };
    let name = format!("{}{unique}", service.name);
    vec![name, service.interface.clone(), service.instances.len().to_string(), load.to_string(), on.join(" ")]
}

/// The instances, whether or not they have a name.
pub(super) async fn instances(
    node: &Node,
    place: &Where,
    service: Option<String>,
    output: &Output,
) -> Result<(), Failure> {
    let answers = ask(node, place, |manager| async move { Ok(manager.instances().await?) }).await?;
    let (answers, outcome) = split(answers);
    let is_meant = |instance: &InstanceReport| service.as_ref().is_none_or(|name| *name == instance.service);
    let all: Vec<_> = answers.into_iter().flat_map(|(_, all)| all).filter(is_meant).collect();
    output.answer(&all, |all| {
        let rows: Vec<_> = all.iter().map(instance_row).collect();
        output.table(INSTANCE, &rows)
    })?;
    match (outcome, service) {
        (Ok(()), Some(service)) if all.is_empty() => {
            Err(Failure::failed(format!("there is no instance of {service:?}")))
        }
        (outcome, _) => outcome,
    }
}

/// The head of [`instance_row`].
pub(super) const INSTANCE: &[&str] =
    &["SERVICE", "INSTANCE", "WAITING", "SOJOURN", "RESTARTS", "CPU", "RUNNING", "WAITS FOR"];

/// An instance in a table.
pub(super) fn instance_row(instance: &InstanceReport) -> Vec<String> {
    vec![
        instance.service.clone(),
        instance.address.to_string(),
        format!("{}/{}", instance.waiting, instance.capacity),
        short(instance.sojourn),
        instance.restarts.to_string(),
        instance.figures.and_then(|figures| figures.cpu).map_or_else(|| "-".to_owned(), short),
        running(instance),
        waits(instance),
    ]
}

/// What runs, the oldest first.
fn running(instance: &InstanceReport) -> String {
    let shown = instance.handlers.iter().map(|handler| match handler.age {
        Some(age) => format!("{} {}", handler.method, short(age)),
        None => handler.method.clone(),
    });
    few(shown)
}

/// Whom it waits for, the longest wait first.
fn waits(instance: &InstanceReport) -> String {
    let shown = instance.waits.iter().map(|wait| {
        let at = wait.address.as_ref().map(ToString::to_string).or_else(|| wait.service.clone());
        let at = at.map(|at| format!(" at {at}")).unwrap_or_default();
        format!("{}{at} {}", wait.called, short(wait.age))
    });
    few(shown)
}

/// The first two of several, and how many more there are.
fn few(all: impl ExactSizeIterator<Item = String>) -> String {
    let more = all.len().saturating_sub(2);
    let mut shown: Vec<_> = all.take(2).collect();
    if more > 0 {
        shown.push(format!("+{more}"));
    }
    if shown.is_empty() { "-".to_owned() } else { shown.join(", ") }
}

/// The connections of nodes.
pub(super) async fn connections(node: &Node, place: &Where, output: &Output) -> Result<(), Failure> {
    let answers = ask(node, place, |manager| async move { Ok(manager.connections().await?) }).await?;
    let (answers, outcome) = split(answers);
    output.answer(&answers, |answers| {
        let rows: Vec<_> = answers
            .iter()
            .flat_map(|(node, all)| all.iter().map(move |connection| connection_row(node, connection)))
            .collect();
        let head = &[
            "NODE",
            "PEER",
            "AGE",
            "ROUND TRIP",
            "RECEIVED",
            "SENT",
            "QUEUED",
            "CALLS",
            "SERVED",
            "WAITING",
            "RECONNECTS",
        ];
        output.table(head, &rows)
    })?;
    outcome
}

fn connection_row(node: &NodeId, connection: &ConnectionReport) -> Vec<String> {
    let number = if connection.number == 0 { String::new() } else { format!("/{}", connection.number) };
    let queue = connection.queue;
    let queued = queue.control + queue.replies + queue.calls + queue.bulk;
    let waiting: usize = connection.waiting.iter().map(|(_, count)| count).sum();
    vec![
        node.to_string(),
        format!("{}{number}", connection.peer),
        short(connection.age),
        connection.round_trip.map_or_else(|| "no answer".to_owned(), short),
        bytes(connection.bytes_received),
        bytes(connection.bytes_sent),
        bytes(u64::try_from(queued).unwrap_or(u64::MAX)),
        connection.calls.to_string(),
        connection.served.to_string(),
        waiting.to_string(),
        connection.reconnects.to_string(),
    ]
}

/// What nodes have counted.
pub(super) async fn counters(node: &Node, place: &Where, output: &Output) -> Result<(), Failure> {
    let answers = ask(node, place, |manager| async move { Ok(manager.counters().await?) }).await?;
    let (answers, outcome) = split(answers);
    output.answer(&answers, |answers| {
        let rows: Vec<_> = answers.iter().map(|(node, counters)| counter_row(node, counters)).collect();
        let head = &[
            "NODE",
            "STARTED",
            "ENDED",
            "RESTARTS",
            "PANICS",
            "DEAD LETTERS",
            "EXPIRED",
            "SHED",
            "DISPLACED",
        ];
        output.table(head, &rows)
    })?;
    outcome
}

fn counter_row(node: &NodeId, counters: &Counters) -> Vec<String> {
    let numbers = [
        counters.instances_started,
        counters.instances_ended,
        counters.restarts,
        counters.panics,
        counters.dead_letters,
        counters.expired.total(),
        counters.shed,
        counters.displaced,
    ];
    std::iter::once(node.to_string()).chain(numbers.iter().map(u64::to_string)).collect()
}

/// Who supervises whom.
pub(super) async fn tree(node: &Node, place: &Where, output: &Output) -> Result<(), Failure> {
    let answers = ask(node, place, |manager| async move { Ok(manager.tree().await?) }).await?;
    let (answers, outcome) = split(answers);
    output.answer(&answers, |answers| {
        let mut text = String::new();
        for (node, trees) in answers {
            text.push_str(&format!("{node}\n"));
            branches(trees, "", &mut text);
        }
        text
    })?;
    outcome
}

fn branches(trees: &[TreeReport], indent: &str, text: &mut String) {
    for (number, tree) in trees.iter().enumerate() {
        let is_last = number + 1 == trees.len();
        let (corner, below) =
            if is_last { ("\u{2514}\u{2500} ", "   ") } else { ("\u{251c}\u{2500} ", "\u{2502}  ") };
        let what = match (&tree.strategy, &tree.address) {
            (Some(strategy), _) => format!("{strategy:?}"),
            (None, Some(address)) => address.to_string(),
            (None, None) => "never started".to_owned(),
        };
        let state = format!("{:?}", tree.state).to_lowercase();
        let restarts = match tree.restarts {
            0 => String::new(),
            restarts => format!(", {restarts} restarts"),
        };
        text.push_str(&format!("{indent}{corner}{} ({what}, {state}{restarts})\n", tree.name));
        branches(&tree.children, &format!("{indent}{below}"), text);
    }
}

/// The routing rules.
pub(super) async fn routes(node: &Node, place: &Where, output: &Output) -> Result<(), Failure> {
    let answers = ask(node, place, |manager| async move { Ok(manager.routes().await?) }).await?;
    let (answers, outcome) = split(answers);
    output.answer(&answers, |answers| {
        let rule = |node: &NodeId, (number, rule): (usize, &String)| {
            vec![node.to_string(), (number + 1).to_string(), rule.clone()]
        };
        let rows: Vec<_> = answers
            .iter()
            .flat_map(|(node, rules)| rules.iter().enumerate().map(move |each| rule(node, each)))
            .collect();
        output.table(&["NODE", "RULE", "WHAT"], &rows)
    })?;
    outcome
}

/// How long nodes take to answer.
pub(super) async fn ping(node: &Node, other: Option<&str>, output: &Output) -> Result<(), Failure> {
    let place = Where { on: other.map(str::to_owned), ..Where::default() };
    let answers = ask(node, &place, |manager| async move {
        let begun = std::time::Instant::now();
        manager.node().await?;
        Ok::<Duration, Failure>(begun.elapsed())
    });
    let (answers, outcome) = split(answers.await?);
    output.answer(&answers, |answers| {
        let rows: Vec<_> = answers.iter().map(|(node, time)| vec![node.to_string(), short(*time)]).collect();
        output.table(&["NODE", "ROUND TRIP"], &rows)
    })?;
    outcome
}
