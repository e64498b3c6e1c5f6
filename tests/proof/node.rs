//! One node, as a process: what it sees it says, what its service runs and what its calls come to it writes down.
//!
//! It ends when its standard input does, so none outlives the driver.

use std::io::{BufRead, Write};
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use skyhold::prelude::*;
use skyhold::{Event, MemberState, NodeBuilder};
use tokio::sync::mpsc;

use crate::Fallible;
use crate::clock;
use crate::load::{Caller, Load};
use crate::processor;
use crate::records::{Records, path};
use crate::words::{Begin, Command, Dated, NODES, Report, What, name};

/// Where a node finds what it is told at its begin.
pub(crate) const BEGIN: &str = "SKYHOLD_PROOF_BEGIN";

/// The service that every node runs.
pub(crate) const SERVICE: &str = "tally";

/// How often a node looks whom it sees.
const LOOK: Duration = Duration::from_millis(10);

/// Writes down what it runs.
#[derive(Debug, Clone)]
struct Tally {
    ran: Arc<Records>,
}

#[service]
impl Tally {
    /// Runs the message of this number.
    pub fn mark(&mut self, number: u64) {
        self.ran.add(&number.to_le_bytes());
    }
}

pub(crate) use TallyHandle as Handle;

/// The node's program.
pub(crate) fn main() -> Fallible<()> {
    let begin: Begin = serde_json::from_str(&std::env::var(BEGIN)?)?;
    let records = |sort| Records::create(&path(&begin.folder, begin.node, begin.life, sort));
    let (late, waited) = (records("late")?, records("waited")?);
    std::thread::spawn(move || processor::watch(&late, &waited));
    listen_for_probes(UdpSocket::bind(begin.probe)?);
    let (commands, given) = mpsc::channel(16);
    std::thread::spawn(move || read_commands(&commands));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(&begin, given))
}

/// Says something to the driver.
pub(crate) fn say(report: Report) {
    let dated = Dated { at: clock::now(), report };
    if let Ok(line) = serde_json::to_string(&dated) {
        // The driver may be gone; then the end of the standard input ends this.
        drop(writeln!(std::io::stdout().lock(), "{line}"));
    }
}

fn settings(begin: &Begin) -> NodeBuilder {
    let mut builder = Node::builder(name(begin.node)).cluster("proof").insecure_without_secret();
    for seed in &begin.seeds {
        builder = builder.seed(seed.to_string());
    }
    builder.listen(begin.listen.to_string())
}

async fn run(begin: &Begin, mut given: mpsc::Receiver<Command>) -> Fallible<()> {
    let record = |sort| Records::create(&path(&begin.folder, begin.node, begin.life, sort)).map(Arc::new);
    let (ran, calls) = (record("ran")?, record("calls")?);
    let node = settings(begin).start().await?;
    tokio::spawn(tell(node.clone()));
    node.service(SERVICE, move || Tally { ran: Arc::clone(&ran) }).start().await?;
    tokio::spawn(look(node.clone()));
    tokio::spawn(processor::watch_from_runtime(record("behind")?));
    say(Report::Up { incarnation: node.incarnation().0 });
    let mut caller = Caller::new(begin.node, begin.life, node.clone(), calls);
    let mut load: Option<Load> = None;
    while let Some(command) = given.recv().await {
        match command {
            Command::Calibrate { callers, millis } => {
                let calls = caller.calibrate(callers, Duration::from_millis(millis)).await?;
                say(Report::Calibrated { calls });
            }
            Command::Load(calls) => {
                load = Some(caller.begin(calls).await?);
                say(Report::Loaded);
            }
            Command::Rest => {
                let open = match load.take() {
                    Some(load) => load.end().await,
                    None => 0,
                };
                say(Report::Rested { open });
            }
            Command::Probe { number, to } => {
                let socket = UdpSocket::bind((begin.probe.ip(), 0))?;
                let words = format!("{} {number}", begin.node);
                // Where it comes to is what is to be seen, not whether it leaves.
                to.iter().for_each(|to| drop(socket.send_to(words.as_bytes(), to)));
            }
            Command::Burn => drop(std::thread::spawn(|| {
                loop {
                    std::hint::spin_loop()
                }
            })),
            Command::Shutdown => {
                let error = node.shutdown().await.err().map(|error| error.to_string());
                say(Report::Down { error });
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Passes on what the node tells of members and peers.
async fn tell(node: Node) {
    let mut events = node.events();
    while let Some(event) = events.next().await {
        let (what, node, incarnation, why) = match event {
            Event::MemberJoined { node, incarnation } => (What::Joined, node, incarnation.0, String::new()),
            Event::MemberSuspected { node, incarnation } => {
                (What::Suspected, node, incarnation.0, String::new())
            }
            Event::MemberRefuted { node, incarnation } => (What::Refuted, node, incarnation.0, String::new()),
            Event::MemberLeft { node, incarnation } => (What::Left, node, incarnation.0, String::new()),
            Event::MemberDied { node, incarnation, .. } => (What::Died, node, incarnation.0, String::new()),
            Event::PeerUp { peer, incarnation } => (What::PeerUp, peer, incarnation.0, String::new()),
            Event::PeerDown { peer, reason } => (What::PeerDown, peer, 0, reason),
            _ => continue,
        };
        say(Report::Told { what, node: node.to_string(), incarnation, why });
    }
}

/// Says whom the node sees, each time that it is somebody else.
async fn look(node: Node) {
    let mut said = None;
    loop {
        let (mut alive, mut suspected) = (Vec::new(), Vec::new());
        for member in node.cluster().members().members {
            match member.state {
                MemberState::Alive => alive.push((member.node.to_string(), member.incarnation.0)),
                _ => suspected.push(member.node.to_string()),
            }
        }
        let mut peers: Vec<_> = node.peers().iter().map(ToString::to_string).collect();
        peers.sort();
        let now = (alive, suspected, peers);
        if said.as_ref() != Some(&now) {
            let (alive, suspected, peers) = now.clone();
            say(Report::Sees { alive, suspected, peers });
            said = Some(now);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Says which datagrams come.
fn listen_for_probes(socket: UdpSocket) {
    std::thread::spawn(move || {
        let mut bytes = [0; 64];
        while let Ok(length) = socket.recv(&mut bytes) {
            let words = String::from_utf8_lossy(&bytes[..length]);
            let Some((from, number)) = words.split_once(' ') else { continue };
            if let (Ok(from), Ok(number)) = (from.parse::<usize>(), number.parse())
                && from < NODES
            {
                say(Report::Heard { from, number });
            }
        }
    });
}

/// Takes what the driver says. With the driver the process ends.
fn read_commands(commands: &mpsc::Sender<Command>) {
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        match serde_json::from_str(&line) {
            Ok(command) => drop(commands.blocking_send(command)),
            Err(error) => eprintln!("{line}: {error}"),
        }
    }
    std::process::exit(0);
}
