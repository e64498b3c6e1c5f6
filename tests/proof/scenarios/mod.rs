//! The scenarios. Each is named after what it claims.

mod cuts;
mod ends;
mod stops;

use crate::Fallible;
use crate::scene::Scene;

/// A scenario.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// Whether the network has to be cut for it.
    pub(crate) needs_cuts: bool,
    /// Whether it is left out of the short run.
    pub(crate) is_long: bool,
    pub(crate) play: fn(&mut Scene<'_>) -> Fallible<()>,
}

/// All of them, in their order.
pub(crate) fn all() -> Vec<Scenario> {
    let scenario = |name, needs_cuts, is_long, play| Scenario { name, needs_cuts, is_long, play };
    vec![
        scenario("one_way_drop_makes_nobody_dead", true, false, cuts::one_way),
        scenario("isolated_node_is_dead_to_all_and_comes_back", true, false, cuts::isolation),
        scenario("islands_go_on_and_find_together", true, false, cuts::islands),
        scenario("stopped_for_2_s_is_not_dead", false, false, stops::two_seconds),
        scenario("killed_is_known_at_once_and_restarted_too", false, false, ends::killed),
        scenario("rolling_restart_fails_no_routed_call", false, false, ends::rolling_restart),
        scenario("stopped_for_10_s_is_dead_and_comes_back", false, true, stops::ten_seconds),
        scenario("starved_for_60_s_is_not_dead", false, true, stops::starved),
    ]
}
