//! Members in a simulated network under a virtual clock: the same seed gives the same run.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

mod silence;

/// How long a message takes.
const DELAY: Duration = Duration::from_millis(1);

struct Node {
    core: Membership,
    /// Whom it is connected with.
    links: BTreeSet<usize>,
    wakes_at: Option<Instant>,
    /// Until when it stands still.
    stands_still: Option<Instant>,
}

/// Nodes, what is on its way between them, and what they have told.
struct Simulation {
    start: Instant,
    now: Instant,
    nodes: Vec<Option<Node>>,
    names: BTreeMap<NodeId, usize>,
    wakes: BTreeSet<(Instant, usize)>,
    on_the_way: BTreeMap<(Instant, u64), (usize, usize, Bytes)>,
    sequence: u64,
    /// From whom to whom nothing comes.
    cut: BTreeSet<(usize, usize)>,
    told: Vec<(Duration, usize, Event)>,
    bytes: usize,
    seed: u64,
}

fn name(index: usize) -> NodeId {
    NodeId::new(format!("n{index}")).unwrap()
}

fn identity(index: usize, incarnation: u64) -> Identity {
    let address = SocketAddr::from(([10, 0, 0, 1], u16::try_from(index).unwrap() + 1));
    Identity::new(name(index), Incarnation(incarnation), Some(address))
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let now = crate::time::now();
        Self {
            start: now,
            now,
            nodes: Vec::new(),
            names: BTreeMap::new(),
            wakes: BTreeSet::new(),
            on_the_way: BTreeMap::new(),
            sequence: 0,
            cut: BTreeSet::new(),
            told: Vec::new(),
            bytes: 0,
            seed,
        }
    }

    /// Nodes that all have the first one for their seed.
    fn cluster(seed: u64, nodes: usize) -> Self {
        let mut simulation = Self::new(seed);
        for index in 0..nodes {
            simulation.start_node(index, 1);
        }
        for index in 1..nodes {
            simulation.connect(0, index);
        }
        simulation
    }

    fn start_node(&mut self, index: usize, incarnation: u64) {
        let chance = fastrand::Rng::with_seed(self.seed * 1000 + index as u64);
        let core = Membership::new(identity(index, incarnation), chance, self.now);
        let wakes_at = None;
        let node = Node { core, links: BTreeSet::new(), wakes_at, stands_still: None };
        if index == self.nodes.len() {
            self.nodes.push(None);
        }
        self.nodes[index] = Some(node);
        self.names.insert(name(index), index);
        self.drain(index);
    }

    fn core(&self, index: usize) -> &Membership {
        &self.nodes[index].as_ref().expect("it lives").core
    }

    /// Connects two nodes, if both live, nothing is between them, and they are not.
    fn connect(&mut self, a: usize, b: usize) {
        let is_cut = self.cut.contains(&(a, b)) || self.cut.contains(&(b, a));
        if a == b || is_cut || self.nodes[a].is_none() || self.nodes[b].is_none() {
            return;
        }
        for (here, there) in [(a, b), (b, a)] {
            let peer = self.core(there).me.clone();
            let now = self.now;
            let node = self.nodes[here].as_mut().unwrap();
            if node.links.insert(there) {
                node.core.handle_connected(peer, now);
                self.drain(here);
            }
        }
    }

    /// Ends all connections between nodes of which one cannot reach the other.
    fn lose_connections(&mut self) {
        for (a, b) in self.cut.clone() {
            let node = self.nodes[a].as_mut().unwrap();
            if node.links.remove(&b) {
                self.with(a, |core, _| core.handle_disconnected(&name(b)));
            }
        }
    }

    fn with(&mut self, index: usize, act: impl FnOnce(&mut Membership, Instant)) {
        let now = self.now;
        if let Some(node) = &mut self.nodes[index] {
            act(&mut node.core, now);
            self.drain(index);
        }
    }

    /// Does what a node wants done.
    fn drain(&mut self, index: usize) {
        let mut unknown = Vec::new();
        let Some(node) = &mut self.nodes[index] else { return };
        while let Some(output) = node.core.poll_output() {
            match output {
                Output::Send { to, bytes } => {
                    let to = self.names[&to];
                    if node.links.contains(&to) && !self.cut.contains(&(index, to)) {
                        self.bytes += bytes.len() + 5;
                        self.on_the_way.insert((self.now + DELAY, self.sequence), (index, to, bytes));
                        self.sequence += 1;
                    }
                }
                Output::Tell(event) => {
                    if let Event::MemberJoined { node: other, .. } = &event {
                        unknown.push(self.names[other]);
                    }
                    self.told.push((self.now - self.start, index, event));
                }
                Output::Dial(address) => unknown.push(usize::from(address.port()) - 1),
            }
        }
        let wakes_at = node.core.poll_timeout();
        if wakes_at != node.wakes_at {
            node.wakes_at.map(|at| self.wakes.remove(&(at, index)));
            node.wakes_at = wakes_at;
            wakes_at.map(|at| self.wakes.insert((at, index)));
        }
        // Whoever hears of somebody connects.
        for other in unknown {
            self.connect(index, other);
        }
    }

    /// The process is gone and nobody is told.
    fn kill(&mut self, index: usize) {
        let gone = self.nodes[index].take().expect("it lives");
        gone.wakes_at.map(|at| self.wakes.remove(&(at, index)));
        for node in self.nodes.iter_mut().flatten() {
            node.links.remove(&index);
        }
    }

    fn stand_still(&mut self, index: usize, time: Duration) {
        self.nodes[index].as_mut().unwrap().stands_still = Some(self.now + time);
    }

    fn run(&mut self, time: Duration) {
        self.run_until(time, |_| false);
    }

    /// Runs until it is so, or for `time`; gives how long it took.
    fn run_until(&mut self, time: Duration, is_so: impl Fn(&Self) -> bool) -> Option<Duration> {
        let (begin, end) = (self.now, self.now + time);
        let mut looked = self.told.len();
        if is_so(self) {
            return Some(Duration::ZERO);
        }
        loop {
            let wake = self.wakes.first().map(|(at, _)| *at);
            let message = self.on_the_way.first_key_value().map(|((at, _), _)| *at);
            let next = wake.into_iter().chain(message).min().filter(|next| *next <= end);
            let Some(next) = next else {
                self.now = end;
                return None;
            };
            self.now = self.now.max(next);
            if message == Some(next) {
                let (_, (from, to, bytes)) = self.on_the_way.pop_first().unwrap();
                self.arrive(from, to, bytes);
            } else {
                let (_, index) = self.wakes.pop_first().unwrap();
                let node = self.nodes[index].as_mut().unwrap();
                if let Some(until) = node.stands_still.filter(|until| *until > self.now) {
                    node.wakes_at = Some(until);
                    self.wakes.insert((until, index));
                } else {
                    let now = self.now;
                    node.core.handle_timeout(now);
                    node.wakes_at = None;
                    self.drain(index);
                }
            }
            if self.told.len() > looked {
                looked = self.told.len();
                if is_so(self) {
                    return Some(self.now - begin);
                }
            }
        }
    }

    fn arrive(&mut self, from: usize, to: usize, bytes: Bytes) {
        let Some(node) = &mut self.nodes[to] else { return };
        if let Some(until) = node.stands_still.filter(|until| *until > self.now) {
            self.on_the_way.insert((until, self.sequence), (from, to, bytes));
            self.sequence += 1;
            return;
        }
        self.with(to, |core, now| core.handle_gossip(&name(from), &bytes, now).unwrap());
    }

    /// Whether all who live see exactly `count` members.
    fn all_see(&self, count: usize) -> bool {
        self.nodes.iter().flatten().all(|node| node.core.view.members().count() + 1 == count)
    }

    fn told(&self, is: impl Fn(&Event) -> bool) -> usize {
        self.told.iter().filter(|(_, _, event)| is(event)).count()
    }
}

