//! What two tasks must not lose between them: the words of a supervisor, and the orders of others, at the seam of two
//! lives.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use skyhold_macros::service;

use super::child::{Begin, Child, Halt, Spec};
use super::run::{Plan, supervise};
use crate::event::{Event, StopReason};
use crate::id::{Incarnation, NodeId};
use crate::service::core::{Core, Order};
use crate::service::host::Host;
use crate::service::instance;
use crate::service::life::{Ended, Life};
use crate::supervision::{Intensity, Restart, Strategy};
use crate::time;

struct Target {
    answer: u32,
}

#[service]
impl Target {
    pub fn answer(&self) -> u32 {
        self.answer
    }
}

fn host() -> Arc<Host> {
    Arc::new(Host::new(NodeId::new("a").unwrap(), Incarnation(1), Duration::from_secs(1), 64))
}

fn child(begin: Begin) -> Child {
    let restart = Restart::always();
    Child::new(Spec {
        name: "child".into(),
        restart,
        stop_within: Duration::MAX,
        registry: None,
        joins: false,
        begin,
    })
}

fn instance(host: &Arc<Host>) -> (Child, Arc<Mutex<Option<Arc<Core>>>>) {
    let (host, begun) = (Arc::clone(host), Arc::default());
    let begun_here: Arc<Mutex<Option<Arc<Core>>>> = Arc::clone(&begun);
    let begin = move |first| {
        let factory = Arc::new(Mutex::new(|| Target { answer: 42 }));
        let local = instance::start_supervised(&host, "target".into(), factory, None, first);
        *begun_here.lock().unwrap() = Some(Arc::clone(local.core()));
        Arc::clone(local.core()) as _
    };
    (child(Box::new(begin)), begun)
}

fn supervisor(host: &Arc<Host>) -> Child {
    let host = Arc::clone(host);
    let plan = Plan {
        name: "inner".into(),
        strategy: Strategy::OneForOne,
        intensity: Intensity::default(),
        ends_when_empty: false,
        children: Vec::new(),
    };
    child(Box::new(move |first| supervise(&host, plan, first) as _))
}

/// Waits for the end of a life, and hands the child back to its supervisor. Gives why it ended.
async fn end_of(child: &mut Child, life: Life) -> StopReason {
    let ended = time::timeout(Duration::from_secs(60), life.ended).await.expect("the word is lost");
    let Ended { reason, next, waits: _ } = ended.expect("it is gone for good");
    child.down(next);
    reason
}

/// One life that comes up and ends.
async fn live_once(child: &mut Child) {
    let mut life = child.begin();
    (&mut life.started).await.unwrap().unwrap();
    child.pull(Halt::Rest);
    assert_eq!(end_of(child, life).await, StopReason::Shutdown);
}

#[tokio::test(start_paused = true)]
async fn a_word_that_is_said_before_a_life_has_begun_ends_that_life() {
    let host = host();
    for (mut child, is_instance) in [(instance(&host).0, true), (supervisor(&host), false)] {
        for first in [true, false] {
            if !first {
                live_once(&mut child).await;
            }
            let life = child.begin();
            child.pull(Halt::Rest); // its task has not been polled yet
            assert_eq!(end_of(&mut child, life).await, StopReason::Shutdown, "first: {first}");
        }
        if is_instance {
            let life = child.begin();
            child.pull(Halt::Kill);
            assert_eq!(end_of(&mut child, life).await, StopReason::Killed);
        }
        live_once(&mut child).await; // what ended one life does not end the next
        child.begin();
        child.pull(Halt::Stop);
        child.forget().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_at_the_seam_of_two_lives_is_for_good_and_tells_no_life_that_never_began() {
    let host = host();
    let (mut child, core) = instance(&host);
    live_once(&mut child).await;
    let core = core.lock().unwrap().take().unwrap();
    let mut events = host.subscribe();
    let life = child.begin();
    core.order(Order::Stop);
    assert!(life.ended.await.is_err(), "gone for good");
    core.ended().await;
    assert!(events.try_recv().is_err(), "the life that had ended was told before, and no other began");
    assert!(host.all_residents().is_empty());
}

#[tokio::test(start_paused = true)]
async fn orders_of_a_life_do_not_reach_the_next() {
    let host = host();
    let (mut child, core) = instance(&host);
    live_once(&mut child).await;
    let core = core.lock().unwrap().take().unwrap();
    core.order(Order::Kill); // there is nothing to kill
    let mut life = child.begin();
    (&mut life.started).await.unwrap().unwrap();
    core.fail(0, StopReason::Panicked("long ago".to_owned()));
    core.finish_life(0);
    assert!(time::timeout(Duration::from_secs(60), &mut life.ended).await.is_none(), "it goes on");
    core.fail(1, StopReason::Panicked("now".to_owned()));
    assert_eq!(end_of(&mut child, life).await, StopReason::Panicked("now".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_child_that_is_stopped_between_two_lives_is_heard_to_leave() {
    let host = host();
    let (mut child, core) = instance(&host);
    let mut life = child.begin();
    (&mut life.started).await.unwrap().unwrap();
    child.pull(Halt::Rest);
    let Ended { next, waits, .. } = life.ended.await.unwrap();
    child.down(next);
    core.lock().unwrap().take().unwrap().order(Order::Stop);
    assert!(waits.await.is_err());
    child.forget().await;
    assert!(host.all_residents().is_empty());
}

/// Whoever fails and whoever stops, at once on two threads: the instance ends for good, and is told once a life.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_that_races_with_a_restart_has_the_last_word() {
    for _ in 0..500 {
        let host = host();
        let mut events = host.subscribe();
        let (mut child, core) = instance(&host);
        live_once(&mut child).await;
        let core = core.lock().unwrap().take().unwrap();
        let stopping = std::thread::spawn({
            let core = Arc::clone(&core);
            move || core.order(Order::Stop)
        });
        let life = child.begin();
        let begun = life.started.await.is_ok();
        assert!(life.ended.await.is_err(), "gone for good");
        core.ended().await;
        stopping.join().unwrap();
        let mut ends = 0;
        while let Ok(event) = events.try_recv() {
            ends += u32::from(matches!(event, Event::InstanceEnded { .. }));
        }
        assert_eq!(ends, 1 + u32::from(begun));
    }
}
