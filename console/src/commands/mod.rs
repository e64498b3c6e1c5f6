//! The commands: each asks managers, and prints what they say.
//!
//! | file | what it is |
//! |---|---|
//! | `places` | which nodes are asked |
//! | `look` | what is there: nodes, services, instances, connections, counters, the tree, rules |
//! | `figures` | what services and methods have done |
//! | `config` | the central configuration |
//! | `live` | what happens, until somebody has seen enough: events, traces |
//! | `top` | the busiest instances, on the whole screen |
//! | `talk` | services described and called |
//! | `steer` | what changes something |

mod config;
mod figures;
mod live;
mod look;
mod places;
mod steer;
mod talk;
mod top;

use skyhold::Node;

use crate::args::{Arguments, Command};
use crate::connect::connect;
use crate::failure::Failure;
use crate::output::Output;

/// Does what was asked for.
pub(crate) async fn run(arguments: Arguments, output: &Output) -> Result<(), Failure> {
    let node = connect(&arguments.reach).await?;
    let outcome = command(&node, arguments, output).await;
    // Whoever has the answer need not wait for the goodbye.
    let _ = tokio::time::timeout(std::time::Duration::from_secs(1), node.shutdown()).await;
    outcome
}

async fn command(node: &Node, arguments: Arguments, output: &Output) -> Result<(), Failure> {
    let timeout = arguments.reach.timeout;
    match arguments.command {
        Command::Nodes => look::nodes(node, output).await,
        Command::Services => look::services(node, output).await,
        Command::Instances { service, place } => look::instances(node, &place, service, output).await,
        Command::Stat { service, place } => figures::stat(node, &place, service, output).await,
        Command::Config { command } => config::config(node, command, output).await,
        Command::Connections { place } => look::connections(node, &place, output).await,
        Command::Counters { place } => look::counters(node, &place, output).await,
        Command::Tree { place } => look::tree(node, &place, output).await,
        Command::Routes { place } => look::routes(node, &place, output).await,
        Command::Ping { other } => look::ping(node, other.as_deref(), output).await,
        Command::Watch { place } => live::watch(node, &place, output).await,
        Command::Trace { service, place } => live::trace(node, &place, &service, output).await,
        Command::Top { place, every } => top::top(node, &place, every, output).await,
        Command::Describe { service } => talk::describe(node, service, output).await,
        Command::Call { service, method, arguments } => {
            talk::call(node, service, method, arguments, timeout, output).await
        }
        Command::Send { service, method, arguments } => {
            talk::send(node, service, method, arguments, output).await
        }
        Command::Start { kind, name, instances, settings, place } => {
            let start = steer::Start { kind, name, instances, settings };
            steer::start(node, &place, start, output).await
        }
        Command::Stop { service, place } => steer::stop(node, &place, &service, output).await,
        Command::Drain { service, place } => steer::drain(node, &place, &service, output).await,
        Command::Restart { service, at_once, place } => {
            steer::restart(node, &place, &service, at_once, output).await
        }
        Command::Scale { service, instances, place } => {
            steer::scale(node, &place, &service, instances, output).await
        }
        Command::Reload { dry_run, place } => steer::reload(node, &place, dry_run, output).await,
        Command::Completion { .. } => Ok(()), // done before anybody is reached
    }
}
