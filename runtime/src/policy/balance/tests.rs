//! What is learned of instances, who is offered, and who is picked.

use std::sync::Arc;
use std::time::Duration;

use crate::error::CallError;
use crate::id::{Address, Incarnation, InstanceId, NodeId};
use crate::policy::balance::candidates::Candidate;
use crate::policy::balance::pool::Pool;
use crate::policy::balance::reported::Reported;
use crate::policy::balance::standing::Fitness;

mod learning;
mod picking;

/// A name with instances, as one node sees it.
struct Scene {
    pool: Arc<Pool>,
    candidates: Vec<Candidate>,
    version: u64,
    now: u64,
}

impl Scene {
    /// One instance on each of the nodes; `here` is the caller's own.
    fn new(nodes: &[&str]) -> Self {
        let mut scene = Self { pool: Arc::default(), candidates: vec![], version: 0, now: SECOND };
        scene.become_known(nodes);
        scene
    }

    /// These are the instances from now on.
    fn become_known(&mut self, nodes: &[&str]) {
        self.version += 1;
        let addresses: Vec<_> = nodes.iter().map(|node| address(node)).collect();
        self.pool.update(self.version, addresses.iter().map(|address| (address, false)), self.now);
        let candidate = |address: Address| {
            let (is_local, load) = (address.node.as_str() == "here", self.pool.load(&address));
            Candidate::new(address, Arc::default(), is_local, load, Reported::default(), None)
        };
        self.candidates = addresses.into_iter().map(candidate).collect();
    }

    fn pass(&mut self, time: Duration) {
        self.now += nanos(time);
    }

    /// A call that takes so long.
    fn answer(&mut self, index: usize, latency: Duration) {
        let flight = self.candidates[index].load().begin(self.now, true);
        self.pass(latency);
        flight.answered(|| self.now);
    }

    /// A call that fails, at another moment than the one before.
    fn fail(&mut self, index: usize) {
        let flight = self.candidates[index].load().begin(self.now, true);
        self.pass(Duration::from_millis(10));
        flight.failed(&failure(), self.now);
    }

    /// As many failures as it takes.
    fn fail_for_good(&mut self, index: usize) {
        (0..5).for_each(|_| self.fail(index));
    }

    fn fitness(&self, index: usize) -> Fitness {
        self.candidates[index].load().fitness(self.now)
    }

    fn ejected(&self) -> Vec<usize> {
        let all = 0..self.candidates.len();
        all.filter(|index| self.fitness(*index) == Fitness::Ejected).collect()
    }
}

const SECOND: u64 = 1_000_000_000;

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap()
}

fn address(node: &str) -> Address {
    let (node, incarnation) = (NodeId::new(node).unwrap(), Incarnation(1));
    Address { node, incarnation, instance: InstanceId(1) }
}

fn failure() -> CallError {
    CallError::NoReply("it never answers".into())
}
