//! Services: tasks, mailboxes and handles. No sockets.
//!
//! | file | what it is |
//! |---|---|
//! | `definition` | what `#[service]` generates for an implementation |
//! | `message`, `reply`, `stub` | what it generates for an interface |
//! | `handle`, `call`, `outbound`, `room`, `reroute` | from a handle's method to the mailbox or the connection |
//! | `deliver`, `parking` | from the wire to the mailbox; where requests of peers wait for room |
//! | `spoken`, `by_name` | messages as JSON; calls by the name of their method |
//! | `queue`, `ring` | the two forms of a mailbox's queue |
//! | `mailbox`, `inbox`, `serve`, `concurrent`, `dispatch` | from the mailbox to the handler |
//! | `core`, `instance`, `life` | the instance, its lives, and who is told of them |
//! | `context`, `timer`, `chain`, `deadlines` | what a handler knows, and what its calls inherit |
//! | `ambient` | for which node a value is read |
//! | `supervisor` | who starts instances, and starts them again |
//! | `watchers`, `watched`, `watch` | who is told of an instance's end; what it watches itself; the stream of ends |
//! | `gauge`, `sojourn` | how full a mailbox is, and how long messages wait in it |
//! | `tap` | shows messages to whoever wants to see them |
//! | `verdict` | whether a value is an `Err` of its service |
//! | `turns`, `watchdog` | who sees that a handler runs too long |
//! | `monitor` | what is counted and measured of instances and methods |
//! | `host`, `tasks` | what a node lends to its instances |
//! | `models` | the races at the ends of instances, for loom |

pub(crate) mod ambient;
pub(crate) mod by_name;
pub(crate) mod call;
pub(crate) mod chain;
pub(crate) mod concurrent;
pub(crate) mod context;
pub(crate) mod core;
pub(crate) mod deadlines;
pub(crate) mod definition;
pub(crate) mod deliver;
pub(crate) mod dispatch;
pub(crate) mod gauge;
pub(crate) mod handle;
pub(crate) mod host;
pub(crate) mod inbox;
pub(crate) mod instance;
pub(crate) mod life;
pub(crate) mod mailbox;
pub(crate) mod message;
#[cfg(test)]
#[cfg(skyhold_loom)]
mod models;
pub(crate) mod monitor;
pub(crate) mod outbound;
mod parking;
pub(crate) mod payload;
pub(crate) mod queue;
pub(crate) mod reply;
pub(crate) mod reroute;
pub(crate) mod ring;
pub(crate) mod room;
pub(crate) mod serve;
pub(crate) mod sojourn;
pub(crate) mod spans;
pub(crate) mod spoken;
pub(crate) mod streaming;
pub(crate) mod stub;
pub(crate) mod supervisor;
pub(crate) mod tap;
pub(crate) mod tasks;
pub(crate) mod timer;
pub(crate) mod turns;
pub(crate) mod verdict;
pub(crate) mod watch;
pub(crate) mod watchdog;
pub(crate) mod watched;
pub(crate) mod watchers;
