//! What a supervisor is told: which children come back together, when one comes back, and when it is too often.
//!
//! Invariant: plain values. What is decided from them is in `policy::restart`.
//!
//! The words and their meanings are those of Erlang/OTP's `supervisor`
//! (<https://www.erlang.org/doc/system/sup_princ.html>); each type says where it differs.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::InstanceId;

/// Which children are restarted when one of them is to come back.
///
/// Children have an order, that in which they were added. They are started in it, each when the one before is up, and
/// stopped in its reverse.
///
/// ```
/// use skyhold::Strategy;
///
/// assert_eq!(Strategy::default(), Strategy::OneForOne);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Strategy {
    /// That child alone. The default.
    #[default]
    OneForOne,
    /// All of them: the others are stopped in reverse order, then all are started in order.
    OneForAll,
    /// That child and those after it: these are stopped in reverse order, then all of them are started in order.
    RestForOne,
    /// That child alone. Children are added and removed while the supervisor runs, so many that they are stopped all
    /// at once and not one after the other. This is OTP's `simple_one_for_one`, whose children need not be alike
    /// here.
    Dynamic,
}

/// When a child comes back after its end, and how fast: its restart policy.
///
/// *Failing* is to panic, to end with an error or to be killed; every other end is normal.
///
/// | | fails | ends normally | OTP says |
/// |---|---|---|---|
/// | [`Restart::always`] | comes back | comes back | `permanent` |
/// | [`Restart::on_failure`], the default | comes back | is gone | `transient` |
/// | [`Restart::never`] | is gone | is gone | `temporary` |
///
/// # Pauses
///
/// OTP restarts at once, always. Here that is so for a child that fails after it was healthy, and for the first
/// failure of all. Each further failure before the child has been healthy again is followed by a pause: 100 ms, then
/// twice as long each time, up to 10 s; see [`Restart::backoff`]. A child was healthy if it ran for at least 30 s;
/// see [`Restart::healthy_after`]. A start that fails is a failure too. So is a normal end of a child that always
/// comes back.
///
/// The pauses shorten with jitter: each lasts between half of its length and all of it, chosen evenly, so that
/// children which failed together do not come back together.
///
/// A supervisor gives up before pauses get long unless its [`Intensity`] lets it go on: with the default of 3
/// restarts in 5 s a child that fails whenever it is started is restarted at once, after 100 ms and after 200 ms, and
/// no more.
///
/// ```
/// use std::time::Duration;
/// use skyhold::Restart;
///
/// let patient = Restart::always()
///     .backoff(Duration::from_secs(1), Duration::from_secs(60))
///     .healthy_after(Duration::from_secs(300));
/// assert_ne!(patient, Restart::always());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Restart {
    pub(crate) when: When,
    pub(crate) first: Duration,
    pub(crate) longest: Duration,
    pub(crate) healthy_after: Duration,
}

/// After which ends a child comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum When {
    Always,
    OnFailure,
    Never,
}

impl Restart {
    /// The child comes back after every end.
    pub fn always() -> Self {
        Self::new(When::Always)
    }

    /// The child comes back if it failed. This is the default; OTP's is to come back always.
    pub fn on_failure() -> Self {
        Self::new(When::OnFailure)
    }

    /// The child does not come back, and its failure touches no other child. Neither does it come back when a
    /// sibling's failure stops it.
    pub fn never() -> Self {
        Self::new(When::Never)
    }

    /// How long to wait before a restart, unless it is the first since the child was healthy: `first`, then
    /// twice as long each time, up to `longest`. The defaults are 100 ms and 10 s.
    ///
    /// With a `longest` of zero there are no pauses. A `first` above `longest` counts as `longest`.
    #[must_use]
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.first = first;
        self.longest = longest;
        self
    }

    /// How long a child must have run to count as healthy: its next failure is the first again. The default is 30 s.
    ///
    /// With zero every child that started was healthy, and only starts that fail are followed by pauses.
    #[must_use]
    pub fn healthy_after(mut self, time: Duration) -> Self {
        self.healthy_after = time;
        self
    }

    fn new(when: When) -> Self {
        Self { when, first: FIRST, longest: LONGEST, healthy_after: HEALTHY_AFTER }
    }
}

impl Default for Restart {
    fn default() -> Self {
        Self::on_failure()
    }
}

/// How the instances of a service are restarted when somebody wishes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Pace {
    /// One after the other, each when the one before is up again. The default.
    #[default]
    Rolling,
    /// All at once.
    AtOnce,
}

/// How many restarts a supervisor makes within how long before it gives up: it stops its children, ends, and so
/// becomes a failure of its own supervisor's child.
///
/// The window slides: at each restart those of the last `within` are counted, this one included, and one that is
/// exactly `within` ago still counts. That a whole group comes back for one failure ([`Strategy::OneForAll`],
/// [`Strategy::RestForOne`]) counts once. The first start of a child does not count.
///
/// ```
/// use std::time::Duration;
/// use skyhold::Intensity;
///
/// assert_eq!(Intensity::default(), Intensity::new(3, Duration::from_secs(5)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Intensity {
    pub(crate) limit: Option<Limit>,
}

/// So many restarts in this time, and no more.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Limit {
    pub(crate) restarts: u32,
    pub(crate) within: Duration,
}

impl Intensity {
    /// At most `restarts` in any time of length `within`; the next one is one too many. With 0 the first failure of a
    /// child that would come back ends the supervisor.
    ///
    /// The default is 3 restarts in 5 s, as in Elixir; OTP's is 1 in 5 s.
    pub fn new(restarts: u32, within: Duration) -> Self {
        Self { limit: Some(Limit { restarts, within }) }
    }

    /// The supervisor never gives up. A child that keeps failing is held back by its pauses alone, see
    /// [`Restart::backoff`].
    pub fn unlimited() -> Self {
        Self { limit: None }
    }
}

impl Default for Intensity {
    fn default() -> Self {
        Self::new(RESTARTS, WITHIN)
    }
}

/// The first pause before a restart.
const FIRST: Duration = Duration::from_millis(100);

/// The longest pause before a restart.
const LONGEST: Duration = Duration::from_secs(10);

/// How long a child runs until it counts as healthy.
const HEALTHY_AFTER: Duration = Duration::from_secs(30);

/// How many restarts a supervisor makes within [`WITHIN`].
const RESTARTS: u32 = 3;

/// The time in which [`RESTARTS`] are counted.
const WITHIN: Duration = Duration::from_secs(5);

/// A child of a running supervisor, as it was when it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ChildInfo {
    /// The service's or the supervisor's name.
    pub name: String,
    /// The instance's number; `None` for a supervisor, and for what was never started.
    pub instance: Option<InstanceId>,
    /// What it does.
    pub state: ChildState,
    /// How many lives were begun after the first.
    pub restarts: u64,
}

/// What a child of a supervisor does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ChildState {
    /// It waits for another life to begin.
    Down,
    /// A life begins.
    Starting,
    /// It runs.
    Up,
    /// It was told to end.
    Stopping,
}
