//! Many children: nothing is left of those that are gone, and none is paid for by the others.

use super::script::Stage;
use crate::policy::restart::{Action, Ended, Key, Supervision};
use crate::supervision::{Intensity, Restart, Strategy};

/// How many children there are. If each cost O(n), the tests below would take minutes.
const MANY: usize = 100_000;

/// Does at once what the supervisor says.
fn obey(core: &mut Supervision, now: std::time::Instant) -> usize {
    let mut actions = 0;
    while let Some(action) = core.poll_action() {
        actions += 1;
        match action {
            Action::Start(key) => core.handle_started(key, now),
            Action::Stop(key) => core.handle_ended(key, Ended::Normal, now),
            _ => {}
        }
    }
    actions
}

fn supervision(strategy: Strategy) -> Supervision {
    Supervision::new(strategy, Intensity::unlimited(), fastrand::Rng::with_seed(7))
}

#[test]
fn a_child_among_a_hundred_thousand_is_started_restarted_and_stopped_for_little() {
    for strategy in [Strategy::Dynamic, Strategy::OneForOne] {
        let (mut core, now) = (supervision(strategy), super::start());
        let keys: Vec<Key> = (0..MANY).map(|_| core.add(Restart::on_failure())).collect();
        core.start();
        assert_eq!(obey(&mut core, now), MANY + 1);
        for _ in 0..2 {
            for key in keys.iter().step_by(10) {
                core.handle_ended(*key, Ended::Failed, now);
                obey(&mut core, now);
            }
        }
        assert_eq!(core.pauses.len(), MANY / 10, "each waits on its own");
        let later = now + std::time::Duration::from_millis(100);
        core.handle_timeout(later);
        assert_eq!(obey(&mut core, later), MANY / 10);
        core.stop();
        assert_eq!(obey(&mut core, later), MANY + 1);
    }
}

#[test]
fn a_group_of_a_hundred_thousand_is_restarted_touching_each_once() {
    let (mut core, now) = (supervision(Strategy::OneForAll), super::start());
    let keys: Vec<Key> = (0..MANY).map(|_| core.add(Restart::always())).collect();
    core.start();
    obey(&mut core, now);
    core.handle_ended(keys[0], Ended::Failed, now);
    assert_eq!(obey(&mut core, now), 2 * MANY - 1);
}

#[test]
fn nothing_is_left_of_a_million_children_that_are_gone() {
    let (mut core, now) = (supervision(Strategy::Dynamic), super::start());
    core.start();
    let kept = core.add(Restart::always());
    obey(&mut core, now);
    for turn in 0..1_000_000 {
        let key = core.add(Restart::never());
        if turn % 4 == 0 {
            core.remove(key, now);
        } else {
            obey(&mut core, now);
            core.handle_ended(key, Ended::Failed, now);
        }
        obey(&mut core, now);
    }
    assert_eq!(core.children.keys().collect::<Vec<_>>(), [&kept]);
    assert!(core.pauses.is_empty() && core.ended.is_empty() && core.actions.is_empty());
    assert!(core.ended.capacity() < 100 && core.actions.capacity() < 100);
}

#[test]
fn the_driver_is_told_of_a_forgotten_child_exactly_once() {
    let mut stage = Stage::new("dynamic: a:never b");
    stage.input("start");
    stage.drain();
    stage.input("fail a");
    stage.input("remove a");
    assert_eq!(stage.drain(), ["forget a"]);
}
