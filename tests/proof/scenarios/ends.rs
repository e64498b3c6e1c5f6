//! Processes end, by force and in order, and others take their places.

use std::time::Duration;

use crate::Fallible;
use crate::clock::{self, between};
use crate::scene::{HEALED, SLACK, Scene, pause};
use crate::words::{NODES, What, name};

/// What is promised for the end of a process that its system tells of.
const AT_ONCE: Duration = Duration::from_millis(100);

/// Within what a process that is started again is a member and called again by all.
const BACK: Duration = Duration::from_secs(2);

/// Killed, a process is dead to all at once. Started again at its address, be it later or right away, it is a new life to all, and the handles
/// of before lead there.
pub(crate) fn killed(scene: &mut Scene<'_>) -> Fallible<()> {
    scene.load(scene.mixed())?;
    let rounds = if scene.plan.is_full { 10 } else { 2 };
    for round in 0..rounds {
        let [node, others @ ..] = scene.shuffled();
        let before = scene.cluster.incarnation(node);
        let since = scene.fault();
        scene.cluster.kill(node)?;
        let is_quick = round % 2 == 1;
        if is_quick {
            scene.cluster.spawn(node)?;
        }
        let died = scene.all_tell(&others, (What::Died, node), since, AT_ONCE + SLACK);
        let is_old = died.iter().all(|told| told.incarnation == before);
        scene.check(is_old, || format!("another life of n{node} died: {died:?}"));
        if !is_quick {
            pause(1000);
            scene.cluster.spawn(node)?;
        }
        let up = scene.cluster.up(node)?;
        let now = scene.cluster.incarnation(node);
        scene.check(now > before, || format!("the lives of n{node} are not in order: {before}, {now}"));
        let back = scene.cluster.all_see_all(HEALED).map(|at| between(up, at));
        scene.time(if is_quick { "back, started at once" } else { "back, started later" }, back, BACK);
        scene.cluster.load(&[node], scene.mixed())?;
        scene.all_goes_well(700);
    }
    scene.seen(format!("{rounds} processes have ended by signal 9"));
    Ok(())
}

/// All nodes are shut down and started again, one after the other, under load. Whoever calls through a name notices nothing.
pub(crate) fn rolling_restart(scene: &mut Scene<'_>) -> Fallible<()> {
    scene.load(scene.routed())?;
    let since = clock::now();
    for node in scene.shuffled() {
        let (others, at) = ((0..NODES).filter(|other| *other != node), clock::now());
        let others: Vec<_> = others.collect();
        let before = scene.cluster.incarnation(node);
        scene.cluster.shut_down(node)?;
        scene.row.measure("shutdown under load", between(at, clock::now()));
        scene.all_tell(&others, (What::Left, node), at, Duration::from_secs(2) + SLACK);
        scene.cluster.spawn(node)?;
        let up = scene.cluster.up(node)?;
        let is_new = scene.cluster.incarnation(node) > before;
        scene.check(is_new, || format!("{} has no new life", name(node)));
        let back = scene.cluster.all_see_all(HEALED).map(|at| between(up, at));
        scene.time("back", back, BACK);
        scene.cluster.load(&[node], scene.routed())?;
        pause(300);
    }
    scene.seen("each of 5 processes has ended with success and has a new life");
    scene.all_goes_well(500);
    scene.none_may_fail(since, clock::now(), |_| true);
    scene.nobody_tells(What::Died, since);
    Ok(())
}
