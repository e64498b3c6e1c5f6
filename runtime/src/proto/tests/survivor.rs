//! Two nodes that dial each other: whatever crosses whatever on the way, they end with one connection, the same one.

use std::collections::{BTreeSet, VecDeque};

use crate::id::{Incarnation, NodeId};
use crate::proto::frame::RefuseReason;
use crate::proto::survivor::{Admit, Existing, admit};

#[test]
fn the_rule_is_the_one_that_was_published() {
    let (a, b) = (NodeId::new("a").unwrap(), NodeId::new("b").unwrap());
    let up = |incarnation, dialled_by_me| Existing::Up {
        incarnation: Incarnation(incarnation),
        dialled_by_me,
        is_later: false,
    };
    let later = Existing::Up { incarnation: Incarnation(5), dialled_by_me: false, is_later: true };
    let duplicate = Admit::Refuse(RefuseReason::Duplicate);
    let stale = Admit::Refuse(RefuseReason::StaleIncarnation);
    for (me, peer, existing, expected) in [
        (&a, &b, Existing::None, Admit::Accept),
        (&b, &a, Existing::Dialing, Admit::Accept),
        (&a, &b, Existing::Dialing, duplicate),
        (&a, &b, up(4, true), Admit::Replace),
        (&a, &b, up(4, false), Admit::Replace),
        (&a, &b, up(6, true), stale),
        (&a, &b, up(6, false), stale),
        (&a, &b, up(5, false), Admit::Replace),
        (&b, &a, up(5, false), Admit::Replace),
        (&a, &b, up(5, true), duplicate),
        (&a, &b, later, duplicate),
        (&b, &a, later, duplicate),
        (&b, &a, up(5, true), Admit::Replace),
    ] {
        assert_eq!(
            admit(me, peer, Incarnation(5), existing),
            expected,
            "{peer} to {me} that has {existing:?}"
        );
    }
}

/// What passes on a connection, after the dialler has proven itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Passing {
    Ask,
    Welcome,
    Refuse,
    /// A goodbye, or the stream's end.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Has {
    Nothing,
    Dial(usize),
    Up(usize),
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Link {
    dialler: usize,
    /// What is on its way to node 0 and to node 1.
    to: [VecDeque<Passing>; 2],
}

/// All that two nodes and the network between them know.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct World {
    has: [Has; 2],
    links: Vec<Link>,
    dials_left: [u8; 2],
    breaks_left: u8,
}

impl World {
    /// Every world that can come next.
    fn next(&self) -> Vec<World> {
        let mut next = vec![];
        for node in 0..2 {
            if self.has[node] == Has::Nothing && self.dials_left[node] > 0 {
                next.push(self.clone().dial(node));
            }
            for link in 0..self.links.len() {
                if !self.links[link].to[node].is_empty() {
                    next.push(self.clone().deliver(link, node));
                }
            }
        }
        if self.breaks_left > 0 {
            next.extend((0..self.links.len()).map(|link| self.clone().cut(link)));
        }
        next
    }

    fn dial(mut self, node: usize) -> Self {
        self.dials_left[node] -= 1;
        self.has[node] = Has::Dial(self.links.len());
        let mut to = [VecDeque::new(), VecDeque::new()];
        to[1 - node].push_back(Passing::Ask);
        self.links.push(Link { dialler: node, to });
        self
    }

    /// The stream breaks: what was on its way is lost, and each end hears of it in its own time.
    fn cut(mut self, link: usize) -> Self {
        self.breaks_left -= 1;
        self.links[link].to = [VecDeque::from([Passing::End]), VecDeque::from([Passing::End])];
        self
    }

    fn deliver(mut self, link: usize, node: usize) -> Self {
        let passing = self.links[link].to[node].pop_front().unwrap();
        match passing {
            Passing::Ask => self.ask(link, node),
            Passing::Welcome => {
                // The latest to be established is the one that both have heard of last.
                self.leave(node);
                self.has[node] = Has::Up(link);
            }
            Passing::Refuse | Passing::End => {
                if self.has[node] == Has::Up(link) || self.has[node] == Has::Dial(link) {
                    self.has[node] = Has::Nothing;
                }
            }
        }
        self
    }

    fn ask(&mut self, link: usize, node: usize) {
        let names = ["a", "b"].map(|name| NodeId::new(name).unwrap());
        let existing = match self.has[node] {
            Has::Nothing => Existing::None,
            Has::Dial(_) => Existing::Dialing,
            Has::Up(up) => {
                let dialled_by_me = self.links[up].dialler == node;
                Existing::Up {
                    incarnation: Incarnation(1),
                    dialled_by_me,
                    is_later: !dialled_by_me && up > link,
                }
            }
        };
        let answer = match admit(&names[node], &names[1 - node], Incarnation(1), existing) {
            Admit::Accept | Admit::Replace => {
                self.leave(node);
                self.has[node] = Has::Up(link);
                Passing::Welcome
            }
            Admit::Refuse(_) => Passing::Refuse,
        };
        self.links[link].to[1 - node].push_back(answer);
    }

    /// Says goodbye on the connection that the node has, if it has one.
    fn leave(&mut self, node: usize) {
        if let Has::Up(old) = self.has[node] {
            self.links[old].to[1 - node].push_back(Passing::End);
        }
    }
}

/// Walks through every order of events; gives the number of worlds in which nothing more can happen, after `last` has
/// looked at each.
fn walk(dials: [u8; 2], breaks: u8, last: impl Fn(&World)) -> usize {
    let first = World { has: [Has::Nothing; 2], links: vec![], dials_left: dials, breaks_left: breaks };
    let mut seen = BTreeSet::from([first.clone()]);
    let mut open = vec![first];
    let mut ends = 0;
    while let Some(world) = open.pop() {
        let next = world.next();
        let quiet = world.links.iter().all(|link| link.to.iter().all(VecDeque::is_empty));
        let dialling = (0..2).any(|node| world.has[node] == Has::Nothing && world.dials_left[node] > 0);
        if quiet && !dialling {
            ends += 1;
            last(&world);
        }
        open.extend(next.into_iter().filter(|world| seen.insert(world.clone())));
    }
    ends
}

#[test]
fn of_simultaneous_dials_exactly_one_survives_and_both_agree_which() {
    for dials in [[1, 0], [0, 1], [1, 1], [2, 2], [3, 3]] {
        let ends = walk(dials, 0, |world| {
            let Has::Up(link) = world.has[0] else { panic!("node a has no connection: {world:?}") };
            assert_eq!(world.has[1], Has::Up(link), "{world:?}");
        });
        assert!(ends > 0);
    }
}

#[test]
fn after_a_break_the_nodes_agree_again() {
    for (dials, breaks) in [([2, 2], 1), ([2, 3], 1), ([3, 3], 1), ([3, 2], 2)] {
        let ends = walk(dials, breaks, |world| {
            // Without dials left both may end with nothing, but never with different things.
            assert_eq!(world.has[0], world.has[1], "{world:?}");
        });
        assert!(ends > 0);
    }
}