fn is_died(event: &Event) -> bool {
    matches!(event, Event::MemberDied { .. })
}

const LONG: Duration = Duration::from_secs(120);

#[test]
fn fifty_nodes_with_one_seed_know_each_other_within_a_second() {
    let mut cluster = Simulation::cluster(1, 50);
    let joined = cluster.run_until(LONG, |cluster| cluster.all_see(50)).expect("all know all");
    assert!(joined < Duration::from_secs(1), "{joined:?}");
    cluster.run(LONG);
    assert_eq!(cluster.told(is_died), 0);
    assert_eq!(
        cluster.told(|event| matches!(event, Event::MemberJoined { .. })),
        50 * 49,
        "each is told once"
    );
    assert_eq!(cluster.core(7).members().members.len(), 50);
}

#[test]
fn a_silent_death_is_seen_by_all_within_five_seconds_and_told_once() {
    for seed in 1..=3 {
        let mut cluster = Simulation::cluster(seed, 50);
        cluster.run(Duration::from_secs(10));
        cluster.kill(13);
        let seen = cluster.run_until(LONG, |cluster| cluster.all_see(49)).expect("all see it");
        assert!(seen < Duration::from_secs(5), "seed {seed}: {seen:?}");
        cluster.run(Duration::from_secs(20));
        assert_eq!(cluster.told(is_died), 49);
        assert_eq!(cluster.told(|event| matches!(event, Event::MemberLeft { .. })), 0);
    }
}

