//! What a balancer is shown, and what it has to say.

use std::fmt;
use std::ops::Index;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Labels;
use crate::id::{Address, MethodId, NodeId};
use crate::policy::balance::load::Load;
use crate::policy::balance::reported::Reported;

/// Picks the instance of a name that takes a call. Given to a handle by [`ServiceHandle::balance`](crate::ServiceHandle::balance).
///
/// The ones that there are: [`Balance`](crate::Balance) and [`Weighted`](crate::Weighted). Another one is a few lines:
///
/// ```
/// use skyhold::{Balancer, Candidates};
///
/// /// The fewest calls under way, of all instances.
/// struct Fewest;
///
/// impl Balancer for Fewest {
///     fn pick(&self, candidates: Candidates<'_>) -> usize {
///         let all = candidates.iter().enumerate();
///         all.min_by_key(|(_, candidate)| candidate.in_flight()).map_or(0, |(index, _)| index)
///     }
/// }
/// ```
pub trait Balancer: Send + Sync + 'static {
    /// The index of the candidate that takes the call. An index at which there is none counts as that of an arbitrary one.
    ///
    /// It is asked for each call of each clone of a handle, from many threads at a time, and must never wait. It is not asked
    /// if the name has one instance only. A call that an instance gave back unrun is asked for again, without that one.
    ///
    /// # Panics
    /// A panic in here is one in whoever makes the call.
    fn pick(&self, candidates: Candidates<'_>) -> usize;
}

/// The instances that may take a call: at least one, in the order of their nodes and numbers.
///
/// What has refused this call already is not among them, nor what is passed over because it fails, nor, most of the
/// time, what has just been started (see [`Balance`](crate::Balance)).
#[derive(Clone, Copy)]
pub struct Candidates<'a> {
    all: &'a [Candidate],
    /// The places of those that are meant, if not all are.
    offered: Option<&'a [usize]>,
    turn: u64,
    point: u64,
    now: u64,
}

impl<'a> Candidates<'a> {
    /// `point` is one of a sequence that is spread evenly over all numbers.
    pub(crate) fn new(all: &'a [Candidate], offered: Option<&'a [usize]>, draw: Draw, now: u64) -> Self {
        let Draw { turn, point } = draw;
        Self { all, offered, turn, point, now }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.offered.map_or(self.all.len(), <[usize]>::len)
    }

    /// Whether there is none, which a balancer never sees.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The candidate at an index.
    pub fn get(&self, index: usize) -> Option<&'a Candidate> {
        self.all.get(self.place(index)?)
    }

    /// All of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a Candidate> + use<'a> {
        let Self { all, offered, .. } = *self;
        (0..self.len()).map(move |index| &all[offered.map_or(index, |offered| offered[index])])
    }

    /// The number of this call among those of the handle and its clones. Where a call is made again it is that of before,
    /// or one near it.
    pub fn turn(&self) -> u64 {
        self.turn
    }

    /// A random number, another one for each call.
    pub fn random(&self) -> u64 {
        mix(self.point)
    }

    /// A number between 0 and `limit`, which it does not reach: those of successive calls are spread more evenly than
    /// random ones.
    pub(super) fn even(&self, limit: u64) -> u64 {
        scale(self.point, limit)
    }

    /// What the next call to a candidate is expected to take.
    pub(super) fn cost(&self, index: usize) -> f32 {
        self.get(index).map_or(f32::MAX, |candidate| candidate.load.cost(self.now))
    }

    /// The place of an index among all candidates.
    pub(crate) fn place(&self, index: usize) -> Option<usize> {
        match self.offered {
            None => (index < self.all.len()).then_some(index),
            Some(offered) => offered.get(index).copied(),
        }
    }
}

impl Index<usize> for Candidates<'_> {
    type Output = Candidate;

    /// # Panics
    /// If there is no candidate at that index.
    fn index(&self, index: usize) -> &Candidate {
        match self.get(index) {
            Some(candidate) => candidate,
            None => panic!("candidate {index} of {}", self.len()),
        }
    }
}

