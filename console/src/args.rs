//! What may be asked for on the command line.
//!
//! Invariant: values and their documentation; nothing is done here.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

/// See a Skyhold cluster, steer it, and call its services.
///
/// Joins as a client, and leaves without being missed. Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 nobody was reached or let it in.
#[derive(Parser, Debug)]
#[command(name = "skyhold", version, about, long_about, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) reach: Reach,
    /// Print one line of JSON for each answer
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How the cluster is reached.
#[derive(Args, Debug)]
pub(crate) struct Reach {
    /// Address of any node, as host:port; may be given several times [default: 127.0.0.1:7001]
    #[arg(long, short, global = true, env = "SKYHOLD_NODE", value_delimiter = ',', value_name = "ADDRESS")]
    pub(crate) node: Vec<String>,
    /// The cluster's name [default: default]
    #[arg(long, global = true, env = "SKYHOLD_CLUSTER", value_name = "NAME")]
    pub(crate) cluster: Option<String>,
    /// File with the cluster's secret
    #[arg(long, global = true, env = "SKYHOLD_SECRET_FILE", value_name = "FILE")]
    pub(crate) secret_file: Option<PathBuf>,
    /// Take the address, the cluster's name and the secret from a node's configuration file
    #[arg(long, short, global = true, env = "SKYHOLD_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Show no secret: for nodes that let everybody in
    #[arg(long, global = true)]
    pub(crate) insecure: bool,
    /// Certificate, key and authority, as PEM files: certificate,key,authority (needs the feature `tls`)
    #[arg(
        long,
        global = true,
        env = "SKYHOLD_TLS",
        value_delimiter = ',',
        num_args = 3,
        value_name = "FILE"
    )]
    pub(crate) tls: Vec<PathBuf>,
    /// The name under which it joins [default: console- and a random number]
    #[arg(long = "as", global = true, env = "SKYHOLD_AS", value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Seconds to wait for a node, and for each answer
    #[arg(long, global = true, default_value = "5", value_parser = seconds, value_name = "SECONDS")]
    pub(crate) timeout: Duration,
}

/// Which nodes are meant.
#[derive(Args, Debug, Clone, Default)]
pub(crate) struct Where {
    /// Only this node [default: all members]
    #[arg(long, value_name = "NODE")]
    pub(crate) on: Option<String>,
    /// Only nodes with this label; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = label, conflicts_with = "on")]
    pub(crate) label: Vec<(String, String)>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// The members: state, address, labels, what they run
    Nodes,
    /// The named services of the cluster, and where their instances are
    Services,
    /// Every instance: what waits in its mailbox, what it is doing
    Instances {
        /// Only of this service
        service: Option<String>,
        #[command(flatten)]
        place: Where,
    },
    /// What services have done: calls, times, processors; of one service each method
    Stat {
        service: Option<String>,
        #[command(flatten)]
        place: Where,
    },
    /// The central configuration
    Config {
        #[command(subcommand)]
        command: Config,
    },
    /// The connections between nodes: traffic, queues, credit, round trip
    Connections {
        #[command(flatten)]
        place: Where,
    },
    /// What each node has counted since its start
    Counters {
        #[command(flatten)]
        place: Where,
    },
    /// Who supervises whom
    Tree {
        #[command(flatten)]
        place: Where,
    },
    /// The routing rules in force
    Routes {
        #[command(flatten)]
        place: Where,
    },
    /// What happens, as it happens, until Ctrl-C
    Watch {
        #[command(flatten)]
        place: Where,
    },
    /// The busiest instances, live; q ends it
    Top {
        #[command(flatten)]
        place: Where,
        /// Seconds between two looks
        #[arg(long, default_value = "1", value_parser = seconds, value_name = "SECONDS")]
        every: Duration,
    },
    /// How long nodes take to answer
    Ping {
        /// Only this node
        #[arg(value_name = "NODE")]
        other: Option<String>,
    },
    /// The interface of a service, or of an instance such as a#7
    Describe { service: String },
    /// Call a method with JSON, and print the reply
    Call {
        /// A service's name, or an instance such as a#7
        service: String,
        method: String,
        /// An object of arguments by name, or an array of them in order
        #[arg(default_value = "")]
        arguments: String,
    },
    /// As call, without waiting for the reply
    Send {
        service: String,
        method: String,
        #[arg(default_value = "")]
        arguments: String,
    },
    /// The messages of a service, live, until Ctrl-C
    Trace {
        service: String,
        #[command(flatten)]
        place: Where,
    },
    /// Start a service of a kind that the nodes know
    Start {
        kind: String,
        /// The name under which it is found
        name: String,
        /// How many instances on each node
        #[arg(long, default_value_t = 1)]
        instances: usize,
        /// Its configuration, as TOML
        #[arg(long, default_value = "", value_name = "TOML")]
        settings: String,
        #[command(flatten)]
        place: Where,
    },
    /// Stop a service; what is queued is refused
    Stop {
        service: String,
        #[command(flatten)]
        place: Where,
    },
    /// Drain a service: run what is queued, then stop
    Drain {
        service: String,
        #[command(flatten)]
        place: Where,
    },
    /// Give each instance of a service another life, one after the other
    Restart {
        /// A service's name, or an instance such as a#7
        service: String,
        /// All at once
        #[arg(long)]
        at_once: bool,
        #[command(flatten)]
        place: Where,
    },
    /// Have so many instances of a service on each node that has it
    Scale {
        service: String,
        instances: usize,
        #[command(flatten)]
        place: Where,
    },
    /// Read the configuration files again, on one node or on all
    Reload {
        /// Only say what would change
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        place: Where,
    },
    /// Print a script that completes commands in a shell
    Completion { shell: Shell },
}

/// What is asked of the central configuration.
#[derive(Subcommand, Debug)]
pub(crate) enum Config {
    /// Print the value of a key
    Get { key: String },
    /// Set a key, if no node that watches it refuses the value
    Set {
        key: String,
        /// The value, as TOML: `5`, `"text"`, or lines of `key = value`
        value: String,
        /// Only if the key has this version
        #[arg(long, value_name = "VERSION")]
        expect: Option<u64>,
    },
    /// Delete a key
    Delete {
        key: String,
        /// Only if the key has this version
        #[arg(long, value_name = "VERSION")]
        expect: Option<u64>,
    },
    /// All keys, or those that begin so
    List {
        #[arg(default_value = "")]
        prefix: String,
    },
    /// The last values of a key
    History { key: String },
    /// Set a key to what it was in a version
    Rollback { key: String, version: u64 },
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "a number of seconds is expected".to_owned())?;
    let time = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
    if time.is_zero() { Err("more than 0 seconds are expected".to_owned()) } else { Ok(time) }
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("a key, `=` and a value are expected")?;
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_fit_together() {
        Arguments::command().debug_assert();
    }
}