#[test]
fn a_leave_and_a_refused_connection_are_taken_in_at_once_and_spread() {
    let mut cluster = Simulation::cluster(3, 20);
    cluster.run(Duration::from_secs(20));
    // Only one hears it from itself.
    cluster.nodes[5].as_mut().unwrap().links = BTreeSet::from([6]);
    cluster.with(5, |core, _| core.handle_leave());
    cluster.kill(5);
    cluster.run(DELAY);
    assert_eq!(cluster.told(|event| matches!(event, Event::MemberLeft { .. })), 1);
    let known = cluster.run_until(LONG, |cluster| cluster.all_see(19)).expect("all know it");
    assert!(known < Duration::from_secs(1), "{known:?}");
    assert_eq!(cluster.told(|event| matches!(event, Event::MemberLeft { .. })), 19);

    cluster.kill(7);
    // Its system has closed its connections, and one of them has dialled it again by now.
    for index in 0..20 {
        cluster.with(index, |core, _| core.handle_disconnected(&name(7)));
    }
    cluster.with(6, |core, now| core.handle_gone(&name(7), Incarnation(1), now));
    let known = cluster.run_until(LONG, |cluster| cluster.all_see(18)).expect("all know it");
    assert!(known < Duration::from_secs(1), "{known:?}");
    cluster.run(LONG);
    assert_eq!(cluster.told(is_died), 18);
}

#[test]
fn a_later_life_takes_the_place_of_the_earlier_one() {
    let mut cluster = Simulation::cluster(4, 10);
    cluster.run(Duration::from_secs(20));
    cluster.kill(3);
    cluster.start_node(3, 2);
    cluster.connect(0, 3);
    let is_later = |cluster: &Simulation| {
        cluster.nodes.iter().flatten().all(|node| {
            let members = node.core.members().members;
            members.len() == 10 && members.iter().any(|member| member.incarnation == Incarnation(2))
        })
    };
    let known = cluster.run_until(LONG, is_later).expect("all know it");
    assert!(known < Duration::from_secs(1), "{known:?}");
    cluster.run(LONG);
    assert_eq!(cluster.told(is_died), 9, "the earlier life, by all others");
    // What is late of the earlier life changes nothing.
    cluster.with(0, |core, now| core.handle_gone(&name(3), Incarnation(1), now));
    assert!(cluster.all_see(10));
}

#[test]
fn who_stands_still_for_a_moment_is_not_declared_dead() {
    for seed in 1..=3 {
        let mut cluster = Simulation::cluster(seed, 20);
        cluster.run(Duration::from_secs(20));
        cluster.stand_still(9, Duration::from_millis(1500));
        cluster.run(LONG);
        assert_eq!(cluster.told(is_died), 0, "seed {seed}");
        let suspected = cluster.told(|event| matches!(event, Event::MemberSuspected { .. }));
        let refuted = cluster.told(|event| matches!(event, Event::MemberRefuted { .. }));
        assert!(suspected > 0 && refuted > 0, "seed {seed}: {suspected} and {refuted}");
        let alive = cluster.nodes.iter().flatten().flat_map(|node| node.core.members().members);
        assert!(alive.into_iter().all(|member| member.state == MemberState::Alive));
    }
}

#[test]
fn who_stood_still_for_too_long_hears_of_it_and_comes_back() {
    let mut cluster = Simulation::cluster(5, 20);
    cluster.run(Duration::from_secs(20));
    cluster.stand_still(9, Duration::from_secs(10));
    cluster.run_until(LONG, |cluster| cluster.told(is_died) >= 19).expect("it is declared dead");
    cluster.run(LONG);
    assert!(cluster.all_see(20));
}

