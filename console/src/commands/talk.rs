//! Services described, and called by name.

use std::time::Duration;

use skyhold::{InterfaceReport, Node};

use super::places::any_manager;
use crate::failure::Failure;
use crate::output::Output;

/// The interface of a service.
pub(super) async fn describe(node: &Node, service: String, output: &Output) -> Result<(), Failure> {
    let report = any_manager(node).await?.describe(service).await??;
    output.answer(&report, interface)
}

fn interface(report: &InterfaceReport) -> String {
    let types = match report.type_arguments.as_slice() {
        [] => String::new(),
        types => format!("<{}>", types.join(", ")),
    };
    let mut text = format!("{}: {}{types}, on {}\n", report.service, report.interface, report.node);
    for method in &report.methods {
        text.push('\n');
        for line in method.docs.lines() {
            text.push_str(format!("  /// {line}").trim_end());
            text.push('\n');
        }
        let receiver = if method.is_exclusive { "&mut self" } else { "&self" };
        let arguments = method.arguments.iter().map(|(name, ty)| format!(", {name}: {ty}"));
        let arguments: String = arguments.collect();
        let reply = if method.reply == "()" { String::new() } else { format!(" -> {}", method.reply) };
        text.push_str(&format!("  {}({receiver}{arguments}){reply}\n", method.name));
    }
    text
}

/// Calls a method. The reply is JSON in any case.
pub(super) async fn call(
    node: &Node,
    service: String,
    method: String,
    arguments: String,
    timeout: Duration,
    output: &Output,
) -> Result<(), Failure> {
    let manager = any_manager(node).await?;
    let call = manager.call_json(service, method, arguments, Some(timeout));
    // The manager's own answer may come a moment after the service's time is over.
    let reply = call.timeout(timeout + Duration::from_secs(1)).await??;
    output.raw(&(reply + "\n"))
}

/// Sends a message.
pub(super) async fn send(
    node: &Node,
    service: String,
    method: String,
    arguments: String,
    output: &Output,
) -> Result<(), Failure> {
    any_manager(node).await?.send_json(service, method, arguments).await??;
    output.answer(&(), |()| String::new())
}
