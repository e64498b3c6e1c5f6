//! Panics wherever a service's code runs: each is a failure of its life and of nothing else.

use super::additions::dynamic;
use super::*;

use std::future::IntoFuture;

use skyhold::Intensity;

use crate::gate::Watch;

/// Where it panics, once.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Where {
    Factory,
    Start,
    Handler,
    Stop,
    Drop,
    Task,
    Timer,
    Down,
}

#[derive(Clone, Default)]
struct Fault(Arc<Mutex<Option<Where>>>);

impl Fault {
    fn strike(&self, place: Where) {
        let strikes = self.0.lock().unwrap().take_if(|fault| *fault == place).is_some();
        assert!(!strikes, "boom in {place:?}");
    }
}

struct Clumsy {
    fault: Fault,
    life: u32,
}

#[service]
impl Clumsy {
    #[on_start]
    fn begin(&mut self) {
        self.fault.strike(Where::Start);
    }

    #[on_stop]
    fn end(&mut self) {
        self.fault.strike(Where::Stop);
    }

    #[on_down]
    fn heard(&mut self, down: Down) {
        assert_eq!(down.reason, StopReason::Normal);
        self.fault.strike(Where::Down);
    }

    pub fn life(&self) -> u32 {
        self.life
    }

    pub fn handle_it(&mut self) {
        self.fault.strike(Where::Handler);
    }

    pub fn spawn_it(&mut self, context: &Context) {
        let fault = self.fault.clone();
        context.spawn(async move {
            tokio::task::yield_now().await;
            fault.strike(Where::Task);
        });
    }

    pub fn time_it(&mut self, context: &Context) {
        let (fault, handle) = (self.fault.clone(), context.handle::<ClumsyHandle>());
        context.every(Duration::from_millis(1), move || {
            fault.strike(Where::Timer);
            handle.life()
        });
    }

    /// Watches one that ends at once.
    pub fn watch_it(&mut self, context: &Context) {
        let other = context.node().spawn(Clumsy { fault: Fault::default(), life: 1 });
        context.watch(&other);
        other.finish().try_send().unwrap();
    }

    pub fn finish(&self, context: &Context) {
        context.stop();
    }
}