#[test]
fn two_that_declared_each_other_dead_over_a_connection_that_stands_find_together_again() {
    for seed in 1..=5 {
        let mut cluster = Simulation::cluster(seed, 2);
        cluster.run(Duration::from_secs(20));
        cluster.cut.extend([(0, 1), (1, 0)]);
        let apart = cluster.run_until(LONG, |cluster| cluster.all_see(1));
        assert!(apart.is_some(), "each believes that the other is dead");
        assert_eq!(cluster.nodes[0].as_ref().unwrap().links, BTreeSet::from([1]));
        cluster.cut.clear();
        let healed = cluster.run_until(LONG, |cluster| cluster.all_see(2)).expect("they see each other");
        assert!(healed < Duration::from_secs(12), "seed {seed}: {healed:?}");
        cluster.run(LONG);
        assert!(cluster.all_see(2));
    }
}

#[test]
fn a_way_that_is_lost_in_one_direction_is_no_death_as_long_as_others_get_through() {
    let mut cluster = Simulation::cluster(6, 10);
    cluster.run(Duration::from_secs(20));
    cluster.cut.insert((2, 3));
    cluster.run(LONG);
    assert_eq!(cluster.told(is_died), 0);
}

#[test]
fn the_halves_of_a_partition_lose_each_other_and_find_together_again() {
    let mut cluster = Simulation::cluster(7, 50);
    cluster.run(Duration::from_secs(20));
    for (a, b) in (0..25).flat_map(|a| (25..50).map(move |b| (a, b))) {
        cluster.cut.extend([(a, b), (b, a)]);
    }
    let apart = cluster.run_until(LONG, |cluster| cluster.all_see(25)).expect("each side sees itself");
    assert!(apart < Duration::from_secs(30), "{apart:?}");
    cluster.run(Duration::from_secs(60));
    cluster.lose_connections();
    cluster.cut.clear();
    let healed = cluster.run_until(LONG, |cluster| cluster.all_see(50)).expect("all see all");
    assert!(healed < Duration::from_secs(10), "{healed:?}");
}

#[test]
fn one_seed_gives_one_run() {
    let run = || {
        let mut cluster = Simulation::cluster(8, 10);
        cluster.run(Duration::from_secs(5));
        cluster.kill(1);
        cluster.run(Duration::from_secs(20));
        cluster.told
    };
    assert!(run() == run());
}

#[test]
fn bytes_that_are_no_gossip_change_nothing_and_those_of_a_later_version_are_passed_over() {
    let mut cluster = Simulation::cluster(9, 2);
    cluster.run(Duration::from_secs(1));
    let now = cluster.now;
    let core = &mut cluster.nodes[0].as_mut().unwrap().core;
    let before = core.members();
    assert!(core.handle_gossip(&name(1), &Bytes::new(), now).is_ok());
    assert!(core.handle_gossip(&name(1), &Bytes::from_static(&[77, 1, 2]), now).is_ok());
    assert!(core.handle_gossip(&name(1), &Bytes::from_static(&[2, 255, 255]), now).is_err());
    assert!(core.handle_gossip(&name(1), &Bytes::from_static(&[1, 255, 255]), now).is_err());
    assert_eq!(core.members(), before);
}

/// The figures of the document. `SKYHOLD_FIGURES=full cargo test -p skyhold --lib --release membership_in_figures -- --nocapture`
#[test]
#[expect(clippy::print_stdout, clippy::cast_precision_loss, reason = "it prints figures")]
fn membership_in_figures() {
    let sizes: &[usize] =
        if std::env::var_os("SKYHOLD_FIGURES").is_some() { &[3, 50, 500] } else { &[3, 20] };
    for &nodes in sizes {
        let mut cluster = Simulation::cluster(1, nodes);
        let joined = cluster.run_until(LONG, |cluster| cluster.all_see(nodes)).expect("all know all");
        cluster.run(Duration::from_secs(60));
        let before = cluster.bytes;
        cluster.run(Duration::from_secs(60));
        let rest = (cluster.bytes - before) as f64 / 60.0 / nodes as f64;
        let mut seen = Vec::new();
        for victim in 1..(nodes - 1).min(6) {
            cluster.kill(victim);
            let death = cluster.run_until(LONG, |cluster| cluster.all_see(nodes - victim));
            seen.push(death.expect("all see it"));
            cluster.run(Duration::from_secs(5));
        }
        println!(
            "{nodes} nodes: full view {joined:?}, {rest:.0} bytes per node and second at rest, deaths seen by all {seen:?}"
        );
        assert!(joined < Duration::from_secs(1) && rest < 4096.0, "{nodes} nodes");
        assert!(seen.iter().all(|death| *death < Duration::from_secs(5)), "{nodes} nodes");
    }
}
