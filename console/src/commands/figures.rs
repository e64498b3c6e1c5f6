//! What services and their methods have done: counts, times, and processors.

use std::time::Duration;

use skyhold::{Latency, MethodReport, Node, NodeId, ServiceReport};

use super::places::{ask, split};
use crate::args::Where;
use crate::failure::Failure;
use crate::output::{Output, bytes, short};

/// The figures of one service with its methods, or of all named services.
pub(super) async fn stat(
    node: &Node,
    place: &Where,
    service: Option<String>,
    output: &Output,
) -> Result<(), Failure> {
    let service = &service;
    let answers = ask(node, place, |manager| async move {
        let names = match service {
            Some(name) => vec![name.clone()],
            None => manager.node().await?.services,
        };
        let mut reports = Vec::new();
        for name in names {
            reports.extend(manager.stats(name).await?);
        }
        Ok(reports)
    });
    let (answers, outcome) = split(answers.await?);
    let all: Vec<(NodeId, ServiceReport)> = answers
        .into_iter()
        .flat_map(|(node, reports)| reports.into_iter().map(move |report| (node.clone(), report)))
        .collect();
    output.answer(&all, |all| {
        let rows: Vec<_> = all.iter().map(|(node, report)| service_row(node, report)).collect();
        let head = &[
            "SERVICE",
            "NODE",
            "INSTANCES",
            "WAITING",
            "CALLS",
            "SENDS",
            "IN FLIGHT",
            "BUSY",
            "CPU",
            "MEMORY",
            "RESTARTS",
        ];
        let mut text = output.table(head, &rows);
        if service.is_some() {
            let rows: Vec<_> = all
                .iter()
                .flat_map(|(node, report)| report.methods.iter().map(move |method| method_row(node, method)))
                .collect();
            let head = &[
                "METHOD",
                "NODE",
                "CALLS",
                "SENDS",
                "FAILED",
                "PANICKED",
                "EXPIRED",
                "REFUSED",
                "P50",
                "P99",
                "P99.9",
                "MAX",
                "WAITED P99",
            ];
            text.push('\n');
            text.push_str(&output.table(head, &rows));
        }
        text
    })?;
    match (outcome, service) {
        (Ok(()), Some(service)) if all.is_empty() => {
            Err(Failure::failed(format!("there is no service {service:?}, and was none")))
        }
        (outcome, _) => outcome,
    }
}

fn service_row(node: &NodeId, report: &ServiceReport) -> Vec<String> {
    let known = report.figures.map(|figures| {
        [
            figures.calls.to_string(),
            figures.sends.to_string(),
            figures.in_flight.to_string(),
            short(figures.busy),
            figures.cpu.map_or_else(unknown, short),
        ]
    });
    let [calls, sends, in_flight, busy, cpu] = known.unwrap_or_else(|| std::array::from_fn(|_| unknown()));
    vec![
        report.service.clone(),
        node.to_string(),
        report.instances.to_string(),
        report.waiting.to_string(),
        calls,
        sends,
        in_flight,
        busy,
        cpu,
        report.memory.map_or_else(unknown, bytes),
        report.restarts.to_string(),
    ]
}

fn method_row(node: &NodeId, method: &MethodReport) -> Vec<String> {
    let outcomes = method.outcomes;
    let refused = outcomes.abandoned + outcomes.stopped + outcomes.overloaded;
    let time =
        |of: fn(&Latency) -> Duration| method.handler.as_ref().map_or_else(unknown, |all| short(of(all)));
    vec![
        method.method.clone(),
        node.to_string(),
        method.calls.to_string(),
        method.sends.to_string(),
        outcomes.failed.to_string(),
        outcomes.panicked.to_string(),
        outcomes.expired.to_string(),
        refused.to_string(),
        time(|all| all.p50),
        time(|all| all.p99),
        time(|all| all.p999),
        time(|all| all.max),
        method.sojourn.map_or_else(unknown, |all| short(all.p99)),
    ]
}

fn unknown() -> String {
    "-".to_owned()
}
