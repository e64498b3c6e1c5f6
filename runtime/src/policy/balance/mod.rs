//! Which instance of a name takes a call.
//!
//! * [`candidates`]: what a balancer is shown, and the trait itself.
//! * [`kinds`], [`weighted`]: the balancers that there are.
//! * [`load`]: what is known of one instance, by the calls that are under way to it.
//! * [`reported`]: what its own node says that it has to do.
//! * [`latency`]: how long its answers take.
//! * [`standing`]: whether it is passed over, by its failures, and how much a new one gets.
//! * [`pool`]: the instances of a name together: who is new, and how many may be passed over.
//! * [`offer`]: which candidates a balancer is shown. This is where rules that narrow the choice belong.
//!
//! Times are nanoseconds since the node's start, never 0.
//!
//! Invariant: nothing here waits, reads a clock or draws a random number: `now` and numbers are arguments.

pub(crate) mod candidates;
pub(crate) mod kinds;
mod latency;
pub(crate) mod load;
pub(crate) mod offer;
pub(crate) mod pool;
pub(crate) mod reported;
mod standing;
pub(crate) mod weighted;

#[cfg(test)]
mod tests;