impl Drop for Clumsy {
    fn drop(&mut self) {
        self.fault.strike(Where::Drop);
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_anywhere_is_a_failure_of_one_life_and_the_next_one_answers() {
    for (place, lives) in [
        (Where::Handler, 2),
        (Where::Stop, 2),
        (Where::Drop, 2),
        (Where::Task, 2),
        (Where::Timer, 2),
        (Where::Down, 2),
        // In the life after one that was cut off.
        (Where::Factory, 3),
        (Where::Start, 3),
    ] {
        let node = Node::builder("a").start().await.unwrap();
        let before = usage(&node);
        let (fault, mut life) = (Fault::default(), 0);
        let armed = fault.clone();
        let factory = move || {
            life += 1;
            fault.strike(Where::Factory);
            Clumsy { fault: fault.clone(), life }
        };
        // Failures alone bring it back, so what brings it back is a failure.
        let clumsy =
            node.service("clumsy", factory).restart(eager(Restart::on_failure())).start().await.unwrap();
        assert_eq!(clumsy.life().await.unwrap(), 1);
        let other = node.spawn(Clumsy { fault: Fault::default(), life: 7 });
        let mut events = node.events();
        *armed.0.lock().unwrap() = Some(place);
        match place {
            Where::Handler => drop(clumsy.handle_it().await.unwrap_err()),
            Where::Stop | Where::Drop => clumsy.finish().await.unwrap(),
            Where::Task => clumsy.spawn_it().await.unwrap(),
            Where::Timer => clumsy.time_it().await.unwrap(),
            Where::Down => clumsy.watch_it().await.unwrap(),
            Where::Factory | Where::Start => node.abort(&clumsy).unwrap(),
        }
        wait(Duration::from_millis(2)).await;
        assert_eq!(*armed.0.lock().unwrap(), None, "{place:?} was struck");
        assert_eq!(clumsy.life().await.unwrap(), lives, "{place:?}");
        assert_eq!(node.counters().panics, 1, "{place:?}");
        let panicked = StopReason::Panicked(format!("boom in {place:?}"));
        let panics = published(&mut events)
            .into_iter()
            .filter(|event| matches!(event, Event::InstanceEnded { reason, .. } if *reason == panicked))
            .count();
        assert_eq!(panics, 1, "{place:?} is told once");
        assert_eq!(other.life().await.unwrap(), 7, "{place:?}: another instance goes on");
        node.stop(&other).await.unwrap();
        assert!(node.stop_service("clumsy").await);
        assert_nothing_left(&node, before, &[]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_factory_that_always_panics_is_given_up_in_a_start_and_in_a_restart() {
    let node = Node::builder("a").start().await.unwrap();
    let before = usage(&node);
    let broken = node.service("broken", || -> Clumsy { panic!("no clay") });
    let error = broken.start().await.unwrap_err();
    assert_eq!(error.to_string(), "`broken` panicked in its start hook: no clay");
    assert_nothing_left(&node, before, &[]).await;

    let mut events = node.events();
    let mut is_first = true;
    let factory = move || {
        assert!(std::mem::take(&mut is_first), "no more clay");
        Clumsy { fault: Fault::default(), life: 1 }
    };
    let service = node.service("broken", factory).intensity(Intensity::new(2, Duration::from_secs(60)));
    let handle = service.start().await.unwrap();
    node.abort(&handle).unwrap();
    wait(Duration::from_secs(1)).await;
    let gave_up = published(&mut events).into_iter().find_map(|event| match event {
        Event::GaveUp { supervisor, child, reason } => Some(format!("{supervisor} {child} {reason}")),
        _ => None,
    });
    assert_eq!(gave_up.as_deref(), Some("broken broken panicked: no more clay"));
    assert_nothing_left(&node, before, &[]).await;
}

#[tokio::test(start_paused = true)]
async fn a_factory_that_panics_when_it_is_dropped_does_not_touch_the_others_of_its_supervisor() {
    let node = Node::builder("a").start().await.unwrap();
    let stage = Stage::default();
    let tree = supervise(&node, Strategy::Dynamic, vec![stage.service(&node, "a").into()]).await;
    let before = usage(&node);
    // The second instance is never begun.
    let (bomb, mut actors) = (Bomb("a factory"), stage.actors("b"));
    stage.refuse("b", 1);
    let factory = move || {
        let _ = &bomb;
        actors()
    };
    let error = tree.start(node.service("b", factory).instances(2)).await.unwrap_err();
    assert_eq!(error.to_string(), "`b` refused to start");
    assert_nothing_left(&node, before, &["b"]).await;
    let a = ActorHandle::try_lookup(&node, "a").unwrap();
    a.fail().await.unwrap_err();
    assert_eq!(a.life().await.unwrap(), 2, "it is supervised still");
}

/// Panics when it is dropped.
struct Bomb(&'static str);

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("boom in the drop of {}", self.0);
    }
}

struct Store;

#[service(local, queued = "refuse")]
impl Store {
    pub async fn fail_behind(&mut self, gate: Gate) {
        gate.pass().await;
        panic!("boom");
    }

    pub fn keep(&mut self, bomb: Bomb) {
        std::mem::forget(bomb);
    }

    pub fn ping(&self) {}
}

#[tokio::test(start_paused = true)]
async fn a_message_that_panics_when_it_is_dropped_does_not_touch_the_end_of_its_instance() {
    let node = Node::builder("a").start().await.unwrap();
    let tree = dynamic(&node).await;
    let before = usage(&node);
    for is_final in [false, true] {
        let gate = Gate::new();
        let store = tree.spawn(eager(Restart::on_failure()), || Store).await.unwrap();
        let running = tokio::spawn(store.fail_behind(gate.clone()).into_future());
        gate.reached(1).await;
        let queued: Vec<_> =
            (0..2).map(|_| tokio::spawn(store.keep(Bomb("a message")).into_future())).collect();
        settle().await;
        let stopped = tokio::spawn({
            let (node, store) = (node.clone(), store.clone());
            async move { if is_final { node.stop(&store).await } else { Ok(()) } }
        });
        settle().await;
        gate.open();
        let watch = Watch::start();
        assert!(matches!(running.await.unwrap(), Err(CallError::Panicked(_))));
        for call in queued {
            assert!(matches!(call.await.unwrap(), Err(CallError::Stopped(_))));
        }
        stopped.await.unwrap().unwrap();
        if !is_final {
            store.ping().await.expect("it has another life");
            node.stop(&store).await.unwrap();
        }
        watch.assert_at_once();
    }
    assert_nothing_left(&node, before, &[]).await;
}
