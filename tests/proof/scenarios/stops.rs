//! A process stands still or hardly gets on, while its machine and the network are well.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::Fallible;
use crate::clock;
use crate::scene::{SILENCE, SLACK, Scene, pause};
use crate::words::{Command, What};

/// A pause of 2 s is no death: nobody is told dead, and no connection ends.
pub(crate) fn two_seconds(scene: &mut Scene<'_>) -> Fallible<()> {
    scene.load(scene.mixed())?;
    let [node, ..] = scene.shuffled();
    let since = scene.fault();
    stopped(scene, node, |_| {
        pause(1000);
        Ok(())
    })?;
    let gone_on = clock::now();
    scene.heals(gone_on, "whole again")?;
    scene.nobody_tells(What::Died, since);
    scene.nobody_tells(What::PeerDown, since);
    Ok(())
}

/// A pause of 10 s is a death, which is taken back when the node goes on.
pub(crate) fn ten_seconds(scene: &mut Scene<'_>) -> Fallible<()> {
    scene.load(scene.mixed())?;
    let [node, others @ ..] = scene.shuffled();
    let incarnation = scene.cluster.incarnation(node);
    let since = scene.fault();
    stopped(scene, node, |scene| {
        scene.all_tell(&others, (What::Died, node), since, SILENCE + SLACK);
        let left = Duration::from_secs(10).saturating_sub(clock::between(since, clock::now()));
        std::thread::sleep(left);
        let back = scene.told(What::Joined, node, since);
        scene.check(back.is_empty(), || format!("n{node} stands still and is back all the same: {back:?}"));
        Ok(())
    })?;
    let gone_on = clock::now();
    let back = scene.all_tell(&others, (What::Joined, node), gone_on, crate::scene::HEALED + SLACK);
    let is_same = back.iter().all(|told| told.incarnation == incarnation);
    scene.check(is_same, || format!("n{node} came back as another life: {back:?}"));
    scene.heals(gone_on, "whole again")
}

/// Stops a process, shows that it is stopped before and after `meanwhile`, and lets it go on.
fn stopped<'a>(
    scene: &mut Scene<'a>,
    node: usize,
    meanwhile: impl FnOnce(&mut Scene<'a>) -> Fallible<()>,
) -> Fallible<()> {
    let begin = Instant::now();
    scene.cluster.process(node)?.stop()?;
    scene.seen(format!("n{node}: every thread is in state T"));
    scene.ways(&format!("n{node} is stopped"), |from, to| ![from, to].contains(&node))?;
    meanwhile(scene)?;
    std::thread::sleep(Duration::from_secs(2).saturating_sub(begin.elapsed()));
    let is_stopped = scene.cluster.process(node)?.is_stopped();
    scene.check(is_stopped, || format!("n{node} went on by itself"));
    scene.row.measure("stopped for", begin.elapsed());
    scene.cluster.process(node)?.go_on()?;
    Ok(())
}

/// For a minute a process gets a fifth of a processor, as under a quota of 20 ms in each 100 ms. Nobody is told dead.
pub(crate) fn starved(scene: &mut Scene<'_>) -> Fallible<()> {
    const PERIOD: Duration = Duration::from_millis(100);
    const ITS_PART: Duration = Duration::from_millis(20);
    scene.load(scene.mixed())?;
    let [node, ..] = scene.shuffled();
    // It would use all of a processor, and more.
    scene.cluster.process(node)?.tell(&Command::Burn)?;
    let (since, begin) = (scene.fault(), Instant::now());
    let process = scene.cluster.process(node)?;
    let used_before = process.processor_time().ok_or("no account of processor time")?;
    let mut stopped = Duration::ZERO;
    while begin.elapsed() < Duration::from_secs(60) {
        let turn = Instant::now();
        process.signal(Signal::STOP)?;
        std::thread::sleep(PERIOD - ITS_PART);
        process.signal(Signal::CONT)?;
        stopped += turn.elapsed();
        std::thread::sleep(PERIOD.saturating_sub(turn.elapsed()));
    }
    let took = begin.elapsed();
    let used = process.processor_time().ok_or("no account of processor time")? - used_before;
    let part = used / took.as_secs_f64();
    let still = stopped.as_secs_f64() / took.as_secs_f64();
    scene.row.measure("starved for", took);
    scene.seen(format!(
        "n{node}: stopped for {:.0} % of the time, used {:.0} % of a processor",
        still * 100.0,
        part * 100.0
    ));
    // It has two processors in its part of the time, of which it shares both.
    scene.check(part < 0.4 && still > 0.7, || "the process was not starved".to_owned());
    scene.nobody_tells(What::Died, since);
    scene.heals(clock::now(), "whole again")
}
