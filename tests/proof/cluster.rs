//! The five nodes as the driver has them: it starts, stops, kills and asks them, and waits for what they say.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::Fallible;
use crate::board::{Board, Sight, Who, sight};
use crate::clock::Micros;
use crate::network::Network;
use crate::process::Process;
use crate::words::{Begin, Calls, Command, NODES, Report, name};

/// How long what goes well may take. Much more than it takes: the machine may be busy.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Five nodes.
pub(crate) struct Cluster<'a> {
    pub(crate) network: &'a Network,
    pub(crate) board: Arc<Board>,
    pub(crate) folder: PathBuf,
    processes: Vec<Option<Process>>,
    lives: Vec<u64>,
    /// Lives that were cut off in the middle of their calls.
    pub(crate) killed: Vec<Who>,
    probes: u64,
}

impl<'a> Cluster<'a> {
    /// Starts them all, and waits until each sees all.
    pub(crate) fn start(network: &'a Network, folder: &Path) -> Fallible<Self> {
        std::fs::create_dir_all(folder)?;
        let mut cluster = Self {
            network,
            board: Arc::default(),
            folder: folder.to_owned(),
            processes: (0..NODES).map(|_| None).collect(),
            lives: vec![0; NODES],
            killed: Vec::new(),
            probes: 0,
        };
        for node in 0..NODES {
            cluster.spawn(node)?;
        }
        for node in 0..NODES {
            cluster.up(node)?;
        }
        cluster.all_see_all(LIMIT).ok_or("the nodes do not find each other")?;
        Ok(cluster)
    }

    /// Starts a process for a node. It is not waited for.
    pub(crate) fn spawn(&mut self, node: usize) -> Fallible<()> {
        self.lives[node] += 1;
        let begin = Begin {
            node,
            life: self.lives[node],
            listen: self.network.listen(node),
            probe: self.network.probe(node),
            // Two of them, as one would have it in production: each node finds the others by these.
            seeds: (0..2).filter(|seed| *seed != node).map(|seed| self.network.listen(seed)).collect(),
            folder: self.folder.clone(),
        };
        let command = self.network.command(node, &std::env::current_exe()?);
        self.processes[node] = Some(Process::start(command, &begin, &self.board)?);
        Ok(())
    }

    /// Waits until a node's services run. Gives when they did.
    pub(crate) fn up(&mut self, node: usize) -> Fallible<Micros> {
        let board = Arc::clone(&self.board);
        self.process(node)?.up(&board, LIMIT)
    }

    pub(crate) fn process(&mut self, node: usize) -> Fallible<&mut Process> {
        Ok(self.processes[node].as_mut().ok_or_else(|| format!("{} does not run", name(node)))?)
    }

    /// Kills a node's process. Returns when the system says that it has ended by that.
    pub(crate) fn kill(&mut self, node: usize) -> Fallible<()> {
        let who = self.who(node);
        self.killed.push(who);
        if !self.process(node)?.kill()? {
            return Err(format!("{} had ended before it was killed", name(node)).into());
        }
        self.processes[node] = None;
        Ok(())
    }

    /// Shuts a node down in order: it makes no more calls, then it drains.
    pub(crate) fn shut_down(&mut self, node: usize) -> Fallible<()> {
        self.rest(&[node])?;
        let who = self.who(node);
        self.process(node)?.tell(&Command::Shutdown)?;
        let down = self.wait_for(who, |report| match report {
            Report::Down { error } => Some(error.clone()),
            _ => None,
        });
        if let Some(error) = down.ok_or("the shutdown does not end")? {
            return Err(error.into());
        }
        if !self.process(node)?.ended(LIMIT)? {
            return Err("the process does not end well".into());
        }
        self.processes[node] = None;
        Ok(())
    }

    /// Calls as fast as it goes from all nodes, and gives how many were answered a second.
    pub(crate) fn calibrate(&mut self, time: Duration) -> Fallible<u64> {
        let millis = u64::try_from(time.as_millis())?;
        self.tell_all(&Command::Calibrate { callers: 16, millis })?;
        let mut calls = 0;
        for node in 0..NODES {
            let answered = self.wait_for(self.who(node), |report| match report {
                Report::Calibrated { calls } => Some(*calls),
                _ => None,
            });
            calls += answered.ok_or("the calibration does not end")?;
        }
        Ok(calls * 1000 / millis)
    }

    /// Each of these nodes begins to call.
    pub(crate) fn load(&mut self, nodes: &[usize], calls: Calls) -> Fallible<()> {
        for node in nodes {
            self.process(*node)?.tell(&Command::Load(calls))?;
        }
        for node in nodes {
            let is_loaded = |report: &Report| matches!(report, Report::Loaded).then_some(());
            self.wait_for(self.who(*node), is_loaded)
                .ok_or_else(|| format!("{} finds no services", name(*node)))?;
        }
        Ok(())
    }

