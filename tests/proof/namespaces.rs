//! A network of the proof's own. The program runs itself again in namespaces for mounts and network that end with it, however it ends, so
//! that nothing of it is seen outside or left behind. Where the caller is not root a namespace for users makes it root in there.
//!
//! Each node has a network namespace with one end of a cable; the other ends are in a bridge, the switch. Nothing of the framework knows of
//! it. Faults are made as they happen: a port is taken out of its switch, or put into another one, and of two machines one has a wrong
//! hardware address of the other, so that what it sends comes nowhere.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use crate::words::NODES;
use crate::{Fallible, ROLE};

/// Becomes the driver in namespaces of its own. Returns if there can be none.
pub(crate) fn enter() -> Fallible<()> {
    if std::env::var("SKYHOLD_PROOF_NETWORK").is_ok_and(|network| network == "loopback") {
        return Ok(());
    }
    let ways: [&[&str]; 2] = [&["--net", "--mount"], &["--user", "--map-root-user", "--net", "--mount"]];
    for way in ways {
        let tried = Command::new("unshare").args(way).arg("true").stderr(Stdio::null()).status();
        if tried.is_ok_and(|status| status.success()) {
            let mut driver = Command::new("unshare");
            driver.args(way).arg(std::env::current_exe()?).args(std::env::args_os().skip(1));
            return Err(driver.env(ROLE, "driver").exec().into());
        }
    }
    Ok(())
}

/// Five machines at one switch.
#[derive(Debug)]
pub(crate) struct Namespaces(());

impl Namespaces {
    /// # Errors
    /// This system cannot make them.
    pub(crate) fn build() -> io::Result<Self> {
        if std::env::var_os(ROLE).is_none() {
            return Err(io::Error::other("no namespace of its own (unshare)"));
        }
        // `ip netns` keeps its names there, which are nobody else's matter.
        run("mount", "-t tmpfs tmpfs /run")?;
        ip("link set lo up")?;
        for switch in ["switch0", "switch1"] {
            ip(&format!("link add {switch} type bridge"))?;
            ip(&format!("link set {switch} up"))?;
        }
        for node in 0..NODES {
            ip(&format!("netns add n{node}"))?;
            ip(&format!(
                "link add port{node} type veth peer name eth0 address {} netns n{node}",
                hardware(node)
            ))?;
            ip(&format!("link set port{node} master switch0 up"))?;
            ip(&format!("-n n{node} address add {}/24 dev eth0", address(node)))?;
            ip(&format!("-n n{node} link set lo up"))?;
            ip(&format!("-n n{node} link set eth0 up"))?;
        }
        let all = Self(());
        all.heal()?;
        Ok(all)
    }

    /// What is run by this is run in the namespace of a node.
    pub(crate) fn command(node: usize, program: &std::path::Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/n{node}")).arg(program);
        command
    }

    /// What one node sends another one comes nowhere.
    pub(crate) fn drop_one_way(&self, from: usize, to: usize) -> io::Result<()> {
        neighbour(from, to, "02:00:00:00:ff:ff")
    }

    /// A node's cable leads nowhere.
    pub(crate) fn isolate(&self, node: usize) -> io::Result<()> {
        ip(&format!("link set port{node} nomaster"))
    }

    /// These nodes are at a switch of their own.
    pub(crate) fn move_away(&self, nodes: &[usize]) -> io::Result<()> {
        nodes.iter().try_for_each(|node| ip(&format!("link set port{node} master switch1")))
    }

    /// All is well.
    pub(crate) fn heal(&self) -> io::Result<()> {
        for node in 0..NODES {
            ip(&format!("link set port{node} master switch0"))?;
            for other in (0..NODES).filter(|other| *other != node) {
                neighbour(node, other, &hardware(other))?;
            }
        }
        Ok(())
    }
}

/// The address of a node on the network.
pub(crate) fn address(node: usize) -> std::net::Ipv4Addr {
    std::net::Ipv4Addr::new(10, 83, 0, u8::try_from(node + 1).unwrap_or(u8::MAX))
}

fn hardware(node: usize) -> String {
    format!("02:00:00:00:00:{node:02x}")
}

/// Tells a node at which hardware address another one is. It does not ask for itself.
fn neighbour(node: usize, other: usize, hardware: &str) -> io::Result<()> {
    ip(&format!("-n n{node} neighbour replace {} lladdr {hardware} dev eth0 nud permanent", address(other)))
}

fn ip(arguments: &str) -> io::Result<()> {
    run("ip", arguments)
}

fn run(program: &str, arguments: &str) -> io::Result<()> {
    let output = Command::new(program).args(arguments.split(' ')).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{program} {arguments}: {}", why.trim())))
}
