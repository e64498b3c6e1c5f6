//! The network fails, in part, while every process is well.

use crate::Fallible;
use crate::clock::{self, between};
use crate::namespaces::Namespaces;
use crate::scene::{SILENCE, SLACK, Scene, pause};
use crate::words::{NODES, What, name};

/// What one node sends another one is lost, for longer than the silence. Both are there for the three others, so neither is dead.
pub(crate) fn one_way(scene: &mut Scene<'_>) -> Fallible<()> {
    scene.load(scene.mixed())?;
    let [from, to, ..] = scene.shuffled();
    let cables = cables(scene)?;
    let since = scene.fault();
    cables.drop_one_way(from, to)?;
    scene.ways(&format!("n{from} -> n{to} is dropped"), |a, b| (a, b) != (from, to))?;
    // The one hears nothing. The other one hears what comes again and again, as its receipt does not get through, and then nothing new.
    scene.all_tell(&[to], (What::PeerDown, from), since, SILENCE + SLACK);
    scene.all_tell(&[from], (What::PeerDown, to), since, 2 * SILENCE + SLACK);
    pause(if scene.plan.is_full { 25_000 } else { 1500 });
    scene.ways("the drop at its end", |a, b| (a, b) != (from, to))?;
    let healed = clock::now();
    // Calls between nodes that are not concerned do not notice.
    scene.none_may_fail(since, healed, move |call| {
        let caller = crate::records::caller(call.number).0;
        call.target.is_some_and(|target| ![from, to].contains(&target)) && ![from, to].contains(&caller)
    });
    cables.heal()?;
    scene.heals(healed, "whole again")?;
    scene.nobody_tells(What::Died, since);
    Ok(())
}

/// A node's cable is pulled: the four and the one are dead to each other within the silence, and whole again within the time to heal.
pub(crate) fn isolation(scene: &mut Scene<'_>) -> Fallible<()> {
    cut(scene, 1)
}

/// Two and three nodes, each of which go on for themselves.
pub(crate) fn islands(scene: &mut Scene<'_>) -> Fallible<()> {
    cut(scene, 2)
}

fn cut(scene: &mut Scene<'_>, size: usize) -> Fallible<()> {
    scene.load(scene.mixed())?;
    let mut nodes = scene.shuffled();
    let (few, many) = nodes.split_at_mut(size);
    few.sort_unstable();
    many.sort_unstable();
    let (few, many): (&[usize], &[usize]) = (few, many);
    let cables = cables(scene)?;
    let since = scene.fault();
    match few {
        [one] => cables.isolate(*one)?,
        several => cables.move_away(several)?,
    }
    let is_open = |a: usize, b: usize| few.contains(&a) == few.contains(&b);
    scene.ways(&format!("{few:?} are cut from {many:?}"), is_open)?;
    for (here, there) in [(few, many), (many, few)] {
        for lost in there {
            scene.all_tell(here, (What::Died, *lost), since, SILENCE + SLACK);
        }
    }
    let split = scene.cluster.groups_see_themselves(&[few, many], SILENCE + SLACK);
    scene.time("each side sees itself alone", split.map(|at| between(since, at)), SILENCE + SLACK);
    // From here on whoever calls anybody calls somebody on the own side.
    let begin = clock::now();
    pause(1000);
    scene.none_may_fail(begin, clock::now(), |call| call.target.is_none());
    scene.ways("the cut at its end", is_open)?;
    let healed = clock::now();
    cables.heal()?;
    scene.ways("healed", |_, _| true)?;
    scene.heals(healed, "whole again")?;
    // Who was on one's own side all the time was never dead.
    let died = scene.cluster.board.told(What::Died, since).into_iter().filter(|told| {
        let of = (0..NODES).find(|node| name(*node) == told.of);
        of.is_some_and(|of| is_open(told.by.node, of))
    });
    let died: Vec<_> = died.map(|told| format!("n{} {}", told.by.node, told.of)).collect();
    scene.check(died.is_empty(), || format!("told dead on the own side (by whom, who): {}", died.join(", ")));
    Ok(())
}

fn cables<'a>(scene: &Scene<'a>) -> Fallible<&'a Namespaces> {
    Ok(scene.cluster.network.cables().ok_or("nothing can be cut here")?)
}