    /// These nodes make no more calls, and all that were made have ended.
    pub(crate) fn rest(&mut self, nodes: &[usize]) -> Fallible<()> {
        for node in nodes {
            self.process(*node)?.tell(&Command::Rest)?;
        }
        for node in nodes {
            let rested = self.wait_for(self.who(*node), |report| match report {
                Report::Rested { open } => Some(*open),
                _ => None,
            });
            match rested {
                Some(0) => {}
                Some(open) => return Err(format!("{open} calls of {} do not end", name(*node)).into()),
                None => return Err(format!("{} does not rest", name(*node)).into()),
            }
        }
        Ok(())
    }

    pub(crate) fn tell_all(&mut self, command: &Command) -> Fallible<()> {
        self.running().into_iter().try_for_each(|node| self.process(node)?.tell(command))
    }

    /// The nodes that have a process.
    pub(crate) fn running(&self) -> Vec<usize> {
        (0..NODES).filter(|node| self.processes[*node].is_some()).collect()
    }

    /// The present life of a node, or its last one.
    pub(crate) fn who(&self, node: usize) -> Who {
        Who { node, life: self.lives[node] }
    }

    /// All lives that there were.
    pub(crate) fn all_lives(&self) -> Vec<Who> {
        let lives = |node: usize| (1..=self.lives[node]).map(move |life| Who { node, life });
        (0..NODES).flat_map(lives).collect()
    }

    pub(crate) fn incarnation(&self, node: usize) -> u64 {
        self.processes[node].as_ref().map_or(0, |process| process.incarnation)
    }

    /// Which datagrams come through: `[from][to]`, by the system alone. Waits until those that are expected have come, and then for others.
    pub(crate) fn reach(
        &mut self,
        expected: impl Fn(usize, usize) -> bool,
    ) -> Fallible<[[bool; NODES]; NODES]> {
        const OTHERS: Duration = Duration::from_millis(200);
        const EXPECTED: Duration = Duration::from_secs(3);
        self.probes += 1;
        let number = self.probes;
        let running = self.running();
        for from in &running {
            let to = running.iter().filter(|to| *to != from).map(|to| self.network.probe(*to)).collect();
            self.process(*from)?.tell(&Command::Probe { number, to })?;
        }
        let heard = |said: &[(Who, crate::words::Dated)]| {
            let mut heard = [[false; NODES]; NODES];
            for (who, dated) in said {
                if let Report::Heard { from, number: of } = dated.report
                    && of == number
                {
                    heard[from][who.node] = true;
                }
            }
            heard
        };
        let is_wanted = |from: usize, to: usize| {
            from != to && running.contains(&from) && running.contains(&to) && expected(from, to)
        };
        self.board.wait(EXPECTED, |said| {
            let heard = heard(said);
            pairs().all(|(from, to)| heard[from][to] || !is_wanted(from, to)).then_some(())
        });
        std::thread::sleep(OTHERS);
        self.board.wait(Duration::ZERO, |said| Some(heard(said))).ok_or_else(|| "nothing is heard".into())
    }

    /// Waits until each running node sees all of them alive, in their present lives, and is connected with all. Gives when the last did.
    pub(crate) fn all_see_all(&self, limit: Duration) -> Option<Micros> {
        let running = self.running();
        self.groups_see_themselves(&[&running], limit)
    }

    /// Waits until each node of a group sees the members of its group alive, and nobody else. Gives when the last did.
    pub(crate) fn groups_see_themselves(&self, groups: &[&[usize]], limit: Duration) -> Option<Micros> {
        self.board.wait(limit, |said| {
            let mut last = 0;
            for group in groups {
                for node in *group {
                    let sight = sight(said, self.who(*node))?;
                    if !self.is_whole(&sight, *node, group) {
                        return None;
                    }
                    last = last.max(sight.at);
                }
            }
            Some(last)
        })
    }

    fn is_whole(&self, sight: &Sight, of: usize, group: &[usize]) -> bool {
        let lives: Vec<_> = group.iter().map(|node| (name(*node), self.incarnation(*node))).collect();
        let peers: Vec<_> = group.iter().filter(|node| **node != of).map(|node| name(*node)).collect();
        sight.alive == lives && sight.suspected.is_empty() && sight.peers == peers
    }

    /// Waits for a life's answer.
    fn wait_for<T>(&self, who: Who, find: impl Fn(&Report) -> Option<T>) -> Option<T> {
        self.board.take(LIMIT, who, find)
    }
}

/// All pairs of two nodes.
pub(crate) fn pairs() -> impl Iterator<Item = (usize, usize)> {
    (0..NODES).flat_map(|from| (0..NODES).filter(move |to| *to != from).map(move |to| (from, to)))
}