impl fmt::Debug for Candidates<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// An instance that may take a call.
///
/// What it knows comes from the calls of this node, through handles to its name: all of these share it. Nothing is learned
/// of an instance while it is the only one of its name, nor through a handle to that instance alone. What it has to do for
/// others its node tells.
pub struct Candidate {
    address: Address,
    labels: Arc<Labels>,
    is_local: bool,
    load: Arc<Load>,
    /// What it has to do for everybody.
    reported: Reported,
    /// What it understands, if that is known.
    methods: Option<Arc<[MethodId]>>,
}

impl Candidate {
    pub(crate) fn new(
        address: Address,
        labels: Arc<Labels>,
        is_local: bool,
        load: Arc<Load>,
        reported: Reported,
        methods: Option<Arc<[MethodId]>>,
    ) -> Self {
        Self { address, labels, is_local, load, reported, methods }
    }

    /// Whether it understands all of these. Mostly it runs the same code, and has them in the same order.
    pub(crate) fn understands_all(&self, methods: &[MethodId]) -> bool {
        self.methods.as_deref().is_none_or(|known| known == methods)
            || methods.iter().all(|method| self.understands(*method))
    }

    /// Whether it understands a method, as far as is known.
    pub(crate) fn understands(&self, method: MethodId) -> bool {
        self.methods.as_ref().is_none_or(|methods| methods.contains(&method))
    }

    /// The instance.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The node on which it runs.
    pub fn node(&self) -> &NodeId {
        &self.address.node
    }

    /// Its labels, and those of its node.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Whether that is the caller's own node.
    pub fn is_local(&self) -> bool {
        self.is_local
    }

    /// How many calls of this node wait for its answer. Sends count until they are handed over.
    pub fn in_flight(&self) -> usize {
        self.load.in_flight()
    }

    /// How many messages it has to do for all its callers, as its own node said last, about once a second: the power of two below that
    /// number, and 0 for fewer than 4. What an instance of this node has to do is measured as long as a peer is there to be told.
    ///
    /// All callers see the same old number: a balancer that always takes the smallest one sends them all to one instance at a time, from second
    /// to second to another one. So none of those that there are goes by it.
    pub fn reported_load(&self) -> usize {
        self.reported.get() as usize
    }

    /// How long its answers have taken: a moving average that follows a rise at once and a fall over 10 s. `None` before the
    /// first answer to a call that was measured, as those of [`Balance::LeastLoaded`](crate::Balance::LeastLoaded),
    /// [`Balance::LocalFirst`](crate::Balance::LocalFirst) and of all balancers that are no [`Balance`](crate::Balance) are.
    pub fn latency(&self) -> Option<Duration> {
        let nanos = self.load.latency()?;
        Some(Duration::try_from_secs_f32(nanos / 1e9).unwrap_or(Duration::MAX))
    }

    pub(crate) fn load(&self) -> &Load {
        &self.load
    }
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Candidate")
            .field("address", &self.address)
            .field("is_local", &self.is_local)
            .field("in_flight", &self.in_flight())
            .field("reported_load", &self.reported_load())
            .field("latency", &self.latency())
            .finish_non_exhaustive()
    }
}

/// What distinguishes one call of a handle from the next.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Draw {
    turn: u64,
    point: u64,
}

impl Draw {
    /// A seed for a handle, made of a number that others do not have.
    pub(crate) fn seed(number: u64) -> u64 {
        mix(number.wrapping_mul(GOLDEN))
    }

    /// The call of this number, of a handle with this seed.
    #[inline]
    pub(crate) fn new(seed: u64, turn: u64) -> Self {
        Self { turn, point: seed.wrapping_add(turn.wrapping_mul(GOLDEN)) }
    }

    /// A number that is spread evenly over all numbers among those of successive calls.
    pub(crate) fn point(self) -> u64 {
        self.point
    }

    /// A random number.
    pub(crate) fn random(self) -> u64 {
        mix(self.point)
    }
}

/// 2^64 divided by the golden ratio: its multiples are spread evenly. Both this and [`mix`] are those of `SplitMix64` (Steele, Lea
/// and Flood, "Fast splittable pseudorandom number generators", 2014).
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

pub(super) fn mix(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// Brings any number below a limit, evenly.
pub(super) fn scale(number: u64, limit: u64) -> u64 {
    ((u128::from(number) * u128::from(limit)) >> 64) as u64
}
